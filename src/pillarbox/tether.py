"""A server as a child process: it says when it is ready, and ends when whoever started it ends, however that happens."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from .terms import TryLater

OPTION = "--tether"
READY_SECONDS = 40.0  # more than the server itself allows its processes
END_SECONDS = 30.0  # more than the default grace time, and what follows it
STATUS_LIMIT = 1 << 20
_F_SETSIG = 10  # of linux/fcntl.h; Python's fcntl has no name for it


class ServerProcess:
    """`pillarbox serve` on a home. Its log goes to the descriptor `log`.

    It has a session of its own, so that Ctrl-C reaches only whoever started it.
    """

    def __init__(self, folder: str, log: int) -> None:
        self._tether, theirs = socket.socketpair()
        command = [sys.executable, "-m", "pillarbox", "serve", "--home", folder, OPTION, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=log, pass_fds=(theirs.fileno(),), start_new_session=True
            )

    def wait_until_ready(self) -> dict[str, Any]:
        """Its status, once strangers can come in. Raises TryLater when it does not get so far; its log says why."""
        self._tether.settimeout(READY_SECONDS)
        text = b""
        try:
            while not text.endswith(b"\n"):
                data = self._tether.recv(65536)
                if not data or len(text) > STATUS_LIMIT:
                    raise TryLater("the server did not start")
                text += data
        except TimeoutError:
            raise TryLater(f"the server was not ready after {READY_SECONDS:.0f} seconds") from None
        status: dict[str, Any] = json.loads(text)
        return status

    def stop(self) -> None:
        """Ask it to end; say so twice, and it is the same."""
        self._process.terminate()

    def wait(self) -> int:
        """Its exit status. One that does not end is killed; its own processes then end too, as their parent has gone."""
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def end(self) -> int:
        """Stop it, and wait."""
        self.stop()
        status = self.wait()
        self._tether.close()
        return status


def tie(descriptor: int) -> Callable[[dict[str, object]], None]:
    """In the server: be told to stop (SIGTERM) when the other end is closed. What it returns tells that we are ready."""
    tether = socket.socket(fileno=descriptor)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGTERM)

    def ready(status: dict[str, object]) -> None:
        tether.setblocking(True)
        tether.sendall(json.dumps(status).encode() + b"\n")
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
        if _closed(tether):
            os.kill(os.getpid(), signal.SIGTERM)

    return ready


def _closed(tether: socket.socket) -> bool:
    try:
        return tether.recv(1) == b""
    except BlockingIOError:
        return False
