"""The Maildir as a POP3 maildrop: listed once, opened by number, and emptied durably."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from ..listing import Listing
from . import files, maildir_index
from . import maildir_names as names
from .maildir_scan import NOTHING, READ_FLAGS, Facts, Scan, Stamp, directories, moves, scan, stamp

CACHE_OCTETS = 64 << 20  # of listings and file names kept, all maildrops together
REMEMBERED_LIMIT = 1000  # messages delivered by us whose facts wait for the next scan, for each maildrop
REMEMBERED_OCTETS = 300  # that one of them takes in memory
USAGE_SECONDS = 10.0  # in which other programs' changes may stay unseen by a quota; else each message costs a scan
TMP_SECONDS = 36 * 3600  # a file in tmp that is older was left by a delivery that died (maildir(5))
CLEAN_SECONDS = 3600.0  # between two looks at tmp
FOLLOW_LIMIT = 3  # a message that is renamed again and again while we would remove it


class Drop:
    """One session's view of a maildrop; implements contract.Maildrop. Numbers are those of its listing."""

    __slots__ = ("_followed", "_path", "removed", "scan")

    def __init__(self, path: bytes, seen: Scan) -> None:
        self._path = path
        self._followed: tuple[Stamp, Mapping[bytes, bytes]] | None = None
        self.scan = seen
        self.removed = False  # something, so that what is known of the octets used is not true any more

    def listing(self) -> Listing:
        """Taken once, at login."""
        return self.scan.listing

    def open(self, number: int) -> int:
        """A readable descriptor. Raises FileNotFoundError when it is gone; a renamed message is found again."""
        file = self.scan.files[number]
        try:
            return self._open(file)
        except FileNotFoundError:
            if moved := self._follow().get(file):
                return self._open(moved)
            raise

    def _open(self, file: bytes) -> int:
        descriptor = os.open(self._path + b"/" + file, READ_FLAGS)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise FileNotFoundError("a message's place is taken by something else")

    def _follow(self) -> Mapping[bytes, bytes]:
        """Where other programs have moved messages since the listing: new to cur, or other flags. Raises OSError."""
        if self._followed is None or self._followed[0] != stamp(self._path):
            seen, safe, found = directories(self._path)
            old, now = set(self.scan.files.all()), set(found)
            moved = {was: file for file, was in moves(old - now, now - old).items()}
            if not safe:
                return moved
            self._followed = seen, moved
        return self._followed[1]

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove messages, durably; how many could not be removed. One that is gone already is no failure."""
        failed = 0
        touched: set[bytes] = set()
        pending = [(number, self.scan.files[number]) for number in numbers]
        self.removed = True
        try:
            for _ in range(FOLLOW_LIMIT):
                missing, broken = self._unlink(pending)
                failed += broken
                touched.update(file[:3] for _, file in pending)
                moved = self._follow() if missing else {}
                places = [(number, moved.get(self.scan.files[number])) for number in missing]
                pending = [(number, file) for number, file in places if file]
            for folder in sorted(touched):
                files.sync_directory(self._path + b"/" + folder)
        except FileNotFoundError:
            return failed  # the whole Maildir has been removed
        except OSError:
            return len(numbers)
        return failed + len(pending)

    def _unlink(self, pending: Sequence[tuple[int, bytes]]) -> tuple[list[int], int]:
        """Those that are not where they were, and how many could not be removed."""
        missing, failed = [], 0
        for number, file in pending:
            try:
                files.unlink(self._path + b"/" + file)
            except FileNotFoundError:
                missing.append(number)
            except OSError:
                failed += 1
        return missing, failed

    @property
    def weight(self) -> int:
        """About how many octets it holds."""
        return len(self.scan.listing.blob) + len(self.scan.files.text) + 4 * self.scan.listing.count


class _Kept:
    """What is kept of one maildrop."""

    __slots__ = ("cleaned", "delivered", "drop", "lock", "looked", "used", "weight")

    def __init__(self) -> None:
        self.lock = threading.Lock()  # one thread looks at it at a time
        self.drop: Drop | None = None
        self.delivered: dict[bytes, Facts] = {}
        self.used = 0  # octets, when last looked and with what we delivered since
        self.looked = 0.0
        self.cleaned = 0.0
        self.weight = 0

    def weigh(self) -> int:
        """By how much it has become heavier; an empty one takes about 1,000 octets."""
        drop = self.drop.weight if self.drop is not None else 0
        weight = 1000 + drop + REMEMBERED_OCTETS * len(self.delivered)
        gained, self.weight = weight - self.weight, weight
        return gained


class Maildrops:
    """Maildrops that were opened, by path, so that an unchanged one need not be looked at again. Thread-safe."""

    def __init__(self, capacity: int = CACHE_OCTETS) -> None:
        """`capacity`: octets held."""
        self._capacity = capacity
        self._held = 0
        self._all: OrderedDict[bytes, _Kept] = OrderedDict()  # the one used last comes last
        self._lock = threading.Lock()  # over everything but the disk

    def unchanged(self, path: str) -> Drop | None:
        """The maildrop as it was last seen, if it is still so: two looks at directories, no listing."""
        kept = self._all.get(os.fsencode(path))
        return self._unchanged(os.fsencode(path), kept) if kept is not None else None

    def _unchanged(self, key: bytes, kept: _Kept) -> Drop | None:
        drop = kept.drop
        try:
            if drop is None or not drop.scan.safe or stamp(key) != drop.scan.stamp:
                return None
        except OSError:
            return None
        with self._lock:
            if key in self._all:
                self._all.move_to_end(key)
        return drop

    def load(self, path: str) -> Drop:
        """The maildrop as it is now; waits for the disk. A Maildir that is not there is empty. Raises TryLater."""
        key = os.fsencode(path)
        kept = self._keep(key)
        with kept.lock:
            if drop := self._unchanged(key, kept):
                return drop
            try:
                drop = self._load(key, kept)
            except OSError as error:
                raise files.trouble(error, f"the Maildir {path} can't be read") from None
            self._clean(key, kept)
        self._keep(key)
        return drop

    def _load(self, key: bytes, kept: _Kept) -> Drop:
        cached = kept.drop.scan if kept.drop is not None else None
        before = cached or maildir_index.read(key) or NOTHING
        with self._lock:
            delivered = dict(kept.delivered)
        if cached is None and before.safe and before.stamp == stamp(key):
            seen = before
        else:
            seen = scan(key, before, delivered)
            if seen.safe or cached is None:
                maildir_index.write(key, seen)
        drop = Drop(key, seen)
        with self._lock:
            kept.drop, kept.used, kept.looked = drop, seen.listing.octets, time.monotonic()
            for name in delivered:
                kept.delivered.pop(name, None)
        return drop

    def _keep(self, key: bytes) -> _Kept:
        """The entry of this maildrop, weighed again; those not used for longest are forgotten."""
        with self._lock:
            kept = self._all.get(key) or _Kept()
            self._all[key] = kept
            self._all.move_to_end(key)
            self._held += kept.weigh()
            while self._held > self._capacity and len(self._all) > 1:
                self._held -= self._all.popitem(last=False)[1].weight
        return kept

    def remember(self, path: str, name: str, octets: int, form: int) -> None:
        """We have just delivered this message, so the next scan need not read it."""
        key = os.fsencode(path)
        kept = self._keep(key)
        with self._lock:
            kept.used += octets
            if len(kept.delivered) < REMEMBERED_LIMIT:
                kept.delivered[names.base(os.fsencode(name))] = Facts(octets, form, int(time.time()))

    def usage(self, path: str) -> int:
        """Octets on the wire of all messages, which is a little more than on disk. Raises TryLater.

        As it was at most USAGE_SECONDS ago, and what we have delivered since.
        """
        kept = self._keep(os.fsencode(path))
        drop = kept.drop
        known = drop is not None and not drop.removed and time.monotonic() - kept.looked < USAGE_SECONDS
        if known or kept.lock.locked():  # being counted: nobody's thread shall wait for that
            return kept.used
        if self.unchanged(path) is None:
            return self.load(path).listing().octets
        kept.looked = time.monotonic()
        return kept.used

    def _clean(self, key: bytes, kept: _Kept) -> None:
        """Remove what dead deliveries have left in tmp."""
        now = time.time()
        if abs(now - kept.cleaned) < CLEAN_SECONDS:
            return
        kept.cleaned = now
        try:
            with os.scandir(key + b"/tmp") as entries:
                old = [entry.path for entry in entries if _is_old(entry, now)]
        except OSError:
            return
        for path in old:
            try:
                files.unlink(path)
            except OSError:
                continue


def _is_old(entry: os.DirEntry[bytes], now: float) -> bool:
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return max(state.st_mtime, state.st_atime) < now - TMP_SECONDS
