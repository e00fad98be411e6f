"""Constant databases (cdb): written once and whole, then only read, by any number of readers and without a lock.

A file is a header of 256 places of hash tables, the records, and the tables. Numbers are 32 bits, little endian, so a file
has at most 4 GiB. Standard library only.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator

SIZE_LIMIT = (1 << 32) - 1  # octets of a file: a position has 32 bits
DATA_LIMIT = 1 << 20  # octets of one record's data that are read: more than an environment can hold
WHOLE_LIMIT = 2 << 20  # octets of a file whose records are all wanted: they travel between our processes in one frame
PROBE_LIMIT = 1 << 16  # slots looked at for one key; a writer's tables are half empty, so a handful do
_TABLES = 256
_HEADER = _TABLES * 8
_PAIR = struct.Struct("<II")
_PAIRS_READ = 32  # slots in one read


def hash_of(key: bytes) -> int:
    """The hash of a key, 32 bits."""
    number = 5381
    for octet in key:
        number = (number * 33 & 0xFFFFFFFF) ^ octet
    return number


class Cdb:
    """The file behind a descriptor. All raise OSError: EPROTO for a file that is no cdb or a damaged one."""

    def __init__(self, descriptor: int) -> None:
        """The descriptor stays the caller's."""
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        if not self._size:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as an empty file was always reported
        if not _HEADER <= self._size <= SIZE_LIMIT:
            raise _damaged()

    def get(self, key: bytes) -> bytes | None:
        """The data of the first record with this key; None if there is none."""
        number = hash_of(key)
        table, slots = _PAIR.unpack(self._read(number % _TABLES * 8, 8))
        if not slots:
            return None
        self._within(table, slots * 8)
        slot, left = (number >> 8) % slots, min(slots, PROBE_LIMIT)
        while left:
            count = min(_PAIRS_READ, slots - slot, left)
            for found, position in _PAIR.iter_unpack(self._read(table + slot * 8, count * 8)):
                if not position:
                    return None
                if found == number and (data := self._record(position, key)) is not None:
                    return data
            slot, left = (slot + count) % slots, left - count
        if slots > PROBE_LIMIT:
            raise _damaged()
        return None

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them, as they lie in the file. They end where the first table begins."""
        tables = [place for place, slots in _PAIR.iter_unpack(self._read(0, _HEADER)) if slots]
        position, end = _HEADER, min(tables, default=_HEADER)
        if end < _HEADER:
            raise _damaged()
        while position < end:
            key_size, data_size = _PAIR.unpack(self._read(position, 8))
            self._within(position + 8, key_size + data_size)
            if key_size + data_size > DATA_LIMIT:
                raise _damaged()
            octets = self._read(position + 8, key_size + data_size)
            yield octets[:key_size], octets[key_size:]
            position += 8 + key_size + data_size

    def _record(self, position: int, key: bytes) -> bytes | None:
        key_size, data_size = _PAIR.unpack(self._read(position, 8))
        self._within(position + 8, key_size + data_size)
        if key_size != len(key) or self._read(position + 8, key_size) != key:
            return None
        if data_size > DATA_LIMIT:
            raise _damaged()
        return self._read(position + 8 + key_size, data_size)

    def _within(self, position: int, size: int) -> None:
        if position + size > self._size:
            raise _damaged()

    def _read(self, position: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, position) if size else b""
        if len(data) != size:
            raise _damaged()
        return data


def _damaged() -> OSError:
    return OSError(errno.EPROTO, os.strerror(errno.EPROTO))


def all_records(path: str, limit: int = WHOLE_LIMIT) -> tuple[tuple[bytes, bytes], ...]:
    """Those of a file of at most `limit` octets. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return tuple(Cdb(descriptor).records())
    finally:
        os.close(descriptor)


def content(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole file with these keys and data, in this order. Raises OSError (EFBIG) above 4 GiB."""
    parts, position = [bytes(_HEADER)], _HEADER
    places: list[list[tuple[int, int]]] = [[] for _ in range(_TABLES)]
    for key, data in records:
        number = hash_of(key)
        places[number % _TABLES].append((number, position))
        parts += (_PAIR.pack(len(key), len(data)), key, data)
        position += 8 + len(key) + len(data)
        _bounded(position)
    header = bytearray()
    for entries in places:
        table = _table(entries)
        header += _PAIR.pack(position, len(table) // 8)
        parts.append(table)
        position += len(table)
        _bounded(position)
    parts[0] = bytes(header)
    return b"".join(parts)


def _bounded(position: int) -> None:
    if position > SIZE_LIMIT:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def _table(entries: list[tuple[int, int]]) -> bytes:
    """Twice as many slots as entries; each entry takes the first free one from its own on."""
    slots = [(0, 0)] * (2 * len(entries))
    for number, position in entries:
        slot = (number >> 8) % len(slots)
        while slots[slot][1]:
            slot = (slot + 1) % len(slots)
        slots[slot] = (number, position)
    return b"".join(_PAIR.pack(*slot) for slot in slots)


def finish(descriptor: int, temporary: bytes, path: bytes) -> None:
    """What was written is the file of that path from now on, durably. Closes the descriptor. Raises OSError."""
    from . import files  # here: who only reads starts without it

    try:
        files.fsync(descriptor)
    finally:
        os.close(descriptor)
    files.rename(temporary, path)
    files.sync_directory(os.path.dirname(path) or b".")
