"""A server's processes: started in a group of their own, and all ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.02


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Unlike pytest's own, one that processes of other uids may pass."""
    with tempfile.TemporaryDirectory(prefix="pillarbox-peer-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@contextlib.contextmanager
def running(
    command: Sequence[str], address: tuple[str, int], log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """It greets on `address` when the block begins. Raises RuntimeError, with the end of its log, if it does not."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **environment},
            start_new_session=True,
        )
    try:
        _wait_for_greeting(process, address, log)
        yield
    finally:
        _end(process)


def _wait_for_greeting(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not _greets(address):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} does not greet; its log:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(LOOK_SECONDS)


def _greets(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1) as connection:
            greeted = connection.recv(1) != b""
            connection.sendall(b"QUIT\r\n")
            return greeted
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """All of the group, whose leader is ours. Raises TimeoutError where some stay."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    until = time.monotonic() + STOP_SECONDS
    while _lives(process.pid):  # others have the listening socket, too
        if time.monotonic() > until:
            raise TimeoutError(f"of {process.args!r} some processes do not end")
        time.sleep(LOOK_SECONDS)


def _lives(group: int) -> bool:
    """Is any process of the group left? A zombie is none: it holds nothing any more, and may be nobody's to reap."""
    return any(_group_and_state(path) == (group, True) for path in Path("/proc").glob("[0-9]*/stat"))


def _group_and_state(path: Path) -> tuple[int, bool]:
    """Of one process (proc(5)): its group, and whether it lives."""
    try:
        state, _, group = path.read_bytes().rpartition(b")")[2].split()[:3]
    except OSError:  # it has just ended
        return 0, False
    return int(group), state not in b"ZX"
