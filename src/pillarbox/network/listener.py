"""Accepting strangers: who may come in, and what the others are told."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import log

if TYPE_CHECKING:
    from .process import NetworkProcess

ACCEPTS_A_TURN = 32  # then the connections that we have get their turn
EXHAUSTED_PAUSE = 0.5  # seconds without accepting when descriptors have run out
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_SMTP_FULL = b"421 4.3.2 %b\r\n"
# Under TLS from the first octet a word would cost a handshake: pop3s and submissions just close.
FULL = {"pop3": b"-ERR [SYS/TEMP] %b\r\n", "smtp": _SMTP_FULL, "submission": _SMTP_FULL}


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
        why = self._process.full(peer)
        sock.setblocking(False)
        if why:
            self._refuse(sock, peer, why)
            return
        self._opened(sock, peer)

    def _refuse(self, sock: socket.socket, peer: str, why: str) -> None:
        self._process.refused(peer, self._protocol, why)
        try:
            if words := FULL.get(self._protocol):
                sock.send(words % why.encode())
        except OSError:
            pass
        sock.close()
