"""Hashed passwords are verified beside the loop: a few at once, some more wait, whoever comes then is told to come later.

The threads compute, and open no file: while the broker looks at a file as its owner (privilege.as_user), they too have
that uid.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..store.password_hash import load, verifies
from ..terms import TryLater

THREADS_LIMIT = 4  # 20 MiB each, and a core
WAITING_LIMIT = 64  # three seconds' work for one thread


class Passwords:
    """One for the broker's life."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(THREADS_LIMIT, os.cpu_count() or 1), "argon2")
        self._waiting = 0

    def verify(self, verifier: str | None, password: bytes, then: Callable[[bool | None], None]) -> None:
        """`then` hears in a while whether it is that password; None: nobody can tell. See password_hash.verifies.

        Raises TryLater where too many wait, or no thread can be had; then nobody hears.
        """
        if self._waiting >= WAITING_LIMIT:
            raise TryLater("too many passwords wait to be verified")
        wanted = True

        def work() -> bool:
            return wanted and verifies(verifier, password)

        try:
            load()
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (RuntimeError, MemoryError) as error:
            wanted = False  # it stays in the pool's queue all the same, where nobody counts it
            raise TryLater(f"no password can be verified: {error}") from None
        self._waiting += 1
        future.add_done_callback(lambda done: self._done(done, then))

    def _done(self, done: asyncio.Future[bool], then: Callable[[bool | None], None]) -> None:
        self._waiting -= 1
        if not done.cancelled():
            then(done.result() if done.exception() is None else None)

    def close(self) -> None:
        """Nobody hears any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
