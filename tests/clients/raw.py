"""POP3 spoken by hand, octet for octet."""

from __future__ import annotations

import hashlib
import socket
import struct
from types import TracebackType

PATIENCE = 30.0  # seconds for one reply; only a broken server lets a test wait that long


class Raw:
    """One connection; the greeting has been read."""

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port), timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.sock.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self) -> bytes:
        """The next line, without its end; fails unless that is CRLF."""
        line = self._file.readline()
        assert line.endswith(b"\r\n"), line
        return line[:-2]

    def ask(self, command: bytes) -> bytes:
        self.send(command + b"\r\n")
        return self.reply()

    def rest(self) -> bytes:
        """The lines of a multi-line reply as they came, stuffed, without the final dot."""
        lines = []
        while (line := self._file.readline()) != b".\r\n":
            assert line.endswith(b"\r\n"), line
            lines.append(line)
        return b"".join(lines)

    def ended(self) -> bool:
        """Has the server closed, with nothing more to say?"""
        return self._file.read(1) == b""

    def apop(self, user: str, secret: str) -> bytes:
        """The APOP command for this greeting, with its CRLF."""
        challenge = self.greeting[self.greeting.index(b"<") : self.greeting.index(b">") + 1]
        digest = hashlib.md5(challenge + secret.encode()).hexdigest()
        return f"APOP {user} {digest}\r\n".encode()

    def login(self, user: str, secret: str) -> bytes:
        self.send(self.apop(user, secret))
        return self.reply()

    def reset(self) -> None:
        """Drop the line as a lost network does: RST, no QUIT."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self.sock.close()
