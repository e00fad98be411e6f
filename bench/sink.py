"""What servers deliver to: a process that takes every message, keeps none, and says when all have come."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from .generator import Generator
from .servers import greets

DOMAIN = "sink.test"


@dataclass(frozen=True)
class Sunk:
    """`distinct`: of the recipients' numbers. `at`: the time of this count, by the monotonic clock."""

    messages: int
    distinct: int
    sessions: int
    at: float
    cpu: float


class Sink:
    """Recipients are any.NUMBER.any@anywhere: by the number a message is known again."""

    def __init__(self, port: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.port, self._stdin, self._stdout = port, stdin, stdout

    def expect(self, count: int) -> None:
        """Count anew, to so many messages with different numbers."""
        self._order(b"%d\n" % count)
        self._stdout.readline()

    def wait(self, seconds: float) -> Sunk:
        """Until all have come, or the time is up: then there are fewer."""
        if not select.select([self._stdout], [], [], seconds)[0]:
            return self.look()
        return Sunk(**json.loads(self._stdout.readline()))

    def look(self) -> Sunk:
        """What has come since `expect`."""
        self._order(b"\n")
        return Sunk(**json.loads(self._stdout.readline()))

    def cpu(self) -> float:
        """Seconds since its start."""
        return self.look().cpu

    def _order(self, line: bytes) -> None:
        self._stdin.write(line)
        self._stdin.flush()


@contextlib.contextmanager
def sinking(generator: Generator, port: int, numbers: int) -> Iterator[Sink]:
    """Numbers are below `numbers`."""
    command = generator.command("sink", port, {"accounts": numbers})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        sink = Sink(port, process.stdin, process.stdout)
        try:
            while not greets(port):
                if process.poll() is not None:
                    raise RuntimeError(f"the sink ended with {process.returncode}")
            yield sink
        finally:
            process.stdin.close()
