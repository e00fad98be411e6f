"""File names in a Maildir: what they say of a message, and its unique id (cr.yp.to/proto/maildir.html, Maildir++)."""

from __future__ import annotations

import os
import re
from base64 import b32encode
from collections.abc import Mapping, Sequence

UIDL_LIMIT = 70  # octets, RFC 1939 section 7; all in 0x21 to 0x7E
# A name of ours has 36 octets before its host; with ",S=,W=" and sizes of nine digits each, that leaves
HOST_LIMIT = 10

_UIDL = re.compile(rb"[!-~]{1,70}")
_ODD = re.compile(rb"[^!-~]")
_SECONDS = re.compile(rb"[0-9]+")
_BOTH = re.compile(rb",S=([0-9]{1,12}),W=([0-9]{1,12})(?![^,:])")  # as nearly everybody writes them
_SIZE = re.compile(rb",S=([0-9]{1,12})(?![^,:])")
_WIRE = re.compile(rb",W=([0-9]{1,12})(?![^,:])")
_DIGITS = b"0123456789"
_TIME_DIGITS = 10  # of the seconds that nearly every name begins with, from 2001 to 2286


def base(name: bytes) -> bytes:
    """The name without its flags: what stays when another program marks or moves the message."""
    return name.partition(b":")[0]


def uidl(name: bytes) -> bytes:
    """The unique id: what qmail-pop3d shows, or a digest of it where POP3 would not take that."""
    plain = base(name)
    return plain if _UIDL.fullmatch(plain) else digest(plain)


def uidls(files: Sequence[bytes]) -> list[bytes]:
    """The unique ids of "new/NAME" and "cur/NAME" in a listing's order, no two alike.

    The second file of one base name is named by a digest of its place too.
    """
    ids = [file[4:].partition(b":")[0] for file in files]
    if _ODD.search(b"".join(ids)) or max(map(len, ids), default=1) > UIDL_LIMIT or b"" in ids:
        ids = list(map(uidl, ids))
    if len(set(ids)) == len(ids):
        return ids
    taken: set[bytes] = set()
    for place, file in enumerate(files):
        while ids[place] in taken:
            ids[place] = digest(file)
            file += b"\0"
        taken.add(ids[place])
    return ids


def digest(text: bytes) -> bytes:
    """A unique id for what can't be one itself."""
    import hashlib  # takes 5 ms to load, and hardly any maildrop needs it

    return hashlib.sha256(text).hexdigest()[:40].encode("ascii")


def order(file: bytes, mtime: int) -> bytes:
    """Sort "new/NAME" and "cur/NAME" by this: the integer that the name begins with, else the mtime; then the name."""
    name = file[4:].partition(b":")[0]
    digits = name.partition(b".")[0]  # nearly every name goes on with a dot
    if not digits.isdigit():
        found = _SECONDS.match(name)
        digits = found[0] if found else b"%d" % max(mtime, 0)
    if digits.startswith(b"0"):
        digits = digits.lstrip(b"0")
    return b"%c%b%b\0%b" % (len(digits), digits, name, file)  # a longer integer is a greater one


def in_order(files: Sequence[bytes], mtimes: Mapping[bytes, int]) -> list[bytes]:
    """Sorted by `order`. `mtimes`: of those that need it."""
    names = [file[4:].partition(b":")[0] for file in files]
    if not _sort_as_bytes(names):
        return sorted(files, key=lambda file: order(file, mtimes.get(file, 0)))
    return [files[place] for place in sorted(range(len(names)), key=names.__getitem__)]


def _sort_as_bytes(names: Sequence[bytes]) -> bool:
    """Does each begin with an integer of ten digits, and are no two alike? Most maildrops are so, and sort faster."""
    width, count = _TIME_DIGITS + 1, len(names)
    heads = b"".join([name[:width] for name in names])
    behind = heads[_TIME_DIGITS::width]  # as many as names only if each has an octet behind its digits
    others = [len(text.translate(None, _DIGITS)) for text in (heads, behind)]
    return others == [count, count] and len(set(names)) == count


def is_timed(file: bytes) -> bool:
    """Does the name begin with an integer, so that the mtime plays no part in its order?"""
    return file[4:5].isdigit()


def sizes(name: bytes) -> tuple[int | None, int | None]:
    """Stored octets (,S=) and octets on the wire (,W=), as far as the name tells; Dovecot, maildrop and we write them."""
    if b"=" not in name:
        return None, None
    if both := _BOTH.search(name):
        return int(both[1]), int(both[2])
    stored, wire = _SIZE.search(name), _WIRE.search(name)
    return (int(stored[1]) if stored else None), (int(wire[1]) if wire else None)


def unique(now: float) -> str:
    """A name that nobody else makes: seconds, microseconds, process, 40 random bits, host."""
    second, micro = divmod(int(now * 1_000_000), 1_000_000)
    return f"{second}.M{micro:06}P{os.getpid()}R{b32encode(os.urandom(5)).decode().lower()}.{HOST}"


def with_sizes(name: str, stored: int, wire: int) -> str:
    return f"{name},S={stored},W={wire}"


def _host() -> str:
    plain = re.sub(r"[^A-Za-z0-9-]", "-", os.uname().nodename.partition(".")[0])
    return plain[:HOST_LIMIT] or "localhost"


HOST = _host()
