"""Message content on its way in (RFC 5321 section 4.5.2, RFC 3030): wire octets in chunks, stored octets out.

Only CRLF ends a line, and only CRLF.CRLF ends DATA. A bare LF or CR is refused, for it is how one message smuggles
another past a neighbour that reads it differently; or it is mended to a line end where the configuration says so, but
even then it never helps to end the data.
"""

from __future__ import annotations

import re

LINE_LIMIT = 64 << 10  # octets; RFC 5321 asks for 1,000, real mail has more
HEADER_LIMIT = 256 << 10  # octets
FIELDS_LIMIT = 1000
HOPS_LIMIT = 100  # Received fields; qmail's number
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FIELD_NAME = 64  # octets of a line that decide whether it is a Received field
_FIELD = re.compile(rb"\n[!-9;-~]")


class BareNewline(Exception):
    """A CR or LF stands alone."""


class Reply(Exception):
    """What the client is told when something can't be done: reply code, enhanced code (RFC 3463), text."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code, self.enhanced, self.text = code, enhanced, text


class Header:
    """Looks at the header alone as it passes by: its size, its fields, its hops."""

    __slots__ = ("_held", "_octets", "_over", "fields", "hops")

    def __init__(self) -> None:
        self._held = b"\n"  # the line that is not whole yet, with the LF before it
        self._octets = self.fields = self.hops = 0
        self._over = False

    def feed(self, stored: bytes) -> None:
        """Stored octets. Raises Reply."""
        if self._over:
            return
        if len(self._held) > _FIELD_NAME and b"\n" not in stored:
            self._octets += len(stored)  # the middle of a long line: only its beginning matters
            self._check()
            return
        data = self._held + stored
        end = data.find(b"\n\n")
        self._over = end >= 0
        whole = end + 1 if self._over else data.rfind(b"\n") + 1
        self._held = b"" if self._over else data[whole - 1 :]
        part = data[:whole]
        self._octets += len(part)
        self.fields += len(_FIELD.findall(part))
        self.hops += len(_RECEIVED.findall(part))
        self._check()

    def _check(self) -> None:
        if self._octets + len(self._held) > HEADER_LIMIT or self.fields > FIELDS_LIMIT:
            raise Reply(552, "5.3.4", f"the header is longer than {HEADER_LIMIT} octets or {FIELDS_LIMIT} fields")
        if self.hops > HOPS_LIMIT:
            raise Reply(554, "5.4.6", f"more than {HOPS_LIMIT} Received fields: the message is looping")


class Content:
    """What DATA and BDAT have in common: limits, the header, bare newlines.

    Once `fault` is set the message is void: what still comes of it is counted and thrown away.
    """

    __slots__ = ("_line", "_normalise", "fault", "header", "limit", "octets")

    def __init__(self, limit: int, *, normalise: bool) -> None:
        self.limit = limit
        self.octets = 0
        self.fault: Reply | None = None
        self.header = Header()
        self._normalise = normalise
        self._line = 0  # octets of the line that is not whole yet

    def _stored(self, wire: bytes) -> bytes:
        """Wire octets that do not end within a CRLF -> stored octets, all limits looked at. Raises BareNewline."""
        if self.fault is not None:
            return b""
        if wire.count(b"\r\n") == wire.count(b"\n") == wire.count(b"\r"):
            stored = wire.replace(b"\r\n", b"\n")
        elif self._normalise:
            stored = _BARE.sub(b"\n", wire).replace(b"\r\n", b"\n")
        else:
            raise BareNewline
        try:
            self._look_at(stored, len(wire))
        except Reply as fault:
            self.fault = fault
            return b""
        return stored

    def _look_at(self, stored: bytes, octets: int) -> None:
        self._measure(stored)
        self.octets += octets
        if self.octets > self.limit:
            raise Reply(552, "5.3.4", f"the message is longer than {self.limit} octets")
        self.header.feed(stored)

    def _measure(self, stored: bytes) -> None:
        last = stored.rfind(b"\n")
        first = stored.find(b"\n")
        longest = self._line + (first if first >= 0 else len(stored))
        self._line = len(stored) - last - 1 if last >= 0 else longest
        if longest > LINE_LIMIT or self._line > LINE_LIMIT or _too_long_inside(stored):
            raise Reply(554, "5.6.0", f"a line is longer than {LINE_LIMIT} octets")


def _too_long_inside(stored: bytes) -> bool:
    """A whole line over the limit within one chunk: possible only in a chunk longer than that."""
    return len(stored) > LINE_LIMIT and any(len(line) > LINE_LIMIT for line in stored.split(b"\n"))


class DataDecoder(Content):
    """DATA. `feed` what comes; once `ended`, `rest` is what the client sent behind the final dot."""

    __slots__ = ("_first", "_held", "ended", "rest")

    def __init__(self, limit: int, *, normalise: bool = False) -> None:
        """`limit`: octets of the message, as sent without stuffing."""
        super().__init__(limit, normalise=normalise)
        self._held = b"\r\n"  # the end of the command line stands before the first line
        self._first = True
        self.ended = False
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Stored octets. Raises BareNewline."""
        data = self._held + chunk
        end = data.find(b"\r\n.\r\n")
        if end >= 0:
            self.ended, self.rest = True, data[end + 5 :]
            whole, self._held = data[: end + 2], b""
        else:
            keep = _unfinished(data)
            whole, self._held = data[: len(data) - keep], data[len(data) - keep :]
        if not whole:
            return b""
        wire = whole.replace(b"\r\n.", b"\r\n")
        if self._first:
            self._first, wire = False, wire[2:]
        return self._stored(wire)


class ChunkDecoder(Content):
    """BDAT: octets are counted by the session, dots mean nothing."""

    __slots__ = ("_held", "_open_line")

    def __init__(self, limit: int, *, normalise: bool = False) -> None:
        super().__init__(limit, normalise=normalise)
        self._held = b""  # a CR whose LF may be in the next chunk
        self._open_line = False

    def feed(self, chunk: bytes) -> bytes:
        """Stored octets. Raises BareNewline."""
        data = self._held + chunk
        self._held = b"\r" if data.endswith(b"\r") else b""
        wire = data[:-1] if self._held else data
        if not wire:
            return b""
        self._open_line = not wire.endswith(b"\n")
        return self._stored(wire)

    def finish(self) -> bytes:
        """After the last chunk: the stored octets that are missing, at most a line end."""
        if self._held:
            self._held = b""
            return self._stored(b"\r")
        return b"\n" if self._open_line and self.fault is None else b""


def _unfinished(data: bytes) -> int:
    """How many octets at the end may belong to CRLF.CRLF or to a stuffed dot."""
    for length in (4, 3, 2, 1):
        if data.endswith(b"\r\n.\r"[:length]):
            return length
    return 0
