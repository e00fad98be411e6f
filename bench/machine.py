"""Where the figures come from: the machine, and what ran on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from .servers import Server


def facts(folder: Path, servers: Iterable[Server], how_measured: str) -> list[tuple[str, str]]:
    """Name and value, for the head of the report. `folder`: where the mail lay."""
    versions = {server.name.partition(" ")[0]: server.version for server in servers}
    return [
        ("Processor", f"{os.cpu_count()} x {_cpu_model()}"),
        ("Memory", f"{_memory_gib():.0f} GiB"),
        ("System", f"{_system()}, kernel {platform.release()}"),
        ("File system of the mail", _file_system(folder)),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}, {_loop()}"),
        *((name, version) for name, version in versions.items()),
        ("CPU and memory", how_measured),
        ("Load average when it began", " ".join(f"{load:.2f}" for load in os.getloadavg())),
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().split("\n"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip(" ")
    return platform.machine()


def _memory_gib() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / (1 << 30)


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())


def _file_system(folder: Path) -> str:
    """The kind of the mount that the folder lies on."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if len(where) > len(best[0]) and f"{folder}/".startswith(f"{where.rstrip('/')}/"):
            best = (where, kind)
    return best[1]


def _loop() -> str:
    try:
        return f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        return "asyncio"
