"""The executable that all classic names lead to: our package, run by an interpreter that starts as fast as it can.

The command `pillarbox` that an installer writes would do, too, but takes twice as long to start: it looks through the
whole installation (`site`). This one names what it needs (-I -S), and no variable of the environment changes that.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

from ..terms import Refused
from .writable import must_be_writable

NAME = "pillarbox-classic"
SYSTEM_PYTHON = "/usr/bin/python3"
_ASK_SECONDS = 30

_CONTENT = """\
#!{python} -IS
import sys
sys.path += [{package!r}, {libraries!r}]
from pillarbox.multicall import main
main()
"""


def package_folder() -> str:
    """The folder that holds the package `pillarbox`."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def content(python: str, package: str, libraries: str) -> str:
    """The script. `package`: package_folder(), or a copy of it; `libraries`: where the packages lie that it needs."""
    return _CONTENT.format(python=python, package=package, libraries=libraries)


def interpreter(wanted: str = "") -> str:
    """The Python that shall run it: `wanted`, else one that every user may run. Raises Refused for another version."""
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if not wanted:
        return own if not list(closed(own)) or not _same_version(SYSTEM_PYTHON) else SYSTEM_PYTHON
    if not os.path.isabs(wanted) or not _same_version(wanted):
        version = "{}.{}".format(*sys.version_info)
        raise Refused(f"{wanted} is no Python {version} named by its whole path: our libraries are for that version")
    return wanted


def _same_version(python: str) -> bool:
    ask = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-I", "-S", "-c", ask], capture_output=True, text=True, timeout=_ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.split() == [str(number) for number in sys.version_info[:2]]


def closed(path: str) -> Iterator[str]:
    """The file or folder of that path, and those above it, that not every user may enter or read."""
    while True:
        state = os.stat(path)
        needed = stat.S_IXOTH if stat.S_ISDIR(state.st_mode) else stat.S_IROTH
        if not state.st_mode & needed:
            yield path
        if path == (path := os.path.dirname(path)):
            return


def install(python: str = "") -> tuple[str, list[str]]:
    """Write it beside the command `pillarbox`, if it isn't there as it must be. Its path, and what keeps other users from
    running it. Raises Refused and OSError."""
    path = os.path.join(sysconfig.get_path("scripts"), NAME)
    chosen, package, libraries = interpreter(python), package_folder(), sysconfig.get_path("purelib")
    _write(path, content(chosen, package, libraries))
    return path, sorted({each for needed in (chosen, path, package, libraries) for each in closed(needed)})


def _write(path: str, text: str) -> None:
    try:
        with open(path) as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        pass
    must_be_writable(os.path.dirname(path))
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    with open(descriptor, "w") as file:
        file.write(text)
    os.chmod(temporary, 0o755)
    os.rename(temporary, path)
