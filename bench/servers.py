"""A server in the ring: started by us on loopback, measured, and ended by us."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .measure import Meter, meter

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class Missing(Exception):
    """A peer is not installed, and could not be; the text says what to do."""


class NotStarted(Exception):
    """A server did not greet; the text holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """How to start it, and where. `mail` is the folder with one Maildir per local part; `queues` hold a file, at any depth,
    for each message that is not yet delivered.
    """

    name: str
    version: str
    command: list[str]
    log: Path
    mail: Path
    pop3: int = 0
    smtp: int = 0
    queues: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self) -> Iterator[Meter]:
        """Start it fresh; it greets when the block begins, and it has ended when the block has."""
        with meter(self.name.replace(" ", "-")) as gauge, open(self.log, "ab") as log:
            process = subprocess.Popen(
                gauge.wrapped(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
            gauge.follow(process.pid)
            try:
                self._wait_for_greeting(process)
                yield gauge
            finally:
                _end(process, gauge)

    def _wait_for_greeting(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        for port in filter(None, (self.pop3, self.smtp)):
            while not greets(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise NotStarted(f"{self.name} does not greet on port {port}:\n{self._last_words()}")
                time.sleep(0.02)

    def _last_words(self) -> str:
        return self.log.read_bytes()[-2000:].decode(errors="replace")


def _end(process: subprocess.Popen[bytes], gauge: Meter) -> None:
    """TERM to the parent; what is left of its processes after a while is killed, one by one."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    until = time.monotonic() + STOP_SECONDS / 4
    while (left := gauge.pids()) and left != [process.pid] and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            if pid != process.pid or process.poll() is None:
                os.kill(pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)


def greets(port: int) -> bool:
    """Does a server on loopback say anything within a second?"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_text(*command: str) -> str:
    """The first line of what a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0]
