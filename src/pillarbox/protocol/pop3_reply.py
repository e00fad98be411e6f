"""What a POP3 server says: one-line replies in the words of a dialect, and multi-line ones (RFC 1939 section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .pop3_dialect import Dialect

HIGH_WATER = 64 << 10  # octets of output; above it no further command is obeyed until some has been taken
ERROR_LIMIT = 500  # octets; with -ERR and CRLF within the 512 of a response (RFC 2449 section 4)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Replies:
    """The octets that wait for the client."""

    __slots__ = ("_dialect", "_output", "_size")

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._output: list[bytes] = []
        self._size = 0

    def take_output(self) -> bytes:
        """Octets for the client."""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output = []
        self._size = 0
        return output

    @property
    def held_back(self) -> bool:
        """So much output waits to be taken that no further command is obeyed before."""
        return self._size > HIGH_WATER

    def _ok(self, text: bytes = b"") -> None:
        """Yes, and words for a person."""
        if self._dialect.courtesy:
            self._say(b"+OK %b\r\n" % text if text else b"+OK\r\n")
        else:
            self._say(b"+OK \r\n")

    def _data(self, text: bytes) -> None:
        """Yes, and what was asked for."""
        self._say(b"+OK %b\r\n" % text)

    def _error(self, text: str, code: str = "") -> None:
        words = _CONTROL.sub(" ", f"[{code}] {text}" if code else text)[:ERROR_LIMIT]
        self._say(b"-ERR %b\r\n" % words.encode("ascii", "replace"))

    def _multiline(self, title: bytes, pieces: Iterable[bytes]) -> None:
        self._ok(title)
        for piece in pieces:
            self._say(piece)
        self._say(b".\r\n")

    def _say(self, data: bytes) -> None:
        self._output.append(data)
        self._size += len(data)
