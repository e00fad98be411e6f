"""Hashed passwords are verified beside the loop: a few at once, some more wait, whoever comes then is told to come later.

The threads compute, and open no file: while the broker looks at a file as its owner (privilege.as_user), they too have
that uid.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..store.password_hash import verifies

THREADS_LIMIT = 4  # 20 MiB each, and a core
WAITING_LIMIT = 64  # three seconds' work for one thread


class Passwords:
    """One for the broker's life."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(THREADS_LIMIT, os.cpu_count() or 1), "argon2")
        self._waiting = 0

    def verify(self, verifier: str | None, password: bytes, then: Callable[[bool], None]) -> bool:
        """`then` hears in a while whether it is that password; see password_hash.verifies. False: too many wait."""
        if self._waiting >= WAITING_LIMIT:
            return False
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, verifies, verifier, password)
        work.add_done_callback(lambda done: self._done(done, then))
        return True

    def _done(self, done: asyncio.Future[bool], then: Callable[[bool], None]) -> None:
        self._waiting -= 1
        if not done.cancelled():
            then(done.exception() is None and done.result())

    def close(self) -> None:
        """Nobody hears any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
