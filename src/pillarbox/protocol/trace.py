"""Header fields that a mail host adds (RFC 5321 section 4.4), as stored lines that end with LF."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

_UNSAFE = re.compile(rb"[^A-Za-z0-9.:_\[\]-]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def received_field(
    *, helo: bytes, peer: str, host: bytes, protocol: bytes, identity: str, now: float, recipient: bytes = b""
) -> bytes:
    """Received. `protocol`: SMTP, ESMTP or UTF8SMTP (RFC 3848, 6531); `recipient` only where it is the only one."""
    address = f"IPv6:{peer}" if ":" in peer else peer
    target = b"\n        for <%b>" % _CONTROL.sub(b"?", recipient) if recipient else b""
    return b"Received: from %b ([%b])\n        by %b with %b id %b%b;\n        %b\n" % (
        _UNSAFE.sub(b"?", helo) or b"unknown",
        address.encode("ascii"),
        host,
        protocol,
        identity.encode("ascii"),
        target,
        format_datetime(datetime.fromtimestamp(int(now), UTC)).encode("ascii"),
    )


def return_path_field(sender: bytes) -> bytes:
    """Return-Path, which final delivery puts at the top."""
    return b"Return-Path: <%b>\n" % _CONTROL.sub(b"?", sender)
