"""File names in a Maildir: what they say of a message, and its unique id (cr.yp.to/proto/maildir.html, Maildir++)."""

from __future__ import annotations

import hashlib
import os
import re
import socket

UIDL_LIMIT = 70  # octets, RFC 1939 section 7; all in 0x21 to 0x7E
HOST_LIMIT = 24  # octets of our host name in a message's name, so that the whole stays a unique id

_UIDL = re.compile(rb"[!-~]{1,70}")
_SECONDS = re.compile(rb"[0-9]{1,15}")
_SIZE = re.compile(rb",S=([0-9]{1,12})(?=[,:]|$)")
_WIRE = re.compile(rb",W=([0-9]{1,12})(?=[,:]|$)")


def base(name: bytes) -> bytes:
    """The name without its flags: what stays when another program marks or moves the message."""
    return name.partition(b":")[0]


def uidl(name: bytes) -> bytes:
    """The unique id: what qmail-pop3d shows, or a digest of it where POP3 would not take that."""
    plain = base(name)
    return plain if _UIDL.fullmatch(plain) else digest(plain)


def digest(text: bytes) -> bytes:
    """A unique id for what can't be one itself."""
    return hashlib.sha256(text).hexdigest()[:40].encode("ascii")


def seconds(name: bytes) -> int | None:
    """The integer that the name begins with: when the message came."""
    found = _SECONDS.match(name)
    return int(found[0]) if found else None


def sizes(name: bytes) -> tuple[int | None, int | None]:
    """Stored octets (,S=) and octets on the wire (,W=), as far as the name tells; Dovecot, maildrop and we write them."""
    stored, wire = _SIZE.search(name), _WIRE.search(name)
    return (int(stored[1]) if stored else None), (int(wire[1]) if wire else None)


def unique(now: float) -> str:
    """A name that nobody else makes: seconds, microseconds, process, 64 random bits, host."""
    micro = int(now * 1_000_000)
    return f"{micro // 1_000_000}.M{micro % 1_000_000}P{os.getpid()}R{os.urandom(8).hex()[:10]}.{HOST}"


def with_sizes(name: str, stored: int, wire: int) -> str:
    return f"{name},S={stored},W={wire}"


def _host() -> str:
    plain = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname().partition(".")[0])
    return plain[:HOST_LIMIT] or "localhost"


HOST = _host()
