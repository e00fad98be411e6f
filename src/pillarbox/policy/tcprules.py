"""tcprules: who may connect, and with which variables in the environment. Pure.

A line `ADDRESS:allow` or `ADDRESS:deny`, then any number of `,NAME="VALUE"` (the quote is any octet), becomes a record of a
constant database: its key is the address, its data items that each end with NUL: `D` (deny), `+NAME=VALUE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address

Records = list[tuple[bytes, bytes]]
Variables = tuple[tuple[bytes, bytes], ...]

DENY = b"D"
_INSTRUCTIONS = ((b"allow", b""), (b"deny", DENY + b"\0"))
_BLANKS = b" \t\n"
_BEGINNING = re.compile(rb"(?:[0-9a-f]{1,4}:|:(?=:)|(?<=:):){1,8}", re.IGNORECASE)  # of an IPv6 address, up to a colon
_MAPPED = b"::ffff:"  # RFC 4291 section 2.5.5.2
_LARGEST = 255  # of a number in an IPv4 address
_NUMBER_MASK = (1 << 64) - 1  # a number is reduced to 64 bits, as the original does
_DIGITS = 64  # the last ones decide: 10**64 is a multiple of 2**64


class Unparsable(ValueError):
    """A line that is none of ours."""


class Verdict:
    """What a rule says of a connection."""

    __slots__ = ("allowed", "key", "variables")

    def __init__(self, allowed: bool = True, variables: Variables = (), key: bytes | None = None):
        self.allowed = allowed
        self.variables = (
            variables  # to be set in the environment, whether allowed or not; of two of a name the last counts
        )
        self.key = key  # of the rule; None: no rule matched


def trimmed(line: bytes) -> bytes:
    """Without the blanks and the line end at its end; a CR is neither."""
    return line.rstrip(_BLANKS)


def records(line: bytes) -> Records:
    """What a line, trimmed, adds to the database: nothing for a comment, an empty line, and one without a colon.

    Raises Unparsable.
    """
    if not line or line.startswith(b"#") or b":" not in line:
        return []
    address, data, rest = _instruction(line)
    data += b"".join(_variables(rest))
    return [(key, data) for key in _expanded(_canonical(address))]


def _instruction(line: bytes) -> tuple[bytes, bytes, bytes]:
    """The address ends at the first colon that `allow` or `deny` follows: an IPv6 address has colons of its own."""
    colon = line.find(b":")
    while colon >= 0:
        for word, data in _INSTRUCTIONS:
            if line.startswith(word, colon + 1):
                return line[:colon], data, line[colon + 1 + len(word) :]
        colon = line.find(b":", colon + 1)
    raise Unparsable


def _variables(rest: bytes) -> Iterator[bytes]:
    while rest:
        name, equals, quoted = rest[1:].partition(b"=")
        if rest[:1] != b"," or not equals or not quoted:
            raise Unparsable
        value, end, rest = quoted[1:].partition(quoted[:1])
        if not end:
            raise Unparsable
        yield b"+" + name + b"=" + value + b"\0"


def _expanded(address: bytes) -> Iterator[bytes]:
    """`1.2.3-5.` is three; only the first range of a line counts, and none in a line with `=` or `@`."""
    before, dash, after = address.partition(b"-")
    if not dash or b"=" in address or b"@" in address:
        yield address
        return
    start, dot, low = before.rpartition(b".")
    high, end, rest = after.partition(b".")
    for number in range(_number(low), min(_number(high), _LARGEST) + 1):
        yield start + dot + b"%d" % number + end + rest


def _number(digits: bytes) -> int:
    if digits.strip(b"0123456789"):
        raise Unparsable
    return int(digits[-_DIGITS:] or b"0") & _NUMBER_MASK


def _canonical(address: bytes) -> bytes:
    """An IPv6 address, or the beginning of one, in the form in which connections have it; others stay as they are.

    Raises Unparsable for anything else with a colon: it would be a rule that never matches.
    """
    who, at, place = address.rpartition(b"@")
    place = _unmapped(place)
    if b":" not in place:
        return who + at + place
    if _BEGINNING.fullmatch(place):
        return who + at + place.lower()
    try:
        if b"%" in place:  # of one link only, which no connection tells
            raise ValueError
        return who + at + str(ip_address(place.decode("ascii"))).encode("ascii")
    except ValueError:
        raise Unparsable from None


def _unmapped(address: bytes) -> bytes:
    """An IPv4 address written as IPv6, or a part of one, is that IPv4 address."""
    mapped = address[: len(_MAPPED)].lower() == _MAPPED and b"." in address
    return address[len(_MAPPED) :] if mapped else address


def keys(address: bytes, host: bytes | None, info: bytes | None) -> Iterator[bytes]:
    """What is looked up for a connection, in this order; the first that is there decides alone.

    `host`: the peer's name, `info`: what its identity server says (RFC 1413); None where unknown.
    """
    address = _unmapped(address)
    if info is not None:
        yield info + b"@" + address
        if host is not None:
            yield info + b"@=" + host
    yield address
    if host is not None:
        yield b"=" + host
    yield from (address[:end] for end in range(len(address) - 1, 0, -1) if address[end - 1] in b".:")
    if host is not None:
        yield from (b"=" + host[start:] for start in range(1, len(host)) if host[start] == ord("."))
        yield b"="
    yield b""


def items(data: bytes) -> list[bytes]:
    """The items of a record; what has no NUL at its end is none."""
    return [item for item in data.split(b"\0")[:-1] if item]


def judge(find: Callable[[bytes], bytes | None], address: bytes, host: bytes | None, info: bytes | None) -> Verdict:
    """The verdict of the database in which `find` looks for a key; without any rule that matches: allowed."""
    for key in keys(address, host, info):
        data = find(key)
        if data is not None:
            return _verdict(key, data)
    return Verdict()


def _verdict(key: bytes, data: bytes) -> Verdict:
    variables: list[tuple[bytes, bytes]] = []
    for item in items(data):
        if item.startswith(DENY):
            return Verdict(False, tuple(variables), key)
        name, equals, value = item[1:].partition(b"=")
        if item.startswith(b"+") and equals:
            variables.append((name, value))
    return Verdict(True, tuple(variables), key)
