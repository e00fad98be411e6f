"""The memory that big messages share; what a letter holds is tested where it is sent (test_transaction)."""

from __future__ import annotations

import asyncio

from pillarbox.delivery.letter import Memory


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_waits_is_served_in_turn() -> None:
    async def run() -> None:
        memory, served = Memory(100), []

        async def take(octets: int) -> None:
            served.append(await memory.take(octets))

        tasks = [asyncio.create_task(take(octets)) for octets in (60, 50, 10)]
        await settle()
        assert served == [60]  # the small one does not overtake, or a big one might never come
        memory.give(60)
        await asyncio.gather(*tasks)
        assert served == [60, 50, 10]

    asyncio.run(run())


def test_more_than_there_is_means_all_of_it() -> None:
    async def run() -> None:
        memory = Memory(100)
        share = await memory.take(1000)
        assert share == 100
        memory.give(share)
        assert await memory.take(100) == 100

    asyncio.run(run())


def test_who_waits_may_leave() -> None:
    async def run() -> None:
        memory = Memory(100)
        first = await memory.take(80)
        leaving = asyncio.create_task(memory.take(90))
        next_one = asyncio.create_task(memory.take(20))
        await settle()
        assert not next_one.done()
        leaving.cancel()
        async with asyncio.timeout(5):
            assert await next_one == 20
        memory.give(first)
        async with asyncio.timeout(5):
            assert await memory.take(80) == 80

    asyncio.run(run())


def test_who_leaves_at_the_moment_of_being_served_gives_it_back() -> None:
    async def run() -> None:
        memory = Memory(100)
        first = await memory.take(100)
        leaving = asyncio.create_task(memory.take(100))
        await settle()
        memory.give(first)
        leaving.cancel()
        await settle()
        async with asyncio.timeout(5):
            assert await memory.take(100) == 100

    asyncio.run(run())
