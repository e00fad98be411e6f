"""setuidgid (daemontools): run a program with an account's uid and gid.

    setuidgid ACCOUNT PROGRAM [ARG ...]

ACCOUNT is a name of the system's user database, never a number; its other groups are given up, and the environment and
the current folder stay as they are. ACCOUNT may be root: whoever may call this as root is root. Descriptors pass through.

Exit status 100 for wrong usage, 111 for whatever else goes wrong here, else PROGRAM's.
"""

from __future__ import annotations

import os
import pwd

from . import chain
from .chain import MISUSED, TROUBLE, Environment, die, words


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; never returns but by SystemExit."""
    if len(arguments) < 2:
        die(MISUSED, "setuidgid: usage: setuidgid account child")
    account, *program = arguments
    try:
        user = pwd.getpwnam(os.fsdecode(account))
    except KeyError:
        die(TROUBLE, f"setuidgid: fatal: unknown account {os.fsdecode(account)}")
    _become(user.pw_uid, user.pw_gid)
    chain.run(program, environment, "setuidgid")


def _become(uid: int, gid: int) -> None:
    """All three uids and gids."""
    try:
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
    except OSError as error:
        die(TROUBLE, f"setuidgid: fatal: unable to setgid: {words(error)}")
    try:
        os.setresuid(uid, uid, uid)  # last: it takes the right to do the others
    except OSError as error:
        die(TROUBLE, f"setuidgid: fatal: unable to setuid: {words(error)}")
