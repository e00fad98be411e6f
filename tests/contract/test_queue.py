"""What every queue promises (store.contract.Queue, and what the runner needs beyond it)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store.contract import Queue
from pillarbox.store.queue import DELIVERED, EXPANDED, FAILED, PENDING, DiskQueue, QueuedMessage, QueuedRecipient
from pillarbox.terms import Envelope, Outcome, Wish

BOB, CAROL, DAVE = b"bob@example.test", b"carol@example.test", b"dave@example.test"
WISHES = (Wish(("SUCCESS",), b"rfc822;b+40ob"), Wish())
ENVELOPE = Envelope(b"\xe9@example.org", (BOB, CAROL), WISHES, "HDRS", b"id+20", True)
MESSAGE = b"Subject: hello\n\nbody\n"
DONE = Outcome("delivered", "2.0.0")
LATE = Outcome("delayed", "4.4.1", "no answer", "mx.example.test")
GONE = Outcome("failed", "5.1.1", "no such mailbox", "mx.example.test", "550 5.1.1 no such user")

Opened = Callable[[], DiskQueue]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Opens the same queue, as a new process would."""
    return lambda: DiskQueue(str(tmp_path / "queue"))


def accept(queue: Queue) -> str:
    identity, descriptor = queue.open_slot()
    os.write(descriptor, MESSAGE)
    os.close(descriptor)
    queue.commit(identity, ENVELOPE, "alice@example.org")
    return identity


def read(queue: Queue, identity: str) -> bytes:
    with os.fdopen(queue.open_message(identity), "rb") as file:
        return file.read()


def states(message: QueuedMessage) -> dict[bytes, str]:
    return {recipient.address: recipient.state for recipient in message.recipients}


def test_what_was_committed_outlives_the_process(opened: Opened) -> None:
    before = time.time()
    identity = accept(opened())
    queue = opened()
    message = queue.load(identity)
    assert queue.recover().due == [(message.next_try, identity)]
    assert list(queue.pending()) == [identity]
    assert message.recipients == message.pending() == (QueuedRecipient(BOB, wish=WISHES[0]), QueuedRecipient(CAROL))
    assert (message.sender, message.ret, message.envid, message.utf8) == (ENVELOPE.sender, "HDRS", b"id+20", True)
    assert (message.account, message.tries, message.held, message.warned) == ("alice@example.org", 0, False, False)
    assert before <= message.received == message.next_try <= time.time()
    assert read(queue, identity) == MESSAGE


@pytest.mark.parametrize("end", ["abort", "none"])
def test_what_was_not_committed_does_not(opened: Opened, end: str) -> None:
    queue = opened()
    identity, descriptor = queue.open_slot()
    os.write(descriptor, MESSAGE)
    os.close(descriptor)
    if end == "abort":
        queue.abort(identity)
        queue.abort(identity)
    queue = opened()
    queue.recover()
    assert list(queue.pending()) == []
    for ask in (queue.load, queue.open_message, queue.mark, lambda identity: queue.settle(identity, {})):
        with pytest.raises(FileNotFoundError):
            ask(identity)


def test_two_slots_are_two_messages(opened: Opened) -> None:
    queue = opened()
    assert len({accept(queue) for _ in range(20)}) == len(list(queue.pending())) == 20


def test_a_message_of_our_own_is_queued_once(opened: Opened) -> None:
    identity = accept(opened()) + ".f3"
    assert opened().add(identity, Envelope(b"", (DAVE,)), b"Subject: a report\n\n")
    assert not opened().add(identity, Envelope(b"", (BOB,)), b"Subject: another\n\n")
    queue = opened()
    assert identity in queue.pending()
    assert states(queue.load(identity)) == {DAVE: PENDING}
    assert read(queue, identity) == b"Subject: a report\n\n"
    queue.remove_all([identity])
    assert opened().add(identity, Envelope(b"", (DAVE,)), b"")


def test_what_has_become_of_recipients_is_kept(opened: Opened) -> None:
    identity = accept(opened())
    told = opened().settle(identity, {BOB: DONE, CAROL: LATE}, next_try=5e9, finished_try=True)
    message = opened().load(identity)
    assert message == told
    assert (message.next_try, message.tries) == (5e9, 1)
    assert states(message) == {BOB: DELIVERED, CAROL: PENDING}
    assert [recipient.outcome for recipient in message.recipients] == [DONE, LATE]
    opened().settle(identity, {CAROL: GONE})
    opened().settle(identity, {CAROL: LATE, BOB: GONE}, finished_try=True)
    message = opened().load(identity)
    assert states(message) == {BOB: DELIVERED, CAROL: FAILED}
    assert (message.pending(), message.tries) == ((), 2)
    assert message.recipients[1].outcome == GONE


def test_a_forward_leads_on(opened: Opened) -> None:
    identity = accept(opened())
    children = [QueuedRecipient(DAVE, wish=WISHES[0], via=BOB), QueuedRecipient(CAROL, via=BOB)]
    assert opened().expand(identity, BOB, children) == opened().load(identity)
    message = opened().load(identity)
    assert states(message) == {BOB: EXPANDED, CAROL: PENDING, DAVE: PENDING}
    assert message.recipients[2] == children[0]


def test_marks_are_kept(opened: Opened) -> None:
    identity = accept(opened())
    opened().settle(identity, {BOB: GONE})
    assert [recipient.address for recipient in opened().load(identity).unreported()] == [BOB]
    opened().mark(identity, reported=[BOB], warned=True, held=True, next_try=7e9)
    message = opened().load(identity)
    assert (message.unreported(), message.warned, message.held, message.next_try) == ((), True, True, 7e9)
    assert opened().recover().held == [identity]
    opened().mark(identity, held=False)
    assert opened().recover().due == [(7e9, identity)]
    assert opened().load(identity).warned


def test_what_was_removed_is_gone(opened: Opened) -> None:
    queue = opened()
    first, second, other = (accept(queue) for _ in range(3))
    queue.remove(first)
    queue.remove(first)
    assert queue.remove_all([first, second]) == [None, None]
    queue = opened()
    queue.recover()
    assert list(queue.pending()) == [other]
    for gone in (first, second):
        with pytest.raises(FileNotFoundError):
            queue.open_message(gone)
