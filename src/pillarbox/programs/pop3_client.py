"""The client of qmail-popup and qmail-pop3d: descriptors 0 and 1, which may be a socket, a pipe or a terminal."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from typing import NoReturn

from . import chain

TIMEOUT = 1200  # seconds, for each read and each write; RFC 1939 section 3 wants ten minutes at least
ENOUGH = 32 << 10  # octets that wait to be written together
DRAINED = 64  # reads of ENOUGH octets each: what a socket's buffer holds


class Gone(Exception):
    """The client has left, or has been silent for too long."""


class Client:
    """What is written goes out with the next read, or when there is enough of it: one packet an answer."""

    def __init__(self, at_once: int) -> None:
        """`at_once`: octets of a read. With 1 nothing is taken that belongs to the program that reads next."""
        self._at_once = at_once
        self._waiting: list[bytes] = []
        self._octets = 0
        signal.signal(signal.SIGALRM, _late)
        for descriptor in (0, 1):
            with suppress(OSError):
                os.set_blocking(descriptor, True)  # whoever handed it on may have waited for it in another way

    def read(self) -> bytes:
        """At least an octet. Raises Gone."""
        self.flush()
        try:
            signal.alarm(TIMEOUT)
            data = os.read(0, self._at_once)
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
                signal.alarm(TIMEOUT)
                view = view[os.write(1, view[:ENOUGH]) :]
        except OSError:
            raise Gone from None
        finally:
            signal.alarm(0)


def drain() -> None:
    """Take what has come behind the last command: left unread it would reset the connection, and the last reply be lost."""
    poller = select.poll()
    poller.register(0, select.POLLIN)
    with suppress(OSError):
        for _ in range(DRAINED):
            if not poller.poll(0) or not os.read(0, ENOUGH):
                return


def refuse(why: str) -> None:
    """The last reply, to a client that may be there."""
    with suppress(OSError):
        chain.write_all(1, b"-ERR %b\r\n" % why.encode("ascii", "replace"))
    drain()


def _late(number: int, frame: object) -> NoReturn:
    raise Gone
