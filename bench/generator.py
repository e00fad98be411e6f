"""The load generator: compiled when it is needed, run, and its line of JSON read."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

SOURCES = Path(__file__).parent / "load"
RUN_SECONDS = 600.0  # no run of ours is meant to last longer


class NoCompiler(Exception):
    """There is no C compiler here."""


@dataclass(frozen=True)
class Load:
    """What the generator counted. `ms`: of each thing that was timed, count, p50, p95, p99 and max."""

    seconds: float
    sessions: int
    messages: int
    octets: int
    bytes: int
    held: int
    errors: int
    first_error: str
    client_cpu: float
    ms: dict[str, dict[str, float]]

    @classmethod
    def from_json(cls, line: str) -> Load:
        fields: dict[str, Any] = json.loads(line)
        del fields["work"]
        return cls(**fields)


class Generator:
    """The compiled program."""

    def __init__(self, folder: Path) -> None:
        """Compile it into `folder`. Raises NoCompiler."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise NoCompiler("a C compiler is needed: apt-get install gcc libc6-dev")
        self._path = folder / "load"
        sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
        command = [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(self._path), *sources, "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def command(self, work: str, port: int, options: dict[str, object]) -> list[str]:
        pairs = {"host": "127.0.0.1", "port": port, **options}
        return [str(self._path), work, *(f"{key}={value}" for key, value in pairs.items())]

    def run(self, work: str, port: int, /, **options: object) -> Load:
        """Run to the end. Errors of sessions are in the result, not raised."""
        done = subprocess.run(
            self.command(work, port, options), capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
        if not done.stdout:
            raise RuntimeError(f"the load generator ended with {done.returncode}: {done.stderr}")
        return Load.from_json(done.stdout)

    @contextlib.contextmanager
    def holding(self, port: int, /, **options: object) -> Iterator[Holding]:
        """Connections that have logged in and are held until the end of the block."""
        command = self.command("idle", port, options)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin and process.stdout
            holding = Holding(process.stdin, process.stdout)
            try:
                yield holding
            finally:
                process.stdin.close()


class Holding:
    """Idle connections: `load` when all had logged in, `still_held()` at the end."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout
        self.load = Load.from_json(stdout.readline())

    def still_held(self) -> int:
        """Let go of them; how many the server had kept until now."""
        self._stdin.close()
        return Load.from_json(self._stdout.readline()).held
