"""selectcheckpw: check a password or an APOP digest, as the client chose.

    selectcheckpw [ARG ...]

Environment: AUTH, set by qmail-popup: `pop` makes this `checkpw` with the same arguments, `apop` makes it `checkapoppw`;
with any other value, or none, exit status 1, and descriptor 3 is left unread. Descriptors and environment pass through.
Both programs are looked for in PATH; where ours is found there, this process goes on as that one without starting it anew.

Exit status 111 if that program can't be run, else its own.

Unlike the original, a shell script, it hands the arguments on as they are (there one with a blank becomes two, and
`*` becomes the names of files), and finds the programs by PATH, not in one fixed folder. `--faithful` is an argument like
any other, for the program that follows.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from . import chain
from .chain import SEARCH, Environment

REFUSED = 1
_PROGRAMS = {b"pop": b"checkpw", b"apop": b"checkapoppw"}


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs, or returns what the program it goes on as returns."""
    name = _PROGRAMS.get(environment.get(b"AUTH", b""))
    if name is None:
        return REFUSED
    if _is_ours(name, environment):
        status: int = import_module("." + os.fsdecode(name), __package__).main(arguments, environment)
        return status
    chain.run([name, *arguments], environment, "selectcheckpw")


def _is_ours(name: bytes, environment: Environment) -> bool:
    """Is the first of that name in PATH the very executable that runs now?"""
    for path in chain.candidates(name, environment.get(b"PATH", SEARCH)):
        if os.access(path, os.X_OK):
            try:
                return os.path.samefile(path, os.fsencode(sys.argv[0]))
            except OSError:
                return False
    return False
