"""A process killed before any of its file operations: nothing torn, nothing twice, and the next try ends it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillarbox.store import maildir_index
from pillarbox.store.maildir import Maildrops
from pillarbox.store.maildir_delivery import Slot, deliver, make, sync

from .maildirs import Maildir, content, entries, spy

MESSAGE = b"Subject: hello\n\nbody\n" * 100
HEAD = b"Return-Path: <>\n"
NAME = "1795491907.0123456789abcdef.0"


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


def until_unharmed(work: Callable[[], object]) -> Iterator[None]:
    """Each time round, after the work was killed one operation later; at last it is not killed."""
    for number in itertools.count():
        killed = killed_at(number, work)
        yield
        if not killed:
            return


def messages(path: str) -> list[bytes]:
    drop = Maildrops().load(path)
    return [content(drop, number) for number in range(1, drop.listing().count + 1)]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "queued").write_bytes(MESSAGE)
    descriptor = os.open(tmp_path / "queued", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("there", [True, False], ids=["a Maildir that is there", "one to be made"])
def test_a_delivery_killed_anywhere_and_tried_again_is_one_whole_message(
    tmp_path: Path, source: int, there: bool
) -> None:
    found = []
    places = itertools.count()
    path = ""

    def work() -> None:
        deliver(path, NAME, HEAD, source)

    def renew() -> None:
        nonlocal path
        path = str(tmp_path / f"{next(places)}" / "alice")
        if there:
            make(path)

    renew()
    for _ in until_unharmed(work):
        before = messages(path)
        assert before in ([], [HEAD + MESSAGE])
        found.append(len(before))
        work()
        assert messages(path) == [HEAD + MESSAGE]
        assert len(os.listdir(f"{path}/tmp")) <= 1, "what the dead one left is cleaned away when it is old"
        renew()
    making = 0 if there else found.index(1) - 5
    assert found == [0] * (making + 5) + [1] * 3


def test_a_slot_killed_anywhere_leaves_a_whole_message_or_none(tmp_path: Path) -> None:
    maildir = Maildir(tmp_path / "Maildir")
    path = str(maildir.path)
    found = []

    def work() -> None:
        slot = Slot(path)
        os.write(slot.fd, MESSAGE)
        slot.seal()
        slot.publish()
        sync(path)

    for _ in until_unharmed(work):
        read = messages(path)
        assert read in ([], [MESSAGE])
        found.append(len(read))
        for file in maildir.files():
            maildir.remove(file)
    assert found == [0] * 3 + [1] * 3


def test_a_removal_killed_anywhere_has_removed_nothing_else_and_is_ended_by_the_next(tmp_path: Path) -> None:
    def fill() -> None:
        maildir.put("new/1.a", b"1\n")
        maildir.put("cur/2.a:2,S", b"2\n")
        maildir.put("new/3.a", b"3\n")

    maildir = Maildir(tmp_path / "Maildir")
    path = str(maildir.path)
    left = []
    fill()
    for _ in until_unharmed(lambda: Maildrops().load(path).remove([1, 2])):
        read = messages(path)
        left.append(len(read))
        assert b"3\n" in read
        drop = Maildrops().load(path)
        assert drop.remove(range(1, drop.listing().count)) == 0
        assert messages(path) == [b"3\n"]
        fill()
    assert left == [3, 2, 1, 1, 1]


def test_an_index_killed_anywhere_is_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_index, "WORTH_MESSAGES", 1)
    maildir = Maildir(tmp_path / "Maildir")
    path = str(maildir.path)
    maildir.put("new/1.a", b"1\n")
    maildir.settle()
    Maildrops().load(path)
    maildir.put("new/2.a", b"22\n")
    kept = []
    for _ in until_unharmed(lambda: Maildrops().load(path)):
        seen = maildir_index.read(os.fsencode(path))
        assert seen is not None
        kept.append(seen.listing.count)
        assert entries(Maildrops().load(path).listing()) == [(b"1.a", 3), (b"2.a", 4)]
        maildir.remove("new/2.a")
        Maildrops().load(path)
        maildir.put("new/2.a", b"22\n")
    assert kept == [1, 1, 2]
