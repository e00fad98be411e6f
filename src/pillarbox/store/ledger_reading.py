"""The ledger, read: its entries in their order, its end, and whether its chain holds. Files are streamed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from .ledger_line import LINE_LIMIT, START, Chain, Entry, Head, mac_of, parse

_NAME = re.compile(r"([0-9]{8})\.jsonl")
PROGRESS_LINES = 50_000  # between two reports of progress: a fraction of a second
RECENT_FILES = 4  # of which good logins are read at a server's start: some 120,000 attempts, in less than half a second
_REASON = b'"reason":"'  # in no value: there the quotes are escaped


def file_name(number: int) -> str:
    return f"{number:08}.jsonl"


def file_numbers(folder: str) -> list[int]:
    """The files that there are, the oldest first; none where there is no ledger yet. Raises OSError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


@dataclass(slots=True)
class Break:
    """Where the chain is broken: nothing from here on is vouched for."""

    file: str
    line: int  # within the file, from 1
    why: str


@dataclass(slots=True)
class Verdict:
    """What a walk along the chain found."""

    entries: int = 0
    files: int = 0
    since: float = 0.0  # times of the first and of the last entry
    until: float = 0.0
    lost: int = 0  # attempts that could not be written, as the ledger itself says
    torn: list[tuple[str, int]] = field(default_factory=list)  # file, and octets at its end that a crash cut off
    tip: str = START  # MAC of the last line
    seq: int = 1  # of the next entry
    noted: bool = False  # the tip that was looked for is there
    broken: Break | None = None


class Walk:
    """Along the chain, file by file. `verdict` is what was found so far."""

    def __init__(
        self, folder: str, key: bytes, progress: Callable[[int], None] = lambda _: None, noted: str = ""
    ) -> None:
        """`progress` is told the number of entries from time to time."""
        self._noted = noted
        self._folder = folder
        self._chain: Chain | None = None  # None: nothing was good yet
        self._key = key
        self._progress = progress
        self._pending: Break | None = None  # a break that the head of a later file may yet explain
        self._octets = 0  # that are no lines, since that break
        self._kept = 0  # the first file that was kept, as the latest head says
        self._innocent = True  # a crash can have left them: there is no whole line among them
        self.verdict = Verdict()

    @property
    def torn(self) -> int:
        """Octets behind the last good line."""
        return self._octets

    def all(self) -> Verdict:
        """Raises OSError."""
        numbers = file_numbers(self._folder)
        for before, number in zip([None, *numbers], numbers, strict=False):
            if before is not None and number != before + 1:
                return self._end(Break(file_name(before + 1), 0, "the file is missing"))
            self.file(number, oldest=numbers[0])
        if self._pending is not None and self._innocent:  # as a power cut leaves it, until a server starts again
            self.verdict.torn.append((self._pending.file, self._octets))
            self._pending = None
        if numbers and self._pending is None and numbers[0] > self._kept:
            return self._end(Break(file_name(self._kept), 0, "the file is missing"))
        return self._end(self._pending)

    def _end(self, broken: Break | None) -> Verdict:
        self.verdict.broken = broken
        return self.verdict

    def file(self, number: int, *, oldest: int) -> None:
        """The next file. `oldest`: the number of the first that there is; 0: not this walk's business."""
        name = file_name(number)
        with open(f"{self._folder}/{name}", "rb") as file:
            lines = iter(lambda: file.readline(LINE_LIMIT), b"")
            for place, line in enumerate(lines, 1):
                why = self._head(line, number, oldest) if place == 1 else self._entry(line)
                if why:
                    size = os.fstat(file.fileno()).st_size - file.tell() + len(line)
                    self._pending = self._pending or Break(name, place, why)
                    self._octets += size
                    self._innocent &= not any(map(_is_whole, chain([line], lines)))
                    return
        self.verdict.files += 1

    def _head(self, line: bytes, number: int, oldest: int) -> str:
        """Why this line can't begin the next file; empty: it does."""
        head = parse(line)
        if not isinstance(head, Head):
            return "it is no line that begins a file"
        here = self._chain or Chain(self._key, head.prev)
        if head.prev != here.mac or not here.follows(line):
            return "it does not follow the line before it: lines were changed, removed or put in"
        if self._chain is None and number > oldest > 0 and head.prev != START:
            return "lines before it are missing, or were changed"
        if (self._chain or number > oldest > 0) and (head.seq, head.torn) != (self.verdict.seq, self._octets):
            return "lines before it are missing, or were changed"
        if self._pending is not None and not self._innocent:
            return "the server went on here after lines that were changed, removed or put in"
        if self._pending is not None:
            self.verdict.torn.append((self._pending.file, self._octets))
        self._pending, self._octets, self._kept = None, 0, head.oldest
        self._chain, self.verdict.seq = here, head.seq
        self._took(line)
        return ""

    def _entry(self, line: bytes) -> str:
        assert self._chain is not None, "a file whose head is wrong is read no further"
        if not self._chain.follows(line):
            return "it does not follow the line before it: lines were changed, removed or put in"
        entry = parse(line)
        if not isinstance(entry, Entry) or entry.seq != self.verdict.seq:
            return "its number is not the next one"
        verdict = self.verdict
        verdict.entries += 1
        verdict.seq += 1
        verdict.since = verdict.since or entry.time
        verdict.until = entry.time
        verdict.lost += entry.lost
        self._took(line)
        if not verdict.entries % PROGRESS_LINES:
            self._progress(verdict.entries)
        return ""

    def _took(self, line: bytes) -> None:
        assert self._chain is not None
        self._chain.took(line)
        self.verdict.tip = mac_of(line)
        self.verdict.noted |= self.verdict.tip == self._noted


def _is_whole(line: bytes) -> bool:
    return line.endswith(b"\n") and parse(line) is not None


def verify(folder: str, key: bytes, progress: Callable[[int], None] = lambda _: None, noted: str = "") -> Verdict:
    """Does the chain hold over all files? The end can be cut off unseen at a line: `noted` is a tip to look for.

    Raises OSError.
    """
    return Walk(folder, key, progress, noted).all()


@dataclass(slots=True)
class Tip:
    """Where the chain goes on."""

    mac: str
    seq: int
    number: int  # of the last file; 0: there is none
    octets: int  # of that file
    torn: int  # octets behind the last good line, over all files that hold any
    whole: bool = False  # the last file ends with that line: it can go on there


def find_tip(folder: str, key: bytes) -> Tip:
    """The last line that is good; of many files only the last ones are read. Raises OSError."""
    numbers = file_numbers(folder)
    torn = 0
    for number in reversed(numbers):
        walk = Walk(folder, key)
        walk.file(number, oldest=0)
        size = os.stat(f"{folder}/{file_name(number)}").st_size
        verdict = walk.verdict
        if verdict.tip != START:
            torn += walk.torn
            return Tip(verdict.tip, verdict.seq, numbers[-1], size, torn, number == numbers[-1] and not torn)
        torn += size
    return Tip(START, 1, numbers[-1] if numbers else 0, 0, torn)


def entries(folder: str, since: float = 0.0) -> Iterator[Entry | None]:
    """All entries of that Unix time or later, in their order; None for a line that is none. MACs are not looked at.

    A file that ends before is not read, as the head of the next one tells. Raises OSError.
    """
    numbers = file_numbers(folder)
    for number, following in zip(numbers, [*numbers[1:], None], strict=False):
        if following is not None and _begun(folder, following) < since:
            continue
        for line in _lines(folder, number):
            found = parse(line)
            if found is None or (isinstance(found, Entry) and found.time >= since):
                yield found if isinstance(found, Entry) else None


def last_logins(folder: str, since: float) -> dict[tuple[str, str], float]:
    """The Unix times of the last good logins by account and address, the latest last, as far as RECENT_FILES go back.
    MACs are not looked at. Raises OSError."""
    found: dict[tuple[str, str], float] = {}
    for number in file_numbers(folder)[-RECENT_FILES:]:
        for line in _lines(folder, number):
            entry = None if _REASON in line else parse(line)
            if isinstance(entry, Entry) and entry.account and not entry.reason and entry.time >= since:
                found.pop((entry.account, entry.address), None)
                found[entry.account, entry.address] = entry.time
    return found


def _lines(folder: str, number: int) -> Iterator[bytes]:
    try:
        file = open(f"{folder}/{file_name(number)}", "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:  # its time has come meanwhile
        return
    with file:
        while line := file.readline(LINE_LIMIT):
            yield line


def _begun(folder: str, number: int) -> float:
    """When a file began, by its head; the end of time where it has none, so that nothing is passed over."""
    try:
        with open(f"{folder}/{file_name(number)}", "rb") as file:
            head = parse(file.readline(LINE_LIMIT))
    except FileNotFoundError:
        return float("inf")
    return head.time if isinstance(head, Head) else float("inf")
