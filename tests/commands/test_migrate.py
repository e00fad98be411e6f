"""The commands `pillarbox migrate`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pillarbox import administration
from pillarbox.commands.migrate import app
from pillarbox.home import Home
from pillarbox.store.ratchet import Ratchet
from pillarbox.terms import Misuse, Refused

from .test_exposed import ALICE, attempt, write
from .test_exposed import home as home

DOMAIN = "@localhost.localdomain"


def run(home: Home, *words: str) -> None:
    app([*words, "--home", home.folder], exit_on_error=False, print_error=False, result_action="return_value")


def named(name: str) -> str:
    return name + DOMAIN


@pytest.fixture
def used(home: Home) -> Home:
    for name in ("bob", "carol", "dave"):
        administration.add(home, name, b"violin case 55")
    write(
        home,
        attempt(40, account=named("carol")),
        attempt(3, "APOP", "digest"),
        attempt(2, "USER", "nothing"),
        attempt(1, "USER", "nothing", account=named("bob")),
        attempt(1, account=named("bob"), reason="badcred"),
        attempt(1, account=named("system"), mechanism="PLAIN"),
    )
    return home


def test_how_many_are_still_in_the_clear(used: Home, capsys: pytest.CaptureFixture[str]) -> None:
    run(used, "status", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["accounts"], said["in_the_clear"], said["no_login"], said["days"]) == (5, 2, 1, 30)
    states = {one["account"].removesuffix(DOMAIN): (one["state"], one["mechanism"]) for one in said["all"]}
    assert states == {
        "system": ("in the clear", "PLAIN"),
        "alice": ("in the clear", "APOP"),
        "carol": ("in the clear long ago", "USER"),
        "bob": ("TLS only", None),
        "dave": ("no login", None),
    }
    run(used, "status", "--days", "2")
    said_again = capsys.readouterr()
    assert "1 of 5 accounts still in the clear within 2 days; 1 without a login" in said_again.err
    assert [line.split("\t")[0] for line in said_again.out.splitlines()][:2] == [named("system"), ALICE]


@pytest.mark.parametrize("days", ["0", "-1", "999999999"])
def test_days_are_bounded(used: Home, days: str) -> None:
    with pytest.raises(Misuse):
        run(used, "status", f"--days={days}")


def test_whom_the_ratchet_holds_and_its_release(used: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="does not hold"):
        run(used, "release", "alice")
    ratchet = Ratchet(used.ratchet)
    ratchet.count(named("bob"), 1)
    ratchet.count(ALICE, 1)
    ratchet.count(ALICE, 2)
    ratchet.latch(ALICE, time.time())
    run(used, "status")
    rows = {row[0]: row[-1] for row in (line.split("\t") for line in capsys.readouterr().out.splitlines())}
    assert rows[ALICE].startswith("refused since 20") and rows[named("bob")] == "1 days counted"
    run(used, "release", "alice")
    assert ratchet.find(ALICE) is None
    ratchet.close()
    with pytest.raises(Refused, match="does not hold"):
        run(used, "release", "alice")
    assert Path(used.ratchet).stat().st_mode & 0o077 == 0
