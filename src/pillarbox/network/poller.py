"""Watches strangers' sockets with an epoll of our own, which the event loop watches as one descriptor.

A loop's `add_reader` costs uvloop seven system calls for each connection that comes and goes; this costs one.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR  # told whether asked for or not
EVENTS_A_TURN = 256  # then the neighbours get their turn


class Poller:
    """Calls `ready(events)` of a socket when what it waits for has come; `events` is a sum of READ, WRITE and GONE."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, descriptor: int, wanted: int, ready: Callable[[int], None]) -> None:
        self._epoll.register(descriptor, wanted)
        self._ready[descriptor] = ready

    def change(self, descriptor: int, wanted: int) -> None:
        self._epoll.modify(descriptor, wanted)

    def hand_over(self, descriptor: int, ready: Callable[[int], None]) -> None:
        """From now on another hears of it."""
        self._ready[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        """Before the descriptor is closed; closing takes it out of the epoll."""
        del self._ready[descriptor]

    def _turn(self) -> None:
        for descriptor, events in self._epoll.poll(0, EVENTS_A_TURN):
            ready = self._ready.get(descriptor)
            if ready is not None:  # else closed earlier in this turn
                ready(events)
