"""The command `pillarbox exposed`: whose passwords could be read on their way, and what to do about it."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from .. import config
from ..config import Config
from ..home import Home
from ..terminal import say, table
from ..terms import Exposure, Misuse
from .ledger import clock, ledger_home, progress
from .options import HomeOption, JsonOption

if TYPE_CHECKING:
    from ..policy.exposures import Exposures, Seen, Way

HEADS = ("Account", "Exposed", "How", "From", "Times", "First", "Last", "What to set")
PROGRESS_LINES = 50_000
RECENT = 16_384  # ways that are found by their words alone
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SinceOption = Annotated[
    str, Parameter("--since", metavar="AGE", help="How far back to look: 90m, 12h, 30d, 8w, or all.")
]

app = App(name="exposed", help="Whose password, or digest of one, could be read on its way.")


@app.default
def exposed(*, since: SinceOption = "30d", json_: JsonOption = False, home: HomeOption = "") -> None:
    """Who exposed what, from where, how often, and what to set in that client; the most exposed first.

    Refused attempts count: a password that was refused has still travelled. Attempts for names that are nobody's are
    one row for each way, without an account. Networks are an IPv4 /24, an IPv6 /48; of 127.0.0.0 nothing has left this
    machine, unless a proxy stands before it. Columns: account, exposed, how, from, times, first, last, what to set.
    Without a terminal there are no headings, and tabs between the columns.
    """
    begin = time.time() - age(since) if since != "all" else 0.0
    place = ledger_home(home)
    found, unread = fold(place, begin)
    rows, settings = found.ranked(), config.load(place.config)
    if unread:
        print(f"pillarbox: {unread:,} lines could not be read; `pillarbox ledger verify` says more", file=sys.stderr)
    if json_:
        print(json.dumps({"exposed": [_as_json(way, seen, settings) for way, seen in rows]}))
    elif not rows:
        print("no attempts to log in", file=sys.stderr)
    else:
        table(HEADS, [_row(way, seen, settings) for way, seen in rows])
        if sys.stdout.isatty() and any(way.account and way.exposure is not Exposure.NOTHING for way, _ in rows):
            say("`pillarbox account secret NAME` makes a new secret.")


def age(text: str) -> float:
    """Seconds of "90m", "12h", "30d" or "8w". Raises Misuse."""
    found = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if found is None:
        raise Misuse(f'"{text}" is no age: a number with m, h, d or w (minutes, hours, days, weeks), or "all"')
    return float(int(found[1]) * UNITS[found[2]])


def fold(place: Home, begin: float) -> tuple[Exposures, int]:
    """The ledger from that Unix time on, and how many of its lines are none."""
    from ..policy.exposures import Exposures, Way
    from ..store.ledger_reading import entries

    found, unread = Exposures(), 0
    recent: dict[tuple[object, ...], Seen] = {}
    for number, entry in enumerate(entries(place.ledger, begin), 1):
        if entry is None:
            unread += 1
            continue
        key = (entry.account, entry.device, entry.protocol, entry.mechanism, entry.exposure, entry.address)
        refused = entry.reason != ""
        seen = recent.get((*key, refused))
        if seen is None:
            if len(recent) >= RECENT:
                recent.clear()
            seen = recent[*key, refused] = found.of(Way(*key[:4], Exposure(entry.exposure), key[5]), refused=refused)
        seen.add(entry.time, refused=refused)
        if not number % PROGRESS_LINES:
            progress(number)
    return found, unread


def _remedy(way: Way, settings: Config) -> str:
    from ..policy.exposures import remedy

    ports = {key: config.parse_listen(texts[0])[1] for key, texts in config.keys(settings.listen) if texts}
    return remedy(way, settings.hostname, ports)


def _row(way: Way, seen: Seen, settings: Config) -> tuple[str, ...]:
    who = f"{way.account or '(nobody)'}{f' ({way.device})' if way.device else ''}"
    times = f"{seen.count:,}" + (f" ({seen.refused:,} refused)" if seen.refused else "")
    exposure = way.exposure.value.upper()
    how = f"{way.protocol} {way.mechanism}"
    return (who, exposure, how, way.network, times, clock(seen.first), clock(seen.last), _remedy(way, settings))


def _as_json(way: Way, seen: Seen, settings: Config) -> dict[str, object]:
    """Times are Unix times; the account is null for names that are nobody's."""
    return {
        "account": way.account or None,
        "device": way.device or None,
        "exposure": way.exposure.value,
        "protocol": way.protocol,
        "mechanism": way.mechanism,
        "network": way.network,
        "times": seen.count,
        "refused": seen.refused,
        "first": seen.first,
        "last": seen.last,
        "remedy": _remedy(way, settings) or None,
    }
