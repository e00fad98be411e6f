"""One line of the ledger: JSON, and at its end a MAC over itself and the MAC of the line before.

    {"kind":"login","seq":7,"time":1795516061.25,"account":"alice@example.test",...,"mac":"32 hex digits"}

Whoever lacks the key can change no line, drop none and exchange none without a break in the chain. The first line of
each file is its head: it says where in the chain the file begins, so that a file can be checked by itself.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

import msgspec
from msgspec import Struct

MAC_DIGITS = 32  # 128 bits of HMAC-SHA256
LINE_LIMIT = 2048  # octets; an account has at most 320, the rest of a line some 400
START = "0" * MAC_DIGITS  # what the first line of all follows

_BEFORE_MAC, _END = b',"mac":"', b'"}\n'
_TAIL = len(_BEFORE_MAC) + MAC_DIGITS + len(_END)


class Entry(Struct, frozen=True, tag="login", tag_field="kind", omit_defaults=True):
    """One attempt to log in. Times are Unix times in seconds. It has no field that a proof could stand in."""

    seq: int  # counts from 1 over all files
    time: float
    account: str = ""  # empty: no account of ours; what was typed is not kept, as it may be a password
    device: str = ""
    address: str = ""
    protocol: str = ""  # "pop3" or "submission"
    mechanism: str = ""
    tls: str = ""  # "TLSv1.3"; empty: in the clear
    exposure: Literal["nothing", "digest", "password"] = "nothing"
    reason: str = ""  # why it was refused or put off; empty: accepted
    lost: int = 0  # so many attempts before this one could not be written


class Head(Struct, frozen=True, tag="file", tag_field="kind", omit_defaults=True):
    """The first line of a file."""

    seq: int  # of the entry that comes next
    time: float
    prev: str  # the MAC that it follows
    oldest: int  # the number of the first file that was kept when this one began
    torn: int = 0  # so many octets before it are no lines: a write was cut off, and a server found that at its start


Line = Entry | Head
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class Chain:
    """The MAC of the last line, and the next lines that follow it."""

    def __init__(self, key: bytes, mac: str = START) -> None:
        self._key = key
        self.mac = mac

    def __repr__(self) -> str:
        return f"Chain(mac={self.mac})"

    def next_line(self, content: Line) -> bytes:
        """The octets of a line; `took` must be told once it is written."""
        body = _encode(content)[:-1]
        return b"".join((body, _BEFORE_MAC, self._mac_of(body), _END))

    def took(self, line: bytes) -> None:
        self.mac = mac_of(line)

    def follows(self, line: bytes) -> bool:
        """Is this whole line, with its end, the next one?"""
        if len(line) < _TAIL or line[-_TAIL : -_TAIL + len(_BEFORE_MAC)] != _BEFORE_MAC or line[-3:] != _END:
            return False
        return hmac.compare_digest(line[-3 - MAC_DIGITS : -3], self._mac_of(line[:-_TAIL]))

    def _mac_of(self, body: bytes) -> bytes:
        digest = hmac.digest(self._key, self.mac.encode("ascii") + body, hashlib.sha256)
        return digest[: MAC_DIGITS // 2].hex().encode("ascii")


def mac_of(line: bytes) -> str:
    """The MAC that a whole line ends with."""
    return line[-3 - MAC_DIGITS : -3].decode("ascii")


def parse(line: bytes) -> Line | None:
    """What a line says, or None where it is none of ours; its MAC is not looked at."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
