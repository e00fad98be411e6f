"""What a person reads: coloured on a terminal, plain where it goes to a file or to another program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"C: ": "cyan", "S: ": "green"}


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
    """Rows under their heads; without a terminal, the rows alone, with tabs between the columns."""
    if console := _console():
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*heads, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            drawn.add_row(*map(Text, row))
        console.print(drawn)
    else:
        for row in rows:
            print("\t".join(row))
