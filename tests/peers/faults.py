"""What a server may do in place of its reply."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Protocol

PIECE = 1 << 16


class Over(Exception):
    """This conversation has ended."""


class Line(Protocol):
    """The connection, as a fault sees it."""

    sock: socket.socket
    ending: threading.Event  # set when the server stops

    def start_tls(self) -> None:
        """Raises Over when the handshake fails."""


class Fault(Protocol):
    def act(self, line: Line, usual: bytes) -> bytes:
        """Act, and return the reply that was given; `usual` would have been it. Raises Over."""


@dataclass(frozen=True)
class Say:
    """Other octets than the usual reply; with a first digit other than 2 and 3, the command has no effect.

    To STARTTLS, no handshake follows.
    """

    octets: bytes

    def act(self, line: Line, usual: bytes) -> bytes:
        line.sock.sendall(self.octets)
        return self.octets


@dataclass(frozen=True)
class HangUp:
    """Perhaps say something, and close the connection. `reset`: with RST, as a crashed host answers."""

    last: bytes = b""
    reset: bool = False

    def act(self, line: Line, usual: bytes) -> bytes:
        line.sock.sendall(self.last)
        if self.reset:
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Over


@dataclass(frozen=True)
class Stall:
    """Perhaps begin a reply; then say nothing more until the peer has left."""

    first: bytes = b""

    def act(self, line: Line, usual: bytes) -> bytes:
        line.sock.sendall(self.first)
        while line.sock.recv(PIECE):
            pass
        raise Over


@dataclass(frozen=True)
class Drip:
    """The usual reply, or another, octet by octet with a pause after each."""

    seconds: float
    octets: bytes = b""

    def act(self, line: Line, usual: bytes) -> bytes:
        for octet in self.octets or usual:
            line.sock.sendall(bytes((octet,)))
            if line.ending.wait(self.seconds):
                raise Over
        return self.octets or usual


@dataclass(frozen=True)
class Endless:
    """The same octets again and again, until the peer has left: a reply of endless lines, or a line of endless length."""

    octets: bytes = b"250-and another line\r\n"

    def act(self, line: Line, usual: bytes) -> bytes:
        piece = self.octets * (PIECE // len(self.octets) + 1)
        while True:
            line.sock.sendall(piece)


@dataclass(frozen=True)
class Inject:
    """To STARTTLS: the usual reply with plain text behind it in one segment, and then an honest handshake."""

    octets: bytes

    def act(self, line: Line, usual: bytes) -> bytes:
        line.sock.sendall(usual + self.octets)
        line.start_tls()
        return usual


@dataclass
class Hold:
    """The usual reply, but not before `release`. `reached` is set when the peer waits for it."""

    reached: threading.Event = field(default_factory=threading.Event)
    _go: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self._go.set()

    def act(self, line: Line, usual: bytes) -> bytes:
        self.reached.set()
        while not self._go.wait(0.02):
            if line.ending.is_set():
                raise Over
        with contextlib.suppress(OSError):  # a peer that has left meanwhile is found out by the next read
            line.sock.sendall(usual)
        return usual
