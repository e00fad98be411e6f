"""One message on its way out: what must be known of it, its two forms, its signature; read as it is sent."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from ..protocol.dot_stuffing import Encoder
from ..protocol.downgrade import seven_bit
from ..tasks import in_thread
from ..terms import Wish
from ..wire_form import LF_ONLY

PIECE = 128 << 10  # octets that are read, converted and sent at once
WHOLE_LIMIT = 256 << 10  # octets of a message that is kept in memory while it travels; a bigger one is read in pieces
MEMORY = 192 << 20  # octets that all big messages together may take while they are signed, mended or converted
COPIES = 3  # of a message at that moment
SURVEY_PIECE = 1 << 20  # octets looked at at once; a header is shorter than that
CUT = "the message's file is shorter than it was"
NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for recipients of one lane."""

    identity: str  # the queue's id, for the log
    sender: bytes  # empty: the null sender
    recipients: tuple[bytes, ...]
    wishes: tuple[Wish, ...]  # one for each recipient, or empty
    ret: str
    envid: bytes
    utf8: bool  # SMTPUTF8 was declared
    head: bytes  # fields to put before the message, in stored form
    open: Callable[[], int]  # a fresh readable descriptor of the message as stored; we close it
    sign: bool = False  # it is our own, or our account's


class Signs(Protocol):
    def holds_keys(self) -> bool: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Content:
    """One form of the message."""

    size: int  # octets on the wire, before stuffing (RFC 1870 section 3)
    eight_bit: bool
    eight_bit_header: bool
    pieces: Callable[[], AsyncIterator[bytes]]  # for the wire, stuffed; all but the last dot. Raises OSError


class Memory:
    """So many octets for all who need them; who has waited longest is next. More than there are: all of them."""

    def __init__(self, octets: int = MEMORY) -> None:
        self._all = self._free = octets
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, octets: int) -> int:
        """The share that is yours now, to be given back."""
        share = min(octets, self._all)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(share)
            self._serve()
            raise
        return share

    def give(self, share: int) -> None:
        self._free += share
        self._serve()

    def _serve(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            share, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= share
                turn.set_result(None)


class Letter:
    """The message in the form that an exchanger can take. `close` it."""

    def __init__(self, outgoing: Outgoing, signer: Signs | None, memory: Memory) -> None:
        """Raises OSError."""
        self.outgoing = outgoing
        self._signer = signer if outgoing.sign and signer and signer.holds_keys() else None
        self._memory = memory
        self._share = 0  # of memory
        self._contents: dict[bool, Content] = {}  # by whether it is converted
        self._descriptor = outgoing.open()
        self._octets = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        os.close(self._descriptor)
        self._give_back()

    def rest(self) -> None:
        """Hold no share of the memory; what needed one is made anew when it is asked for."""
        if self._share:
            self._contents.clear()
            self._give_back()

    async def content(self, *, convert: bool = False) -> Content:
        """As it was stored; `convert`: without octets beyond ASCII. Raises OSError, and Unconvertible if it can't be."""
        if convert not in self._contents:
            self._contents[convert] = await self._prepared(convert=convert)
        return self._contents[convert]

    async def _prepared(self, *, convert: bool) -> Content:
        if self._octets <= WHOLE_LIMIT:
            text = await self._whole()
            if not convert and self._signer is None:
                return _held(self.outgoing.head, _tidy(text))
            return await in_thread(lambda: self._worked(text, convert=convert))
        self._contents.clear()  # of a big message one form at a time
        self._give_back()
        self._share = await self._memory.take(COPIES * self._octets)
        facts = await in_thread(self._survey)
        if convert or not facts.tidy:
            return await in_thread(lambda: self._worked(_read_all(self._descriptor, self._octets), convert=convert))
        content = await in_thread(lambda: self._streamed(facts))
        self._give_back()
        return content

    def _give_back(self) -> None:
        self._memory.give(self._share)
        self._share = 0

    async def _whole(self) -> bytes:
        found = b""
        while len(found) < self._octets:
            found += await _read(self._descriptor, len(found))
        return found

    def _worked(self, text: bytes, *, convert: bool) -> Content:
        """For a thread: seconds, for a message of many megabytes."""
        text = _tidy(text)
        if convert:
            text = seven_bit(text)
        return _held(self._signature(text) + self.outgoing.head, text)

    def _signature(self, text: bytes) -> bytes:
        return self._signer.sign(text) if self._signer is not None else b""

    def _survey(self) -> _Facts:
        facts = _Facts()
        offset = 0
        while offset < self._octets:
            chunk = _read_all(self._descriptor, min(SURVEY_PIECE, self._octets - offset), offset)
            facts.add(chunk)
            offset += len(chunk)
        return facts

    def _streamed(self, facts: _Facts) -> Content:
        head = self.outgoing.head
        if self._signer is not None:
            head = self._signature(_read_all(self._descriptor, self._octets)) + head
        return _content(head, facts, lambda: self._pieces(head))

    async def _pieces(self, head: bytes) -> AsyncIterator[bytes]:
        encoder = Encoder(LF_ONLY)
        if head:
            yield encoder.feed(head)
        offset = 0
        while offset < self._octets:
            chunk = await _read(self._descriptor, offset)
            offset += len(chunk)
            yield encoder.feed(chunk)


class _Facts:
    """What is known of a text that was looked at in chunks."""

    def __init__(self) -> None:
        self.octets = self.lines = 0
        self.ascii = self.header_ascii = True
        self.straight = True  # no CR
        self._in_header = True
        self._ended = True

    def add(self, chunk: bytes) -> None:
        ascii_only = chunk.isascii()
        if self._in_header:
            end = chunk.find(b"\n\n")
            self.header_ascii = self.header_ascii and (ascii_only or chunk[: end if end >= 0 else None].isascii())
            self._in_header = end < 0
        self.ascii = self.ascii and ascii_only
        self.octets += len(chunk)
        self.lines += chunk.count(b"\n")
        self._ended = chunk.endswith(b"\n")
        self.straight = self.straight and b"\r" not in chunk

    @property
    def tidy(self) -> bool:
        """Every line ends with LF, and no CR is anywhere."""
        return self.straight and self._ended


def _held(head: bytes, text: bytes) -> Content:
    """Of a text in memory."""
    facts = _Facts()
    facts.add(text)

    async def pieces() -> AsyncIterator[bytes]:
        encoder = Encoder(LF_ONLY)
        yield encoder.feed(head + text[:PIECE])
        for offset in range(PIECE, len(text), PIECE):
            yield encoder.feed(text[offset : offset + PIECE])

    return _content(head, facts, pieces)


def _content(head: bytes, facts: _Facts, pieces: Callable[[], AsyncIterator[bytes]]) -> Content:
    plain = head.isascii()
    size = len(head) + head.count(b"\n") + facts.octets + facts.lines
    return Content(size, not (plain and facts.ascii), not (plain and facts.header_ascii), pieces)


def _tidy(text: bytes) -> bytes:
    """No CR, and an end to the last line: what is sent must not hold a bare CR or LF (RFC 5321 section 2.3.8)."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text if not text or text.endswith(b"\n") else text + b"\n"


async def _read(descriptor: int, offset: int) -> bytes:
    """The next octets, from the page cache if they are there, else by a thread. Raises OSError; none are too few."""
    buffer = bytearray(PIECE)
    try:
        count = os.preadv(descriptor, [buffer], offset, NO_WAIT)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return await in_thread(lambda: _read_all(descriptor, PIECE, offset, short=True))
    if not count:
        raise OSError(errno.EIO, CUT)
    return bytes(memoryview(buffer)[:count])


def _read_all(descriptor: int, octets: int, offset: int = 0, *, short: bool = False) -> bytes:
    """So many octets, or at least one if `short`. Raises OSError."""
    found = bytearray()
    while len(found) < octets and not (short and found):
        chunk = os.pread(descriptor, octets - len(found), offset + len(found))
        if not chunk:
            raise OSError(errno.EIO, CUT)
        found += chunk
    return bytes(found)
