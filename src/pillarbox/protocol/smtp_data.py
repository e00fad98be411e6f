"""Message content on its way in (RFC 5321 section 4.5.2, RFC 3030): wire octets in chunks, stored octets out.

Only CRLF ends a line, and only CRLF.CRLF ends DATA. A bare LF or CR is refused, for it is how one message smuggles
another past a neighbour that reads it differently. Where the configuration says so it is mended instead: it becomes a
line end in what is stored, and nothing more. It never helps to end the data, and a dot behind it is an ordinary dot,
neither an end nor stuffing; so the end of the data, and every octet's place before or behind it, are the same in both
modes and at every neighbour that keeps to the standard.
"""

from __future__ import annotations

import re

from .lines import LineBuffer
from .smtp_reply import Reply

LINE_LIMIT = 64 << 10  # octets, line end not counted; RFC 5321 asks for 1,000, real mail has more
HEADER_LIMIT = 256 << 10  # octets as stored; a reader that parses it must not be drowned
FIELDS_LIMIT = 1000
HOPS_LIMIT = 100  # Received fields; qmail's number

_BARE_CR = re.compile(rb"\r[^\n]")
_DOT_LINE = re.compile(rb"\n\.")  # twice as fast as find()
_FIELD = re.compile(rb"\n[^ \t\n]")
_RECEIVED = re.compile(rb"\nreceived[ \t]{0,40}:", re.IGNORECASE)
_NAME = 64  # octets of a line that decide whether it is a field, and a Received field


class BareNewline(Exception):
    """A CR or LF stands alone in a message."""


class HeaderLines:
    """The lines of the header alone, as a message passes by: `octets` of it as stored."""

    __slots__ = ("_held", "_over", "octets")

    def __init__(self) -> None:
        self._held = b"\n"  # the LF before the line that is not whole yet, and that line's first octets
        self._over = False
        self.octets = 0

    def whole(self, stored: bytes) -> bytes:
        """What has become whole of them, each behind the LF before it; nothing once the header is over.

        Of a line that came in pieces the beginning alone is there: enough for the name of a field.
        """
        if self._over:
            return b""
        data = self._held + stored
        end = data.find(b"\n\n")
        self._over = end >= 0
        last = end if self._over else data.rfind(b"\n")
        self.octets += last + 1 - len(self._held) if self._over else len(stored)
        self._held = data[last : last + _NAME]
        return data[: last + 1]


class Header:
    """Its octets as stored, its fields, its hops."""

    __slots__ = ("_lines", "fields", "hops")

    def __init__(self) -> None:
        self._lines = HeaderLines()
        self.fields = self.hops = 0

    @property
    def octets(self) -> int:
        return self._lines.octets

    def feed(self, stored: bytes) -> None:
        """Raises Reply when a limit is passed."""
        if whole := self._lines.whole(stored):
            self.fields += len(_FIELD.findall(whole))
            self.hops += len(_RECEIVED.findall(whole))
            self._check()

    def _check(self) -> None:
        if self.octets > HEADER_LIMIT or self.fields > FIELDS_LIMIT:
            raise Reply(552, "5.3.4", f"the header is longer than {HEADER_LIMIT} octets or {FIELDS_LIMIT} fields")
        if self.hops > HOPS_LIMIT:
            raise Reply(554, "5.4.6", f"more than {HOPS_LIMIT} Received fields: the message is looping")


class Content:
    """What DATA and BDAT have in common: line ends and limits.

    Once `fault` is set the message is void: what still comes of it is looked at only for its end and for bare newlines.
    BareNewline is raised once; feeding may go on for the sake of `ended`.
    """

    __slots__ = ("_given_up", "_line", "_normalise", "ended", "fault", "header", "limit", "octets")

    def __init__(self, limit: int, *, normalise: bool = False) -> None:
        """`limit`: octets of the message as sent, without stuffing. `normalise`: mend bare CR and LF."""
        self.limit = limit
        self.ended = False  # the message is whole
        self.octets = 0
        self.fault: Reply | None = None
        self.header = Header()
        self._normalise = normalise
        self._given_up = False  # a bare newline has been found
        self._line = 0  # octets of the line that is not whole yet

    def check_size(self, more: int = 0) -> None:
        """Sets `fault` where the message, with so many octets more, is over the limit."""
        if self.fault is None and self.octets + more > self.limit:
            self.fault = Reply(552, "5.3.4", f"the message is longer than {self.limit} octets")

    def _stored(self, wire: bytes) -> bytes:
        """Wire octets that do not end within a CRLF -> stored octets, all limits looked at. Raises BareNewline."""
        if self._given_up:
            return b""
        stored = wire.translate(None, b"\r")
        if len(wire) - len(stored) != stored.count(b"\n") or _BARE_CR.search(wire) or wire.endswith(b"\r"):
            # As many CR as LF and no CR without its LF: then every LF has its CR.
            if not self._normalise:
                self._given_up = True
                raise BareNewline
            stored = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self.fault is None:
            self._look_at(stored, len(wire))
        return stored if self.fault is None else b""

    def _look_at(self, stored: bytes, octets: int) -> None:
        self.octets += octets
        self.check_size()
        try:
            self._measure(stored)
            self.header.feed(stored)
        except Reply as fault:
            self.fault = self.fault or fault

    def _measure(self, stored: bytes) -> None:
        """No line over the limit. Looks at a few line ends a chunk, not at each: any in the last 64 KiB will do."""
        start, room = 0, LINE_LIMIT - self._line
        while len(stored) - start > room:
            end = stored.rfind(b"\n", start, start + room + 1)
            if end < 0:
                raise Reply(554, "5.6.0", f"a line is longer than {LINE_LIMIT} octets")
            start, room = end + 1, LINE_LIMIT
        last = stored.rfind(b"\n", start)
        self._line = LINE_LIMIT - room + len(stored) - start if last < 0 else len(stored) - last - 1


class DataDecoder(Content):
    """DATA. `feed` what comes; once `ended`, `rest` is what the client sent behind the final dot."""

    __slots__ = ("_first", "_held", "rest")

    def __init__(self, limit: int, *, normalise: bool = False) -> None:
        super().__init__(limit, normalise=normalise)
        self._held = b"\r\n"  # the end of the command line stands before the first line
        self._first = True
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Stored octets. Raises BareNewline; `ended` is right all the same."""
        data = self._held + chunk
        dots = _DOT_LINE.search(data) is not None
        end = data.find(b"\r\n.\r\n") if dots else -1
        if end >= 0:
            self.ended, self.rest, self._held = True, data[end + 5 :], b""
            wire = data[: end + 2]
        else:
            keep = unfinished(data)
            wire, self._held = data[: len(data) - keep], data[len(data) - keep :]
        if not wire:
            return b""
        if dots:
            wire = wire.replace(b"\r\n.", b"\r\n")
        if self._first:
            self._first, wire = False, wire[2:]
        return self._stored(wire)

    def read(self, source: LineBuffer) -> bytes:
        """The same with what `source` holds; what stands behind the final dot is left there. Raises BareNewline."""
        stored = self.feed(source.take_rest())
        source.feed(self.rest)
        return stored


class ChunkDecoder(Content):
    """BDAT. Before the octets of each chunk it is told how many come; a dot means nothing here."""

    __slots__ = ("_held", "_last", "_open_line", "left")

    def __init__(self, limit: int, *, normalise: bool = False) -> None:
        super().__init__(limit, normalise=normalise)
        self._held = b""  # a CR whose LF may be in the next chunk
        self._open_line = self._last = False
        self.left = 0  # octets of the chunk that have not come

    def expect(self, octets: int, *, last: bool) -> None:
        """A chunk comes."""
        self.left, self._last = octets, last
        self.check_size(octets)

    def read(self, source: LineBuffer) -> bytes:
        """Stored octets of the chunk; what stands behind it is left in `source`. Raises BareNewline."""
        data = source.take_rest()
        chunk = data[: self.left]
        source.feed(data[self.left :])
        self.left -= len(chunk)
        self.ended = self._last and not self.left
        stored = self.feed(chunk)
        return stored + self.finish() if self.ended else stored

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
        """After the last chunk: the stored octets that are missing, at most a line end. Raises BareNewline."""
        if self._held:
            self._held = b""
            return self._stored(b"\r")
        return b"\n" if self._open_line and self.fault is None else b""


def unfinished(data: bytes) -> int:
    """How many octets at the end may belong to CRLF.CRLF or to a stuffed dot."""
    for length in (4, 3, 2, 1):
        if data.endswith(b"\r\n.\r"[:length]):
            return length
    return 0
