"""What a person reads: coloured on a terminal, plain where it goes to a file or to another program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

COMMAND = "PILLARBOX_COMMAND"  # how the program was called, where that is not `pillarbox`
STYLES = {"C: ": "cyan", "S: ": "green"}


def command() -> str:
    """What a hint tells people to type."""
    return os.environ.get(COMMAND) or "pillarbox"


@cache
def _console() -> Console | None:
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def say(text: str = "", style: str = "") -> None:
    """A line, at once."""
    if console := _console():
        console.print(text, style=style or STYLES.get(text[:3], ""), markup=False)
    else:
        print(text, flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under their heads, if any says something; without a terminal, the rows alone, tabs between the columns."""
    if console := _console():
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, header_style="bold", pad_edge=False, show_header=any(heads))
        for head in heads:
            drawn.add_column(head, overflow="fold")  # what is cut off can't be copied
        for row in rows:
            drawn.add_row(*map(Text, row))
        console.print(drawn, soft_wrap=False, no_wrap=False, overflow="fold")
    else:
        for row in rows:
            print("\t".join(row))
