"""The commands `pillarbox migrate`: how far the accounts are on their way to TLS."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Annotated

from cyclopts import App, Parameter

from .. import config
from ..config import Config
from ..home import Home
from ..policy.exposures import Habit, Migration
from ..store.ratchet import Notch, Ratchet
from ..terminal import say, table
from ..terms import Exposure, Misuse, Refused
from .ledger import clock, ledger_home, progress
from .options import HomeOption, JsonOption, home_of

HEADS = ("Account", "State", "Last in the clear", "How", "Last under TLS", "Without TLS")
PROGRESS_LINES = 50_000
DAY = 86_400.0
DAYS_LIMIT = 36_500
DaysOption = Annotated[int, Parameter("--days", help="An account that did it within so many days still does it.")]

app = App(name="migrate", help="On the way to TLS: who is still in the clear, and who no longer may be.")


@app.command
def status(*, days: DaysOption = 30, json_: JsonOption = False, home: HomeOption = "") -> None:
    """How many accounts still log in without TLS, and which; who has not logged in since the ledger began.

    Columns: account, state ("in the clear", "TLS only", "no login"), last in the clear and how, last under TLS, and
    since when the ratchet refuses it without TLS, or how many days of logins under TLS alone it has counted. Refused
    attempts don't count. A login on this machine, 127.0.0.1, counts too: a proxy may stand before it. Without a
    terminal there are no headings, and tabs between the columns.
    """
    if not 1 <= days <= DAYS_LIMIT:
        raise Misuse(f"--days is {days}, and must be from 1 to {DAYS_LIMIT}")
    place = ledger_home(home)
    begin = time.time() - days * DAY
    habits = _habits(place, config.load(place.config))
    notches = {notch.account: notch for notch in _notches(place)}
    rows = sorted(habits.items(), key=lambda pair: (-pair[1].clear, pair[0]))
    clear = sum(habit.clear >= begin for habit in habits.values())
    never = sum(not (habit.clear or habit.secured) for habit in habits.values())
    if json_:
        found = [_as_json(name, habit, notches.get(name), begin) for name, habit in rows]
        print(json.dumps({"accounts": len(rows), "in_the_clear": clear, "no_login": never, "days": days, "all": found}))
        return
    if rows:
        table(HEADS, [_row(name, habit, notches.get(name), begin) for name, habit in rows])
    summary = f"{clear} of {len(rows)} accounts still in the clear within {days} days; {never} without a login"
    print(summary, file=sys.stdout if sys.stdout.isatty() else sys.stderr)


@app.command
def release(account: str, /, *, home: HomeOption = "") -> None:
    """Take logins without TLS from this account again; the ratchet begins anew with its next login under TLS."""
    from ..administration import account_name

    place = home_of(home)
    place.must_be_ours()
    full = account_name(account, config.load(place.config))
    if not (os.path.exists(place.ratchet) and _release(place, full)):
        raise Refused(f"the ratchet does not hold {full}")
    say(f"{full} may log in without TLS again, where `policy.plaintext` allows it")


def _release(place: Home, account: str) -> bool:
    store = Ratchet(place.ratchet)
    try:
        return store.release(account)
    finally:
        store.close()


def _notches(place: Home) -> list[Notch]:
    if not os.path.exists(place.ratchet):
        return []
    store = Ratchet(place.ratchet)
    try:
        return store.every()
    finally:
        store.close()


def _habits(place: Home, settings: Config) -> dict[str, Habit]:
    """Of all local accounts, and of all others that have logged in. Raises Refused and TryLater."""
    from ..administration import opened
    from ..store.ledger_reading import entries

    found = Migration()
    for number, entry in enumerate(entries(place.ledger), 1):
        if entry is not None and entry.account and not entry.reason:
            found.add(entry.account, entry.mechanism, Exposure(entry.exposure), entry.time)
        if not number % PROGRESS_LINES:
            progress(number)
    if "local" in settings.accounts.source and os.path.exists(place.accounts):
        with opened(place) as (_, store):
            for name in store.names():
                found.habits.setdefault(name, Habit())
    return found.habits


def _state(habit: Habit, begin: float) -> str:
    if habit.clear >= begin:
        return "in the clear"
    return "TLS only" if habit.secured else "no login" if not habit.clear else "in the clear long ago"


def _row(name: str, habit: Habit, notch: Notch | None, begin: float) -> tuple[str, ...]:
    held = f"refused since {clock(notch.latched)}" if notch and notch.latched else ""
    if notch and not held:
        held = f"{notch.days} days counted"
    last, secured = (clock(time) if time else "" for time in (habit.clear, habit.secured))
    return (name, _state(habit, begin), last, habit.mechanism, secured, held)


def _as_json(name: str, habit: Habit, notch: Notch | None, begin: float) -> dict[str, object]:
    """Times are Unix times, or null."""
    return {
        "account": name,
        "state": _state(habit, begin),
        "clear": habit.clear or None,
        "mechanism": habit.mechanism or None,
        "tls": habit.secured or None,
        "days_counted": notch.days if notch else 0,
        "refused_since": notch.latched if notch else None,
    }
