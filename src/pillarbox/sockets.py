"""Binding the addresses that strangers come to: one socket for each network process, so that the kernel shares the load."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from .config import parse_listen
from .terms import Refused, TryLater

BACKLOG = 1024  # connections that wait to be accepted, for each socket


@dataclass(frozen=True, slots=True)
class Bound:
    """One listening address; `sockets` has one for each network process."""

    protocol: str
    wanted: str  # as configured
    address: str  # as bound: the port that the kernel chose for port 0
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def bind(protocol: str, wanted: str, processes: int, path: str) -> Bound:
    """`path`: where the address was configured. Raises TryLater when somebody else has it, Refused when nobody can."""
    host, port = parse_listen(wanted)
    sockets: list[socket.socket] = []
    try:
        if port:
            _probe(host, port)
        for _ in range(processes):
            sock = _socket(host, shared=True)
            sockets.append(sock)
            sock.bind((host, port))
            port = sock.getsockname()[1]
            sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _trouble(
            error, f"can't listen on {wanted} for {protocol}", f"change `listen.{protocol}` in {path}"
        ) from None
    return Bound(protocol, wanted, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tuple(sockets))


def _trouble(error: OSError, what: str, remedy: str) -> Refused | TryLater:
    if error.errno == errno.EADDRINUSE:
        return TryLater(f"{what}: another program has it; {remedy}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(f"{what}: ports below 1024 need root; {remedy}")
    if error.errno == errno.EADDRNOTAVAIL:
        return Refused(f"{what}: this machine has no such address; {remedy}")
    return Refused(f"{what}: {error.strerror}; {remedy}")


def _probe(host: str, port: int) -> None:
    """Sockets that share a port would share it with a stranger of our uid too: a plain one must get it first."""
    with _socket(host, shared=False) as sock:
        sock.bind((host, port))


def _socket(host: str, *, shared: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if ":" in host:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock
