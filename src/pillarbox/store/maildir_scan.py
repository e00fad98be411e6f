"""What lies in a Maildir: its messages in their stable order, each read once at most."""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..listing import MESSAGES_LIMIT, Entry, Listing
from ..wire_form import UNKNOWN, survey
from . import maildir_names as names

CHUNK = 256 << 10
COARSE_TICK = 2_000_000_000  # nanoseconds: a file system that keeps whole (or, FAT, even) seconds
FINE_TICK = 50_000_000  # the kernel's clock for time stamps moves every 1 to 10 ms; a margin on top


class Facts(NamedTuple):
    """What is known of a message, whatever its flags: octets on the wire, form, mtime in seconds."""

    octets: int
    form: int
    mtime: int


class Stamp(NamedTuple):
    """A directory as it was before it was listed: inode and mtime of new and of cur."""

    new: tuple[int, int]
    cur: tuple[int, int]


class Scan(NamedTuple):
    """One reading of a Maildir."""

    stamp: Stamp
    safe: bool  # no change since then can hide within the stamp's tick
    files: tuple[bytes, ...]  # "new/NAME" or "cur/NAME" of each message, in the listing's order
    mtimes: Sequence[int]  # of each message, whole seconds
    listing: Listing

    def facts(self) -> dict[bytes, Facts]:
        """What is known of each message, by base name."""
        size, form = self.listing.size, self.listing.form
        return {
            names.base(file[4:]): Facts(size(number), form(number), mtime)
            for number, (file, mtime) in enumerate(zip(self.files, self.mtimes, strict=True), 1)
        }


NOTHING = Stamp((0, 0), (0, 0))


def stamp(path: bytes) -> Stamp:
    """The directories as they are now; one that does not exist is (0, 0)."""
    return Stamp(_one(path + b"/new"), _one(path + b"/cur"))


def _one(path: bytes) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return state.st_ino, state.st_mtime_ns


def is_safe(seen: Stamp, now: int) -> bool:
    """A stamp taken at `now` (ns): a later change can leave it as it is only within the same tick of the clock."""
    for _, mtime in seen:
        tick = COARSE_TICK if mtime % 1_000_000_000 == 0 else FINE_TICK
        if mtime and now - mtime < tick:
            return False
    return True


def scan(path: bytes, known: Mapping[bytes, Facts]) -> Scan:
    """Read the directories; only messages that are not `known` are looked at. Raises OSError."""
    now = time.time_ns()
    seen = stamp(path)
    found = [
        (folder + name, name)
        for folder in (b"new/", b"cur/")
        for name in _names(path + b"/" + folder)
        if not name.startswith(b".")
    ]
    rows = []
    for file, name in found[:MESSAGES_LIMIT]:
        fact = known.get(names.base(name)) or _look(path + b"/" + file, name)
        if fact is None:
            continue
        when = names.seconds(name)
        rows.append((fact.mtime if when is None else when, name, file, fact))
    rows.sort(key=lambda row: (row[0], names.base(row[1]), row[2]))
    mtimes = array("q", (row[3].mtime for row in rows))
    return Scan(seen, is_safe(seen, now), tuple(row[2] for row in rows), mtimes, Listing.render(list(_entries(rows))))


def _names(folder: bytes) -> list[bytes]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _entries(rows: list[tuple[int, bytes, bytes, Facts]]) -> Iterator[Entry]:
    """Never two equal ids: the second file of one base name is named by a digest of its place too."""
    taken = set()
    for _, name, file, fact in rows:
        uidl = names.uidl(name)
        if uidl in taken:
            uidl = names.digest(file)
        taken.add(uidl)
        yield Entry(uidl, fact.octets, fact.form)


def _look(path: bytes, name: bytes) -> Facts | None:
    """What a message's name says, or else what its content does. None: it is no message, or has just gone."""
    stored, wire = names.sizes(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            return None
        if wire is not None and stored == state.st_size and stored <= wire <= 2 * stored + 2:
            return Facts(wire, UNKNOWN, int(state.st_mtime))
        octets, form = survey(chunks(descriptor))
        return Facts(octets, form, int(state.st_mtime))
    finally:
        os.close(descriptor)


def chunks(descriptor: int) -> Iterator[bytes]:
    """A file's content from its beginning; its position does not move."""
    offset = 0
    while chunk := os.pread(descriptor, CHUNK, offset):
        offset += len(chunk)
        yield chunk
