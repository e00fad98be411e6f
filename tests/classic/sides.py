"""Two programs of one name, ours and the original, given the same: arguments, environment, descriptors and files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 30
PATH = b"/usr/bin:/bin"


@dataclass(frozen=True)
class Result:
    """What a caller can see of a program that has ended."""

    status: int  # below 0: of a signal
    out: bytes
    err: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)  # what then lies in the working folder


@dataclass(frozen=True)
class Case:
    """One row of a table of agreement; both sides run it in a folder of the same name, made anew for each."""

    title: str  # for a reader: what is done, and under which circumstances
    arguments: tuple[str | bytes, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    record: bytes | None = None  # descriptor 3; None: it is closed
    prepare: Callable[[Path], None] | None = None  # the files
    mended: str = ""  # why ours departs; empty: they agree
    ours: Callable[[Result], bool] | None = None  # where mended: what ours does instead


def run(program: Path, case: Case, folder: Path) -> Result:
    """Raises subprocess.TimeoutExpired."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    if case.prepare:
        case.prepare(folder)
    reader = -1 if case.record is None else _filled(case.record)

    def descriptors() -> None:
        if reader == -1:
            os.closerange(3, 100)
        else:
            os.dup2(reader, 3)
            os.set_inheritable(3, True)  # dup2 leaves it as it was where it is that one already

    try:
        done = subprocess.run(
            [str(program), *case.arguments],
            input=case.stdin,
            capture_output=True,
            env={b"PATH": PATH} | {os.fsencode(name): os.fsencode(value) for name, value in case.environment.items()},
            cwd=folder,
            preexec_fn=descriptors,
            close_fds=False,
            timeout=SECONDS,
        )
    finally:
        if reader != -1:
            os.close(reader)
    return Result(done.returncode, done.stdout, done.stderr, contents(folder))


def _filled(record: bytes) -> int:
    """A descriptor from which that is read, then the end."""
    descriptor = os.memfd_create("record")
    os.write(descriptor, record)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def contents(folder: Path) -> dict[str, bytes]:
    """Every plain file below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


Normalise = Callable[[Result], Result]


def check(case: Case, original: Path, ours: Path, folder: Path, normalise: Normalise = lambda result: result) -> None:
    """The two agree; or they don't, and ours does what it shall do instead."""
    theirs, mine = (normalise(run(program, case, folder)) for program in (original, ours))
    if not case.mended:
        assert mine == theirs, f"{case.title}: {mine} is ours, {theirs} the original's"
        return
    assert mine != theirs, f"{case.title}: nothing was mended, both say {mine}"
    assert case.ours is not None and case.ours(mine), f"{case.title}: {mine}"
