"""Group commit: batches while another runs, one outcome for each."""

import asyncio
import threading

import pytest

from pillarbox.group_commit import GroupCommit


def test_what_comes_while_a_batch_runs_is_the_next_batch():
    batches, gate = [], threading.Event()

    def work(items):
        batches.append(list(items))
        if len(batches) == 1:
            gate.wait(10)
        return [None if item != 3 else ValueError("three") for item in items]

    async def main():
        group = GroupCommit(work)
        first = asyncio.ensure_future(group.join(1))
        while not batches:
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(group.join(item)) for item in (2, 3, 4)]
        await asyncio.sleep(0)
        gate.set()
        await first
        results = await asyncio.gather(*others, return_exceptions=True)
        assert batches == [[1], [2, 3, 4]]
        assert results[0] is None and isinstance(results[1], ValueError) and results[2] is None
        assert group.idle

    asyncio.run(main())


def test_a_batch_that_fails_fails_for_all():
    def work(items):
        raise OSError("disk")

    async def main():
        group = GroupCommit(work)
        with pytest.raises(OSError):
            await group.join(1)

    asyncio.run(main())


def test_what_comes_right_behind_a_batch_is_not_forgotten() -> None:
    async def two() -> None:
        group: GroupCommit[int] = GroupCommit(lambda items: [None] * len(items))
        await group.join(1)
        await group.join(2)

    async def main() -> None:
        await asyncio.wait_for(two(), 10)

    asyncio.run(main())
