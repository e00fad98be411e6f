"""What the tests of the queue share: a message taken in, what lies in the folder, and a process killed on its way."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillarbox.store.queue import DiskQueue
from pillarbox.terms import Envelope, Outcome

from .maildirs import spy

BOB, CAROL, DAVE = b"bob@example.test", b"carol@example.test", b"dave@example.test"
ENVELOPE = Envelope(b"alice@example.org", (BOB, CAROL))
MESSAGE = b"Subject: hello\n\nbody\n" * 100
RELAYED = Outcome("relayed", "2.0.0", "", "mx.example.test", "250 2.0.0 queued")
DELAYED = Outcome("delayed", "4.4.1", "no answer", "mx.example.test")
GONE = Outcome("failed", "5.1.1", "no such mailbox", "mx.example.test", "550 5.1.1 no such user")


def accept(queue: DiskQueue, message: bytes = MESSAGE, envelope: Envelope = ENVELOPE, account: str = "") -> str:
    identity, descriptor = queue.open_slot()
    os.write(descriptor, message)
    os.close(descriptor)
    queue.commit(identity, envelope, account)
    return identity


def states(queue: DiskQueue, identity: str) -> dict[bytes, str]:
    return {recipient.address: recipient.state for recipient in queue.load(identity).recipients}


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Run the work in a process that is killed before its file operation `number`, half way if it writes: was it?"""
    child = os.fork()
    if child == 0:
        counter = itertools.count()

        def die(name: str, *arguments: object) -> None:
            if next(counter) != number:
                return
            if name == "write_all":
                descriptor, data = arguments
                assert isinstance(descriptor, int) and isinstance(data, bytes)
                os.write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            spy(pytest.MonkeyPatch(), die)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def until_unharmed(
    folder: Path, prepare: Callable[[DiskQueue], str], work: Callable[[DiskQueue, str], object]
) -> Iterator[tuple[DiskQueue, str]]:
    """The work on what was prepared, killed one file operation later each time, and recovered; at last it is not killed."""
    for number in itertools.count():
        queue = DiskQueue(str(folder / str(number)))
        identity = prepare(queue)
        killed = killed_at(number, lambda queue=queue, identity=identity: work(queue, identity))  # type: ignore[misc]
        again = DiskQueue(str(folder / str(number)))
        assert again.recover().damaged == []
        yield again, identity
        if not killed:
            return
