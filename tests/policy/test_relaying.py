"""Who gets mail through us: one row for each case."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pillarbox.policy.relaying import (
    CANT_TELL,
    NO_SENDER,
    NO_STANDING,
    NOT_LOGGED_IN,
    SPENT,
    UNKNOWN,
    Refusal,
    Standing,
    is_refused,
    may_send,
)

ALICE = b"alice@example.test"
STANDINGS = get_args(Standing)
CODES = [("4.2.2", 452), ("4.3.1", 452), ("4.3.0", 451), ("5.2.2", 552), ("5.3.4", 552), ("5.2.1", 550)]
booleans = st.booleans()


def asked(
    *,
    local: bool = False,
    deliverable: bool = True,
    standing: Standing = "",
    owned: bool = True,
    left: bool = True,
    submission: bool = False,
    sender: bytes = ALICE,
    code: str = "",
    text: str = "",
) -> Refusal | None:
    return may_send(
        local=local,
        deliverable=deliverable,
        standing=standing,
        owned=owned,
        left=left,
        submission=submission,
        sender=sender,
        code=code,
        text=text,
    )


# Mail for our own mailboxes.


@given(st.sampled_from(STANDINGS), booleans, booleans, st.binary(max_size=20))
def test_a_mailbox_of_ours_is_open_to_everybody(standing: Standing, owned: bool, left: bool, sender: bytes) -> None:
    assert asked(local=True, standing=standing, owned=owned, left=left, sender=sender) is None


@pytest.mark.parametrize("standing", STANDINGS)
def test_an_unknown_mailbox_of_ours_is_open_to_nobody(standing: Standing) -> None:
    assert asked(local=True, deliverable=False, standing=standing) is UNKNOWN
    assert (UNKNOWN.code, UNKNOWN.enhanced) == (550, "5.1.1")


@pytest.mark.parametrize(("code", "reply"), CODES)
def test_trouble_with_the_mailbox_is_passed_on(code: str, reply: int) -> None:
    refusal = Refusal(reply, code, "over quota")
    assert asked(local=True, code=code, text="over quota") == refusal
    assert asked(local=True, submission=True, standing="login", code=code, text="over quota") == refusal


# Mail for the world.


@pytest.mark.parametrize(
    ("standing", "owned", "left", "sender", "refusal"),
    [
        ("", True, True, ALICE, NO_STANDING),
        ("", True, True, b"", NO_STANDING),
        ("unknown", True, True, ALICE, CANT_TELL),
        ("grant", True, True, ALICE, None),
        ("grant", True, False, ALICE, SPENT),
        ("grant", True, True, b"", NO_SENDER),
        ("grant", False, True, b"", NO_SENDER),
        ("classic", False, True, b"mallory@example.org", None),
        ("classic", False, True, b"", None),
        ("login", True, True, ALICE, None),
        ("login", True, False, ALICE, SPENT),
        ("login", False, True, b"", None),
    ],
)
def test_elsewhere(standing: Standing, owned: bool, left: bool, sender: bytes, refusal: Refusal | None) -> None:
    assert asked(standing=standing, owned=owned, left=left, sender=sender) is refusal


@pytest.mark.parametrize("standing", ["grant", "login"])
@pytest.mark.parametrize("submission", [False, True])
def test_a_sender_that_is_not_ones_own(standing: Standing, submission: bool) -> None:
    assert asked(standing=standing, owned=False, submission=submission, sender=b"bob@example.test") == Refusal(
        550,
        "5.7.1",
        "bob@example.test is not an address of the account that logged in; send as one of its own addresses",
    )


def test_what_the_codes_are() -> None:
    codes = [(refusal.code, refusal.enhanced) for refusal in (NO_STANDING, CANT_TELL, SPENT, NO_SENDER, NOT_LOGGED_IN)]
    assert codes == [(550, "5.7.1"), (451, "4.3.0"), (450, "4.7.1"), (550, "5.7.1"), (530, "5.7.0")]


@pytest.mark.parametrize("word", ["POP3 from this address", "submission port", "IPv6", "IPv4", "looks shared"])
def test_a_stranger_learns_what_to_do(word: str) -> None:
    assert word in NO_STANDING.text


# The submission port.


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("code", ["", "4.2.2"])
def test_on_the_submission_port_nobody_is_a_stranger(local: bool, code: str) -> None:
    assert asked(local=local, submission=True, code=code) is NOT_LOGGED_IN
    assert asked(local=local, submission=True, standing="unknown", code=code) is CANT_TELL


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("standing", ["grant", "classic", "login"])
def test_on_the_submission_port_with_standing(local: bool, standing: Standing) -> None:
    assert asked(local=local, submission=True, standing=standing) is None


def test_the_submission_port_does_not_tell_strangers_who_lives_here() -> None:
    assert asked(local=True, deliverable=False, submission=True) is NOT_LOGGED_IN
    assert asked(local=True, deliverable=False, submission=True, standing="login") is UNKNOWN


def test_mail_for_ones_own_house_costs_nothing() -> None:
    assert asked(local=True, submission=True, standing="grant", left=False) is None


# For all.


@given(booleans, booleans, booleans, booleans, st.binary(max_size=300), st.sampled_from(["", "4.2.2", "5.2.2"]))
def test_nothing_makes_a_stranger_of_us_a_relay(
    deliverable: bool, owned: bool, left: bool, submission: bool, sender: bytes, code: str
) -> None:
    for standing in ("", "unknown"):
        refusal = asked(
            deliverable=deliverable,
            standing=standing,
            owned=owned,
            left=left,
            submission=submission,
            sender=sender,
            code=code,
        )
        assert refusal in (NO_STANDING, NOT_LOGGED_IN, CANT_TELL)


@given(st.binary(max_size=2000), booleans)
@example(b"a" * 2000, True)
def test_every_text_fits_into_a_reply(sender: bytes, submission: bool) -> None:
    for standing in STANDINGS:
        refusal = asked(standing=standing, owned=False, left=False, submission=submission, sender=sender)
        if refusal is not None:
            assert refusal.text.isascii() and refusal.text.isprintable()
            assert len(refusal.text) < 480


REFUSED = ["Spam@Bad.test", "@worse.test"]


@pytest.mark.parametrize(
    ("sender", "refused"),
    [
        (b"spam@bad.test", True),
        (b"SPAM@BAD.TEST", True),
        (b"other@bad.test", False),
        (b"anybody@worse.test", True),
        (b"Anybody@Worse.Test", True),
        (b"anybody@sub.worse.test", False),
        (b"anybody@notworse.test", False),
        (b"", False),
        (b"spam", False),
        ("jürgen@worse.test".encode(), True),
    ],
)
def test_senders_that_are_refused(sender: bytes, refused: bool) -> None:
    assert is_refused(sender, REFUSED) is refused
    assert not is_refused(sender, [])
