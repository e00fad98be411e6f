"""Tells the service manager that the server is ready, in the form of sd_notify(3), where it asks for that."""

from __future__ import annotations

import os
import socket

from . import log

VARIABLE = "NOTIFY_SOCKET"


def ready() -> None:
    """One datagram; a service manager that does not take it has its own time limit, and serving goes on."""
    address = os.environ.pop(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(b"READY=1", os.fsencode(address.replace("@", "\0", 1) if address[0] == "@" else address))
        except OSError as error:
            log.line("warning", what=f"the service manager was not told that we are ready: {error.strerror}")
