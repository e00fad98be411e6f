"""Group commit: while one batch is being made durable, the next one gathers; one fsync of a directory serves many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """`work(items)` runs in a thread, one batch at a time, and returns for each item None or what went wrong with it."""

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Exception | None]], executor: Executor | None = None
    ) -> None:
        """`executor`: whose thread runs it; None: the loop's own."""
        self._work = work
        self._executor = executor
        self._gathering: list[tuple[Item, asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return self._running is None

    async def join(self, item: Item) -> None:
        """Returns when the item's batch is durable; raises what went wrong with the item, or with the batch."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._gathering.append((item, done))
        if self._running is None:
            self._running = loop.create_task(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._gathering:
            batch, self._gathering = self._gathering, []
            try:
                outcomes = await loop.run_in_executor(self._executor, self._work, [item for item, _ in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if done.cancelled():
                    continue
                if outcome is None:
                    done.set_result(None)
                else:
                    done.set_exception(outcome)
        self._running = None
