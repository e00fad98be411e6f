"""One program, many names: called as one of the classic programs it is that; else it is `pillarbox`.

Decided before the command line is loaded: who sends a message, or logs in through a chain of programs, waits for
nothing that is not needed for it.
"""

from __future__ import annotations

import os
import sys

from .programs import names

SENDING = ("sendmail", "qmail-inject", "mailq")  # these speak with the server, and are the command `pillarbox send`


def main() -> None:
    """The entry point."""
    name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    if name not in (*SENDING, *names.PROGRAMS):
        name, arguments = "".join(arguments[:1]), arguments[1:]
    if name in names.PROGRAMS:
        names.run(name, [os.fsencode(argument) for argument in arguments])
    if name in (*SENDING, "send"):
        from .commands.send import main as send

        sys.exit(send(name, arguments))
    from .cli import main as pillarbox

    pillarbox()
