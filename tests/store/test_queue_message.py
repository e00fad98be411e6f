"""What a queued message knows of its recipients, and how that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store.queue_message import (
    DELIVERED,
    EXPANDED,
    EXPANDED_LIMIT,
    FAILED,
    FINAL,
    IDENTITY,
    PENDING,
    RECIPIENTS_LIMIT,
    RELAYED,
    REPLY_LIMIT,
    QueuedMessage,
    QueuedRecipient,
    queued,
)
from pillarbox.terms import Envelope, Outcome, Refused, Wish

ID = "1795516061.0123456789abcdef"
LATE = Outcome("delayed", "4.4.1", "no answer")
DONE = Outcome("relayed", "2.0.0")
GONE = Outcome("failed", "5.1.1", "no such mailbox", "mx.example.test", "550 no such user")


def message(*addresses: bytes) -> QueuedMessage:
    return queued(ID, Envelope(b"s@a.test", addresses), "", 100.0)


def states(message: QueuedMessage) -> dict[bytes, str]:
    return {recipient.address: recipient.state for recipient in message.recipients}


def addresses(recipients: tuple[QueuedRecipient, ...]) -> list[bytes]:
    return [recipient.address for recipient in recipients]


# Coming in.


@pytest.mark.parametrize("identity", [ID, ID + ".f3", ID + ".f3.d1.x999999", "1.0123456789abcdef"])
def test_an_id(identity: str) -> None:
    assert IDENTITY.fullmatch(identity)


@pytest.mark.parametrize(
    "identity",
    [
        "",
        ID[:-1],
        ID + "0",
        ID.upper(),
        ID + ".f",
        ID + ".f1234567",
        ID + ".f1.f2.f3.f4",
        ID + "\n",
        ID + "/x",
        "." + ID,
    ],
)
def test_no_id(identity: str) -> None:
    assert not IDENTITY.fullmatch(identity)
    with pytest.raises(ValueError, match="no id"):
        queued(identity, Envelope(b"", (b"a",)), "", 1.0)


def test_everything_that_an_envelope_says_is_kept() -> None:
    wish = Wish(("SUCCESS", "FAILURE"), b"rfc822;b")
    envelope = Envelope(b"s@a.test", (b"a", b"b"), (Wish(), wish), "FULL", b"id+20", True)
    assert queued(ID, envelope, "alice@a.test", 5.5) == QueuedMessage(
        ID,
        b"s@a.test",
        (QueuedRecipient(b"a"), QueuedRecipient(b"b", wish=wish)),
        received=5.5,
        next_try=5.5,
        ret="FULL",
        envid=b"id+20",
        utf8=True,
        account="alice@a.test",
    )


def test_a_recipient_named_twice_is_one_with_its_first_wish() -> None:
    never, success = Wish(("NEVER",)), Wish(("SUCCESS",))
    found = queued(ID, Envelope(b"", (b"a", b"b", b"a"), (never, success, success)), "", 1.0)
    assert found.recipients == (QueuedRecipient(b"a", wish=never), QueuedRecipient(b"b", wish=success))


@pytest.mark.parametrize("count", [0, RECIPIENTS_LIMIT + 1])
def test_none_and_too_many_recipients_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="recipients"):
        message(*(b"%d" % number for number in range(count)))


def test_wishes_that_do_not_match_the_recipients_are_refused() -> None:
    with pytest.raises(ValueError):
        queued(ID, Envelope(b"", (b"a", b"b"), (Wish(),)), "", 1.0)


# Tries.


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_outcome_is_a_state(state: str) -> None:
    outcome = Outcome(state, "2.0.0")
    settled = message(b"a", b"b").settled({b"b": outcome})
    assert states(settled) == {b"a": PENDING, b"b": state}
    assert settled.recipients[1].outcome == outcome
    assert addresses(settled.pending()) == [b"a"]
    assert addresses(settled.unreported()) == [b"b"]


def test_a_delay_is_remembered_and_waits() -> None:
    settled = message(b"a").settled({b"a": LATE}, next_try=400.0, finished_try=True)
    assert settled.recipients == (QueuedRecipient(b"a", outcome=LATE),)
    assert (settled.next_try, settled.tries, settled.unreported()) == (400.0, 1, ())


def test_a_part_of_a_try_is_not_counted() -> None:
    settled = message(b"a").settled({b"a": LATE})
    assert (settled.next_try, settled.tries) == (100.0, 0)


@pytest.mark.parametrize("later", [LATE, GONE, Outcome("delivered")])
def test_a_settled_recipient_stays_so(later: Outcome) -> None:
    settled = message(b"a").settled({b"a": DONE})
    assert settled.settled({b"a": later}) == settled


@pytest.mark.parametrize("action", ["", "deferred", "pending"])
def test_an_action_that_there_is_not_is_a_bug_of_ours(action: str) -> None:
    with pytest.raises(ValueError, match="no action"):
        message(b"a").settled({b"a": Outcome(action)})


def test_so_is_a_recipient_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no such recipient"):
        message(b"a").settled({b"b": DONE})
    with pytest.raises(ValueError, match="no such recipient"):
        message(b"a").expanded(b"b", [])
    with pytest.raises(ValueError, match="no such recipient"):
        message(b"a").marked(reported=[b"b"])


@given(st.text(alphabet=st.characters(), max_size=700))
def test_whatever_a_remote_host_says_is_kept_short_and_printable(said: str) -> None:
    outcome = message(b"a").settled({b"a": Outcome("failed", said, said, said, said)}).recipients[0].outcome
    assert outcome is not None
    for text in (outcome.status, outcome.text, outcome.mta, outcome.reply):
        assert text.isprintable() and len(text) <= REPLY_LIMIT
        text.encode()
    assert len(outcome.status) <= 16


# Expansion.


def test_children_take_the_recipients_place() -> None:
    wish = Wish(("NEVER",))
    found = message(b"a", b"b").expanded(b"a", [QueuedRecipient(b"c", wish=wish, via=b"a"), QueuedRecipient(b"d")])
    assert states(found) == {b"a": EXPANDED, b"b": PENDING, b"c": PENDING, b"d": PENDING}
    assert found.recipients[2] == QueuedRecipient(b"c", wish=wish, via=b"a")
    assert found.recipients[0].outcome == Outcome("expanded", "2.0.0")
    assert addresses(found.pending()) == [b"b", b"c", b"d"]


def test_a_child_is_pending_whatever_its_maker_thought() -> None:
    found = message(b"a").expanded(b"a", [QueuedRecipient(b"c", FAILED, outcome=GONE, reported=True)])
    assert found.recipients[1] == QueuedRecipient(b"c")


def test_who_is_there_already_is_not_added_and_loops_end() -> None:
    begin = message(b"a", b"b").settled({b"b": DONE})
    found = begin.expanded(b"a", [QueuedRecipient(each) for each in (b"b", b"a", b"c", b"c")])
    assert states(found) == {b"a": EXPANDED, b"b": RELAYED, b"c": PENDING}
    found = found.expanded(b"c", [QueuedRecipient(b"a")])
    assert states(found) == {b"a": EXPANDED, b"b": RELAYED, b"c": EXPANDED}
    assert found.pending() == ()


def test_a_settled_recipient_is_not_expanded() -> None:
    begin = message(b"a").settled({b"a": GONE})
    assert begin.expanded(b"a", [QueuedRecipient(b"c")]) == begin


def test_an_expansion_has_an_end() -> None:
    children = [QueuedRecipient(b"%d" % number) for number in range(EXPANDED_LIMIT)]
    assert len(message(b"a").expanded(b"a", children[1:]).recipients) == EXPANDED_LIMIT
    with pytest.raises(Refused, match="10000 recipients") as refused:
        message(b"a").expanded(b"a", children)
    assert refused.value.code == "5.5.3"


def test_a_big_message_may_still_lead_to_who_is_there() -> None:
    big = message(*(b"%d" % number for number in range(RECIPIENTS_LIMIT)))
    assert len(big.expanded(b"0", [QueuedRecipient(b"1")]).pending()) == RECIPIENTS_LIMIT - 1
    with pytest.raises(Refused):
        big.expanded(b"0", [QueuedRecipient(b"new")])


# Marks.


def test_marks() -> None:
    begin = message(b"a", b"b").settled({b"a": GONE})
    assert begin.marked() == begin
    assert begin.marked(warned=True, held=True, next_try=9.0) == replace(begin, warned=True, held=True, next_try=9.0)
    assert begin.marked(held=True).marked(held=False) == begin
    assert begin.marked(reported=[b"a"]).unreported() == ()
    assert begin.marked(reported=[b"a"]).recipients[0] == QueuedRecipient(b"a", FAILED, outcome=GONE, reported=True)


def test_what_is_not_final_is_not_reported() -> None:
    with pytest.raises(ValueError, match="still waits"):
        message(b"a").marked(reported=[b"a"])


def test_delivered_is_the_local_word() -> None:
    assert states(message(b"a").settled({b"a": Outcome("delivered")})) == {b"a": DELIVERED}
