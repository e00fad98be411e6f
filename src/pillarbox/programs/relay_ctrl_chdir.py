"""relay-ctrl-chdir (relay-ctrl): open the folder of grants for programs that, later, may not enter it by its name.

    relay-ctrl-chdir PROGRAM [ARG ...]

Environment: RELAY_CTRL_DIR is the folder; RELAY_CTRL_DIR_FD is set to the number of its descriptor, which stays open.
Exit status: 111 when that fails or PROGRAM can't be run, 1 without PROGRAM. The working folder stays what it is.

Departs from the original: it takes the highest free descriptor below the limit, but none above 1,023. The original tried
one after the other up to the limit, and a descriptor that high makes each later fork copy a table as long.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat

from . import chain
from .chain import TROUBLE, Environment
from .relay_ctrl import Voice, text

HIGHEST = 1023
TRIED = 16  # descriptors, downwards, before any free one is good enough


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; returns only by SystemExit."""
    voice = Voice("relay-ctrl-chdir")
    if not arguments:
        chain.die(1, "usage: relay-ctrl-chdir program [arguments]")
    path = environment.get(b"RELAY_CTRL_DIR")
    if path is None:
        voice.die(TROUBLE, "$RELAY_CTRL_DIR is not set.")
    name = text(environment, b"RELAY_CTRL_DIR")
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            voice.die(TROUBLE, f"'{name}' is not a directory")
        descriptor = _high(opened)
    except OSError as error:
        voice.die(TROUBLE, f"Could not open dir '{name}': {error.strerror}")
    os.close(opened)
    environment[b"RELAY_CTRL_DIR_FD"] = b"%d" % descriptor
    try:
        chain.become(arguments, environment)
    except OSError:
        voice.die(TROUBLE, "execution of program failed!")


def _high(opened: int) -> int:
    """The same, under a high number, and open for the next program. Raises OSError."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    top = HIGHEST if limit == resource.RLIM_INFINITY else min(HIGHEST, limit - 1)
    for wanted in range(top, max(top - TRIED, opened), -1):
        try:
            found = fcntl.fcntl(opened, fcntl.F_DUPFD, wanted)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.EINVAL):
                raise
            continue
        if found <= top:
            return found
        os.close(found)
    return fcntl.fcntl(opened, fcntl.F_DUPFD, 0)
