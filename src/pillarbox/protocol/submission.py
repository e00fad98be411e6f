"""What a mail host adds to a message that is handed in by its author (RFC 6409 section 8), and nothing else."""

from __future__ import annotations

import re

from .smtp_data import HEADER_LIMIT
from .trace import date

_DATE = re.compile(rb"\ndate[ \t]*:", re.IGNORECASE)  # blanks before the colon: RFC 5322 section 4.5
_MESSAGE_ID = re.compile(rb"\nmessage-id[ \t]*:", re.IGNORECASE)


class Completion:
    """Puts Date and Message-ID in front of a header that lacks them. The header is held back until it is whole."""

    __slots__ = ("_held", "_host", "_now", "_unique")

    def __init__(self, host: bytes, unique: str, now: float) -> None:
        """`host`: our name. `unique`: no other message of ours ever has it; letters and digits. `now`: Unix time."""
        self._host, self._unique, self._now = host, unique.encode("ascii"), now
        self._held: bytearray | None = bytearray(b"\n")  # the line end before the first line; None: the header is over

    def feed(self, stored: bytes) -> bytes:
        """Stored octets that come (MessageData) -> those that may be written."""
        held = self._held
        if held is None:
            return stored
        start = len(held) - 1
        held += stored
        end = held.find(b"\n\n", start)
        if end < 0 and len(held) <= HEADER_LIMIT:
            return b""
        return self._completed(held, end)

    def finish(self) -> bytes:
        """The message is whole -> what of it was still held back: a header that no body follows."""
        return b"" if self._held is None else self._completed(self._held, -1)

    def _completed(self, held: bytearray, end: int) -> bytes:
        """`end`: where the header ends in `held`; negative: nowhere."""
        self._held = None
        limit = len(held) if end < 0 else end
        missing = b""
        if not _DATE.search(held, 0, limit):
            missing += b"Date: %b\n" % date(self._now)
        if not _MESSAGE_ID.search(held, 0, limit):
            missing += b"Message-ID: <%b@%b>\n" % (self._unique, self._host)
        return missing + held[1:]
