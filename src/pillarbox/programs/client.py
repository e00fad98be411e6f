"""The client of qmail-popup, qmail-pop3d and qmail-smtpd: descriptors 0 and 1, a socket, a pipe or a terminal."""

from __future__ import annotations

import _socket  # all of `socket` takes 5 ms to load
import os
import select
import signal
import stat
import time
from contextlib import suppress
from math import inf
from typing import NoReturn

from . import chain

TIMEOUT = 1200  # seconds, for each read and each write; RFC 1939 section 3 wants ten minutes at least
ENOUGH = 32 << 10  # octets that wait to be written together
AT_ONCE = 16 << 10  # octets of a read
LOOKED_AT = 1024  # octets in which a line's end is looked for; most lines are far shorter
DRAINED = 64  # reads of ENOUGH octets each: what a socket's buffer holds


class Gone(Exception):
    """The client has left, or has been silent for too long."""


class Silent(Gone):
    """It may be there still, and has sent nothing."""


class Client:
    """What is written goes out with the next read, or when there is enough of it: one packet an answer."""

    def __init__(self, *, by_line: bool, seconds: int = 0, in_all: float = inf) -> None:
        """`by_line`: nothing is taken beyond the end of a line, as that belongs to the program that reads next.
        `seconds`: in place of TIMEOUT. `in_all`: seconds after which nothing more is read."""
        self._seconds = seconds or TIMEOUT
        self._end = time.monotonic() + in_all
        self._by_line = by_line
        self._waiting: list[bytes] = []
        self._octets = 0
        signal.signal(signal.SIGALRM, _late)
        for descriptor in (0, 1):
            with suppress(OSError):
                os.set_blocking(descriptor, True)  # whoever handed it on may have waited for it in another way

    def read(self) -> bytes:
        """At least an octet. Raises Gone, and Silent where none came in time."""
        self.flush()
        left = self._end - time.monotonic()
        if left <= 0:
            raise Silent
        try:
            signal.setitimer(signal.ITIMER_REAL, min(self._seconds, left))
            data = os.read(0, _line() if self._by_line else AT_ONCE)
        except OSError:
            raise Gone from None
        finally:
            signal.alarm(0)
        if not data:
            raise Gone
        return data

    def write(self, data: bytes) -> None:
        """Raises Gone."""
        self._waiting.append(data)
        self._octets += len(data)
        if self._octets > ENOUGH:
            self.flush()

    def flush(self) -> None:
        """Raises Gone."""
        if not self._octets:
            return
        view = memoryview(b"".join(self._waiting))
        self._waiting, self._octets = [], 0
        try:
            while view:
                signal.alarm(self._seconds)
                view = view[os.write(1, view[:ENOUGH]) :]
        except (OSError, Silent):  # who takes nothing is told nothing
            raise Gone from None
        finally:
            signal.alarm(0)


def _line() -> int:
    """How many octets to read of what is there, so that a line's end is the last of them. Raises OSError."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return 1  # of a pipe nobody can see what is there
    peer = _socket.socket(fileno=0)
    try:
        there = peer.recv(LOOKED_AT, _socket.MSG_PEEK)
    finally:
        peer.detach()
    return there.find(b"\n") + 1 or len(there) or 1


def drain() -> None:
    """Take what has come behind the last command: left unread it would reset the connection, and the last reply be lost."""
    poller = select.poll()
    poller.register(0, select.POLLIN)
    with suppress(OSError):
        for _ in range(DRAINED):
            if not poller.poll(0) or not os.read(0, ENOUGH):
                return


def refuse(why: str) -> None:
    """The last reply of POP3, to a client that may be there."""
    with suppress(OSError):
        chain.write_all(1, b"-ERR %b\r\n" % why.encode("ascii", "replace"))
    drain()


def _late(number: int, frame: object) -> NoReturn:
    raise Silent
