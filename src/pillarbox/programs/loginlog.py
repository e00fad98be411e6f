"""loginlog (checkpw): tell the system's log who logged in, then run the next program.

    loginlog PROGRAM [ARG ...]

Environment: TCPREMOTEIP, TCPLOCALPORT and USER, which make the line; one that is missing is left out. It is written as
`splogger login 2` writes it. Descriptors and environment pass through. Exit status 2 without a PROGRAM, 111 if that can't
be run, else PROGRAM's.

Unlike the original, a shell script that needs /var/qmail/bin/splogger, it writes the line itself, without looking for
backslashes in it; and it says 111, not 127 or 126, if PROGRAM can't be run.
"""

from __future__ import annotations

from . import chain
from .chain import Environment, die
from .system_log import MAIL, Lines, SystemLog

MISUSED = 2  # the shell's, and that of the checkpassword interface


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; never returns but by SystemExit."""
    if not arguments:
        die(MISUSED, "loginlog: usage: loginlog program")
    lines = Lines(SystemLog(b"login", MAIL))
    lines.take(b" ".join(environment.get(name, b"") for name in (b"TCPREMOTEIP", b"TCPLOCALPORT", b"USER")) + b"\n")
    chain.run(arguments, environment, "loginlog")
