"""Accepting strangers: who may come in, and what the others are told."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .. import log

if TYPE_CHECKING:
    from .process import NetworkProcess

ACCEPTS_A_TURN = 32  # then the connections that we have get their turn
EXHAUSTED_PAUSE = 0.5  # seconds without accepting when descriptors have run out
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_SMTP_LATER = b"421 4.3.2 %b\r\n"
# Under TLS from the first octet a word would cost a handshake: pop3s and submissions just close.
LATER = {"pop3": b"-ERR [SYS/TEMP] %b\r\n", "smtp": _SMTP_LATER, "submission": _SMTP_LATER}
NO_RULES = "not ready yet, try again later"
DENIED = {"pop3": b"-ERR %b\r\n", "smtp": b"554 5.7.1 %b\r\n"}  # RFC 5321 section 3.1


class Listener:
    """One listening socket of this process."""

    def __init__(
        self, process: NetworkProcess, sock: socket.socket, protocol: str, opened: Callable[[socket.socket, str], None]
    ) -> None:
        self._process = process
        self._sock = sock
        self._protocol = protocol
        self._opened = opened
        sock.setblocking(False)
        process.loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        self._process.loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause()
                return
            self._admit(sock, address[0])

    def _pause(self) -> None:
        log.line("accept-paused", why="out of descriptors or memory")
        loop, descriptor = self._process.loop, self._sock.fileno()
        loop.remove_reader(descriptor)
        loop.call_later(EXHAUSTED_PAUSE, self._unpause)

    def _unpause(self) -> None:
        if self._sock.fileno() >= 0:
            self._process.loop.add_reader(self._sock.fileno(), self._accept)

    def _admit(self, sock: socket.socket, address: str) -> None:
        peer = address.partition("%")[0].removeprefix("::ffff:")
        sock.setblocking(False)
        if self._process.denied(peer, self._protocol):
            self._refuse(sock, peer, "your address may not connect here", DENIED)
            return
        if why := self._process.full(peer) if self._process.knows_rules(self._protocol) else NO_RULES:
            self._refuse(sock, peer, why, LATER)
            return
        self._opened(sock, peer)

    def _refuse(self, sock: socket.socket, peer: str, why: str, reply: Mapping[str, bytes]) -> None:
        self._process.refused(peer, self._protocol, why)
        try:
            if words := reply.get(self._protocol):
                sock.send(words % why.encode())
        except OSError:
            pass
        sock.close()
