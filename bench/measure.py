"""What the processes of one server have used: CPU and memory, by control group where one can be made, else by /proc."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
REMOVE_SECONDS = 5.0  # for the last process of a group to be gone


@dataclass(frozen=True)
class Memory:
    """Octets. `processes`: proportional set size of all. `kernel`: sockets, descriptors, page tables; None: not known."""

    processes: int
    kernel: int | None

    @property
    def total(self) -> int:
        return self.processes + (self.kernel or 0)


@dataclass(frozen=True)
class ProcessTime:
    """CPU seconds of one process that is still alive; its name in the kernel, and its uid."""

    pid: int
    name: str
    uid: int
    user: float
    system: float


class Meter:
    """The processes below one that we started, by /proc. CPU of those reaped meanwhile counts with their parents'."""

    how = "/proc/PID/stat of all processes and their reaped children"

    def __init__(self) -> None:
        self._root, self._born = 0, ""

    def follow(self, pid: int) -> None:
        """The process that was started with `wrapped`."""
        stat = _stat(pid)
        self._root, self._born = pid, stat[19] if stat else ""

    def wrapped(self, command: list[str]) -> list[str]:
        """The command to start, so that it is measured from its first moment."""
        return command

    def pids(self) -> list[int]:
        root = _stat(self._root)
        if not root or root[19] != self._born:
            return []
        parents = {pid: stat[1] for pid in _all_pids() if (stat := _stat(pid))}
        found = [self._root]
        for pid in found:
            found += [child for child, parent in parents.items() if int(parent) == pid]
        return found

    def cpu(self) -> float:
        """Seconds, user and system, of all processes, the dead ones too."""
        stats = [stat for pid in self.pids() if (stat := _stat(pid))]
        return sum(sum(int(ticks) for ticks in stat[11:15]) for stat in stats) / TICKS

    def memory(self) -> Memory:
        return memory_of(self.pids())

    def by_process(self) -> list[ProcessTime]:
        """Of the processes that live now."""
        times = []
        for pid in self.pids():
            if stat := _stat(pid):
                times.append(ProcessTime(pid, *_identity(pid), int(stat[11]) / TICKS, int(stat[12]) / TICKS))
        return times

    def close(self) -> None:
        """Forget the processes; they must have ended."""


class GroupMeter(Meter):
    """Control groups, version 1 (cpuacct and memory apart) or 2."""

    def __init__(self, cpu: Path, memory: Path) -> None:
        super().__init__()
        self._cpu, self._memory = cpu, memory
        self._unified = not (cpu / "cpuacct.usage").exists()
        self.how = f"control group (version {2 if self._unified else 1}) of all processes"

    def wrapped(self, command: list[str]) -> list[str]:
        files = [str(folder / "cgroup.procs") for folder in {self._cpu, self._memory}]
        script = "".join(f'echo 0 > "${number}"; ' for number in range(1, len(files) + 1))
        return ["/bin/sh", "-c", f'{script}shift {len(files)}; exec "$@"', "sh", *files, *command]

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self._cpu / "cgroup.procs").read_text().split()]

    def cpu(self) -> float:
        if not self._unified:
            return int((self._cpu / "cpuacct.usage").read_text()) / 1e9
        return _table(self._cpu / "cpu.stat")["usage_usec"] / 1e6

    def memory(self) -> Memory:
        return Memory(super().memory().processes, self._kernel())

    def _kernel(self) -> int | None:
        try:
            if self._unified:
                table = _table(self._memory / "memory.stat")
                return table["kernel"] + table["sock"]
            names = ("memory.kmem.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes")
            return sum(int((self._memory / name).read_text()) for name in names)
        except (OSError, KeyError):
            return None

    def close(self) -> None:
        until = time.monotonic() + REMOVE_SECONDS
        for folder in {self._cpu, self._memory}:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.02)


def memory_of(pids: Iterable[int]) -> Memory:
    """Of some processes, without what the kernel holds for them."""
    return Memory(sum(map(_set_size, pids)), None)


@contextlib.contextmanager
def meter(name: str) -> Iterator[Meter]:
    """The best way to measure that works here."""
    made = _group_meter(f"pillarbox-bench-{os.getpid()}-{name}") or Meter()
    try:
        yield made
    finally:
        made.close()


def _group_meter(name: str) -> GroupMeter | None:
    mounts = [line.split() for line in (PROC / "mounts").read_text().splitlines()]
    ours = dict(line.split(":", 2)[1:] for line in (PROC / "self/cgroup").read_text().splitlines())
    found: dict[str, Path] = {}
    for _, where, kind, options, *_ in mounts:
        for controller in ("cpuacct", "memory"):
            if kind == "cgroup" and controller in options.split(","):
                found[controller] = Path(where)
        if kind == "cgroup2" and not found:
            found = {"cpuacct": Path(where + ours.get("", "/")), "memory": Path(where + ours.get("", "/"))}
    made: list[Path] = []
    try:
        for folder in dict.fromkeys((found["cpuacct"] / name, found["memory"] / name)):
            folder.mkdir()
            made.append(folder)
    except (OSError, KeyError):
        for folder in made:
            folder.rmdir()
        return None
    return GroupMeter(found["cpuacct"] / name, found["memory"] / name)


def _table(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, ..."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _identity(pid: int) -> tuple[str, int]:
    try:
        return (PROC / str(pid) / "comm").read_text().rstrip("\n"), (PROC / str(pid)).stat().st_uid
    except OSError:
        return "gone", -1


def _set_size(pid: int) -> int:
    """The process's share of memory; the whole resident set where the kernel hides the shares."""
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
