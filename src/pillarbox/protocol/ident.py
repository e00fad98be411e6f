"""The identification protocol (RFC 1413): whose connection is it, as the peer's host says."""

from __future__ import annotations

PORT = 113
REPLY_LIMIT = 1000  # octets of a line, section 3
_COLONS = 3  # ports : USERID : system : name
_IGNORED = b" \t\r"


def query(server_port: int, client_port: int) -> bytes:
    """What is asked: the port at the identity server's host, and ours."""
    return b"%d , %d\r\n" % (server_port, client_port)


def name(reply: bytes) -> bytes | None:
    """The name in a reply's first line, without blanks; empty where it tells none, None where the line is not whole."""
    line, end, _ = reply.partition(b"\n")
    if not end:
        return None
    parts = line.split(b":", _COLONS)
    return parts[_COLONS].translate(None, _IGNORED) if len(parts) > _COLONS else b""
