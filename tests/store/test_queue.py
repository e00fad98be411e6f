"""The queue: the order of its file operations, and disks that fail."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store import files
from pillarbox.store.queue import EXPANDED_LIMIT, IDENTITY, Damaged, DiskQueue, QueuedRecipient
from pillarbox.terms import Envelope, Refused, TryLater, Wish

from .maildirs import spy
from .queues import BOB, CAROL, DAVE, ENVELOPE, GONE, MESSAGE, RELAYED, accept, states, tree

EIO = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def queue(tmp_path: Path) -> DiskQueue:
    return DiskQueue(str(tmp_path / "queue"))


def operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The file operations from now on; for those that change a folder, which one."""
    done: list[str] = []

    def note(name: str, *arguments: object) -> None:
        if name in ("rename", "unlink", "sync_directory"):
            done.append(f"{name} {str(arguments[-1]).split('queue/')[1].partition('/')[0]}")
        else:
            done.append(name)

    spy(monkeypatch, note)
    return done


def failing_at(number: int, error: OSError) -> Callable[..., None]:
    counter = itertools.count()

    def fail(name: str, *arguments: object) -> None:
        if next(counter) == number:
            raise error

    return fail


# Acceptance, and what is queued.


def test_the_order_of_an_acceptance(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    done = operations(monkeypatch)
    accept(queue)
    assert done == [
        "create",
        *("create", "write_all"),
        *("rename message", "fsync", "fsync", "sync_directory message"),
        *("rename envelope", "sync_directory envelope"),
    ]


def test_many_messages_share_their_folders_fsyncs(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identities = [queue.open_slot()[0] for _ in range(10)]
    for identity in identities:
        queue.seal(identity, ENVELOPE)
    done = operations(monkeypatch)
    assert queue.publish(identities) == [None] * 10
    assert done == [
        *["rename message"] * 10,  # before the first fsync: one commit of a journal then serves all of them
        *["fsync"] * 20,
        "sync_directory message",
        *["rename envelope"] * 10,
        "sync_directory envelope",
    ]
    assert sorted(queue.pending()) == sorted(identities)


def test_an_id_is_one_and_files_are_nobody_elses(queue: DiskQueue, tmp_path: Path) -> None:
    assert IDENTITY.fullmatch(accept(queue))
    for path in (tmp_path / "queue").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_all_that_an_envelope_says_is_kept(queue: DiskQueue) -> None:
    wishes = (Wish(("NEVER",), b"rfc822;b"), Wish())
    identity = accept(queue, envelope=Envelope(b"", (BOB, CAROL), wishes, "HDRS", b"e+20", True), account="a@b.test")
    message = queue.load(identity)
    assert [recipient.wish for recipient in message.recipients] == list(wishes)
    assert (message.ret, message.envid, message.utf8, message.account) == ("HDRS", b"e+20", True, "a@b.test")


def test_an_envelope_may_be_long(queue: DiskQueue) -> None:
    addresses = tuple(b"%d@example.test" % number for number in range(1000))
    message = queue.load(accept(queue, envelope=Envelope(b"", addresses)))
    assert tuple(recipient.address for recipient in message.recipients) == addresses


@pytest.mark.parametrize("envelope", [Envelope(b"", ()), Envelope(b"", (BOB,), ret="SOME")])
def test_an_envelope_that_can_not_be_kept_is_not_accepted(queue: DiskQueue, tmp_path: Path, envelope: Envelope) -> None:
    with pytest.raises(TryLater, match="can't be kept"):
        accept(queue, envelope=envelope)
    assert tree(tmp_path / "queue") == []


def test_ids_come_oldest_first(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identities = []
    for second in (1_800_000_002, 1_800_000_000, 1_800_000_001):
        monkeypatch.setattr("time.time", lambda second=second: float(second))
        identities.append(accept(queue))
    assert list(queue.pending()) == [identities[1], identities[2], identities[0]]


def test_a_slot_that_nobody_opened_can_not_be_committed(queue: DiskQueue) -> None:
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.abort(identity)
    with pytest.raises(TryLater, match="no message"):
        queue.commit(identity, ENVELOPE)
    assert list(queue.pending()) == []


def test_no_descriptor_is_left_open(queue: DiskQueue, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    identity = accept(queue)
    queue.settle(identity, {BOB: RELAYED})
    queue.add(f"{identity}.f1", ENVELOPE, MESSAGE)
    queue.header(identity, 10)
    (tmp_path / "queue" / "envelope" / identity).write_bytes(b"")
    with pytest.raises(Damaged):
        queue.load(identity)
    queue.remove(identity)
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.abort(identity)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("message", "header"),
    [
        (b"A: b\nC: d\n\nbody\n\n", b"A: b\nC: d\n"),
        (b"\nbody\n\n", b""),
        (b"A: b\nC: d\n", b"A: b\nC: d\n"),
        (b"A: b\n" + b"C: " + b"d" * 100 + b"\n\n", b"A: b\n"),
        (b"A: " + b"b" * 100 + b"\n\n", b""),
        (b"", b""),
    ],
)
def test_a_header_is_whole_lines_within_its_limit(queue: DiskQueue, message: bytes, header: bytes) -> None:
    identity = accept(queue, message)
    assert queue.header(identity, 50) == header
    assert queue.content(identity, 5) == message[:5]
    assert queue.octets(identity) == len(message)


@pytest.mark.parametrize("identity", ["../envelope/x", "..", ".", "", "a/b", "/etc/passwd", "a\0"])
def test_no_id_leads_out_of_the_queue(queue: DiskQueue, tmp_path: Path, identity: str) -> None:
    (tmp_path / "queue" / "envelope" / "x").write_bytes(b"{}")
    for ask in (queue.load, queue.open_message, queue.octets, queue.mark, lambda wrong: queue.settle(wrong, {})):
        with pytest.raises(FileNotFoundError):
            ask(identity)
    queue.remove(identity)
    queue.abort(identity)
    with pytest.raises(ValueError):
        queue.add(identity, ENVELOPE, MESSAGE)
    assert tree(tmp_path / "queue") == ["envelope/x"]


# Changes.


def test_a_change_replaces_the_envelope_durably(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)
    once = ["create", "write_all", "fsync", "rename envelope", "sync_directory envelope"]
    done = operations(monkeypatch)
    queue.settle(identity, {BOB: RELAYED})
    queue.expand(identity, CAROL, [QueuedRecipient(DAVE)])
    queue.mark(identity, reported=[BOB], held=True)
    assert done == once * 3


def test_a_refused_change_writes_nothing(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)
    before = queue.load(identity)
    many = [QueuedRecipient(b"%d" % number) for number in range(EXPANDED_LIMIT)]
    done = operations(monkeypatch)
    with pytest.raises(ValueError, match="no such recipient"):
        queue.settle(identity, {b"mallory@example.test": RELAYED}, finished_try=True)
    with pytest.raises(ValueError, match="still waits"):
        queue.mark(identity, reported=[BOB])
    with pytest.raises(Refused):
        queue.expand(identity, BOB, many)
    with pytest.raises(ValueError, match="finite"):
        queue.settle(identity, {}, next_try=float("nan"))
    assert done == []
    assert queue.load(identity) == before


@pytest.mark.parametrize("number", range(5))
def test_a_change_that_fails_leaves_one_whole_envelope_and_may_be_repeated(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    identity = accept(queue)
    with monkeypatch.context() as broken:
        spy(broken, failing_at(number, EIO))
        with pytest.raises(TryLater, match="Input/output"):
            queue.settle(identity, {BOB: GONE})
    assert tree(tmp_path / "queue") == [f"envelope/{identity}", f"message/{identity}"]
    changed = number == 4  # only the fsync of the folder is missing
    assert states(queue, identity) == {BOB: "failed" if changed else "pending", CAROL: "pending"}
    assert queue.settle(identity, {BOB: GONE}).pending() == (QueuedRecipient(CAROL),)


def test_what_an_earlier_try_could_not_clear_stops_no_later_one(queue: DiskQueue, tmp_path: Path) -> None:
    identity = accept(queue)
    (tmp_path / "queue" / "tmp" / f"{identity}.envelope").write_bytes(b"half")
    queue.settle(identity, {BOB: RELAYED})
    (tmp_path / "queue" / "tmp" / f"{identity}.f1").write_bytes(b"half")
    assert queue.add(f"{identity}.f1", ENVELOPE, MESSAGE)
    assert queue.content(f"{identity}.f1", 1 << 20) == MESSAGE
    assert states(queue, identity)[BOB] == "relayed"


# Messages of our own.


def test_the_order_of_an_addition_is_that_of_an_acceptance(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)
    done = operations(monkeypatch)
    assert queue.add(f"{identity}.f1", ENVELOPE, MESSAGE)
    assert done == [
        *("create", "write_all") * 2,
        *("rename message", "fsync", "fsync", "sync_directory message"),
        *("rename envelope", "sync_directory envelope"),
    ]


@pytest.mark.parametrize("number", range(10))
def test_an_addition_that_fails_is_not_queued_and_may_be_repeated(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    identity = "1795516061.0123456789abcdef.f3"
    with monkeypatch.context() as broken:
        spy(broken, failing_at(number, EIO))
        with pytest.raises(TryLater, match="Input/output"):
            queue.add(identity, ENVELOPE, MESSAGE)
    assert tree(tmp_path / "queue") == []
    assert queue.add(identity, ENVELOPE, MESSAGE)


# The end.


def test_a_removal_is_durable_before_the_message_goes(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)
    done = operations(monkeypatch)
    queue.remove(identity)
    assert done == ["unlink envelope", "sync_directory envelope", "unlink message"]


def test_many_removals_share_one_fsync(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identities = [accept(queue) for _ in range(3)]
    done = operations(monkeypatch)
    assert queue.remove_all(identities) == [None] * 3
    assert done == ["unlink envelope"] * 3 + ["sync_directory envelope"] + ["unlink message"] * 3


def test_a_removal_that_fails_spoils_no_other(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = [accept(queue) for _ in range(3)]
    with monkeypatch.context() as broken:
        spy(broken, failing_at(1, EIO))
        good, bad, also_good = queue.remove_all(identities)
    assert (good, also_good) == (None, None)
    assert isinstance(bad, TryLater)
    assert tree(tmp_path / "queue") == [f"envelope/{identities[1]}", f"message/{identities[1]}"]


def test_a_removal_that_is_not_durable_keeps_the_message(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = accept(queue)
    with monkeypatch.context() as broken:
        spy(broken, failing_at(1, EIO))
        with pytest.raises(TryLater, match="durable"):
            queue.remove(identity)
    assert tree(tmp_path / "queue") == [f"message/{identity}"]
    queue.remove(identity)
    assert tree(tmp_path / "queue") == []


# Disks that fail an acceptance.


@pytest.mark.parametrize("number", range(9))
def test_an_operation_that_fails_means_not_queued_and_nothing_left(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as broken:
        spy(broken, failing_at(number, OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(TryLater, match="No space left") as error:
            accept(queue)
        assert error.value.code == "4.3.1"
    assert tree(tmp_path / "queue") == []
    assert queue.content(accept(queue), 1 << 20) == MESSAGE


def test_a_failed_fsync_is_never_repeated(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped the pages, and says that all is well the second time."""
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.seal(identity, ENVELOPE)
    with monkeypatch.context() as broken:
        spy(broken, failing_at(1, EIO))
        (error,) = queue.publish([identity])
    assert isinstance(error, TryLater) and "Input/output" in error.why
    (error,) = queue.publish([identity])
    assert isinstance(error, TryLater)
    assert list(queue.pending()) == []


def test_one_message_of_a_batch_that_fails_does_not_spoil_the_others(queue: DiskQueue) -> None:
    identities = [queue.open_slot()[0] for _ in range(3)]
    for identity in identities:
        queue.seal(identity, ENVELOPE)
    queue.abort(identities[1])
    good, bad, also_good = queue.publish(identities)
    assert (good, also_good) == (None, None)
    assert isinstance(bad, TryLater)
    assert sorted(queue.pending()) == sorted([identities[0], identities[2]])


@pytest.mark.parametrize("folder", ["message", "envelope"])
def test_a_batch_whose_folder_can_not_be_made_durable_is_not_queued(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    identities = [queue.open_slot()[0] for _ in range(3)]
    for identity in identities:
        queue.seal(identity, ENVELOPE)

    def fail(path: str) -> None:
        if path.endswith(folder):
            raise EIO

    with monkeypatch.context() as broken:
        broken.setattr(files, "sync_directory", fail)
        with pytest.raises(TryLater, match="durable"):
            queue.publish(identities)
    assert tree(tmp_path / "queue") == []
