"""The commands `pillarbox throttle`: who is slowed because logins have failed, and forgiveness."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from cyclopts import App, Parameter

from ..home import Home
from ..terminal import say, table
from ..terms import TryLater
from .commanding import ask
from .options import HomeOption, JsonOption, home_of
from .queue_view import plain

WhoArgument = Annotated[str, Parameter(name="WHO", show_default=False)]

HEADS = ("Kind", "Name", "Failures", "Seconds")
KINDS = {"addresses": "address", "networks": "network", "accounts": "account"}

app = App(name="throttle", help="Who waits because logins have failed. A restart of the server forgets all of it.")


@app.command(usage="Usage: pillarbox throttle show [WHO] [OPTIONS]")
def show(who: WhoArgument = "", /, *, json_: JsonOption = False, home: HomeOption = "") -> None:
    """Which addresses, networks and accounts are slowed just now: the 100 most slowed of each kind.

    WHO is an address; or an account, local@domain, or local for the first of our domains. Columns: kind, name, failures
    that still count (of an address), seconds until the next attempt is judged. Without a terminal there are no headings,
    and tabs between the columns.
    """
    text = _asked(home_of(home), "throttle-show", who)
    if json_:
        print(text)
        return
    found = json.loads(text)
    rows = [_row(kind, one) for table_, kind in KINDS.items() for one in found[table_]]
    if rows:
        table(HEADS, rows)
    else:
        print("nobody is slowed", file=sys.stderr)
    if found["waiting"]:
        print(f"waiting just now: {found['waiting']}", file=sys.stderr)


@app.command(usage="Usage: pillarbox throttle clear [WHO] [OPTIONS]")
def clear(who: WhoArgument = "", /, *, home: HomeOption = "") -> None:
    """Forget the failures of an address and its network, or for an account; without WHO, all of them."""
    say(plain(_asked(home_of(home), "throttle-clear", who)))


def _asked(place: Home, verb: str, argument: str) -> str:
    """Raises Refused and TryLater."""
    place.must_exist()
    text = ask(place, verb, argument)
    if text is None:
        raise TryLater(
            f"no server runs on {place.folder}: nobody is slowed, and failures are forgotten with each start"
        )
    return text


def _row(kind: str, one: dict[str, object]) -> tuple[str, ...]:
    failures = f"{one['failures']:.1f}" if "failures" in one else ""
    return kind, plain(str(one[kind])), failures, f"{one['wait']:.1f}"
