"""Message content as qmail-smtpd reads it: wire octets in chunks, stored octets out.

It differs from smtp_data in what is kept and in what ends the conversation: a CR that stands alone is data, an LF that
stands alone is refused at once, and the limits are qmail's.
"""

from __future__ import annotations

import re

from .lines import LineBuffer
from .smtp_data import BareNewline, HeaderLines, unfinished

HOPS_LIMIT = 100  # Received and Delivered-To fields; so many are a loop

_BARE_LF = re.compile(rb"(?<!\r)\n")
_STUFFED = re.compile(rb"\r\n\.(?!\r)")  # `.` CR, where it is not the end, is data
_HOP = re.compile(rb"\n(?:received|delivered-to)[ \t]{0,40}:", re.IGNORECASE)


class QmailData:
    """One message; `ended` once its final dot has come."""

    __slots__ = ("_first", "_header", "_held", "_hops", "_limit", "_octets", "ended")

    def __init__(self, limit: int) -> None:
        """`limit`: octets as stored; 0: none."""
        self.ended = False
        self._limit = limit
        self._octets = 0
        self._header, self._hops = HeaderLines(), 0
        self._held = b"\r\n"  # the end of the command line stands before the first line
        self._first = True

    @property
    def too_long(self) -> bool:
        return 0 < self._limit < self._octets

    @property
    def looping(self) -> bool:
        return self._hops >= HOPS_LIMIT

    def read(self, source: LineBuffer) -> bytes:
        """Stored octets of what `source` holds; what stands behind the final dot is left there. Raises BareNewline.

        A message that is too long is read to its end, and nothing more comes of it.
        """
        data = self._held + source.take_rest()
        end = data.find(b"\r\n.\r\n")
        if end >= 0:
            self.ended, self._held = True, b""
            wire = data[: end + 2]
            source.feed(data[end + 5 :])
        else:
            keep = unfinished(data)
            wire, self._held = data[: len(data) - keep], data[len(data) - keep :]
        return self._stored(wire) if wire else b""

    def _stored(self, wire: bytes) -> bytes:
        if _BARE_LF.search(wire):
            raise BareNewline
        wire = _STUFFED.sub(b"\r\n", wire)
        if self._first:
            self._first, wire = False, wire[2:]
        stored = wire.replace(b"\r\n", b"\n")
        self._octets += len(stored)
        self._hops += len(_HOP.findall(self._header.whole(stored)))
        return b"" if self.too_long else stored
