"""The queue: damage, a start, what root does in it, and what a reader sees who does not own it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pillarbox.store.queue import Damaged, DiskQueue, Recovered, Summary, summaries
from pillarbox.terms import TryLater

from .queues import BOB, CAROL, DELAYED, ENVELOPE, GONE, MESSAGE, RELAYED, accept, tree

NOBODY = 65534


@pytest.fixture
def queue(tmp_path: Path) -> DiskQueue:
    return DiskQueue(str(tmp_path / "queue"))


# Damage.


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 10_000, b'{"version":1}', b"[" * 100_000])
def test_a_damaged_envelope_is_set_aside_and_reported(queue: DiskQueue, tmp_path: Path, content: bytes) -> None:
    good, bad = accept(queue), accept(queue)
    folder = tmp_path / "queue"
    (folder / "envelope" / bad).write_bytes(content)
    for ask in (queue.load, lambda identity: queue.settle(identity, {BOB: RELAYED}), queue.mark):
        with pytest.raises(Damaged, match=f"{bad} is damaged"):
            ask(bad)
    assert queue.recover().damaged == [str(folder / "damaged" / bad)]
    assert list(queue.pending()) == [good]
    assert (folder / "damaged" / bad).read_bytes() == content
    assert (folder / "damaged" / f"{bad}.message").read_bytes() == MESSAGE
    assert queue.recover().damaged == []


def test_damage_that_is_found_in_flight_is_set_aside_too(queue: DiskQueue, tmp_path: Path) -> None:
    good, bad = accept(queue), accept(queue)
    (tmp_path / "queue" / "envelope" / bad).write_bytes(b"{}")
    assert queue.set_aside(bad) == str(tmp_path / "queue" / "damaged" / bad)
    assert list(queue.pending()) == [good]
    with pytest.raises(FileNotFoundError):
        queue.load(bad)
    assert queue.set_aside(bad) == str(tmp_path / "queue" / "damaged" / bad)
    assert tree(tmp_path / "queue" / "damaged") == [bad, f"{bad}.message"]


def test_an_envelope_without_its_message_is_damage(queue: DiskQueue, tmp_path: Path) -> None:
    identity = accept(queue)
    (tmp_path / "queue" / "message" / identity).unlink()
    assert queue.recover().damaged == [str(tmp_path / "queue" / "damaged" / identity)]
    assert list(queue.pending()) == []


def test_a_strange_thing_in_the_queue_stops_nothing(queue: DiskQueue, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    identity = accept(queue)
    (folder / "envelope" / "folder").mkdir()
    (folder / "envelope" / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "envelope" / "pipe")
    for strange in ("folder", "link", "pipe"):
        (folder / "message" / strange).touch()
        with pytest.raises(Damaged):
            queue.load(strange)
    (folder / "envelope" / "alone").symlink_to("/etc/passwd")
    (folder / "tmp" / "folder").mkdir()
    (folder / "message" / "folder of its own").mkdir()
    found = queue.recover()
    assert [path.rpartition("/")[2] for path in found.damaged] == ["alone", "folder", "link", "pipe"]
    assert list(queue.pending()) == [identity] == [name for _, name in found.due]


def test_an_envelope_that_can_not_be_read_just_now_stays(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)

    def fail(descriptor: int, octets: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "read", fail)
        with pytest.raises(TryLater, match="Input/output") as error:
            queue.load(identity)
        assert not isinstance(error.value, Damaged)
        assert queue.recover() == Recovered([(0.0, identity)], [], [])
    assert queue.content(identity, 1 << 20) == MESSAGE


# A start.


def test_a_start_says_what_is_due_and_when(queue: DiskQueue) -> None:
    later, held, sooner, settled = (accept(queue) for _ in range(4))
    queue.settle(later, {BOB: DELAYED}, next_try=7e9, finished_try=True)
    queue.mark(held, held=True)
    queue.settle(sooner, {BOB: DELAYED}, next_try=6e9, finished_try=True)
    queue.settle(settled, {BOB: RELAYED, CAROL: GONE}, next_try=8e9)
    assert queue.recover() == Recovered([(0.0, settled), (6e9, sooner), (7e9, later)], [held], [])
    queue.mark(held, held=False, next_try=1.0)
    assert queue.recover().due[1] == (1.0, held)


def test_a_start_clears_what_was_never_queued(queue: DiskQueue, tmp_path: Path) -> None:
    identity = accept(queue)
    for stray in ("tmp/1795516061.0123456789abcdef", "tmp/x.envelope", "message/1795516061.0123456789abcdef"):
        (tmp_path / "queue" / stray).write_bytes(MESSAGE)
    queue.recover()
    assert tree(tmp_path / "queue") == [f"envelope/{identity}", f"message/{identity}"]


def test_a_file_of_the_first_version_is_due_and_goes_on_as_one_of_the_second(queue: DiskQueue, tmp_path: Path) -> None:
    identity = accept(queue)
    (tmp_path / "queue" / "envelope" / identity).write_text(
        f'{{"version":1,"id":"{identity}","received":5.5,"next_try":6.5,"tries":2,"sender":"",'
        '"recipients":[["bob@example.test","delivered"],["carol@example.test","pending"]]}\n'
    )
    assert queue.recover().due == [(6.5, identity)]
    message = queue.settle(identity, {CAROL: DELAYED}, next_try=9.0, finished_try=True)
    assert (message.tries, message.pending()[0].outcome) == (3, DELAYED)
    assert queue.load(identity) == message


# Root.


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: changes owners")
def test_what_root_writes_belongs_to_the_queues_owner(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir(0o700)
    os.chown(folder, NOBODY, NOBODY)
    queue = DiskQueue(str(folder))
    identity = accept(queue)
    queue.mark(identity, held=True)
    queue.add(f"{identity}.f1", ENVELOPE, MESSAGE)
    owners = {path: (path.stat().st_uid, path.stat().st_gid) for path in folder.rglob("*")}
    assert len(owners) == 8
    assert set(owners.values()) == {(NOBODY, NOBODY)}
    assert {path.stat().st_mode & 0o777 for path in owners if path.is_file()} == {0o600}


# Readers.


def test_a_reader_sees_all_messages_oldest_first(queue: DiskQueue, tmp_path: Path) -> None:
    first = accept(queue, account="alice@example.org")
    second = f"{first}.f1"
    queue.add(second, ENVELOPE, b"short\n")
    before = tree(tmp_path / "queue")
    assert list(summaries(str(tmp_path / "queue"))) == [
        Summary(first, len(MESSAGE), queue.load(first)),
        Summary(second, 6, queue.load(second)),
    ]
    assert tree(tmp_path / "queue") == before


def test_a_reader_passes_over_what_leaves_meanwhile(queue: DiskQueue, tmp_path: Path) -> None:
    first, *others = sorted(accept(queue) for _ in range(3))
    reader = summaries(str(tmp_path / "queue"))
    assert next(reader).identity == first
    queue.remove_all(others)
    assert list(reader) == []


def test_a_reader_is_told_of_damage(queue: DiskQueue, tmp_path: Path) -> None:
    good, torn, alone = (accept(queue) for _ in range(3))
    (tmp_path / "queue" / "envelope" / torn).write_bytes(b"{}")
    (tmp_path / "queue" / "message" / alone).unlink()
    found = {summary.identity: summary for summary in summaries(str(tmp_path / "queue"))}
    assert found[good].damage == "" and found[good].message == queue.load(good)
    assert found[torn].message is None and "is damaged" in found[torn].damage
    assert found[alone] == Summary(alone, 0, None, "its message is missing")


def test_a_reader_without_a_queue_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match="No such file"):
        list(summaries(str(tmp_path / "nowhere")))
    assert not (tmp_path / "nowhere").exists()
