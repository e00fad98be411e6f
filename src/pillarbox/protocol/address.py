"""Addresses as SMTP writes them (RFC 5321 section 4.1.2, RFC 6531): strict, bounded, in octets."""

from __future__ import annotations

import re

LOCAL_LIMIT, DOMAIN_LIMIT, PATH_LIMIT = 64, 255, 256  # octets, RFC 5321 section 4.5.3.1

_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
_ATOMS = re.compile(rb"[%b\x80-\xff]+(?:\.[%b\x80-\xff]+)*" % (_ATEXT, _ATEXT))
_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*)"')
_LABEL = rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff_-]*[A-Za-z0-9\x80-\xff])?"
_DOMAIN = re.compile(rb"%b(?:\.%b)*" % (_LABEL, _LABEL))
_LITERAL = re.compile(rb"\[[A-Za-z0-9:.-]{1,60}\]")
_ROUTE = re.compile(rb"@%b(?:\.%b)*(?:,@%b(?:\.%b)*)*:" % (_LABEL, _LABEL, _LABEL, _LABEL))
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\xff]+))?")


class BadAddress(Exception):
    """The text is no path that we take; its argument says why."""


def parse_path(argument: bytes) -> tuple[bytes, bytes]:
    """The address between `<` and `>` (the null path: empty), and what follows it. A source route is dropped.

    Raises BadAddress. `<postmaster>` without a domain is an address (RFC 5321 section 4.5.1).
    """
    if not argument.startswith(b"<"):
        raise BadAddress("an address stands between < and >")
    end = _path_end(argument)
    path, rest = argument[1:end], argument[end + 1 :]
    if len(path) > PATH_LIMIT:
        raise BadAddress("the address is too long")
    route = _ROUTE.match(path)
    return (check(path[route.end() :] if route else path) if path else b""), rest


def _path_end(argument: bytes) -> int:
    quoted = _QUOTED.match(argument, 1)
    end = argument.find(b">", quoted.end() if quoted else 1)
    if end < 0:
        raise BadAddress("an address stands between < and >")
    return end


def check(address: bytes) -> bytes:
    """The address with a quoted local part unquoted where that changes nothing. Raises BadAddress."""
    if address.lower() == b"postmaster":
        return address
    local, at, domain = address.rpartition(b"@")
    if not at:
        raise BadAddress("the address has no domain")
    if len(domain) > DOMAIN_LIMIT or not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
        raise BadAddress("that is no domain")
    return _checked_local(local) + b"@" + domain


def _checked_local(local: bytes) -> bytes:
    if len(local) > LOCAL_LIMIT:
        raise BadAddress("the local part is too long")
    if _ATOMS.fullmatch(local):
        return local
    quoted = _QUOTED.fullmatch(local)
    if quoted is None:
        raise BadAddress("that is no local part")
    inner = re.sub(rb"\\(.)", rb"\1", quoted[1])
    return inner if _ATOMS.fullmatch(inner) else local


def parameters(text: bytes) -> dict[bytes, bytes]:
    """ESMTP parameters " KEY=VALUE KEY" with keys in upper case (RFC 5321 section 4.1.2). Raises BadAddress."""
    found: dict[bytes, bytes] = {}
    for word in text.split(b" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in found:
            raise BadAddress("a parameter is malformed or given twice")
        found[match[1].upper()] = match[2] or b""
    return found
