"""The index file beside new and cur: what the last scan found, so that an unchanged Maildir need not be listed.

It may be deleted at any time, and is believed only where both directories are as they were, and a checksum holds.

    "PBI1", crc32 of the rest, inode and mtime of new and cur, length of the listing's blob, of the files, of the
    mtimes; then the blob; the files, one a line; the mtimes in whole seconds.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array

from ..listing import Listing
from .maildir_scan import Scan, Stamp

NAME = b"pillarbox.index"
_HEAD = struct.Struct("=4sIQQQQQQQ")
_MAGIC = b"PBI1"
INDEX_LIMIT = 512 << 20  # octets: a million messages with long names
WORTHWHILE = 20  # messages; fewer are listed as fast as an index is read


def write(path: bytes, scan: Scan) -> None:
    """Keep a scan. It can be made again: a failure changes nothing, and there is no fsync."""
    if not scan.safe or scan.listing.count < WORTHWHILE:
        return
    parts = (
        bytes(scan.listing.blob),
        b"\n".join(scan.files),
        array("q", scan.mtimes).tobytes(),
    )
    body = b"".join(parts)
    lengths = struct.pack("=QQQQQQQ", *scan.stamp.new, *scan.stamp.cur, *map(len, parts))
    head = struct.pack("=4sI", _MAGIC, zlib.crc32(body, zlib.crc32(lengths))) + lengths
    temporary = path + b"/" + NAME + b".%d.tmp" % os.getpid()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(head + body)
        os.rename(temporary, path + b"/" + NAME)
    except OSError:
        return


def read(path: bytes) -> Scan | None:
    """What was kept, or None. The caller compares its stamp with the directories."""
    try:
        descriptor = os.open(path + b"/" + NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(INDEX_LIMIT)
    except OSError:
        return None
    try:
        return _parse(data)
    except (ValueError, struct.error):
        return None


def _parse(data: bytes) -> Scan:
    magic, checksum, new_inode, new_time, cur_inode, cur_time, *lengths = _HEAD.unpack_from(data)
    if magic != _MAGIC or _HEAD.size + sum(lengths) != len(data) or zlib.crc32(data[8:]) != checksum:
        raise ValueError("this is no index, or a torn one")
    middle = _HEAD.size + lengths[0]
    end = middle + lengths[1]
    listing = Listing(data[_HEAD.size : middle])
    files = tuple(data[middle:end].split(b"\n")) if lengths[1] else ()
    mtimes = array("q", data[end:])
    if not len(files) == len(mtimes) == listing.count:
        raise ValueError("an index that does not agree with itself")
    return Scan(Stamp((new_inode, new_time), (cur_inode, cur_time)), True, files, mtimes, listing)
