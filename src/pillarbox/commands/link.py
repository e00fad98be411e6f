"""`pillarbox link`: the classic names, each a link to one executable."""

from __future__ import annotations

import os
import sys
from typing import Annotated

from cyclopts import App, Parameter

from ..programs.names import PROGRAMS
from ..terminal import say
from ..terms import Misuse, Refused
from . import executable
from .writable import must_be_writable

SENDING = ("sendmail", "qmail-inject", "mailq")
NAMES = (*SENDING, *PROGRAMS)
OURS = (executable.NAME, "pillarbox")  # the second: links of version 0.1.0 and earlier

LEFT_ALONE = 1  # exit status: what is there already under some name is somebody else's

PythonOption = Annotated[
    str,
    Parameter(
        name="--python",
        show_default=False,
        help="The interpreter that runs them, by its whole path; by default one that every user may run, if there is one.",
    ),
]

CLOSED = (
    "programs of the chain that run as another user can't start: closed to others is {};"
    " install Pillarbox where everybody may read it, such as below /opt"
)

app = App(
    name="link",
    help="Make links with the names of the classic programs that lead to this one.",
    usage="Usage: pillarbox link DIR [NAME ...]",
)


@app.default
def link(
    directory: Annotated[str, Parameter(name="DIR")],
    /,
    *names: Annotated[str, Parameter(name="NAME")],
    python: PythonOption = "",
) -> int:
    """Make links in DIR with the names of the classic programs (or those that NAME ... says) that lead to this one.

    What is there already is never overwritten, unless it is such a link: it is told, all other links are made, and the
    exit status is 1.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise Misuse(f"this program can't stand in for `{unknown[0]}`, only for {', '.join(NAMES)}")
    if not os.path.isdir(directory):
        raise Refused(f"{directory} is no folder")
    must_be_writable(directory)
    target, closed = executable.install(python)
    paths = [os.path.join(directory, name) for name in dict.fromkeys(names or NAMES)]
    alone = [path for path in paths if not _link(path, target)]
    if closed and os.geteuid() == 0:  # only root's chains change the user
        print(f"warning: {CLOSED.format(', '.join(closed))}", file=sys.stderr)
    for path in alone:
        print(f"left alone: {path} is there already, and is no link to {executable.NAME}", file=sys.stderr)
    return LEFT_ALONE if alone else 0


def _link(path: str, target: str) -> bool:
    """Make it, and say so. False: something else is there."""
    try:
        made = make(path, target)
    except Refused:
        return False
    say(f"{path} leads to {target}" + ("" if made else " already"))
    return True


def check(path: str) -> None:
    """Nothing is there, or a link of ours. Raises Refused."""
    if os.path.lexists(path) and not _ours(path):
        raise Refused(f"{path} is there already, and is no link to {executable.NAME}")


def _ours(path: str) -> bool:
    return os.path.islink(path) and os.path.basename(os.readlink(path)) in OURS


def make(path: str, target: str) -> bool:
    """The link; False: it was there. A link of ours that leads elsewhere is replaced. Raises Refused, as `check`."""
    check(path)
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
