"""One connection of a network process under a poller of the test's own, and a TLS client at its other end: no thread, no
clock, and every octet goes when the test says so.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any

from pillarbox.key_pair import KeyPair
from pillarbox.network.contexts import contexts
from pillarbox.network.pop3 import Pop3Connection
from pillarbox.network.smtp import SmtpConnection

from ..peers.certificates import Certificate
from .test_pop3 import Process

MOUTHFUL = 7  # octets that a narrow socket takes
TURNS = 10_000  # more than any of these conversations takes


def key_pair(certificate: Certificate, *names: str) -> KeyPair:
    return KeyPair(certificate.certificate.read_bytes(), certificate.key.read_bytes(), names)


class Poller:
    """What a connection waits for, looked at when `turn` is called."""

    def __init__(self) -> None:
        self.wanted: dict[int, int] = {}
        self.ears: dict[int, Callable[[int], None]] = {}

    def watch(self, descriptor: int, wanted: int, ready: Callable[[int], None]) -> None:
        self.wanted[descriptor], self.ears[descriptor] = wanted, ready

    def change(self, descriptor: int, wanted: int) -> None:
        self.wanted[descriptor] = wanted

    def hand_over(self, descriptor: int, ready: Callable[[int], None]) -> None:
        self.ears[descriptor] = ready

    def forget(self, descriptor: int) -> None:
        del self.wanted[descriptor], self.ears[descriptor]

    def turn(self) -> bool:
        """Tell of what is ready now; False: nothing is."""
        poll = select.epoll()
        with poll:
            for descriptor, wanted in self.wanted.items():
                poll.register(descriptor, wanted)
            found = poll.poll(0)
        for descriptor, events in found:
            self.ears[descriptor](events)
        return bool(found)


class Narrow(socket.socket):
    """Takes nothing and a few octets, by turns."""

    shut = False

    def send(self, data: Any, flags: int = 0, /) -> int:
        self.shut = not self.shut
        if self.shut:
            raise BlockingIOError
        return super().send(bytes(data)[:MOUTHFUL], flags)


class Line:
    """A connection, and the client's end of its line. `pairs`: what TLS is spoken with."""

    def __init__(
        self,
        pairs: list[KeyPair],
        *,
        protocol: str = "pop3",
        secured: bool = False,
        buffer: int = 0,
        narrow: bool = False,
    ) -> None:
        ours, self.client = socket.socketpair()
        if narrow:
            ours = Narrow(fileno=ours.detach())
        for sock in (ours, self.client):
            sock.setblocking(False)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.process, self.poller = Process(), Poller()
        unreal: Any = self.process
        unreal.poller = self.poller
        unreal.contexts = contexts(pairs)
        if protocol == "pop3":
            self.connection: Pop3Connection | SmtpConnection = Pop3Connection(
                unreal, ours, "127.0.0.1", 7, b"<1.2@example.test>", secured=secured
            )
        else:
            self.connection = SmtpConnection(
                unreal, ours, "127.0.0.1", 7, b"<1.2@example.test>", submission=True, secured=secured
            )
        if secured:
            self.connection.start_tls(unreal.contexts[protocol])
        else:
            self.connection.pump()
        self.tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()

    def settle(self) -> None:
        """Until the connection waits."""
        for _ in range(TURNS):
            if self.connection.closed or not self.poller.turn():
                return
        raise AssertionError("it turns in circles")

    # In the clear.

    def says(self, data: bytes) -> bytes:
        """What is answered when the client says this in the clear."""
        self.puts(data)
        return self.hears()

    def puts(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.client.send(data)
        self.settle()

    def hears(self) -> bytes:
        heard = b""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.client.recv(1 << 20):
                heard += data
        return heard

    # Under TLS.

    def shake(self, context: ssl.SSLContext, name: str | None = None, piece: int = 1 << 20) -> Line:
        """The whole handshake; what the client says of it comes in pieces of so many octets."""
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        for _ in range(TURNS):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                done = False
            else:
                done = True
            self._put_ciphertext(piece)
            if done:
                return self
            self._take_in()
        raise AssertionError("the handshake does not end")

    def _put_ciphertext(self, piece: int) -> None:
        while data := self._out.read(piece):
            self.puts(data)

    def _take_in(self) -> int:
        """How many octets have come."""
        self.settle()
        return self._in.write(self.hears())

    def secretly(self, data: bytes, piece: int = 1 << 20) -> None:
        """The client says this under TLS, and reads nothing."""
        assert self.tls is not None
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        self._put_ciphertext(piece)

    def asks(self, data: bytes, piece: int = 1 << 20) -> bytes:
        """What is answered under TLS."""
        self.secretly(data, piece)
        return self.answers()

    def answers(self) -> bytes:
        """All that comes under TLS, until nothing more does."""
        assert self.tls is not None
        heard = b""
        for _ in range(TURNS):
            came = self._take_in()
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                while data := self.tls.read(1 << 16):
                    heard += data
            if not came:
                return heard
        raise AssertionError("it never stops talking")

    @property
    def told_of_the_end(self) -> bool:
        """Has the client been told, under TLS, that no more comes?"""
        assert self.tls is not None
        try:
            return self.tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLWantReadError:
            return False
