"""Places, kept connections, and the memory of the dead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pillarbox.delivery import lanes
from pillarbox.delivery.exchangers import Target
from pillarbox.delivery.lanes import Dead, Kept, Places

TARGET = Target("mx.test", "192.0.2.1", 25)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Conversation:
    """As far as Kept looks at one."""

    def __init__(self, sent: int = 1, target: Target = TARGET) -> None:
        self.open, self.sent, self.target = True, sent, target
        self.quits = self.closes = 0

    async def quit(self) -> None:
        self.quits += 1
        self.open = False

    def close(self) -> None:
        self.closes += 1
        self.open = False


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_places_per_lane_and_in_all() -> None:
    async def run() -> None:
        places, going, inside = Places(3, 2), asyncio.Event(), []

        async def enter(lane: str) -> None:
            async with places.of(lane):
                inside.append(lane)
                await going.wait()

        tasks = [asyncio.create_task(enter(lane)) for lane in ("slow", "slow", "slow", "slow", "other", "third")]
        await settle()
        assert inside == ["slow", "slow", "other"]
        assert places.taken == 3
        going.set()
        await asyncio.gather(*tasks)
        assert sorted(inside) == ["other", "slow", "slow", "slow", "slow", "third"]
        assert places.taken == 0
        assert not places._waiting

    asyncio.run(run())


def test_who_waits_may_leave() -> None:
    async def run() -> None:
        places = Places(1, 1)
        async with places.of("a"):
            waiting = asyncio.create_task(places.of("a").__aenter__())
            await settle()
            waiting.cancel()
            await settle()
        async with asyncio.timeout(5), places.of("a"):
            assert places.taken == 1
        assert not places._waiting

    asyncio.run(run())


def test_who_leaves_as_it_is_called_gives_the_place_to_the_next() -> None:
    async def run() -> None:
        places, inside = Places(1, 1), asyncio.Event()

        async def enter() -> None:
            async with places.of("a"):
                inside.set()

        async with places.of("a"):
            first, second = asyncio.create_task(enter()), asyncio.create_task(enter())
            await settle()
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        async with asyncio.timeout(5):
            await inside.wait()
            await second
        assert places.taken == 0

    asyncio.run(run())


def test_lanes_take_turns_when_there_is_one_place() -> None:
    async def run() -> None:
        places, order = Places(1, 1), []

        async def enter(lane: str) -> None:
            async with places.of(lane):
                order.append(lane)
                await asyncio.sleep(0)

        await asyncio.gather(*(enter(lane) for lane in ("a", "a", "a", "b", "c")))
        assert order == ["a", "a", "b", "c", "a"]

    asyncio.run(run())


def test_slow_lanes_leave_places_to_others() -> None:
    async def run() -> None:
        clock = Clock()
        places, going, inside = Places(8, 4, clock), asyncio.Event(), []

        async def enter(lane: str) -> None:
            async with places.of(lane):
                inside.append(lane)
                await going.wait()

        async with places.of("prompt"):
            pass
        lanes_ = ["slow"] * 5 + ["slower"] * 4 + ["prompt"] * 2 + ["unknown"] * 2
        tasks = [asyncio.create_task(enter(lane)) for lane in lanes_]
        await settle()
        assert inside == ["slow"] * 4 + ["slower"] + ["prompt"] * 2 + ["unknown"]
        going.set()
        await asyncio.gather(*tasks)
        assert places.taken == 0

    asyncio.run(run())


def test_a_lane_is_swamped_when_many_wait_there_and_many_in_all() -> None:
    async def run() -> None:
        places, going = Places(8, 2), asyncio.Event()

        async def enter(lane: str) -> None:
            async with places.of(lane):
                await going.wait()

        tasks = [asyncio.create_task(enter("slow")) for _ in range(5)]
        await settle()
        assert not places.swamped("slow"), "three wait, and there are eight places"
        tasks.append(asyncio.create_task(enter("slow")))
        await settle()
        assert places.swamped("slow") and not places.swamped("other")
        going.set()
        await asyncio.gather(*tasks)
        assert not places.swamped("slow")

    asyncio.run(run())


def kept(work: Any, total: int = 10) -> None:
    async def run() -> None:
        made = Kept(total, 10)
        await work(made)
        await made.close()

    asyncio.run(run())


def test_a_connection_serves_its_own_lane() -> None:
    async def work(made: Kept) -> None:
        conversation: Any = Conversation()
        made.keep("a", conversation)
        assert made.take("b") is None
        assert made.take("a") is conversation
        assert made.take("a") is None

    kept(work)


def test_what_has_ended_is_not_taken() -> None:
    async def work(made: Kept) -> None:
        ended: Any = Conversation()
        made.keep("a", ended)
        ended.open = False
        assert made.take("a") is None
        assert ended.closes == 1

    kept(work)


def test_what_cannot_serve_again_is_not_kept() -> None:
    async def work(made: Kept) -> None:
        ended: Any = Conversation()
        ended.open = False
        tired: Any = Conversation(lanes.MESSAGES_LIMIT)
        for conversation in (ended, tired):
            made.keep("a", conversation)
        assert made.take("a") is None
        await settle()
        assert (ended.closes, ended.quits) == (1, 0)
        assert tired.quits == 1

    kept(work)


def test_a_connection_is_kept_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0)

    async def work(made: Kept) -> None:
        conversation: Any = Conversation()
        made.keep("a", conversation)
        while not conversation.quits:
            await asyncio.sleep(0)
        assert made.take("a") is None

    kept(work)


def test_there_are_no_more_than_may_be() -> None:
    async def work(made: Kept) -> None:
        conversations: list[Any] = [Conversation() for _ in range(3)]
        for place, conversation in enumerate(conversations):
            made.keep(place, conversation)
        made.make_room(1)
        await settle()
        assert [conversation.quits for conversation in conversations] == [1, 0, 0]
        made.make_room(9)
        await settle()
        assert [conversation.quits for conversation in conversations] == [1, 1, 1]

    kept(work, total=3)


def test_to_one_server_few_are_kept_whatever_lanes_they_serve() -> None:
    async def work(made: Kept) -> None:
        others: list[Any] = [
            Conversation(target=Target("mx2.test", *endpoint))
            for endpoint in (("192.0.2.2", 25), ("192.0.2.1", 26), ("192.0.2.1", 27))
        ]
        for other in others:
            made.keep(other.target, other)
        conversations: list[Any] = [Conversation() for _ in range(4)]
        for place, conversation in enumerate(conversations):
            made.keep(place, conversation)
        await settle()
        assert [conversation.quits for conversation in conversations] == [1, 1, 0, 0]
        taken: Any = made.take(2)
        assert taken is conversations[2]
        made.keep(2, taken)
        await settle()
        assert [conversation.quits for conversation in conversations] == [1, 1, 0, 0]
        assert [other.quits for other in others] == [0, 0, 0]

    async def run() -> None:
        made = Kept(10, 2)
        await work(made)
        await made.close()
        assert not made._at

    asyncio.run(run())


def test_all_end_politely() -> None:
    conversations: list[Any] = [Conversation() for _ in range(3)]

    async def work(made: Kept) -> None:
        for conversation in conversations:
            made.keep("a", conversation)

    kept(work)
    assert [conversation.quits for conversation in conversations] == [1, 1, 1]


# The dead.


def pause(dead: Dead, clock: Clock) -> float:
    """Seconds until it may be asked again."""
    began = clock.now
    while dead.why(TARGET):
        clock.now += 1
    return clock.now - began


def test_a_dead_one_is_left_alone_for_longer_each_time() -> None:
    clock = Clock()
    dead = Dead(clock)
    assert not dead.why(TARGET)
    pauses = []
    for _ in range(8):
        dead.mark(TARGET, "no answer")
        assert dead.why(TARGET) == "no answer"
        pauses.append(pause(dead, clock))
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_many_who_find_out_at_once_count_as_one() -> None:
    clock = Clock()
    dead = Dead(clock)
    for _ in range(10):
        dead.mark(TARGET, "no answer")
    assert pause(dead, clock) == 60


def test_who_answers_lives() -> None:
    clock = Clock()
    dead = Dead(clock)
    dead.mark(TARGET, "no answer")
    dead.alive(TARGET)
    assert not dead.why(TARGET)
    dead.mark(TARGET, "no answer")
    assert pause(dead, clock) == 60


def test_a_death_of_long_ago_counts_no_more() -> None:
    clock = Clock()
    dead = Dead(clock)
    dead.mark(TARGET, "no answer")
    clock.now += lanes.FIRST_PAUSE + lanes.FORGET_SECONDS + 1
    dead.mark(TARGET, "no answer")
    assert pause(dead, clock) == 60


def test_a_person_can_have_them_asked_again() -> None:
    dead = Dead(Clock())
    dead.mark(TARGET, "no answer")
    dead.forget()
    assert not dead.why(TARGET)


def test_the_memory_of_the_dead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "DEAD_LIMIT", 3)
    dead = Dead(Clock())
    targets = [Target("mx.test", f"192.0.2.{number}", 25) for number in range(5)]
    for target in targets:
        dead.mark(target, "no answer")
    assert [bool(dead.why(target)) for target in targets] == [False, False, True, True, True]
