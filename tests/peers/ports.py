"""Ports on loopback: free ones, and ones where nobody is at home."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"


def free_port(*hosts: str) -> int:
    """A port that is free for TCP and UDP on each of these addresses of 127.0.0.0/8."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            port = 0
            for host in hosts or (HOST,):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = stack.enter_context(socket.socket(type=kind))
                    probe.bind((host, port))
                    port = probe.getsockname()[1]
            return port


@contextlib.contextmanager
def refusing(host: str = HOST, port: int = 0) -> Iterator[int]:
    """A port that is held, so that nobody else gets it, and refuses every connection."""
    with socket.socket() as held:
        held.bind((host, port))
        yield held.getsockname()[1]


@contextlib.contextmanager
def unanswering(host: str = HOST, port: int = 0) -> Iterator[int]:
    """A port whose queue of connections is full: a further one is neither accepted nor refused, as by a dead host."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((host, port))
        full.listen(0)
        while True:
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0.2)
            try:
                caller.connect(full.getsockname())
            except TimeoutError:
                break
        yield full.getsockname()[1]
