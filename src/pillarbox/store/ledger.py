"""The ledger, written: one line for each attempt to log in, chained, in files of bounded size and number.

A line is written at once, so the death of our process loses none. Nothing waits for the disk: `unsynced` hands out
descriptors, to be fsynced about once a second by somebody who may wait. A power cut can take what came after.
What a crash left of a line stays where it is; the chain goes on in a new file, whose head says how much of it there is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

import msgspec

from . import files
from .ledger_line import Chain, Entry, Head
from .ledger_reading import file_name, file_numbers, find_tip

FILE_OCTETS = 8 << 20  # some 30,000 entries: as much as is read again at a start, in less than a tenth of a second
RETRY_SECONDS = 1.0  # after trouble; a full disk must not cost every login a try
KEY_OCTETS = 32
UNSYNCED_LIMIT = 16  # files that wait for their fsync; more: the disk stands still, and they are closed without


def ledger_key(path: str, *, create: bool) -> bytes:
    """The key of the chain, in a file of its own: it outlives a change of the key that seals secrets. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if not create:
            raise
        files.replace_file(path, os.urandom(KEY_OCTETS))
        return ledger_key(path, create=False)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077 or state.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, "the key of the ledger must be yours alone: chmod 600", path)
        key = os.read(descriptor, KEY_OCTETS + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_OCTETS:
        raise OSError(
            errno.EINVAL, f"the key of the ledger must have {KEY_OCTETS} octets: restore it, or remove it", path
        )
    return key


class Ledger:
    """The one writer of the ledger in that folder, which must exist."""

    def __init__(self, folder: str, key_path: str, files_kept: int) -> None:
        self._folder = folder
        self._key_path = key_path
        self.files_kept = files_kept
        self._chain: Chain | None = None  # None: not open
        self._lock = self._descriptor = -1
        self._unsynced: list[int] = []
        self._rests_until = 0.0  # monotonic
        self._dirty = False
        self.torn = 0  # octets that a crash had left of a line, found at the last opening
        self.lost = 0  # attempts since the last one that was written

    def append(self, entry: Entry) -> None:
        """Write it as the next one; its `seq` and `lost` are filled in. Raises OSError: it is counted as lost.

        Within RETRY_SECONDS of trouble it is counted without a try.
        """
        if time.monotonic() < self._rests_until:
            self.lost += 1
            return
        try:
            self.open()
            if self._octets >= FILE_OCTETS:
                self._begin_file(self._number + 1)
            self._write(msgspec.structs.replace(entry, seq=self._seq, lost=self.lost))
        except OSError:
            self.lost += 1
            self._rests_until = time.monotonic() + RETRY_SECONDS
            self.close()
            raise
        self._seq += 1
        self.lost = 0

    def open(self) -> None:
        """Find where the chain goes on, if that is not known yet. Raises OSError."""
        if self._chain is not None:
            return
        try:
            self._find_end()
        except OSError:
            self.close()
            raise

    def _find_end(self) -> None:
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two writers would break the chain
        key = ledger_key(self._key_path, create=True)
        tip = find_tip(self._folder, key)
        self._chain, self._seq, self._number = Chain(key, tip.mac), tip.seq, tip.number
        self.torn = tip.torn
        if not tip.whole:
            self._begin_file(tip.number + 1, tip.torn)
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor, self._octets = os.open(self._path(tip.number), flags), tip.octets

    def _begin_file(self, number: int, torn: int = 0) -> None:
        """Go on in a new file, and remove those that are too old; they are named in its head before they go."""
        assert self._chain is not None
        oldest = max(number - self.files_kept + 1, min([number, *file_numbers(self._folder)]))
        head = Head(self._seq, round(time.time(), 3), self._chain.mac, oldest, torn)
        descriptor = files.create(self._path(number))
        if self._descriptor >= 0:
            self._unsynced.append(self._descriptor)
        self._descriptor, self._number, self._octets = descriptor, number, 0
        try:
            self._write(head)
        except OSError:
            os.unlink(self._path(number))  # a full disk shall not collect a file at each try
            raise
        self._unsynced.append(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for old in file_numbers(self._folder):
            if old < oldest:
                with contextlib.suppress(OSError):  # tried again with the next file; the login must not suffer
                    os.unlink(self._path(old))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{file_name(number)}"

    def _write(self, content: Entry | Head) -> None:
        assert self._chain is not None
        line = self._chain.next_line(content)
        if os.write(self._descriptor, line) != len(line):  # a full disk; what came of it is torn
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path(self._number))
        self._chain.took(line)
        self._octets += len(line)
        self._dirty = True

    def unsynced(self) -> list[int]:
        """Descriptors of what was written since the last call: the caller fsyncs and closes them, in whatever thread."""
        found, self._unsynced = self._unsynced, []
        if self._dirty and self._descriptor >= 0:
            found.append(os.dup(self._descriptor))
        self._dirty = False
        for surplus in found[UNSYNCED_LIMIT:]:
            os.close(surplus)
        return found[:UNSYNCED_LIMIT]

    def close(self) -> None:
        """Another may write now, and `append` opens it again."""
        for descriptor in (self._lock, self._descriptor, *self._unsynced):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._lock = self._descriptor = -1
        self._unsynced, self._dirty, self._chain = [], False, None
