"""What every queue promises (store.contract.Queue, and what the runner needs beyond it)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store.queue import DELIVERED, FAILED, DiskQueue
from pillarbox.terms import Envelope

ENVELOPE = Envelope(b"\xe9@example.org", (b"bob@example.test", b"carol@example.test"))
MESSAGE = b"Subject: hello\n\nbody\n"


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], DiskQueue]:
    """Opens the same queue, as a new process would."""
    return lambda: DiskQueue(str(tmp_path / "queue"))


def accept(queue: DiskQueue) -> str:
    identity, descriptor = queue.open_slot()
    os.write(descriptor, MESSAGE)
    os.close(descriptor)
    queue.commit(identity, ENVELOPE)
    return identity


def read(queue: DiskQueue, identity: str) -> bytes:
    with os.fdopen(queue.open_message(identity), "rb") as file:
        return file.read()


def test_what_was_committed_outlives_the_process(opened: Callable[[], DiskQueue]) -> None:
    before = time.time()
    identity = accept(opened())
    queue = opened()
    assert queue.recover() == []
    assert list(queue.pending()) == [identity]
    message = queue.load(identity)
    assert message.envelope == ENVELOPE
    assert message.pending() == ENVELOPE.recipients
    assert before <= message.received == message.next_try <= time.time()
    assert message.tries == 0
    assert read(queue, identity) == MESSAGE


@pytest.mark.parametrize("end", ["abort", "none"])
def test_what_was_not_committed_does_not(opened: Callable[[], DiskQueue], end: str) -> None:
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
    with pytest.raises(FileNotFoundError):
        queue.load(identity)
    with pytest.raises(FileNotFoundError):
        queue.open_message(identity)


def test_two_slots_are_two_messages(opened: Callable[[], DiskQueue]) -> None:
    queue = opened()
    assert len({accept(queue) for _ in range(20)}) == len(list(queue.pending())) == 20


def test_what_has_become_of_recipients_is_kept(opened: Callable[[], DiskQueue]) -> None:
    identity = accept(opened())
    opened().settle(identity, {b"bob@example.test": DELIVERED}, 5e9)
    message = opened().load(identity)
    assert (message.next_try, message.tries) == (5e9, 1)
    assert message.recipients == ENVELOPE.recipients
    assert message.pending() == (b"carol@example.test",)
    opened().settle(identity, {b"carol@example.test": FAILED}, 6e9)
    message = opened().load(identity)
    assert message.outcomes == {b"bob@example.test": DELIVERED, b"carol@example.test": FAILED}
    assert message.pending() == ()
    assert message.tries == 2


def test_what_was_removed_is_gone(opened: Callable[[], DiskQueue]) -> None:
    queue = opened()
    identity, other = accept(queue), accept(queue)
    queue.remove(identity)
    queue.remove(identity)
    queue = opened()
    queue.recover()
    assert list(queue.pending()) == [other]
    with pytest.raises(FileNotFoundError):
        queue.open_message(identity)
