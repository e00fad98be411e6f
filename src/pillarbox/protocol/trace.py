"""Header fields that a mail host adds (RFC 5321 section 4.4), as stored lines that end with LF.

Nothing that a client sent can end a line here: what is no plain word is written as `?`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_NO_NAME = re.compile(rb"[^A-Za-z0-9.:_\[\]-]")  # parentheses, quotes and semicolons mean something in this field
_NO_QMAIL = re.compile(rb"[^A-Za-z0-9.@%+/=:-]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NO_ADDRESS = re.compile(r"[^0-9A-Fa-f.:]")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def received_field(
    *,
    helo: bytes,
    peer: str,
    host: bytes,
    protocol: bytes,
    identity: str,
    now: float,
    recipient: bytes = b"",
    hidden: bool = False,
) -> bytes:
    """Received, folded, from what the client called itself, its address, our name, BeginMessage.protocol, the id in
    our logs, and Unix time.

    `recipient`: only where it is the only one, for who else gets a message is nobody's business; else empty.
    `hidden`: neither what the client called itself nor its address is told. Section 4.4 demands a FROM all the same:
    it names us, who answer for the client.
    """
    origin = host if hidden else b"%b (%b)" % (_NO_NAME.sub(b"?", helo) or b"unknown", address_literal(peer))
    target = b"\n        for <%b>" % _CONTROL.sub(b"?", recipient) if recipient else b""
    return b"Received: from %b\n        by %b with %b id %b%b;\n        %b\n" % (
        origin,
        host,
        protocol,
        _NO_NAME.sub(b"?", identity.encode("ascii", "replace")),
        target,
        date(now),
    )


def qmail_received_field(
    *, host: bytes, helo: bytes | None, info: bytes, address: bytes, local: bytes, now: float
) -> bytes:
    """Received as qmail-smtpd writes it. `host`, `info`, `address`: what is known of the client, info perhaps nothing;
    `helo`: what it calls itself, None where that is nothing else; `local`: our end of the connection."""
    named = b"" if helo is None else b" (HELO %b)" % _NO_QMAIL.sub(b"?", helo)
    who = _NO_QMAIL.sub(b"?", info) + b"@" if info else b""
    client = _NO_QMAIL.sub(b"?", host) + named + b" (" + who + _NO_QMAIL.sub(b"?", address) + b")"
    at = datetime.fromtimestamp(int(now), UTC)
    when = f"{at.day} {_MONTHS[at.month - 1]} {at.year:04d} {at:%H:%M:%S} -0000".encode("ascii")
    return b"Received: from %b\n  by %b with SMTP; %b\n" % (client, _NO_QMAIL.sub(b"?", local), when)


def return_path_field(sender: bytes) -> bytes:
    """Return-Path, which final delivery puts at the top; empty for the null sender."""
    return b"Return-Path: <%b>\n" % _CONTROL.sub(b"?", sender)


def delivered_to_field(recipient: bytes) -> bytes:
    """Delivered-To (qmail): the address that led here."""
    return b"Delivered-To: %b\n" % _CONTROL.sub(b"?", recipient)


def address_literal(peer: str) -> bytes:
    """A client's address as SMTP writes it (RFC 5321 section 4.1.3); the zone of a link-local one is dropped."""
    address = _NO_ADDRESS.sub("?", peer.partition("%")[0])
    return (f"[IPv6:{address}]" if ":" in address else f"[{address}]").encode("ascii")


def date(now: float) -> bytes:
    """Unix time as RFC 5322 section 3.3 writes it, in UTC, in English whatever the locale is."""
    at = datetime.fromtimestamp(int(now), UTC)
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day:02d} {month} {at.year:04d} {at:%H:%M:%S} +0000".encode("ascii")
