"""One program, several names: called as `sendmail`, `qmail-inject` or `mailq` it is that; else it is `pillarbox`.

Decided before the command line is loaded: who sends a message waits for nothing that is not needed for it.
"""

from __future__ import annotations

import os
import sys

SENDING = ("sendmail", "qmail-inject")


def main() -> None:
    """The entry point."""
    name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    if name in SENDING:
        _send(name, arguments)
    if name == "mailq":
        _send("mailq", arguments)
    if arguments[:1] == ["send"]:
        _send("send", arguments[1:])
    from .cli import main as pillarbox

    pillarbox()


def _send(program: str, arguments: list[str]) -> None:
    from .commands.send import main as send

    sys.exit(send(program, arguments))
