"""Lines out of a stream of octets, bounded, and in linear time however they come."""

from __future__ import annotations


class LineTooLong(Exception):
    """A line is longer than the limit; what came of it is dropped."""


class BareNewline(Exception):
    """Within a line that CRLF ends there is a CR or LF that stands alone."""


class LineBuffer:
    """POP3: a line ends at LF, and one CR before it is dropped. With `crlf_only` (SMTP) only CRLF ends one."""

    __slots__ = ("_crlf_only", "_data", "_start", "limit")

    def __init__(self, limit: int, *, crlf_only: bool = False) -> None:
        """`limit` in octets, line end included."""
        self.limit = limit
        self._crlf_only = crlf_only
        self._data: bytes | bytearray = b""
        self._start = 0  # where the unread octets begin

    def feed(self, data: bytes) -> None:
        if not self.pending:
            self._data = data
        elif isinstance(self._data, bytearray):
            del self._data[: self._start]  # moves nothing
            self._data += data
        else:
            self._data = bytearray(self._data[self._start :]) + data  # from now on it grows in place
        self._start = 0

    def next_line(self) -> bytes | None:
        """The next line without its end, or None. Raises LineTooLong, or BareNewline after having taken the line."""
        data, start = self._data, self._start
        end = data.find(b"\r\n" if self._crlf_only else b"\n", start, start + self.limit)
        if end < 0:
            if len(data) - start >= self.limit:
                self.take_rest()
                raise LineTooLong
            return None
        line = bytes(data[start:end])
        self._start = end + (2 if self._crlf_only else 1)
        if self._start == len(data):
            self._data, self._start = b"", 0
        if not self._crlf_only:
            return line[:-1] if line.endswith(b"\r") else line
        if b"\n" in line or b"\r" in line:
            raise BareNewline
        return line

    def take_rest(self) -> bytes:
        """All unread octets; none are left."""
        rest = bytes(self._data[self._start :])
        self._data, self._start = b"", 0
        return rest

    @property
    def pending(self) -> int:
        """Octets unread."""
        return len(self._data) - self._start

    def __bool__(self) -> bool:
        return self.pending > 0
