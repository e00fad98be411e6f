"""Work under way in a process: held while it runs, logged when it fails, waited for at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from . import log

Result = TypeVar("Result")


class Tasks:
    """All that was started and has not ended."""

    def __init__(self, where: str) -> None:
        """`where`: how the log names the process, for a bug."""
        self._where = where
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.bug(error, where=self._where)

    @property
    def busy(self) -> bool:
        return bool(self._running)

    async def settled(self) -> None:
        """All others that run now have ended."""
        others = self._running - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)


async def in_thread(work: Callable[..., Result], *arguments: Any) -> Result:
    """What waits for the disk, or computes for long, in a thread of the loop's own pool."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
