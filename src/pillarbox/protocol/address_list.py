"""Address lists in header fields (RFC 5322 section 3.4, old forms of section 4.4 too): whom To, Cc and Bcc name.

Strict about what an address is, and lenient about what surrounds it: a `;` separates as well as a `,`, empty places in
a list are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from .address import BadAddress, forward_path

SHOWN = 60  # characters of what is wrong

_TOKEN = re.compile(
    rb"""
      (?P<blank> [ \t\r\n]+ )
    | (?P<word>  [^ \t\r\n<>,;:@."()\[\]\\]+ | "[^"\\]*(?:\\.[^"\\]*)*" | \[[^\[\]\\]*\] )
    | (?P<sign>  [<>,;:@.(] )
    """,
    re.VERBOSE | re.DOTALL,
)
_PARENTHESIS = re.compile(rb"\\.|[()]", re.DOTALL)

Token = tuple[bytes, int, int]  # octets, where they begin, where they end


@dataclass(slots=True)
class _Place:
    """One place of a list, as far as it has been read."""

    words: list[Token] = field(default_factory=list)
    angle: list[Token] | None = None  # what stands between < and >
    inside: bool = False  # that > has not come yet


def addresses(value: bytes, domain: bytes) -> list[bytes]:
    """All addresses that a field's value names, as protocol.address has them; one without a domain gets this one.

    Raises BadAddress, which shows the bad one.
    """
    return [_checked(tokens, domain) for tokens in _mentions(value)]


def qualified(value: bytes, domain: bytes) -> bytes:
    """The value with `@domain` behind each address that names none; unchanged where it is no address list."""
    try:
        ends = [tokens[-1][2] for tokens in _mentions(value) if not _has_domain(tokens)]
    except BadAddress:
        return value
    for end in reversed(ends):
        value = value[:end] + b"@" + domain + value[end:]
    return value


def one_address(text: bytes, domain: bytes) -> bytes:
    """The only address of a text, such as an argument. Raises BadAddress."""
    found = addresses(text, domain)
    if len(found) != 1:
        raise BadAddress(f"{_shown(text)} is no address")
    return found[0]


def _checked(tokens: list[Token], domain: bytes) -> bytes:
    text = b"".join(octets for octets, _, _ in tokens)
    path = text if _has_domain(tokens) else text + b"@" + domain
    try:
        address, rest = forward_path(b"<" + path + b">")
    except BadAddress as error:
        raise BadAddress(f"{_shown(text)}: {error}") from None
    if rest:
        raise BadAddress(f"{_shown(text)} is no address")
    return address


def _has_domain(tokens: list[Token]) -> bool:
    return any(octets == b"@" for octets, _, _ in tokens)


def _mentions(value: bytes) -> Iterator[list[Token]]:
    """The tokens of each address."""
    place, group = _Place(), False
    for token in _tokens(value):
        octets = token[0]
        if place.inside:
            _read_angle(place, token)
        elif octets in (b",", b";"):
            yield from _address(place)
            place, group = _Place(), group and octets == b","
        elif octets == b":":
            if group or place.angle is not None or not place.words:
                raise BadAddress("a colon stands in an address list where no group begins")
            place, group = _Place(), True
        elif octets == b"<":
            if place.angle is not None:
                raise BadAddress("a comma is missing between two addresses")
            place.angle, place.inside = [], True
        elif octets == b">":
            raise BadAddress("a > stands in an address list without its <")
        else:
            place.words.append(token)
    if place.inside:
        raise BadAddress("a < in an address list has no >")
    yield from _address(place)


def _read_angle(place: _Place, token: Token) -> None:
    assert place.angle is not None
    if token[0] == b"<":
        raise BadAddress("a < in an address list has no >")
    if token[0] == b">":
        place.inside = False
    else:
        place.angle.append(token)


def _address(place: _Place) -> Iterator[list[Token]]:
    if place.angle is None and not place.words:
        return
    tokens = place.words if place.angle is None else place.angle
    if not tokens:
        raise BadAddress("an address list names nobody between < and >")
    for before, after in pairwise(tokens):
        if not {before[0], after[0]} & {b".", b"@", b",", b":"}:
            raise BadAddress(f"{_shown(before[0] + b' ' + after[0])} is no address: a comma is missing, or a < and a >")
    yield tokens


def _tokens(value: bytes) -> Iterator[Token]:
    """Words and signs; blanks and comments are left out."""
    at = 0
    while at < len(value):
        match = _TOKEN.match(value, at)
        if match is None:
            raise BadAddress(f"this is no address list from here on: {_shown(value[at:])}")
        if match[0] == b"(":
            at = _behind_comment(value, at)
            continue
        at = match.end()
        if match.lastgroup != "blank":
            yield match[0], match.start(), at


def _behind_comment(value: bytes, start: int) -> int:
    depth = 0
    for match in _PARENTHESIS.finditer(value, start):
        depth += {b"(": 1, b")": -1}.get(match[0], 0)
        if not depth:
            return match.end()
    raise BadAddress(f"a ( in an address list has no ): {_shown(value[start:])}")


def _shown(octets: bytes) -> str:
    """For an error: printable, short, in quotes."""
    text = octets.decode("utf-8", "backslashreplace")
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return '"' + (plain if len(plain) <= SHOWN else plain[:SHOWN] + "...") + '"'
