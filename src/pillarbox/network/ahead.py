"""Messages opened ahead: clients ask for them in order, so one round trip to the worker serves a dozen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..link import Descriptors, Link
from ..messages import Messages, OpenMessages
from ..protocol.pop3 import Pop3Session

if TYPE_CHECKING:
    from .process import NetworkProcess

FIRST_AHEAD, MOST_AHEAD = 8, 32  # measured: 4 halves the throughput, 64 gains nothing more


class OpenedAhead:
    """One session's descriptors that wait for their RETR."""

    __slots__ = ("_asked", "_count", "_expected", "_number", "_opened", "_process", "_session", "_worker")

    def __init__(self, process: NetworkProcess, number: int, session: Pop3Session, worker: Link) -> None:
        self._process = process
        self._number = number
        self._session = session
        self._worker = worker
        self._opened: dict[int, int] = {}
        self._asked = 0  # the highest message number asked for
        self._expected: set[int] = set()  # asked for, and not yet come
        self._count = FIRST_AHEAD

    def take(self, number: int) -> int | None:
        """The descriptor of that message, now the caller's, or None: then `ask` and wait."""
        descriptor = self._opened.pop(number, None)
        if descriptor is None:
            return None
        self._process.opened_ahead -= 1
        if self._asked - number < self._count // 2:  # keep half a window open before the client gets there
            self._count = min(2 * self._count, MOST_AHEAD)
            self._request(self._asked + 1)
        return descriptor

    def ask(self, number: int) -> None:
        """The client has gone elsewhere than expected, or this is the first: start anew from here."""
        if number in self._expected:
            return  # on its way
        self.close()
        self._count = FIRST_AHEAD
        self._request(number)

    def _request(self, first: int) -> None:
        crowded = self._process.opened_ahead + self._count > self._process.ahead_limit
        last = min(first + (1 if crowded else self._count) - 1, self._session.listing.count)
        numbers = tuple(n for n in range(first, last + 1) if not self._session.is_deleted(n))
        if numbers:
            self._asked = last
            self._expected.update(numbers)
            self._worker.send(OpenMessages(self._number, numbers))

    def came(self, answer: Messages, descriptors: Descriptors) -> None:
        """Keep what was asked for, and nothing else: a worker shall not fill our table of descriptors."""
        self._expected.difference_update(answer.missing)
        for number, descriptor in zip(answer.numbers, descriptors, strict=True):
            if number not in self._expected or number in self._opened:
                os.close(descriptor)
            else:
                self._expected.discard(number)
                self._opened[number] = descriptor
                self._process.opened_ahead += 1

    def has(self, number: int) -> bool:
        return number in self._opened

    def prefetch(self) -> None:
        """The page cache was missed: have the kernel read what will be wanted next."""
        for descriptor in self._opened.values():
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        self._process.opened_ahead -= len(self._opened)
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened.clear()
