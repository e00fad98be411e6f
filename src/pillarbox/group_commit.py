"""Group commit: while one batch is being made durable, the next one gathers; one fsync of a directory serves many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """`work(items)` runs in a thread, one batch at a time, and returns for each item None or what went wrong with it."""

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Exception | None]], at_once: int = 1) -> None:
        """`at_once`: batches under way at a time, each in a thread; more where an item takes work of its own."""
        self._work = work
        self._at_once = at_once
        self._gathering: list[tuple[Item, asyncio.Future[None]]] = []
        self._running: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        return not self._running

    async def join(self, item: Item) -> None:
        """Returns when the item's batch is durable; raises what went wrong with the item, or with the batch."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._gathering.append((item, done))
        if len(self._running) < self._at_once:
            task = loop.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._gathering:
            batch, self._gathering = self._gathering, []
            try:
                outcomes = await loop.run_in_executor(None, self._work, [item for item, _ in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if done.cancelled():
                    continue
                if outcome is None:
                    done.set_result(None)
                else:
                    done.set_exception(outcome)
