"""The identification protocol (RFC 1413): whose connection is it, as the peer's host says."""

from __future__ import annotations

PORT = 113
REPLY_LIMIT = 1000  # octets of a line, section 3
NAME_LIMIT = 257  # octets that are kept of a name, as tcpserver always did
_COLONS = 3  # ports : USERID : system : name
_IGNORED = b" \t\r"


def query(server_port: int, client_port: int) -> bytes:
    """What is asked: the port at the identity server's host, and ours."""
    return b"%d , %d\r\n" % (server_port, client_port)


def name(reply: bytes) -> bytes | None:
    """The name in a reply's first line, without blanks, cut; empty where it tells none, None where it is not whole."""
    line, end, _ = reply.partition(b"\n")
    parts = line.split(b":", _COLONS)
    found = parts[_COLONS].translate(None, _IGNORED) if len(parts) > _COLONS else b""
    if not end and len(found) < NAME_LIMIT:
        return None
    return found[:NAME_LIMIT].partition(b"\0")[0]  # no variable could hold more
