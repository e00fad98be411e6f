"""What LIST and UIDL show of a maildrop: one immutable value backed by bytes.

A mailbox of 100,000 messages must not become 100,000 objects at every login. A listing is rendered once, kept beside
the index, crosses a privilege line as bytes or as a descriptor of them, and is read in place.

    "=4sIQII"  magic, messages, octets in all, length of the LIST text, length of the UIDL text
    Q x n      octets of each message       I x (n+1)  where each LIST line begins in its text
    B x n      form of each message         I x (n+1)  where each UIDL line begins in its text
    LIST text "1 120\\r\\n2 ...", then UIDL text "1 whqtswO00WBw418f9t5JxYwZ\\r\\n2 ...", both without the final dot
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

_MAGIC = b"PBL1"
_HEAD = struct.Struct("=4sIQII")
_OCTETS = struct.Struct("=Q")
_OFFSETS = struct.Struct("=II")
MESSAGES_LIMIT = 1_000_000  # facts: no client copes with more; bounds what a neighbour can make us read


class Entry(NamedTuple):
    """One message: its unique id, its octets on the wire, and its form (see wire_form)."""

    uidl: bytes
    octets: int
    form: int


class Listing:
    """An immutable listing; messages are numbered from 1 (RFC 1939 section 5)."""

    __slots__ = ("__weakref__", "_blob", "_forms", "_list", "_lists", "_uidl", "_uidls", "count", "octets")

    def __init__(self, blob: bytes | memoryview) -> None:
        """Read in place what `render` made. Raises ValueError when the shape is wrong; lines are not looked at."""
        if len(blob) < _HEAD.size:
            raise ValueError("a listing is cut short")
        magic, count, octets, list_length, uidl_length = _HEAD.unpack_from(blob)
        if magic != _MAGIC or count > MESSAGES_LIMIT:
            raise ValueError("this is no listing")
        self.count: int = count
        self.octets: int = octets
        self._blob = blob
        self._lists = _HEAD.size + 8 * count
        self._uidls = self._lists + 4 * (count + 1)
        self._forms = self._uidls + 4 * (count + 1)
        self._list = self._forms + count
        self._uidl = self._list + list_length
        if self._uidl + uidl_length != len(blob):
            raise ValueError("a listing has the wrong length")

    @classmethod
    def render(cls, entries: Sequence[Entry]) -> Listing:
        """The listing of these entries, in their order."""
        uidls, octets = [entry.uidl for entry in entries], [entry.octets for entry in entries]
        return EMPTY.continued(0, uidls, octets, bytes(entry.form for entry in entries))

    def continued(self, kept: int, uidls: Sequence[bytes], octets: Sequence[int], forms: bytes) -> Listing:
        """The first `kept` messages of this listing, then these: what is kept is copied, not rendered again."""
        old = self._blob
        lists = [b"%d %d\r\n" % line for line in enumerate(octets, kept + 1)]
        list_text = self._slice(self._list, self._lists, 1, kept) + b"".join(lists)
        uidl_lines = [b"%d %b\r\n" % line for line in enumerate(uidls, kept + 1)]
        uidl_text = self._slice(self._uidl, self._uidls, 1, kept) + b"".join(uidl_lines)
        sizes = array("Q", bytes(old[_HEAD.size : _HEAD.size + 8 * kept]))
        sizes.extend(octets)
        columns = (
            sizes.tobytes(),
            _offsets(old[self._lists : self._lists + 4 * (kept + 1)], lists),
            _offsets(old[self._uidls : self._uidls + 4 * (kept + 1)], uidl_lines),
            bytes(old[self._forms : self._forms + kept]) + forms,
        )
        head = _HEAD.pack(_MAGIC, len(sizes), sum(sizes), len(list_text), len(uidl_text))
        return Listing(b"".join((head, *columns, list_text, uidl_text)))

    @property
    def blob(self) -> bytes | memoryview:
        """The bytes to keep or to send; `Listing(blob)` reads them again."""
        return self._blob

    def size(self, number: int) -> int:
        """Octets of message `number`, 1 to count."""
        size: int = _OCTETS.unpack_from(self._blob, _HEAD.size + 8 * (number - 1))[0]
        return size

    def form(self, number: int) -> int:
        return int(self._blob[self._forms + number - 1])

    def uidl(self, number: int) -> bytes:
        line = self._slice(self._uidl, self._uidls, number, number)
        return line[line.index(b" ") + 1 : -2]

    def columns(self) -> tuple[list[int], bytes]:
        """Octets of each message, and form of each."""
        sizes = array("Q", bytes(self._blob[_HEAD.size : self._lists]))
        return sizes.tolist(), bytes(self._blob[self._forms : self._list])

    def __contains__(self, uidl: bytes) -> bool:
        """Has one of the messages this unique id?"""
        return b" %b\r\n" % uidl in bytes(self._blob[self._uidl :])

    def list_lines(self, without: bytes | bytearray = b"") -> list[bytes]:
        """All LIST lines in a few pieces. `without`: empty, or one octet for each message: 1 leaves it out, 0 doesn't."""
        return self._pieces(self._list, self._lists, without)

    def uidl_lines(self, without: bytes | bytearray = b"") -> list[bytes]:
        """The same of UIDL."""
        return self._pieces(self._uidl, self._uidls, without)

    def _pieces(self, text: int, offsets: int, without: bytes | bytearray) -> list[bytes]:
        """One for each run of messages that stay: what is left out costs next to nothing.

        Raises ValueError where they are longer than the listing: a neighbour that lies must not fill our memory.
        """
        pieces, end, room = list[bytes](), self.count + 1, len(self._blob)
        first = without.find(0) + 1 or (end if without else 1)
        while first < end:
            gone = without.find(1, first) + 1 or end
            piece = self._slice(text, offsets, first, gone - 1)
            room -= len(piece)
            if room < 0:
                raise ValueError("lines of a listing overlap")
            pieces.append(piece)
            first = without.find(0, gone) + 1 or end
        return pieces

    def _slice(self, text: int, offsets: int, first: int, last: int) -> bytes:
        if last < first:
            return b""
        start, _ = _OFFSETS.unpack_from(self._blob, offsets + 4 * (first - 1))
        _, end = _OFFSETS.unpack_from(self._blob, offsets + 4 * (last - 1))
        return bytes(self._blob[text + start : text + end])


def _offsets(kept: bytes | memoryview, lines: list[bytes]) -> bytes:
    offsets = array("I", bytes(kept))
    offsets.extend(accumulate(map(len, lines), initial=offsets.pop()))
    return offsets.tobytes()


EMPTY = Listing(_HEAD.pack(_MAGIC, 0, 0, 0, 0) + bytes(8))
