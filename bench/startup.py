"""What a classic program costs before it does anything: a chain pays it once for each of its programs."""

from __future__ import annotations

import os
import select
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pillarbox.programs.names import PROGRAMS

from .classic import Installation
from .results import Column, Outcome, Sample, Target
from .ring import OURS, Ring

OWN_MS = 30.0  # what a program may cost over a bare interpreter
RUNS = 15  # of each program in a round
PATIENCE = 20.0  # seconds; a program that then still runs did not understand that it should end
BARE = "python3 -I -S -c pass"
FAULTS = (b"a fault in this program", b"Traceback")
# Most programs end at once without arguments, by telling their usage. These would do something, and are told otherwise.
ARGUMENTS = {
    "qmail-start": ("|no-delivery-like-this",),
    "relay-ctrl-allow": ("true",),
    "relay-ctrl-check": ("true",),
}

_COLUMNS = (
    Column("own", "over the bare interpreter, ms", 1, plotted=True),
    Column("wall", "from start to end, ms", 1),
    Column("own_cpu", "CPU over the bare interpreter, ms", 1),
    Column("cpu", "CPU, ms", 1),
)
TARGET = Target(f"its own cost at most {OWN_MS:.0f} ms", "own", OWN_MS, False)


@dataclass(frozen=True)
class Run:
    """One start: milliseconds, and why it does not count."""

    wall: float
    cpu: float
    fault: str = ""


def startup(ring: Ring) -> Iterator[Outcome]:
    """Every program, and the bare interpreter between them."""
    installed = Installation.under(ring.folder)
    links = installed.links("all")
    commands = {name: [str(links / name), *ARGUMENTS.get(name, ())] for name in PROGRAMS}
    outcome = Outcome(
        "startup",
        "A classic program's start",
        f"Each program, called so that it ends at once, and `{BARE}` before each; {RUNS} times a round, of which the "
        "medians are taken. A program's own cost is what it takes beyond the bare interpreter. The first row is the "
        "slowest program. On a machine that is busy with other things only the CPU times mean anything.",
        _COLUMNS,
        (TARGET,),
    )
    bare = [installed.python, "-I", "-S", "-c", "pass"]
    for _ in range(ring.scale.rounds):
        for name, command in commands.items():
            _round(outcome, name, bare, command)
            ring.tell(outcome, name, outcome.samples[name][-1].values)
    _head(outcome)
    yield outcome


def _round(outcome: Outcome, name: str, bare: list[str], command: list[str]) -> None:
    pairs = [(measure(bare), measure(command)) for _ in range(RUNS)]
    faults = [run.fault for _, run in pairs if run.fault]
    values = {
        "own": statistics.median(run.wall - floor.wall for floor, run in pairs),
        "own_cpu": statistics.median(run.cpu - floor.cpu for floor, run in pairs),
        "wall": statistics.median(run.wall for _, run in pairs),
        "cpu": statistics.median(run.cpu for _, run in pairs),
    }
    outcome.add(name, Sample(values, len(faults), "".join(faults[:1])))
    floor = {"wall": statistics.median(floor.wall for floor, _ in pairs)}
    floor["cpu"] = statistics.median(floor.cpu for floor, _ in pairs)
    outcome.add(BARE, Sample(floor))


def _head(outcome: Outcome) -> None:
    """The slowest program stands for all; a fault in any of them is one in it."""
    programs = {name: samples for name, samples in outcome.samples.items() if name not in (OURS, BARE)}
    slowest = max(programs, key=lambda name: outcome.median(name, "own") or 0.0)
    broken = [sample for samples in programs.values() for sample in samples if sample.errors]
    samples = [
        Sample(sample.values, len(broken), broken[0].first_error if broken else "") for sample in programs[slowest]
    ]
    outcome.samples = {OURS: samples, BARE: outcome.samples[BARE], **programs}
    outcome.notes.append(f"The slowest program was {slowest}.")


def measure(command: list[str]) -> Run:
    """Start it with nothing to do, wait for its end."""
    with tempfile.TemporaryFile() as complaints:
        null = os.open(os.devnull, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, source, to) for source, to in ((null, 0), (null, 1), (complaints.fileno(), 2))]
        environment = {"PATH": "/usr/bin:/bin", "PILLARBOX_HOME": "/nonexistent"}
        began = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
        ended = _wait(pid)
        wall = (time.perf_counter() - began) * 1000
        os.close(null)
        complaints.seek(0)
        said = complaints.read()
    if ended is None:
        return Run(wall, 0.0, f"{Path(command[0]).name} did not end within {PATIENCE:g} s")
    faulty = any(fault in said for fault in FAULTS)
    fault = said.decode(errors="replace").rstrip("\n").rpartition("\n")[2] if faulty else ""
    return Run(wall, ended * 1000, fault)


def _wait(pid: int) -> float | None:
    """The CPU seconds that it took; None: it had to be killed."""
    descriptor = os.pidfd_open(pid)
    try:
        late = not select.select([descriptor], [], [], PATIENCE)[0]
        if late:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        usage = os.wait4(pid, 0)[2]
    finally:
        os.close(descriptor)
    return None if late else usage.ru_utime + usage.ru_stime
