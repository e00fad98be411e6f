"""`pillarbox link`: the classic names, for programs that know no other way to send mail."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import Annotated

from cyclopts import App, Parameter

from ..terminal import say
from ..terms import Misuse, Refused

NAMES = ("sendmail", "qmail-inject", "mailq")
EXECUTABLE = "pillarbox"

app = App(
    name="link",
    help="Make links named sendmail, qmail-inject and mailq that lead to this program.",
    usage="Usage: pillarbox link DIR [NAME ...]",
)


@app.default
def link(directory: Annotated[str, Parameter(name="DIR")], /, *names: Annotated[str, Parameter(name="NAME")]) -> None:
    """Make links in DIR, named sendmail, qmail-inject and mailq (or as NAME ... says), that lead to this program.

    What is there already is never overwritten, unless it is such a link.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise Misuse(f"this program can't stand in for `{unknown[0]}`, only for {', '.join(NAMES)}")
    target = executable()
    if not os.path.isdir(directory):
        raise Refused(f"{directory} is no folder")
    chosen = names or NAMES
    for name in chosen:
        check(os.path.join(directory, name))
    for name in chosen:
        path = os.path.join(directory, name)
        say(f"{path} leads to {target}" + ("" if make(path, target) else " already"))


def executable() -> str:
    """The installed command. Raises Refused."""
    called = os.path.abspath(sys.argv[0])
    for path in (called, os.path.join(sysconfig.get_path("scripts"), EXECUTABLE)):
        if os.path.basename(path) == EXECUTABLE and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise Refused(f"the command `{EXECUTABLE}` is not installed beside {sys.executable}: nothing to lead to")


def check(path: str) -> None:
    """Nothing is there, or a link of ours. Raises Refused."""
    if os.path.lexists(path) and not _ours(path):
        raise Refused(f"{path} is there already, and is no link to {EXECUTABLE}: move it away first")


def _ours(path: str) -> bool:
    return os.path.islink(path) and os.path.basename(os.readlink(path)) == EXECUTABLE


def make(path: str, target: str) -> bool:
    """The link; False: it was there. A link of ours that leads elsewhere is replaced."""
    if os.path.islink(path) and os.readlink(path) == target:
        return False
    temporary = f"{path}.{os.getpid()}.tmp"
    os.symlink(target, temporary)
    try:
        check(path)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True
