"""The Maildir as a POP3 maildrop: listed once, opened by number, and emptied durably."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from ..listing import Listing
from . import files, maildir_index
from . import maildir_names as names
from .maildir_scan import Facts, Scan, scan, stamp

CACHE_OCTETS = 64 << 20  # of listings and file names kept, all maildrops together
REMEMBERED_LIMIT = 10_000  # messages delivered by us whose facts wait for the next scan, for each maildrop
TMP_SECONDS = 36 * 3600  # a file in tmp that is older was left by a delivery that died (maildir(5))
CLEAN_SECONDS = 3600.0  # between two looks at tmp


class Drop:
    """One session's view of a maildrop; implements contract.Maildrop. Numbers are those of its listing."""

    __slots__ = ("_moved", "_path", "_scan")

    def __init__(self, path: bytes, seen: Scan) -> None:
        self._path = path
        self._scan = seen
        self._moved: dict[bytes, bytes] | None = None

    def listing(self) -> Listing:
        """Taken once, at login."""
        return self._scan.listing

    def open(self, number: int) -> int:
        """A readable descriptor. Raises FileNotFoundError when it is gone; a renamed message is found again."""
        try:
            return self._open(self._scan.files[number - 1])
        except FileNotFoundError:
            return self._open(self._find_again(number))

    def _open(self, file: bytes) -> int:
        return os.open(self._path + b"/" + file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def _find_again(self, number: int) -> bytes:
        """Where another program has moved the message: new to cur, or other flags. Raises FileNotFoundError."""
        plain = names.base(self._scan.files[number - 1][4:])
        if self._moved is None or not os.path.lexists(self._path + b"/" + self._moved.get(plain, b"")):
            self._moved = {}
            for folder in (b"new/", b"cur/"):
                for name in os.listdir(self._path + b"/" + folder):
                    self._moved[names.base(name)] = folder + name
        if plain not in self._moved:
            raise FileNotFoundError(f"message {number} is gone")
        return self._moved[plain]

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove messages, durably; how many could not be removed. One that is gone already is no failure."""
        failed, touched = 0, set()
        for number in numbers:
            try:
                touched.add(self._unlink(number))
            except FileNotFoundError:
                continue
            except OSError:
                failed += 1
        try:
            for folder in sorted(touched):
                files.sync_directory(os.fsdecode(self._path + b"/" + folder))
        except OSError:
            return len(numbers)
        return failed

    def _unlink(self, number: int) -> bytes:
        file = self._scan.files[number - 1]
        try:
            files.unlink(os.fsdecode(self._path + b"/" + file))
        except FileNotFoundError:
            file = self._find_again(number)
            files.unlink(os.fsdecode(self._path + b"/" + file))
        return file[:3]

    @property
    def weight(self) -> int:
        """About how many octets it holds."""
        return 1000 + len(self._scan.listing.blob) + 100 * len(self._scan.files)

    @property
    def scan(self) -> Scan:
        return self._scan


class Maildrops:
    """Maildrops that were opened, by path, so that an unchanged one need not be looked at again. Thread-safe."""

    def __init__(self, capacity: int = CACHE_OCTETS) -> None:
        """`capacity`: octets held."""
        self._capacity = capacity
        self._held = 0
        self._drops: OrderedDict[bytes, Drop] = OrderedDict()
        self._delivered: dict[bytes, dict[bytes, Facts]] = {}
        self._cleaned: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def unchanged(self, path: str) -> Drop | None:
        """The maildrop as it was last seen, if it is still so: two looks at directories, no listing."""
        key = os.fsencode(path)
        drop = self._drops.get(key)
        if drop is None or not drop.scan.safe or stamp(key) != drop.scan.stamp:
            return None
        with self._lock:
            if key in self._drops:
                self._drops.move_to_end(key)
        return drop

    def load(self, path: str) -> Drop:
        """The maildrop as it is now; waits for the disk. A Maildir that is not there is empty. Raises TryLater."""
        key = os.fsencode(path)
        try:
            self._clean(key)
            drop = self._indexed(key) or self._scanned(key)
        except OSError as error:
            raise files.trouble(error, f"the Maildir {path} can't be read") from None
        self._keep(key, drop)
        return drop

    def _indexed(self, key: bytes) -> Drop | None:
        if key in self._drops:
            return None  # what we hold is no older than the index
        seen = maildir_index.read(key)
        if seen is None or seen.stamp != stamp(key):
            return None
        return Drop(key, seen)

    def _scanned(self, key: bytes) -> Drop:
        drop = self._drops.get(key)
        before = drop.scan if drop is not None else maildir_index.read(key)
        known = before.facts() if before is not None else {}
        with self._lock:
            known.update(self._delivered.pop(key, {}))
        seen = scan(key, known)
        maildir_index.write(key, seen)
        return Drop(key, seen)

    def _keep(self, key: bytes, drop: Drop) -> None:
        with self._lock:
            old = self._drops.pop(key, None)
            self._held += drop.weight - (old.weight if old is not None else 0)
            self._drops[key] = drop
            while self._held > self._capacity and len(self._drops) > 1:
                _, oldest = self._drops.popitem(last=False)
                self._held -= oldest.weight

    def remember(self, path: str, name: str, octets: int, form: int) -> None:
        """We have just delivered this message, so the next scan need not read it."""
        with self._lock:
            facts = self._delivered.setdefault(os.fsencode(path), {})
            if len(facts) < REMEMBERED_LIMIT:
                facts[names.base(name.encode())] = Facts(octets, form, int(time.time()))

    def usage(self, path: str) -> int:
        """Octets on the wire of all messages, which is a little more than on disk. Raises TryLater."""
        return (self.unchanged(path) or self.load(path)).listing().octets

    def _clean(self, key: bytes) -> None:
        """Remove what dead deliveries have left in tmp."""
        now = time.time()
        if now - self._cleaned.get(key, 0.0) < CLEAN_SECONDS:
            return
        self._cleaned[key] = now
        try:
            entries = list(os.scandir(key + b"/tmp"))
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                if (
                    entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_mtime < now - TMP_SECONDS
                ):
                    os.unlink(entry.path)
            except OSError:
                continue
