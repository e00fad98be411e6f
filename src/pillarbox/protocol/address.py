"""Addresses as SMTP writes them (RFC 5321 section 4.1.2, RFC 6531): strict, bounded, in octets.

An address is `local@domain`, or `postmaster` alone (RFC 5321 section 4.5.1). Beyond ASCII it is valid UTF-8; whether
the client may use that here is the caller's to say: `address.isascii()`.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

# Octets, RFC 5321 section 4.5.3.1; a path with its angle brackets, which leaves a domain less than the 255 it may have;
# a label: RFC 1035 section 2.3.4.
LOCAL_LIMIT, PATH_LIMIT, LABEL_LIMIT = 64, 256, 63

_ATEXT = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]"
_DOT_STRING = rb"%b+(?:\.%b+)*" % (_ATEXT, _ATEXT)
_QUOTED_STRING = rb'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"'
_LABEL = rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff_-]*[A-Za-z0-9\x80-\xff])?"  # real senders have underscores
_NAME = rb"%b(?:\.%b)*" % (_LABEL, _LABEL)
_LITERAL = rb"\[[0-9A-Za-z:.]{2,60}\]"

_ROUTE = re.compile(rb"@%b(?:,@%b)*:" % (_NAME, _NAME))
_MAILBOX = re.compile(rb"(%b|%b)@(%b|%b)>" % (_DOT_STRING, _QUOTED_STRING, _NAME, _LITERAL))
_POSTMASTER = re.compile(rb"<(postmaster)>", re.IGNORECASE)
_ATOMS = re.compile(_DOT_STRING)
_QUOTED_PAIR = re.compile(rb"\\(.)")
_TO_QUOTE = re.compile(rb'(["\\])')
_UNSAFE = re.compile(rb"\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")  # in UTF-8: C1 controls, line and paragraph separator
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")


class BadAddress(Exception):
    """The text is no path, or no list of parameters, that we take; its argument says why, in words of our own."""


def reverse_path(argument: bytes) -> tuple[bytes, bytes]:
    """What stands behind MAIL FROM: -> the sender (the null path `<>`: empty), and the text that follows.

    Raises BadAddress.
    """
    return (b"", argument[2:]) if argument.startswith(b"<>") else _path(argument)


def forward_path(argument: bytes) -> tuple[bytes, bytes]:
    """What stands behind RCPT TO: -> the recipient, and the text that follows. `<postmaster>` needs no domain.

    Raises BadAddress.
    """
    if match := _POSTMASTER.match(argument):
        return match[1], argument[match.end() :]
    return _path(argument)


def split(address: bytes) -> tuple[bytes, bytes]:
    """Local part and domain of an address that one of the above returned; `postmaster` alone has an empty domain."""
    local, at, domain = address.rpartition(b"@")
    return (local, domain) if at else (address, b"")


def fold(address: bytes) -> bytes:
    """The key under which addresses that differ only in the case of ASCII letters are the same."""
    return address.lower()


def parameters(text: bytes) -> dict[bytes, bytes]:
    """ESMTP parameters, as they follow a path: ` KEY=VALUE KEY`. Keys in upper case; without a value: empty.

    Raises BadAddress.
    """
    found: dict[bytes, bytes] = {}
    if text and not text.startswith(b" "):
        raise BadAddress("a space is needed behind the address")
    for word in text.split(b" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in found:
            raise BadAddress("a parameter is malformed or given twice")
        found[match[1].upper()] = match[2] or b""
    return found


def _path(argument: bytes) -> tuple[bytes, bytes]:
    """The mailbox between `<` and `>`, and what follows. A source route is dropped (RFC 5321 appendix C)."""
    if not argument.startswith(b"<"):
        raise BadAddress("an address stands between < and >")
    route = _ROUTE.match(argument, 1)
    match = _MAILBOX.match(argument, route.end() if route else 1)
    if match is None:
        raise BadAddress("that is no mailbox address of the form <local@domain>")
    if match.end() > PATH_LIMIT:
        raise BadAddress(f"the address is longer than {PATH_LIMIT} octets")
    local, domain = match[1], match[2]
    if len(local) > LOCAL_LIMIT:
        raise BadAddress(f"the local part is longer than {LOCAL_LIMIT} octets")
    _check_domain(domain)
    address = (_plain(local) if local.startswith(b'"') else local) + b"@" + domain
    if not address.isascii():
        _check_utf8(address)
    return address, argument[match.end() :]


def _plain(quoted: bytes) -> bytes:
    """A quoted string without its quotes where a dot string says the same, else with no needless backslash."""
    inner = _QUOTED_PAIR.sub(rb"\1", quoted[1:-1])
    return inner if _ATOMS.fullmatch(inner) else b'"%b"' % _TO_QUOTE.sub(rb"\\\1", inner)


def _check_domain(domain: bytes) -> None:
    if domain.startswith(b"["):
        _check_literal(domain[1:-1].decode("ascii"))
    elif domain.isascii() and len(domain) > LABEL_LIMIT and max(map(len, domain.split(b"."))) > LABEL_LIMIT:
        raise BadAddress(f"a label of the domain is longer than {LABEL_LIMIT} octets")


def _check_literal(text: str) -> None:
    """RFC 5321 section 4.1.3; its "general" form names no protocol that exists."""
    try:
        if text[:5].upper() == "IPV6:":
            IPv6Address(text[5:])
        else:
            IPv4Address(text)
    except AddressValueError:
        raise BadAddress("that is no address literal") from None


def _check_utf8(address: bytes) -> None:
    try:
        address.decode("utf-8")
    except UnicodeDecodeError:
        raise BadAddress("the address is not UTF-8") from None
    if _UNSAFE.search(address):
        raise BadAddress("the address has control characters")
