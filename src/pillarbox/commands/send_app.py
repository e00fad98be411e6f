"""How `pillarbox send` stands among the other commands; what it does is in `send`, which loads faster."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from . import send

app = App(
    name="send",
    help="Hand in a message from standard input, as `sendmail -t -i` and `qmail-inject` do.",
    help_flags=(),
)


@app.default
def run(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    return send.main("send", arguments)
