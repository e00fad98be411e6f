"""The command `pillarbox ledger verify`: is the ledger as it was written?"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ..home import Home
from ..terminal import say
from ..terms import Misuse, Refused
from .options import HomeOption, JsonOption, home_of

if TYPE_CHECKING:
    from ..store.ledger_reading import Verdict

TIP_DIGITS = 32
TipOption = Annotated[
    str,
    Parameter(
        "--tip", metavar="MAC", show_default=False, help="The tip that an earlier check printed: is it still there?"
    ),
]

app = App(name="ledger", help="The list of all attempts to log in, which nobody can change unseen.")


@app.command
def verify(*, tip: TipOption = "", json_: JsonOption = False, home: HomeOption = "") -> int:
    """Does every line follow the one before it? Exit status 1: no; the first break is named.

    Lines that are missing at the very end can't be seen from the rest: note the tip that is printed here somewhere
    else, and name it with --tip at the next check. It counts as missing, too, once its file has been rotated away.
    """
    from ..store.ledger import ledger_key
    from ..store.ledger_reading import verify as walk

    if tip and (len(tip) != TIP_DIGITS or set(tip) - set("0123456789abcdef")):
        raise Misuse(f'--tip is "{tip}", which is no tip: {TIP_DIGITS} hexadecimal digits')
    place = ledger_home(home)
    try:
        key = ledger_key(place.ledger_key, create=False)
    except FileNotFoundError:
        raise Refused(f"{place.ledger_key} is missing: without it nothing can be checked; restore it") from None
    verdict = walk(place.ledger, key, progress, noted=tip)
    if json_:
        print(json.dumps(_as_json(verdict, tip)))
    else:
        _describe(verdict, tip)
    return 1 if verdict.broken or (tip and not verdict.noted) else 0


def ledger_home(folder: str) -> Home:
    """The home that the option names, if it has a ledger. Raises Refused."""
    place = home_of(folder)
    place.must_be_ours()
    if not os.path.isdir(place.ledger):
        raise Refused(f"no server has run on {place.folder} yet: there is no ledger")
    return place


def progress(lines: int) -> None:
    """Say on a terminal how many lines were read so far."""
    if sys.stderr.isatty():
        print(f"\r{lines:,} lines ...", end="\r", file=sys.stderr, flush=True)


def _describe(verdict: Verdict, tip: str) -> None:
    say(f"{verdict.entries:,} attempts in {verdict.files} files" + _span(verdict))
    for file, octets in verdict.torn:
        say(f"{file}: {octets} octets at its end are no line: a crash, a power cut or a full disk cut it off")
    if verdict.lost:
        say(f"{verdict.lost:,} attempts could not be written, as the disk failed")
    if verdict.broken:
        broken = verdict.broken
        say(f"broken at {broken.file}, line {broken.line}: {broken.why}", "bold red")
    else:
        say("every line follows the one before it")
    if tip and not verdict.noted:
        say(f"the tip {tip} is not there: lines at the end were removed, or its file was rotated away", "bold red")
    say(f"tip: {verdict.tip}")


def _span(verdict: Verdict) -> str:
    return f", {clock(verdict.since)} to {clock(verdict.until)}" if verdict.entries else ""


def clock(seconds: float) -> str:
    """A Unix time for a person, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _as_json(verdict: Verdict, tip: str) -> dict[str, object]:
    broken = verdict.broken
    return {
        "attempts": verdict.entries,
        "files": verdict.files,
        "since": verdict.since,
        "until": verdict.until,
        "lost": verdict.lost,
        "torn": [{"file": file, "octets": octets} for file, octets in verdict.torn],
        "broken": {"file": broken.file, "line": broken.line, "why": broken.why} if broken else None,
        "tip": verdict.tip,
        "noted": verdict.noted if tip else None,
    }
