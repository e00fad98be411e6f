"""`pillarbox service`: what starts Pillarbox with the system, as systemd units or as an init script.

Two ways: the daemon, or (`--chain`) chains of the classic programs. The files are those below `services`, with the places
of this installation put into them.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..home import ROOT_HOME
from ..terminal import say
from ..terms import Misuse, Refused
from .writable import must_be_writable

SOURCES = Path(__file__).parent / "services"
MARK = "# Written by `pillarbox service install`"
MARK_LINES = 2  # among which the mark stands
PLAIN = re.compile(r"/[A-Za-z0-9_.,/+@=-]*")  # paths that sh, cron and systemd all read as they stand
UNITS, RC = "/etc/systemd/system", "/etc/init.d"
LINKS = "/usr/local/bin"

app = App(name="service", help="Start with the system: systemd units, or an init script.")


@dataclass(frozen=True, slots=True)
class File:
    """One that is written: its source's name, its path, its mode. `kept`: once there, it is the admin's."""

    source: str
    path: str
    mode: int = 0o644
    kept: bool = False


CHAIN = (
    File("chain.sh", "/usr/local/sbin/pillarbox-chain", 0o755),
    File("chain.default", "/etc/default/pillarbox-chain", kept=True),
)
CHAIN_UNITS = (
    "pillarbox-pop3.service",
    "pillarbox-smtp.service",
    "pillarbox-deliver.service",
    "pillarbox-age.service",
    "pillarbox-age.timer",
    "pillarbox-chain.target",
)
FILES: dict[tuple[str, bool], tuple[File, ...]] = {
    ("systemd", False): (File("pillarbox.service", f"{UNITS}/pillarbox.service"),),
    ("init", False): (File("init-daemon.sh", f"{RC}/pillarbox", 0o755),),
    ("systemd", True): (*CHAIN, *(File(name, f"{UNITS}/{name}") for name in CHAIN_UNITS)),
    ("init", True): (
        *CHAIN,
        File("init-chain.sh", f"{RC}/pillarbox-chain", 0o755),
        File("chain.cron", "/etc/cron.d/pillarbox-chain"),
    ),
}
NEXT = {
    ("systemd", False): "systemctl daemon-reload && systemctl enable --now pillarbox",
    ("init", False): "update-rc.d pillarbox defaults && /etc/init.d/pillarbox start",
    ("systemd", True): "systemctl daemon-reload && systemctl enable --now pillarbox-chain.target",
    ("init", True): "update-rc.d pillarbox-chain defaults && /etc/init.d/pillarbox-chain start",
}


@app.command(usage="Usage: pillarbox service install --systemd|--init [OPTIONS]")
def install(
    *,
    systemd: Annotated[bool, Parameter(negative=())] = False,
    init: Annotated[bool, Parameter(negative=())] = False,
    chain: Annotated[bool, Parameter(negative=())] = False,
    root: Annotated[str, Parameter(metavar="DIR")] = "/",
    print_: Annotated[bool, Parameter("--print", negative=())] = False,
    programs: Annotated[str, Parameter(metavar="DIR")] = LINKS,
    home: Annotated[str, Parameter(metavar="DIR")] = ROOT_HOME,
) -> None:
    """Write the files; start nothing. What somebody else put there is left alone.

    Parameters
    ----------
    systemd
        Units for systemd.
    init
        A script for /etc/init.d.
    chain
        The classic way: chains of the classic programs, as the how-to "APOP on qmail" has them.
    root
        Write below this folder, as for a package or another system's disk.
    print_
        Print the files; write nothing.
    programs
        For the chain: the folder of links that `pillarbox link` has made.
    home
        The server's folder.
    """
    if systemd == init:
        raise Misuse("say either --systemd or --init")
    kind = "systemd" if systemd else "init", chain
    command = os.path.join(sysconfig.get_path("scripts"), "pillarbox")
    places = {"PILLARBOX": command, "PROGRAMS": os.path.abspath(programs), "HOME": os.path.abspath(home)}
    texts = {file: _text(file, places) for file in FILES[kind]}
    if print_:
        for file, text in texts.items():
            say(f"#### {file.path}\n{text}")
        return
    top = os.path.abspath(root)
    for file in texts:
        _check(file, top)
    for file in texts:
        must_be_writable(os.path.dirname(_path(file, top)))
    for file, text in texts.items():
        path = _path(file, top)
        say(f"{path} {'written' if _write(path, text, file) else 'is there already'}")
    _warn(command if not chain else places["PROGRAMS"])
    say(f"next: {NEXT[kind]}")


def _text(file: File, places: dict[str, str]) -> str:
    text = (SOURCES / file.source).read_text("utf-8")
    for name, path in places.items():
        if f"@{name}@" in text:
            if not PLAIN.fullmatch(path):
                raise Refused(f"{path}: an init script or unit can't name a path with such characters")
            text = text.replace(f"@{name}@", path)
    return text


def _path(file: File, top: str) -> str:
    return os.path.join(top, file.path.lstrip("/"))


def _check(file: File, top: str) -> None:
    """Nothing is there, or what an earlier call wrote. Raises Refused."""
    path = _path(file, top)
    if not file.kept and os.path.lexists(path) and not _ours(path):
        raise Refused(f"{path} is there already, and is not of this program's making: move it away first")


def _ours(path: str) -> bool:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    with open(path, "rb") as file:
        return any(file.readline(len(MARK)).startswith(MARK.encode()) for _ in range(MARK_LINES))


def _write(path: str, text: str, file: File) -> bool:
    """False: it is there as it must be, or is the admin's."""
    if os.path.lexists(path) and (file.kept or Path(path).read_text("utf-8") == text):
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            os.fchmod(new.fileno(), file.mode)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def _warn(command: str) -> None:
    """Root will run it: who can change it is root."""
    changeable = sorted(set(_changeable(command)))
    if changeable:
        print(f"warning: others than root can change what root will start here: {', '.join(changeable)}; "
              "install Pillarbox where they can't, such as below /opt", file=sys.stderr)  # fmt: skip


def _changeable(path: str) -> Iterator[str]:
    """That file or folder and those above it, as far as another than root owns or may write them."""
    while True:
        state = os.stat(path) if os.path.exists(path) else None
        if state is not None and (state.st_uid != 0 or (state.st_mode & 0o022 and not state.st_mode & stat.S_ISVTX)):
            yield path
        if path == (path := os.path.dirname(path)):
            return
