"""The init scripts as an admin runs them, on a machine whose /etc/default is the test's: a mount namespace each call."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from pillarbox import cli

SECONDS = 90
# What runs in it sees this folder in the place of /etc/default; what it starts keeps seeing it.
_ENTER = 'mount --bind "$1" /etc/default && shift && exec "$@"'


@dataclass(frozen=True)
class Machine:
    """`folder` holds what was installed, below etc and usr."""

    folder: Path

    @classmethod
    def installed(cls, folder: Path, *ways: str) -> Machine:
        assert cli.run(["service", "install", "--init", *ways, "--root", str(folder)]) == 0
        (folder / "etc/default").mkdir(exist_ok=True)
        return cls(folder)

    @property
    def names(self) -> Path:
        """The classic programs, and the stand-ins for some of them."""
        return self.folder / "names"

    @property
    def run(self) -> Path:
        """State of the chains."""
        return self.folder / "run"

    def settings(self, name: str, **values: object) -> None:
        lines = [f"{key}='{value}'\n" for key, value in values.items()]
        (self.folder / "etc/default" / name).write_text("".join(lines))

    def call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """A command on that machine, its output in `stdout`; a service that holds on to it would never let this return."""
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh"]
        return subprocess.run(
            [*enter, self.folder / "etc/default", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def service(self, name: str, action: str) -> subprocess.CompletedProcess[str]:
        return self.call(self.folder / "etc/init.d" / name, action)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def greeting(port: int) -> bytes:
    """The first line that a server on loopback says; nothing where none answers."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.makefile("rb").readline()
    return b""


def pids_with(text: str) -> list[int]:
    """Processes that have this in their environment or in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (path / "environ").read_bytes() + b"\0" + (path / "cmdline").read_bytes()
            if text.encode() in said and int(path.name) != os.getpid():
                found.append(int(path.name))
    return found


def end(pids: list[int]) -> None:
    """Of what a failed test left behind; only processes that it named."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def within(seconds: float, told: str, done: object) -> None:
    """Wait until `done()` is true; a generous bound on what is expected to come at once."""
    until = time.monotonic() + seconds
    assert callable(done)
    while not done():
        assert time.monotonic() < until, told
        time.sleep(0.02)
