"""The queue killed before each operation, the power cut after each, and many threads: nothing lost, nothing torn."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pillarbox.store.queue import DiskQueue, QueuedMessage, QueuedRecipient
from pillarbox.terms import Envelope

from .maildirs import spy
from .queues import BOB, CAROL, DAVE, DELAYED, ENVELOPE, GONE, MESSAGE, RELAYED, accept, tree, until_unharmed

REPORT = b"Subject: Undelivered mail\n\nbob is gone\n"

Change = Callable[[DiskQueue, str], object]

CHANGES: dict[str, Change] = {
    "settle": lambda queue, identity: queue.settle(identity, {BOB: RELAYED, CAROL: GONE}, finished_try=True),
    "delay": lambda queue, identity: queue.settle(identity, {BOB: DELAYED}, next_try=9e9, finished_try=True),
    "expand": lambda queue, identity: queue.expand(identity, BOB, [QueuedRecipient(DAVE, via=BOB)]),
    "mark": lambda queue, identity: queue.mark(identity, held=True, warned=True, next_try=1.0),
}


def report(queue: DiskQueue, identity: str) -> None:
    assert queue.add(f"{identity}.f1", Envelope(b"", (b"alice@example.org",)), REPORT)


def queued(queue: DiskQueue) -> dict[str, QueuedMessage]:
    """What is queued; all of it whole."""
    found = {identity: queue.load(identity) for identity in queue.pending()}
    for identity in found:
        assert queue.content(identity, 1 << 20) == (REPORT if identity.endswith(".f1") else MESSAGE)
    return found


# Killed.


def test_killed_anywhere_in_an_acceptance_it_is_queued_whole_or_not_at_all(tmp_path: Path) -> None:
    counts: list[int] = []
    for queue, _ in until_unharmed(tmp_path, lambda queue: "", lambda queue, _: accept(queue)):
        found = queued(queue)
        assert all(message.pending() == (QueuedRecipient(BOB), QueuedRecipient(CAROL)) for message in found.values())
        folder = tmp_path / str(len(counts))
        assert tree(folder) == [f"{place}/{identity}" for place in ("envelope", "message") for identity in found]
        counts.append(len(found))
    assert counts == [0] * 8 + [1] * 2


def test_killed_anywhere_in_an_addition_it_is_queued_whole_or_not_at_all_and_the_next_ends_it(tmp_path: Path) -> None:
    added = []
    for queue, identity in until_unharmed(tmp_path, accept, report):
        found = queued(queue)
        assert found.keys() - {f"{identity}.f1"} == {identity}
        added.append(len(found) - 1)
        assert queue.add(f"{identity}.f1", ENVELOPE, REPORT) is not bool(added[-1])
        assert len(queued(queue)) == 2
    assert added == [0] * 9 + [1] * 2


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_killed_anywhere_in_a_change_the_old_or_the_new_state_is_there_and_the_next_ends_it(
    tmp_path: Path, change: Change
) -> None:
    begin: list[QueuedMessage] = []

    def prepare(queue: DiskQueue) -> str:
        identity = accept(queue)
        begin.append(queue.load(identity))
        return identity

    changed, ended = [], []
    for queue, identity in until_unharmed(tmp_path, prepare, change):
        (found,) = queued(queue).values()
        changed.append(found != begin[-1])
        change(queue, identity)
        (again,) = queued(queue).values()
        ended.append((again.recipients, again.held, again.warned))
    assert changed == [False] * 4 + [True] * 2
    assert all(end == ended[0] for end in ended)


def test_killed_anywhere_in_a_removal_each_is_there_whole_or_gone(tmp_path: Path) -> None:
    def prepare(queue: DiskQueue) -> str:
        return " ".join(accept(queue) for _ in range(3))

    left = []
    for number, (queue, identities) in enumerate(
        until_unharmed(tmp_path, prepare, lambda queue, identities: queue.remove_all(identities.split()[:2]))
    ):
        found = queued(queue)
        assert identities.split()[2] in found
        assert len(tree(tmp_path / str(number))) == 2 * len(found)
        left.append(len(found))
    assert left == [3, 2, 1, 1, 1, 1]


# The power cut.


@dataclass
class Disk:
    """What a disk may hold after a power cut: contents that were fsynced, and any of the renames and removals in
    folders not yet fsynced. What lay there at first is durable."""

    state: dict[str, bytes | None] = field(default_factory=dict)  # path -> content; None: torn
    trace: list[tuple[str, ...]] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)  # by the place of the fsync in the trace

    def begin(self, folder: Path) -> None:
        self.state = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def note(self, name: str, *arguments: object) -> None:
        if name == "fsync":
            descriptor = arguments[0]
            assert isinstance(descriptor, int)
            self.contents[len(self.trace)] = os.pread(descriptor, 1 << 20, 0)
            self.trace.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        elif name != "write_all":
            self.trace.append((name, *map(str, arguments)))

    def cuts(self) -> Iterator[tuple[int, dict[str, bytes | None]]]:
        """After how many operations, and what may lie there then."""
        for length in range(len(self.trace) + 1):
            unsure = [place for place in range(length) if self._is_unsure(place, length)]
            for lost in itertools.chain.from_iterable(
                itertools.combinations(unsure, size) for size in range(len(unsure) + 1)
            ):
                yield length, self._state(length, set(lost))

    def _is_unsure(self, place: int, length: int) -> bool:
        name, *arguments = self.trace[place]
        folder = os.path.dirname(arguments[-1])
        return name in ("rename", "unlink") and ("sync_directory", folder) not in self.trace[place:length]

    def _state(self, length: int, lost: set[int]) -> dict[str, bytes | None]:
        state = dict(self.state)
        for place, (name, *arguments) in enumerate(self.trace[:length]):
            if name == "create":
                state[arguments[0]] = None
            elif name == "fsync":
                state[arguments[0]] = self.contents[place]
            elif name == "rename" and place not in lost:
                state[arguments[1]] = state.pop(arguments[0])
            elif name == "unlink" and place not in lost:
                state.pop(arguments[0], None)
        return state


def after_cuts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[DiskQueue], object], work: Callable[[], object]
) -> Iterator[tuple[bool, dict[str, QueuedMessage]]]:
    """Every state that the order of the work's operations allows, after recovery: was the work done, what is queued."""
    disk = Disk()
    prepare(DiskQueue(str(folder)))
    disk.begin(folder)
    with monkeypatch.context() as watched:
        spy(watched, disk.note)
        work()
    for length, state in disk.cuts():
        shutil.rmtree(folder)
        queue = DiskQueue(str(folder))
        for path, content in state.items():
            Path(path).write_bytes(content or b"")
        assert queue.recover().damaged == []
        yield length == len(disk.trace), queued(queue)


def test_no_power_cut_tears_an_accepted_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two messages in one batch."""
    folder = tmp_path / "queue"

    def work() -> None:
        queue = DiskQueue(str(folder))
        slots = [queue.open_slot() for _ in range(2)]
        for identity, descriptor in slots:
            os.write(descriptor, MESSAGE)
            os.close(descriptor)
            queue.seal(identity, ENVELOPE)
        assert queue.publish([identity for identity, _ in slots]) == [None, None]

    counts: dict[bool, set[int]] = {False: set(), True: set()}
    for done, found in after_cuts(folder, monkeypatch, accept, work):
        assert all(message.sender == ENVELOPE.sender and len(message.pending()) == 2 for message in found.values())
        counts[done].add(len(found))
    assert counts == {False: {1, 2, 3}, True: {3}}


def test_no_power_cut_tears_a_message_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "queue"
    identity = ""

    def prepare(queue: DiskQueue) -> None:
        nonlocal identity
        identity = accept(queue)

    counts: dict[bool, set[int]] = {False: set(), True: set()}
    for done, found in after_cuts(folder, monkeypatch, prepare, lambda: report(DiskQueue(str(folder)), identity)):
        assert identity in found
        counts[done].add(len(found))
    assert counts == {False: {1, 2}, True: {2}}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_power_cut_the_old_or_the_new_state_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    folder = tmp_path / "queue"
    seen: list[QueuedMessage] = []

    def prepare(queue: DiskQueue) -> None:
        seen.append(queue.load(accept(queue)))

    def work() -> None:
        queue = DiskQueue(str(folder))
        change(queue, seen[0].identity)
        seen.append(queue.load(seen[0].identity))

    found_when: dict[bool, list[QueuedMessage]] = {False: [], True: []}
    for done, found in after_cuts(folder, monkeypatch, prepare, work):
        found_when[done] += found.values()
    before, after = seen
    assert before != after
    assert all(message == after for message in found_when[True]) and found_when[True]
    assert before in found_when[False] and after in found_when[False]
    assert all(message in (before, after) for message in found_when[False])


def test_no_power_cut_tears_what_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "queue"
    identities: list[str] = []
    counts: dict[bool, set[int]] = {False: set(), True: set()}
    for done, found in after_cuts(
        folder,
        monkeypatch,
        lambda queue: identities.extend(accept(queue) for _ in range(4)),
        lambda: DiskQueue(str(folder)).remove_all(identities[:3]),
    ):
        assert identities[3] in found
        counts[done].add(len(found))
    assert counts == {False: {1, 2, 3, 4}, True: {1}}


# Threads.


def test_changes_from_many_threads_do_not_lose_each_other(tmp_path: Path) -> None:
    queue = DiskQueue(str(tmp_path / "queue"))
    addresses = [b"%d@example.test" % number for number in range(40)]
    identity = accept(queue, envelope=Envelope(b"", tuple(addresses)))
    together = threading.Barrier(8)

    def settle(part: list[bytes]) -> None:
        together.wait(10)
        for address in part:
            queue.settle(identity, {address: RELAYED}, finished_try=True)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(settle, [addresses[start::8] for start in range(8)]))
    finally:
        sys.setswitchinterval(interval)
    message = queue.load(identity)
    assert (message.pending(), message.tries) == ((), 40)
    assert tree(tmp_path / "queue") == [f"envelope/{identity}", f"message/{identity}"]


def test_a_change_that_comes_while_the_message_goes_does_not_bring_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal begins when the change has read the envelope, and waits for it."""
    queue = DiskQueue(str(tmp_path / "queue"))
    identity = accept(queue)
    removal = threading.Thread(target=queue.remove, args=(identity,))

    def before(name: str, *arguments: object) -> None:
        if name == "create":
            removal.start()

    with monkeypatch.context() as watched:
        spy(watched, before)
        queue.settle(identity, {BOB: RELAYED})
    removal.join(10)
    assert tree(tmp_path / "queue") == []


def test_one_id_is_added_once_however_many_try(tmp_path: Path) -> None:
    queue = DiskQueue(str(tmp_path / "queue"))
    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: queue.add("1.0123456789abcdef.f1", ENVELOPE, REPORT), range(8)))
    assert sorted(added) == [False] * 7 + [True]
    assert list(queued(queue)) == ["1.0123456789abcdef.f1"]
