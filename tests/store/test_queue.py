"""The queue: the order of its file operations, every crash that order allows, damage, and full disks."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import files
from pillarbox.store.queue import DELIVERED, FAILED, PENDING, DiskQueue, QueuedMessage
from pillarbox.store.queue_envelope import parse, render
from pillarbox.terms import Envelope, TryLater

ENVELOPE = Envelope(b"alice@example.org", (b"bob@example.test", b"carol@example.test"))
MESSAGE = b"Subject: hello\n\nbody\n" * 100
OPERATIONS = ("create", "write_all", "fsync", "rename", "unlink", "sync_directory")


@pytest.fixture
def queue(tmp_path: Path) -> DiskQueue:
    return DiskQueue(str(tmp_path / "queue"))


def accept(queue: DiskQueue, message: bytes = MESSAGE, envelope: Envelope = ENVELOPE) -> str:
    identity, descriptor = queue.open_slot()
    os.write(descriptor, message)
    os.close(descriptor)
    queue.commit(identity, envelope)
    return identity


def read(queue: DiskQueue, identity: str) -> bytes:
    with os.fdopen(queue.open_message(identity), "rb") as file:
        return file.read()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def spy(monkeypatch: pytest.MonkeyPatch, before: Callable[..., None]) -> None:
    """`before(name, *arguments)` is called before each operation of store.files."""

    def watched(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def operation(*arguments: object) -> object:
            before(name, *arguments)
            return real(*arguments)

        return operation

    for name in OPERATIONS:
        monkeypatch.setattr(files, name, watched(name, getattr(files, name)))


# The envelope's file.

octets = st.binary(max_size=60)


@given(
    sender=octets,
    outcomes=st.dictionaries(octets, st.sampled_from([PENDING, DELIVERED, FAILED]), min_size=1),
    received=st.floats(0, 1e11),
    next_try=st.floats(0, 1e11),
    tries=st.integers(0, 1000),
)
def test_an_envelope_comes_back_octet_for_octet(
    sender: bytes, outcomes: dict[bytes, str], received: float, next_try: float, tries: int
) -> None:
    message = QueuedMessage("1.a", sender, outcomes, received, next_try, tries)
    again = parse(render(message), "1.a")
    assert again == message
    assert list(again.outcomes) == list(outcomes)
    assert again.envelope == Envelope(sender, tuple(outcomes))


@given(st.binary(max_size=200))
def test_what_is_no_envelope_is_damaged(content: bytes) -> None:
    with pytest.raises(ValueError):
        parse(content, "1.a")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"id": "another"},
        {"sender": None},
        {"sender": "\u0100"},
        {"recipients": []},
        {"recipients": [["a", "maybe"]]},
        {"recipients": [["a", "pending"], ["a", "failed"]]},
        {"recipients": [["\u0100", "pending"]]},
        {"tries": "3"},
        {"received": None},
        {"unknown": 1},
    ],
)
def test_a_changed_envelope_is_damaged(change: dict[str, object]) -> None:
    message = json.loads(render(QueuedMessage("1.a", b"s", {b"a": PENDING}, 1.0, 1.0)))
    with pytest.raises(ValueError):
        parse(json.dumps(message | change).encode(), "1.a")


# Acceptance, and what is queued.


def test_the_order_of_an_acceptance(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def note(name: str, *arguments: object) -> None:
        if name in ("rename", "sync_directory"):
            done.append(f"{name} {str(arguments[-1]).split('queue/')[1].partition('/')[0]}")
        else:
            done.append(name)

    spy(monkeypatch, note)
    accept(queue)
    assert done == [
        "create",
        "fsync",
        *("create", "write_all", "fsync"),
        *("rename message", "sync_directory message"),
        *("rename envelope", "sync_directory envelope"),
    ]


def test_many_messages_share_their_folders_fsyncs(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    identities = [queue.open_slot()[0] for _ in range(10)]
    for identity in identities:
        queue.seal(identity, ENVELOPE)
    spy(monkeypatch, lambda name, *arguments: synced.append(name) if "sync" in name else None)
    assert queue.publish(identities) == [None] * 10
    assert synced == ["sync_directory"] * 2
    assert sorted(queue.pending()) == sorted(identities)


def test_files_are_nobody_elses(queue: DiskQueue, tmp_path: Path) -> None:
    accept(queue)
    for path in (tmp_path / "queue").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_a_message_named_twice_for_one_recipient_goes_once(queue: DiskQueue) -> None:
    identity = accept(queue, envelope=Envelope(b"", (b"a@b.test", b"c@b.test", b"a@b.test")))
    assert queue.load(identity).recipients == (b"a@b.test", b"c@b.test")


def test_ids_come_oldest_first(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identities = []
    for second in (1_800_000_002, 1_800_000_000, 1_800_000_001):
        monkeypatch.setattr("time.time", lambda second=second: float(second))
        identities.append(accept(queue))
    assert list(queue.pending()) == [identities[1], identities[2], identities[0]]


def test_a_recipient_that_the_message_does_not_have_is_a_bug_of_ours(queue: DiskQueue) -> None:
    identity = accept(queue)
    with pytest.raises(ValueError, match="no such recipient"):
        queue.settle(identity, {b"mallory@example.test": DELIVERED}, 1.0)
    assert queue.load(identity).tries == 0


def test_a_removal_is_durable_before_the_message_goes(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)
    done: list[str] = []
    spy(monkeypatch, lambda name, path: done.append(f"{name} {path.split('queue/')[1].partition('/')[0]}"))
    queue.remove(identity)
    assert done == ["unlink envelope", "sync_directory envelope", "unlink message"]


def test_a_slot_that_nobody_opened_can_not_be_committed(queue: DiskQueue) -> None:
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.abort(identity)
    with pytest.raises(TryLater, match="no message"):
        queue.commit(identity, ENVELOPE)
    assert list(queue.pending()) == []


def test_no_descriptor_is_left_open(queue: DiskQueue) -> None:
    before = os.listdir("/proc/self/fd")
    queue.remove(accept(queue))
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.abort(identity)
    assert os.listdir("/proc/self/fd") == before


# Disks that fail.


@pytest.mark.parametrize("number", range(9))
def test_an_operation_that_fails_means_not_queued_and_nothing_left(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    counter = itertools.count()

    def fail(name: str, *arguments: object) -> None:
        if next(counter) == number:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        spy(broken, fail)
        with pytest.raises(TryLater, match="No space left") as error:
            accept(queue)
        assert error.value.code == "4.3.1"
    assert tree(tmp_path / "queue") == []
    assert read(queue, accept(queue)) == MESSAGE


def test_a_failed_fsync_is_never_repeated(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped the pages, and says that all is well the second time."""
    identity, descriptor = queue.open_slot()
    os.close(descriptor)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(files, "fsync", fail)
        with pytest.raises(TryLater, match="Input/output"):
            queue.seal(identity, ENVELOPE)
    with pytest.raises(TryLater, match="no message"):
        queue.seal(identity, ENVELOPE)


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
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(files, "sync_directory", fail)
        with pytest.raises(TryLater, match="durable"):
            queue.publish(identities)
    assert tree(tmp_path / "queue") == []


@pytest.mark.parametrize("number", range(5))
def test_a_settling_that_fails_changes_nothing(
    queue: DiskQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    identity = accept(queue)
    counter = itertools.count()

    def fail(name: str, *arguments: object) -> None:
        if next(counter) == number:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        spy(broken, fail)
        with pytest.raises(OSError, match="Input/output"):
            queue.settle(identity, {b"bob@example.test": DELIVERED}, 1.0)
    assert tree(tmp_path / "queue") == [f"envelope/{identity}", f"message/{identity}"]
    assert queue.load(identity).tries == (1 if number == 4 else 0)  # 4: only the fsync of the folder is missing
    queue.settle(identity, {b"bob@example.test": DELIVERED}, 1.0)


# Damage.


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 4096, b'{"version":1}', b"[" * 100_000])
def test_a_damaged_envelope_is_set_aside_and_reported(queue: DiskQueue, tmp_path: Path, content: bytes) -> None:
    good, bad = accept(queue), accept(queue)
    folder = tmp_path / "queue"
    (folder / "envelope" / bad).write_bytes(content)
    with pytest.raises(TryLater, match=f"{bad} is damaged"):
        queue.load(bad)
    assert queue.recover() == [str(folder / "damaged" / bad)]
    assert list(queue.pending()) == [good]
    assert (folder / "damaged" / bad).read_bytes() == content
    assert (folder / "damaged" / f"{bad}.message").read_bytes() == MESSAGE
    assert queue.recover() == []


def test_an_envelope_without_its_message_is_damage(queue: DiskQueue, tmp_path: Path) -> None:
    identity = accept(queue)
    (tmp_path / "queue" / "message" / identity).unlink()
    assert queue.recover() == [str(tmp_path / "queue" / "damaged" / identity)]
    assert list(queue.pending()) == []


def test_a_strange_thing_in_the_queue_stops_nothing(queue: DiskQueue, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    identity = accept(queue)
    (folder / "envelope" / "folder").mkdir()
    (folder / "envelope" / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "envelope" / "pipe")
    (folder / "tmp" / "folder").mkdir()
    (folder / "message" / "folder").mkdir()
    assert sorted(path.rpartition("/")[2] for path in queue.recover()) == ["folder", "link", "pipe"]
    assert list(queue.pending()) == [identity]


def test_an_envelope_that_can_not_be_read_just_now_stays(queue: DiskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = accept(queue)
    real = os.read

    def fail(descriptor: int, octets: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(TryLater, match="Input/output"):
        queue.load(identity)
    assert queue.recover() == []
    monkeypatch.setattr(os, "read", real)
    assert read(queue, identity) == MESSAGE


# Crashes: the process killed at each operation, and the power cut after each.


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Run the work in a process that is killed just before its `number`th file operation: was it?"""
    child = os.fork()
    if child == 0:
        counter = itertools.count()

        def die(name: str, *arguments: object) -> None:
            if next(counter) == number:
                if name == "write_all":
                    os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])  # type: ignore[arg-type, index]
                os.kill(os.getpid(), 9)

        spy(pytest.MonkeyPatch(), die)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def test_killed_anywhere_in_an_acceptance_it_is_queued_whole_or_not_at_all(tmp_path: Path) -> None:
    states = []
    for number in itertools.count():
        folder = tmp_path / str(number)
        queue = DiskQueue(str(folder))
        killed = killed_at(number, lambda queue=queue: accept(queue) and None)
        again = DiskQueue(str(folder))
        assert again.recover() == []
        queued = list(again.pending())
        assert tree(folder) == [f"{place}/{identity}" for place in ("envelope", "message") for identity in queued]
        for identity in queued:
            assert again.load(identity).pending() == ENVELOPE.recipients
            assert read(again, identity) == MESSAGE
        states.append(len(queued))
        if not killed:
            break
    assert states == [0] * 8 + [1] * 2


def test_killed_anywhere_in_a_settling_the_old_or_the_new_state_is_there(tmp_path: Path) -> None:
    tries = []
    for number in itertools.count():
        queue = DiskQueue(str(tmp_path / str(number)))
        identity = accept(queue)
        killed = killed_at(
            number, lambda queue=queue, identity=identity: queue.settle(identity, {b"bob@example.test": FAILED}, 9.0)
        )
        assert queue.recover() == []
        message = queue.load(identity)
        tries.append(message.tries)
        assert message.outcomes[b"bob@example.test"] == (FAILED if message.tries else PENDING)
        if not killed:
            break
    assert tries == [0] * 4 + [1] * 2


def test_killed_anywhere_in_a_removal_it_is_there_whole_or_gone(tmp_path: Path) -> None:
    left = []
    for number in itertools.count():
        queue = DiskQueue(str(tmp_path / str(number)))
        identity = accept(queue)
        killed = killed_at(number, lambda queue=queue, identity=identity: queue.remove(identity))
        assert queue.recover() == []
        left.append(tree(tmp_path / str(number)))
        if not killed:
            break
    assert [len(files_left) for files_left in left] == [2, 0, 0, 0]


@dataclass
class Disk:
    """What a disk may hold after a power cut: contents that were fsynced, and any of the renames not yet fsynced."""

    trace: list[tuple[str, ...]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)  # of the files in tmp that were fsynced, at that moment

    def note(self, name: str, *arguments: object) -> None:
        if name == "fsync":
            descriptor = int(str(arguments[0]))
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self.contents[path] = os.pread(descriptor, 1 << 20, 0)
            self.trace.append(("fsync", path))
        elif name != "write_all":
            self.trace.append((name, *map(str, arguments)))

    def cuts(self) -> Iterator[tuple[int, dict[str, bytes | None]]]:
        """After how many operations, and path -> content; None: torn."""
        for length in range(len(self.trace) + 1):
            done = self.trace[:length]
            open_renames = [
                place
                for place, (name, *arguments) in enumerate(done)
                if name == "rename" and ("sync_directory", os.path.dirname(arguments[1])) not in done[place:]
            ]
            for lost in itertools.chain.from_iterable(
                itertools.combinations(open_renames, size) for size in range(len(open_renames) + 1)
            ):
                yield length, self._state(done, set(lost))

    def _state(self, done: list[tuple[str, ...]], lost: set[int]) -> dict[str, bytes | None]:
        state: dict[str, bytes | None] = {}
        for place, (name, *arguments) in enumerate(done):
            if name == "create":
                state[arguments[0]] = None
            elif name == "fsync":
                state[arguments[0]] = self.contents[arguments[0]]
            elif name == "rename" and place not in lost:
                state[arguments[1]] = state.pop(arguments[0])
        return state


def test_no_power_cut_tears_an_accepted_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every state that the order of operations allows, two messages in one batch, then recovery."""
    folder, disk = tmp_path / "queue", Disk()
    queue = DiskQueue(str(folder))
    with monkeypatch.context() as watched:
        spy(watched, disk.note)
        slots = [queue.open_slot() for _ in range(2)]
        for identity, descriptor in slots:
            os.write(descriptor, MESSAGE)
            os.close(descriptor)
            queue.seal(identity, ENVELOPE)
        queue.publish([identity for identity, _ in slots])
    survived = []
    for length, state in disk.cuts():
        shutil.rmtree(folder)
        queue = DiskQueue(str(folder))
        for path, content in state.items():
            Path(path).write_bytes(content or b"")
        assert queue.recover() == []
        queued = list(queue.pending())
        assert [read(queue, identity) for identity in queued] == [MESSAGE] * len(queued)
        assert [queue.load(identity).envelope for identity in queued] == [ENVELOPE] * len(queued)
        survived.append((length, len(queued)))
    acknowledged = [count for length, count in survived if length == len(disk.trace)]
    assert acknowledged == [2]
    assert {count for _, count in survived} == {0, 1, 2}
