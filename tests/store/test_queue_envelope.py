"""The envelope's file: every message comes back, and nothing else is taken for one."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import queue_envelope
from pillarbox.store.queue_envelope import parse, render
from pillarbox.store.queue_message import (
    DELIVERED,
    EXPANDED_LIMIT,
    FAILED,
    FINAL,
    MTA_LIMIT,
    PENDING,
    RECIPIENTS_LIMIT,
    REPLY_LIMIT,
    TEXT_LIMIT,
    QueuedMessage,
    QueuedRecipient,
)
from pillarbox.terms import Outcome, Wish

ID = "1795516061.0123456789abcdef"

octets = st.binary(max_size=60)
texts = st.text(max_size=30)
outcomes = st.builds(Outcome, st.sampled_from(["delayed", *sorted(FINAL)]), texts, texts, texts, texts)
notify = st.lists(st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY"]), max_size=3).map(tuple)
recipients = st.builds(
    QueuedRecipient,
    address=octets,
    state=st.sampled_from([PENDING, *sorted(FINAL)]),
    wish=st.builds(Wish, notify, octets),
    via=octets,
    outcome=st.none() | outcomes,
    reported=st.booleans(),
    kept=st.lists(texts, max_size=2).map(tuple),
)
messages = st.builds(
    QueuedMessage,
    identity=st.sampled_from([ID, ID + ".f3"]),
    sender=octets,
    recipients=st.lists(recipients, min_size=1, max_size=5, unique_by=lambda each: each.address).map(tuple),
    received=st.floats(0, 1e11),
    next_try=st.floats(0, 1e11),
    tries=st.integers(0, 1000),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=octets,
    utf8=st.booleans(),
    account=texts,
    held=st.booleans(),
    warned=st.booleans(),
)


@given(messages)
def test_an_envelope_comes_back_octet_for_octet(message: QueuedMessage) -> None:
    content = render(message)
    assert parse(content, message.identity) == message
    assert content.count(b"\n") == 1 and content.endswith(b"\n")


def test_an_envelope_can_be_read_with_ones_own_eyes() -> None:
    bob = QueuedRecipient(b"bob@example.test", FAILED, outcome=Outcome("failed", "5.1.1", reply="550 no \xe9"))
    assert render(QueuedMessage(ID, b"alice@example.org", (bob,), 5.0, 6.0, account="alice@example.org")).decode() == (
        '{"version":2,"id":"1795516061.0123456789abcdef","received":5.0,"next_try":6.0,"sender":"alice@example.org",'
        '"recipients":[{"address":"bob@example.test","state":"failed",'
        '"outcome":{"action":"failed","status":"5.1.1","reply":"550 no \xe9"}}],"account":"alice@example.org"}\n'
    )


def test_a_file_of_the_first_version_is_read() -> None:
    content = (
        b'{"version":1,"id":"1795516061.0123456789abcdef","received":5.5,"next_try":6.5,"tries":2,'
        b'"sender":"alice@\xc3\xa9","recipients":[["bob@example.test","delivered"],["carol@example.test","pending"]]}\n'
    )
    bob, carol = QueuedRecipient(b"bob@example.test", DELIVERED), QueuedRecipient(b"carol@example.test")
    assert parse(content, ID) == QueuedMessage(ID, b"alice@\xe9", (bob, carol), 5.5, 6.5, 2)


@given(st.binary(max_size=200))
def test_what_is_no_envelope_is_damaged(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse(content, ID)


CHANGES: list[dict[str, object]] = [
    {"version": 1},
    {"version": 3},
    {"version": "2"},
    {"id": "another"},
    {"sender": None},
    {"sender": "\u0100"},
    {"recipients": []},
    {"recipients": [{}]},
    {"recipients": [["a", "pending"]]},
    {"recipients": [{"address": "a", "state": "maybe"}]},
    {"recipients": [{"address": "a"}, {"address": "a", "state": "failed"}]},
    {"recipients": [{"address": "\u0100"}]},
    {"recipients": [{"address": "a", "orcpt": "\u0100"}]},
    {"recipients": [{"address": "a", "via": "\u0100"}]},
    {"recipients": [{"address": "a", "notify": ["SOMETIMES"]}]},
    {"recipients": [{"address": "a", "outcome": {"action": "deferred"}}]},
    {"recipients": [{"address": "a", "outcome": {"action": "failed", "unknown": ""}}]},
    {"recipients": [{"address": "a", "reported": 1}]},
    {"recipients": [{"address": "a", "unknown": 1}]},
    {"tries": "3"},
    {"received": None},
    {"ret": "SOME"},
    {"envid": "\u0100"},
    {"held": "yes"},
    {"unknown": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_changed_envelope_is_damaged(change: dict[str, object]) -> None:
    message = json.loads(render(QueuedMessage(ID, b"s", (QueuedRecipient(b"a"),), 1.0, 1.0)))
    assert parse(json.dumps(message).encode(), ID)
    with pytest.raises(ValueError):
        parse(json.dumps(message | change).encode(), ID)


def test_a_file_whose_name_is_no_id_is_damaged() -> None:
    content = render(QueuedMessage("1.a", b"s", (QueuedRecipient(b"a"),), 1.0, 1.0))
    with pytest.raises(ValueError):
        parse(content, "1.a")


@pytest.mark.parametrize(
    "changes",
    [
        {"received": float("nan")},
        {"next_try": float("inf")},
        {"ret": "SOME"},
        {"account": "\udc80"},
        {"recipients": (QueuedRecipient(b"a", "maybe"),)},
        {"recipients": (QueuedRecipient(b"a", wish=Wish(("SOMETIMES",))),)},
        {"recipients": (QueuedRecipient(b"a", outcome=Outcome("deferred")),)},
    ],
    ids=str,
)
def test_what_could_not_be_read_back_is_not_written(changes: dict[str, object]) -> None:
    fields: dict[str, object] = {"recipients": (QueuedRecipient(b"a"),), "received": 1.0, "next_try": 1.0}
    with pytest.raises(ValueError):
        render(QueuedMessage(ID, b"s", **fields | changes))  # type: ignore[arg-type]


def test_a_file_that_is_too_long_is_neither_read_nor_written(monkeypatch: pytest.MonkeyPatch) -> None:
    message = QueuedMessage(ID, b"s", (QueuedRecipient(b"a"),), 1.0, 1.0)
    content = render(message)
    monkeypatch.setattr(queue_envelope, "ENVELOPE_LIMIT", len(content) - 1)
    with pytest.raises(ValueError, match="longer"):
        parse(content, ID)
    with pytest.raises(ValueError, match="longer"):
        render(message)


def test_the_biggest_message_stays_readable_whatever_becomes_of_it() -> None:
    """As many recipients as we take, the longest addresses, and the most that may be said of each."""
    wide = "\U0001f600"  # four octets in the file
    outcome = Outcome("failed", "5.1.1", wide * TEXT_LIMIT, wide * MTA_LIMIT, wide * REPLY_LIMIT)
    longest = b"\xe9" * 256
    one = QueuedRecipient(longest, FAILED, Wish(("SUCCESS", "FAILURE", "DELAY"), b"x" * 500), longest, outcome, True)
    octets = len(msgspec.json.encode(queue_envelope._render_recipient(one)))
    assert octets * RECIPIENTS_LIMIT < queue_envelope.ENVELOPE_LIMIT
    assert octets * EXPANDED_LIMIT < queue_envelope.ENVELOPE_LIMIT
