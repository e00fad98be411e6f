"""When messages are tried: nobody waits for what can't be begun, stalls, or is full."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Hashable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from pillarbox.delivery import runner as room
from pillarbox.delivery.attempt import Attempts
from pillarbox.delivery.questions import Broker
from pillarbox.delivery.runner import LANE_SHARE, Runner
from pillarbox.store.queue import DiskQueue, QueuedMessage
from pillarbox.terms import Envelope, Refused, TryLater

POISON = b"poison@x.test"
PATIENCE = 60.0


class Tried:
    """In place of Attempts: lanes are domains, and here.test is this host's. It stumbles over one recipient."""

    def __init__(self, *slow: str, vain: bool = False) -> None:
        """`slow`: each try there waits for `go_on`. `vain`: each try is to be repeated."""
        self.tries: list[tuple[str, set[str]]] = []  # id and lanes
        self.slow, self.vain = set(slow), vain
        self.go_on = asyncio.Event()
        self.forgotten: list[str] = []

    def lanes(self, message: QueuedMessage) -> set[Hashable]:
        if message.recipients[0].address == POISON:
            raise LookupError("unknown encoding: punycode")
        lanes: set[Hashable] = {*domains(message)}
        return lanes - {"here.test"}

    def stays_here(self, message: QueuedMessage) -> bool:
        return "here.test" in domains(message)

    def forget(self, identity: str) -> None:
        self.forgotten.append(identity)

    async def attempt(self, broker: Broker, message: QueuedMessage, without: Collection[Hashable] = ()) -> float | None:
        lanes = domains(message) - {str(lane) for lane in without}
        self.tries.append((message.identity, lanes))
        if lanes & self.slow:
            await self.go_on.wait()
        return time.time() + 1000 if self.vain or without else None

    def of(self, identity: str) -> list[set[str]]:
        """Where it was tried, each time."""
        return [lanes for tried, lanes in self.tries if tried == identity]


def domains(message: QueuedMessage) -> set[str]:
    return {each.address.rpartition(b"@")[2].decode() for each in message.pending()}


class Office:
    """A queue, and what tries its messages."""

    def __init__(self, folder: Path) -> None:
        self.queue = DiskQueue(str(folder / "queue"))

    def put(self, *domains: str) -> str:
        return self.put_to(*(b"x@" + domain.encode() for domain in domains))

    def put_to(self, *recipients: bytes) -> str:
        identity, descriptor = self.queue.open_slot()
        os.close(descriptor)
        self.queue.commit(identity, Envelope(b"", recipients), "")
        return identity

    def runner(self, tried: Tried) -> Runner:
        return Runner(self.queue, cast(Attempts, tried), lambda: cast(Broker, object()))

    def run(self, scene: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await scene()

        asyncio.run(bounded())


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


async def turns(count: int = 20) -> None:
    """Everything that is ready has had its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(wanted: Callable[[], object]) -> None:
    while not wanted():
        await asyncio.sleep(0)


def test_a_message_that_can_not_be_begun_is_accepted_and_stops_nobody(office: Office) -> None:
    async def scene() -> None:
        tried = Tried()
        runner = office.runner(tried)
        runner.accepted(poison)  # who has brought it is to be told that it is queued, whatever becomes of it
        runner.accepted(good)
        await until(lambda: tried.tries)
        await runner.settled()
        assert [identity for identity, _ in tried.tries] == [good]
        assert runner.retry_all() == 1, "it waits, to be tried again"

    poison, good = office.put_to(POISON), office.put("x.test")
    office.run(scene)


@pytest.mark.parametrize("everything", [False, True])
def test_who_wants_a_retry_amid_a_try_gets_another_try(office: Office, everything: bool) -> None:
    async def scene() -> None:
        tried = Tried("x.test", vain=True)
        runner = office.runner(tried)
        runner.accepted(identity)
        await until(lambda: tried.tries)
        if everything:
            assert runner.retry_all() == 1
        else:
            runner.retry(identity)
        await turns()
        assert len(tried.tries) == 1, "not two at once"
        tried.go_on.set()
        await until(lambda: len(tried.tries) == 2)
        await runner.settled()
        await turns()
        assert len(tried.tries) == 2

    identity = office.put("x.test")
    office.run(scene)


@pytest.mark.parametrize("gone", ["removed", "held", "retried"])
def test_nobody_is_left_waiting_for_room_in_a_lane(office: Office, gone: str) -> None:
    """Behind a full lane wait messages that want it no more, or stand there twice, and others after them."""

    async def scene() -> None:
        tried = Tried("x.test", vain=True)
        runner = office.runner(tried)
        for identity in first + second:
            runner.accepted(identity)
        await until(lambda: len(tried.tries) == LANE_SHARE)
        await turns()
        if gone == "retried":
            runner.retry_all()
        for identity in second if gone != "retried" else ():
            await (runner.remove(identity) if gone == "removed" else runner.hold(identity))
        for identity in third:
            runner.accepted(identity)
        tried.go_on.set()
        await until(lambda: all(tried.of(identity) for identity in third))
        await runner.settled()
        assert all(len(tried.of(identity)) <= 1 for identity in second + third)

    first, second, third = ([office.put("x.test") for _ in range(LANE_SHARE)] for _ in range(3))
    office.run(scene)


# Full lanes.


async def filled(office: Office, runner: Runner, tried: Tried, *lanes: str) -> None:
    """These lanes are full of tries that stall."""
    identities = [office.put(lane) for lane in lanes for _ in range(LANE_SHARE)]
    for identity in identities:
        runner.accepted(identity)
    await until(lambda: all(tried.of(identity) for identity in identities))


@pytest.mark.parametrize("free", ["a.test", "b.test"])
def test_who_waits_for_two_full_lanes_uses_whichever_is_free_first(
    office: Office, monkeypatch: pytest.MonkeyPatch, free: str
) -> None:
    monkeypatch.setattr(room, "TICK_SECONDS", 1000.0)

    async def scene() -> None:
        tried, there = Tried("a.test", "b.test"), asyncio.Event()
        attempt = tried.attempt

        async def sorted_out(broker: Broker, message: QueuedMessage, without: Collection[Hashable] = ()) -> Any:
            if domains(message) == {free}:
                tried.tries.append((message.identity, {free}))
                await there.wait()
                return None
            return await attempt(broker, message, without)

        tried.attempt = sorted_out  # type: ignore[method-assign]
        runner = office.runner(tried)
        await filled(office, runner, tried, "a.test", "b.test")
        runner.accepted(both)
        await turns()
        assert not tried.of(both)
        there.set()
        await until(lambda: tried.of(both))
        assert tried.of(both) == [{free}]
        tried.go_on.set()
        await runner.settled()

    both = office.put("a.test", "b.test")
    office.run(scene)


def test_what_is_due_again_does_not_wait_for_room_elsewhere(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TROUBLED_SECONDS", 0.0)

    async def scene() -> None:
        tried = Tried("full.test")
        attempt = tried.attempt

        async def due_at_once(broker: Broker, message: QueuedMessage, without: Collection[Hashable] = ()) -> Any:
            when = await attempt(broker, message, without)
            return time.time() if without and len(tried.of(both)) < 3 else when

        tried.attempt = due_at_once  # type: ignore[method-assign]
        runner = office.runner(tried)
        await filled(office, runner, tried, "full.test")
        runner.accepted(both)
        await until(lambda: len(tried.of(both)) == 3)
        assert tried.of(both) == [{"busy.test"}] * 3
        tried.go_on.set()
        await until(lambda: len(tried.of(both)) == 4)
        assert tried.of(both)[3] == {"full.test"}, "the others of it are not due yet"
        await runner.settled()

    both = office.put("full.test", "busy.test")
    office.run(scene)


def test_many_destinations_that_stall_keep_nobody_else_waiting(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TRIES_AT_ONCE", 100)
    stalling = [f"stalls{number}.test" for number in range(10)]

    async def scene() -> None:
        tried = Tried(*stalling)
        runner = office.runner(tried)
        for identity in stuck:
            runner.accepted(identity)
        await turns(400)
        runner.accepted(elsewhere)
        await until(lambda: tried.of(elsewhere))
        assert len(tried.tries) < len(stuck)
        tried.go_on.set()
        await until(lambda: len(tried.tries) == len(stuck) + 1)
        await runner.settled()

    stuck = [office.put(domain) for domain in stalling for _ in range(LANE_SHARE)]
    elsewhere = office.put("healthy.test")
    office.run(scene)


def test_mailboxes_here_do_not_wait_for_other_hosts(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TRIES_AT_ONCE", 2)
    monkeypatch.setattr(room, "HERE_AT_ONCE", 2)

    async def scene() -> None:
        tried = Tried("a.test", "b.test", "c.test")
        runner = office.runner(tried)
        for identity in (*stuck, mixed, *local):
            runner.accepted(identity)
        await until(lambda: all(tried.of(identity) for identity in (*stuck[:2], mixed, *local)))
        assert tried.of(stuck[2]) == []
        assert tried.of(mixed) == [{"here.test"}]
        tried.go_on.set()
        await until(lambda: tried.of(stuck[2]))
        await until(lambda: {"c.test"} in tried.of(mixed) or {"c.test", "here.test"} in tried.of(mixed))
        await runner.settled()

    stuck = [office.put("a.test"), office.put("b.test"), office.put("c.test")]
    mixed, local = office.put("c.test", "here.test"), [office.put("here.test") for _ in range(5)]
    office.run(scene)


# What is found at the start, and the loop's turns.


def test_what_is_found_while_it_is_tried_is_not_tried_twice(office: Office) -> None:
    async def scene() -> None:
        tried = Tried("x.test", vain=True)
        runner = office.runner(tried)
        runner.accepted(new)
        await until(lambda: tried.tries)
        runner.begin([(0.0, new), (0.0, old), (0.0, gone)])
        await until(lambda: tried.of(old))
        tried.go_on.set()
        await runner.settled()
        await turns()
        runner.begin([(0.0, new), (0.0, old)])
        await turns()
        assert sorted(identity for identity, _ in tried.tries) == sorted([new, old])

    new, old, gone = office.put("x.test"), office.put("x.test"), office.put("x.test")
    office.queue.remove(gone)
    office.run(scene)


def test_who_wants_everything_tried_while_the_queue_is_read_gets_that(office: Office) -> None:
    async def scene() -> None:
        tried = Tried(vain=True)
        runner = office.runner(tried)
        assert runner.retry_all() == 0
        runner.begin([(time.time() + 1000, old)])
        await until(lambda: tried.of(old))
        await runner.settled()
        runner.begin([(time.time() + 1000, older)])
        await turns()
        assert not tried.of(older), "it was wanted once"

    old, older = office.put("x.test"), office.put("x.test")
    office.run(scene)


def test_others_get_their_turn_while_many_are_due(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TURN_SECONDS", 0.0)
    read: list[str] = []
    load = office.queue.load

    async def scene() -> None:
        def other() -> None:
            read.append("another's turn")
            if len(read) < 20:
                asyncio.get_running_loop().call_soon(other)

        runner = office.runner(Tried())
        runner.begin([(0.0, identity) for identity in identities])
        other()
        await until(lambda: set(identities) <= set(read))
        await runner.settled()
        places = [read.index(identity) for identity in identities]
        assert all("another's turn" in read[one:two] for one, two in pairwise(places))

    def noted(identity: str) -> QueuedMessage:
        read.append(identity)
        return load(identity)

    monkeypatch.setattr(office.queue, "load", noted)
    identities = sorted(office.put("x.test") for _ in range(5))
    office.run(scene)


def test_after_the_end_has_begun_no_try_begins(office: Office) -> None:
    async def scene() -> None:
        tried = Tried("x.test", vain=True)
        runner = office.runner(tried)
        runner.accepted(first)
        await until(lambda: tried.tries)
        runner.close()
        runner.accepted(second)
        runner.retry(first)
        tried.go_on.set()
        await runner.settled()
        await turns()
        assert [identity for identity, _ in tried.tries] == [first]

    first, second = office.put("x.test"), office.put("x.test")
    office.run(scene)


# A person's commands.


def slowly(monkeypatch: pytest.MonkeyPatch, queue: DiskQueue, name: str) -> tuple[threading.Event, threading.Event]:
    """That method of the queue, once it has begun, waits for a word: the two events."""
    work = getattr(queue, name)
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE)
        return work(*arguments, **options)

    monkeypatch.setattr(queue, name, slow)
    return begun, go_on


def test_what_is_being_removed_is_not_tried(
    office: Office, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scene() -> None:
        tried = Tried()
        runner = office.runner(tried)
        runner.begin([(time.time() + 1000, identity)])
        removal = asyncio.ensure_future(runner.remove(identity))
        await until(begun.is_set)
        runner.retry(identity)
        assert runner.retry_all() == 1
        runner.begin([(0.0, identity)])
        runner.accepted(identity)
        with pytest.raises(TryLater):
            await runner.remove(identity)
        await turns()
        go_on.set()
        await removal
        await turns()
        assert tried.tries == [] and tried.forgotten == [identity]
        assert runner.retry_all() == 0
        with pytest.raises(Refused):
            await runner.remove(identity)

    identity = office.put("x.test")
    begun, go_on = slowly(monkeypatch, office.queue, "remove")
    office.run(scene)
    assert "queue-damaged" not in "".join(capfd.readouterr())


def test_what_is_being_held_is_not_tried(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        tried = Tried()
        runner = office.runner(tried)
        runner.begin([(time.time() + 1000, identity)])
        holding = asyncio.ensure_future(runner.hold(identity))
        await until(begun.is_set)
        assert runner.retry_all() == 0
        await turns()
        go_on.set()
        await holding
        with pytest.raises(Refused):
            runner.retry(identity)
        monkeypatch.undo()
        await runner.release(identity)
        runner.retry(identity)
        await until(lambda: tried.tries)
        await runner.settled()

    identity = office.put("x.test")
    begun, go_on = slowly(monkeypatch, office.queue, "mark")
    office.run(scene)


@pytest.mark.parametrize(("command", "work"), [("remove", "remove"), ("hold", "mark")])
def test_what_could_not_be_removed_or_held_is_tried_as_before(
    office: Office, monkeypatch: pytest.MonkeyPatch, command: str, work: str
) -> None:
    async def scene() -> None:
        tried = Tried()
        runner = office.runner(tried)
        runner.begin([(time.time() + 1000, identity)])
        with pytest.raises(TryLater, match="Input/output error"):
            await getattr(runner, command)(identity)
        await turns()
        assert tried.tries == []
        assert runner.retry_all() == 1
        await until(lambda: tried.tries)
        await runner.settled()

    def broken(*arguments: Any, **options: Any) -> None:
        raise OSError(5, "Input/output error")

    identity = office.put("x.test")
    monkeypatch.setattr(office.queue, work, broken)
    office.run(scene)


def test_when_all_is_taken_destinations_take_turns(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TRIES_AT_ONCE", 2)
    monkeypatch.setattr(room, "TICK_SECONDS", 1000.0)

    async def scene() -> None:
        tried = Tried()
        runner = office.runner(tried)
        for identity in (*many, *few):
            runner.accepted(identity)
        await until(lambda: len(tried.tries) == len(many) + len(few))
        await runner.settled()
        order = ["".join(lanes) for _, lanes in tried.tries]
        assert set(few_domains) <= set(order[:16]), order

    few_domains = [f"few{number}.test" for number in range(4)]
    many, few = [office.put("many.test") for _ in range(20)], [office.put(domain) for domain in few_domains]
    office.run(scene)


def test_of_many_who_wait_only_as_many_are_looked_at_as_there_is_room_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "TRIES_AT_ONCE", 2)
    monkeypatch.setattr(room, "TICK_SECONDS", 0.0)
    load, loaded = office.queue.load, list[str]()

    def counted(identity: str) -> QueuedMessage:
        loaded.append(identity)
        return load(identity)

    async def scene() -> None:
        tried = Tried("slow.test")
        runner = office.runner(tried)
        for identity in identities:
            runner.accepted(identity)
        await turns(200)
        assert len(loaded) == len(identities)
        tried.go_on.set()
        await until(lambda: len(tried.tries) == len(identities))
        await runner.settled()
        assert len(loaded) < 3 * len(identities)

    monkeypatch.setattr(office.queue, "load", counted)
    identities = [office.put("slow.test"), office.put("slow.test"), *(office.put(f"d{n}.test") for n in range(30))]
    office.run(scene)
