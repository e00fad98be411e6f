"""Addresses as qmail-smtpd reads them out of MAIL and RCPT, and as qmail-queue is given them: without their quotes.

Where SMTP has a grammar qmail has none: what stands between `<` and `>` is the address.
"""

from __future__ import annotations

import re

LIMIT = 900  # octets; qmail's number
DOUBLE_BOUNCE = b"#@[]"  # the sender of a bounce that bounced: nobody is told of what becomes of it
_VERP = b"-@[]"  # at a sender's end: each recipient gets the message from a sender of its own

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ATOMS = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff.-]+")
_TO_QUOTE = re.compile(rb'(["\\])')


class BadArgument(Exception):
    """There is no address in it that we take; its argument says why, in words of our own."""


def argument_address(argument: bytes, literals: frozenset[bytes] = frozenset(), host: bytes = b"") -> bytes:
    """What stands between `<` and `>`, else behind the colon up to a blank; without source route, quotes and backslashes.

    `literals`: domains such as `[192.0.2.1]` that are `host`. Raises BadArgument for one that is too long, or holds
    control characters.
    """
    before, bracket, rest = argument.partition(b"<")
    if not bracket:
        rest = before.partition(b":")[2].lstrip(b" ")
    if rest.startswith(b"@"):
        rest = rest.partition(b":")[2]
    address = _unquoted(rest, b">" if bracket else b" ")
    if _CONTROL.search(address):
        raise BadArgument("the address has control characters")
    local, at, domain = address.rpartition(b"@")
    if at and domain.lower() in literals:
        address = local + at + host
    if len(address) > LIMIT:
        raise BadArgument(f"the address is longer than {LIMIT} octets")
    return address


def _unquoted(text: bytes, terminator: bytes) -> bytes:
    """Up to the terminator that is neither quoted nor escaped."""
    found = bytearray()
    octets = iter(text)
    quoted = False
    for octet in octets:
        if octet == terminator[0] and not quoted:
            break
        if octet == ord("\\"):
            octet = next(octets, -1)
            if octet < 0:
                break
        elif octet == ord('"'):
            quoted = not quoted
            continue
        found.append(octet)
    return bytes(found)


def smtp_address(address: bytes, domain: bytes) -> bytes:
    """As SMTP writes it: a local part that needs quotes gets them, and a missing domain is `domain`."""
    local, at, host = address.rpartition(b"@")
    if not at:
        local, host = address, domain
    if not _ATOMS.fullmatch(local) or local.startswith(b".") or local.endswith(b".") or b".." in local:
        local = b'"%b"' % _TO_QUOTE.sub(rb"\\\1", local)
    return local + b"@" + host


def smtp_sender(address: bytes, domain: bytes) -> bytes:
    """The same for a sender: the null one stays empty, and that of a double bounce is the null one, too. Raises
    BadArgument for one that each recipient should see otherwise (VERP)."""
    if address in (b"", DOUBLE_BOUNCE):
        return b""
    if address.endswith(_VERP):
        raise BadArgument("a sender for each recipient (VERP) is not offered")
    return smtp_address(address, domain)
