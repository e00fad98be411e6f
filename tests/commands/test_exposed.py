"""The command `pillarbox exposed` over a ledger."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pillarbox import administration
from pillarbox.commands.exposed import age, app
from pillarbox.home import Home
from pillarbox.store.ledger import Ledger
from pillarbox.store.ledger_line import Entry
from pillarbox.terms import Misuse, Refused

ALICE = "alice@localhost.localdomain"
DAY = 86_400.0


@pytest.fixture
def home(place: Path) -> Home:
    made = Home(str(place))
    administration.add(made, "alice", b"violin case 55")
    os.mkdir(made.ledger, 0o700)
    return made


def write(home: Home, *entries: Entry) -> None:
    ledger = Ledger(home.ledger, home.ledger_key, 10)
    for entry in entries:
        ledger.append(entry)
    ledger.close()


def attempt(days: float = 0, mechanism: str = "USER", exposure: str = "password", **more: object) -> Entry:
    words = {"account": ALICE, "address": "192.0.2.7", "protocol": "pop3", **more}
    return Entry(0, time.time() - days * DAY, mechanism=mechanism, exposure=exposure, **words)  # type: ignore[arg-type]


def run(home: Home, *words: str) -> None:
    app([*words, "--home", home.folder], exit_on_error=False, print_error=False, result_action="return_value")


def test_who_exposed_what_and_what_to_do(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        home,
        attempt(40),
        attempt(20, "APOP", "digest"),
        attempt(10),
        attempt(5, reason="policy"),
        attempt(1, "USER", "nothing", tls="TLSv1.3"),
        attempt(1, account="", reason="badcred", address="198.51.100.1"),
    )
    run(home, "--json")
    found = json.loads(capsys.readouterr().out)["exposed"]
    assert [(one["account"], one["exposure"], one["mechanism"], one["times"]) for one in found] == [
        (ALICE, "password", "USER", 2),
        (ALICE, "digest", "APOP", 1),
        (ALICE, "nothing", "USER", 1),
        (None, "password", "USER", 1),
    ]
    worst = found[0]
    assert (worst["refused"], worst["network"]) == (1, "192.0.2.0/24")
    assert round((worst["last"] - worst["first"]) / DAY) == 5
    assert "port 1995, SSL/TLS" in worst["remedy"] and found[2]["remedy"] is None
    run(home, "--since", "all")
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:5] == [ALICE, "PASSWORD", "pop3 USER", "192.0.2.0/24", "3 (1 refused)"]
    assert all(len(row) == 8 for row in rows)


def test_lines_that_are_none_are_told(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, attempt(), attempt())
    path = Path(home.ledger, "00000001.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"seq":2', b'"seq:2'))
    run(home)
    said = capsys.readouterr()
    assert "1 lines could not be read" in said.err and said.out.count("\n") == 1


def test_an_empty_ledger_and_none(home: Home, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(home)
    assert capsys.readouterr().err == "no attempts to log in\n"
    os.rmdir(home.ledger)
    with pytest.raises(Refused, match="no server has run"):
        run(home)


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("30d", 30 * DAY), ("8w", 56 * DAY)])
def test_ages(text: str, seconds: float) -> None:
    assert age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30 d", "1234567d", "\u0663d", "30y"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(Misuse):
        age(text)
