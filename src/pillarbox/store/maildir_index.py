"""The index file beside new and cur: what the last scan found, so that an unchanged Maildir need not be listed.

It may be deleted at any time, and is believed only where both directories are as they were, and a checksum holds.

    "PBI2", crc32 of the rest, is the scan safe, inode, mtime and ctime of new and of cur, length of the four parts:
    the listing's blob; the files (Files.text); where each begins (u32); mtimes of those not named by a time (i64)
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array

from ..listing import Listing
from . import files
from . import maildir_names as names
from .maildir_scan import READ_FLAGS, Files, Scan, Stamp

NAME = b"pillarbox.index"
INDEX_LIMIT = 512 << 20  # octets: a million messages with long names
WORTH_MESSAGES = 20  # fewer small ones are read again as fast as an index is
WORTH_OCTETS = 1 << 20

_MAGIC = b"PBI2"
_SUM = struct.Struct("=4sI")
_HEAD = struct.Struct("=?QqqQqqQQQQ")
_START = _SUM.size + _HEAD.size


def write(path: bytes, scan: Scan) -> None:
    """Keep a scan. It can be made again: a failure changes nothing, and there is no fsync."""
    if scan.listing.count < WORTH_MESSAGES and scan.listing.octets < WORTH_OCTETS:
        return
    parts = (scan.listing.blob, scan.files.text, array("I", scan.files.starts), _mtimes(scan))
    views = [memoryview(part).cast("B") for part in parts]
    head = _HEAD.pack(scan.safe, *scan.stamp.new, *scan.stamp.cur, *map(len, views))
    checksum = zlib.crc32(head)
    for view in views:
        checksum = zlib.crc32(view, checksum)
    # In tmp, where a torn one is cleaned away like any other.
    temporary = path + b"/tmp/pillarbox.index." + os.urandom(8).hex().encode()
    try:
        descriptor = files.create(temporary)
    except OSError:
        return
    try:
        with open(descriptor, "wb") as file:
            file.writelines((_SUM.pack(_MAGIC, checksum), head, *views))
        files.rename(temporary, path + b"/" + NAME)
    except OSError:
        _forget(temporary)


def _forget(temporary: bytes) -> None:
    try:
        files.unlink(temporary)
    except OSError:
        return


def _mtimes(scan: Scan) -> array[int]:
    """In the listing's order, so that they find their files again."""
    return array("q", [scan.mtimes[file] for file in scan.files.all() if file in scan.mtimes] if scan.mtimes else [])


def read(path: bytes) -> Scan | None:
    """What was kept, or None. The caller compares its stamp with the directories, if it is safe at all."""
    try:
        descriptor = os.open(path + b"/" + NAME, READ_FLAGS)
        with open(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size  # of what is no file: nothing
            if not _START <= size <= INDEX_LIMIT:
                return None
            data = file.read(size)
    except OSError:
        return None
    try:
        return _parse(memoryview(data))
    except (ValueError, struct.error):
        return None


def _parse(data: memoryview) -> Scan:
    magic, checksum = _SUM.unpack_from(data)
    safe, *numbers = _HEAD.unpack_from(data, _SUM.size)
    lengths = numbers[6:]
    if magic != _MAGIC or _START + sum(lengths) != len(data) or zlib.crc32(data[_SUM.size :]) != checksum:
        raise ValueError("this is no index, or a torn one")
    parts, start = [], _START
    for length in lengths:
        parts.append(data[start : start + length])
        start += length
    listing, found = Listing(parts[0]), Files(parts[1], parts[2].cast("I"))
    if len(found.starts) != listing.count + 1 or found.starts[listing.count] != len(found.text):
        raise ValueError("an index that does not agree with itself")
    stamp = Stamp(tuple(numbers[:3]), tuple(numbers[3:6]))
    return Scan(stamp, safe, listing, found, _by_file(found, parts[3].cast("q").tolist()))


def _by_file(found: Files, mtimes: list[int]) -> dict[bytes, int]:
    if not mtimes:
        return {}
    plain = [file for file in found.all() if not names.is_timed(file)]
    return dict(zip(plain, mtimes, strict=True))
