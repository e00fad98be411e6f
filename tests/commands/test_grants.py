"""The commands `pillarbox grants`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pillarbox import administration
from pillarbox.commands.grants import app
from pillarbox.home import Home
from pillarbox.store.grant_key import boot_id, fingerprint_of, grant_key, monotonic
from pillarbox.store.grants import Grants
from pillarbox.store.secrets import load_key
from pillarbox.terms import Misuse, Refused

ALICE, BOB = "alice@localhost.localdomain", "bob@localhost.localdomain"
V4, V6 = "192.0.2.1", "2001:db8::1"
SECRET = b"violin case 55"


@pytest.fixture
def home(place: Path) -> Home:
    """A home with an account and a folder for grants."""
    made = Home(str(place))
    administration.add(made, "alice", SECRET)
    administration.add(made, "bob", SECRET)
    os.mkdir(made.grants, 0o700)
    return made


@pytest.fixture
def grants(home: Home) -> Grants:
    """As a server on this home has them."""
    key = grant_key(load_key(home.key))
    return Grants(home.grants, key=key, boot=boot_id(), expiry=900, messages=20, recipients=100, classic=False)


def mint(grants: Grants, address: str, account: str, ago: float = 0) -> None:
    fingerprint = fingerprint_of(SECRET, account, grants._key)
    grants.mint(address, account, "APOP", fingerprint, time.time() - ago, monotonic() - ago)


def accounts(grants: Grants, address: str) -> list[str]:
    return [stored.grant.account for stored in grants.find(address, time.time(), monotonic())]


def run(home: Home, *words: str) -> None:
    app([*words, "--home", home.folder], exit_on_error=False, print_error=False, result_action="return_value")


def test_who_may_send(home: Home, grants: Grants, capsys: pytest.CaptureFixture[str]) -> None:
    mint(grants, V4, ALICE, 60)
    mint(grants, V6, BOB)
    grants.spend(V4, ALICE, 3, time.time(), monotonic())
    run(home, "list")
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[:3] for row in rows] == [[V4, ALICE, "APOP"], [V6, BOB, "APOP"]]
    assert [row[5:] for row in rows] == [["19", "97"], ["20", "100"]]
    since, until = (time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S")) for text in rows[1][3:5])
    assert until - since == 900


def test_who_may_send_for_programs(home: Home, grants: Grants, capsys: pytest.CaptureFixture[str]) -> None:
    run(home, "list", "--json")
    assert json.loads(capsys.readouterr().out) == {"grants": []}
    mint(grants, V4, ALICE)
    (stored,) = grants.find(V4, time.time(), monotonic())
    run(home, "list", "--json")
    said = capsys.readouterr().out
    assert json.loads(said)["grants"] == [
        {
            "address": V4,
            "account": ALICE,
            "mechanism": "APOP",
            "since": stored.grant.created,
            "until": stored.grant.expires,
            "messages": 20,
            "recipients": 100,
        }
    ]
    assert stored.fingerprint.hex() not in said


def listed(home: Home, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The accounts whose grants are listed."""
    capsys.readouterr()
    run(home, "list", "--json")
    return [grant["account"] for grant in json.loads(capsys.readouterr().out)["grants"]]


def test_a_grant_of_an_old_secret_is_none(home: Home, grants: Grants, capsys: pytest.CaptureFixture[str]) -> None:
    mint(grants, V4, ALICE)
    mint(grants, V6, BOB)
    with administration.opened(home) as (_, store):
        store.set_secret(ALICE, b"another violin")
    assert listed(home, capsys) == [BOB]
    with administration.opened(home) as (_, store):
        store.remove(BOB)
    assert listed(home, capsys) == []
    run(home, "list")
    assert capsys.readouterr().err == "no grants\n"


def test_grants_of_accounts_that_are_kept_elsewhere_are_listed_as_they_are(
    home: Home, grants: Grants, capsys: pytest.CaptureFixture[str]
) -> None:
    user = "user@localhost.localdomain"
    mint(grants, V4, user)
    assert listed(home, capsys) == []
    Path(home.config).write_text('[accounts]\nsource = ["local", "passwd"]')
    assert listed(home, capsys) == [user]
    mint(grants, V6, ALICE)
    with administration.opened(home) as (_, store):
        store.set_secret(ALICE, b"another violin")
    assert listed(home, capsys) == [user]
    Path(home.config).write_text('[accounts]\nsource = ["passwd"]')
    assert sorted(listed(home, capsys)) == [ALICE, user]


def test_nobody_may_send(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(home.grants) / V4).write_bytes(b"USER=mallory\0")
    run(home, "list")
    assert capsys.readouterr() == ("", "no grants\n")


def test_classic_grants(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.config).write_text('[relay]\nstyle = "classic"')
    (Path(home.grants) / V4).write_bytes(b"USER=carol\0")
    run(home, "list")
    assert capsys.readouterr().out.rstrip("\n").split("\t")[5:] == ["any", "any"]
    run(home, "list", "--json")
    (found,) = json.loads(capsys.readouterr().out)["grants"]
    assert (found["account"], found["messages"], found["recipients"]) == ("carol", None, None)


def test_the_folder_is_the_configured_one(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.config).write_text(f'[relay]\nstyle = "classic"\ndirectory = "{tmp_path}"')
    (tmp_path / V6).write_bytes(b"")
    run(home, "list")
    assert capsys.readouterr().out.startswith(f"{V6}\t")


@pytest.mark.parametrize("who", [V4, "::ffff:192.0.2.1"])
def test_an_address_is_revoked(home: Home, grants: Grants, who: str, capsys: pytest.CaptureFixture[str]) -> None:
    mint(grants, V4, ALICE)
    mint(grants, V6, ALICE)
    run(home, "revoke", who)
    assert capsys.readouterr().out == f"{who} has no grant any more\n"
    assert (accounts(grants, V4), accounts(grants, V6)) == ([], [ALICE])


@pytest.mark.parametrize("who", ["alice", "Alice", ALICE])
def test_an_account_is_revoked(home: Home, grants: Grants, who: str) -> None:
    mint(grants, V4, ALICE)
    mint(grants, V4, BOB)
    mint(grants, V6, ALICE)
    run(home, "revoke", who)
    assert (accounts(grants, V4), accounts(grants, V6)) == ([BOB], [])


def test_all_are_revoked(home: Home, grants: Grants, capsys: pytest.CaptureFixture[str]) -> None:
    mint(grants, V4, ALICE)
    mint(grants, V6, BOB)
    run(home, "revoke", "--all")
    assert (accounts(grants, V4), accounts(grants, V6)) == ([], [])
    run(home, "revoke", "--all")
    assert capsys.readouterr().out == "all grants are revoked\nthere were no grants\n"


def test_a_server_goes_on_after_a_revocation(home: Home, grants: Grants) -> None:
    mint(grants, V4, ALICE)
    run(home, "revoke", "alice")
    grants.prolong(V4, ALICE, time.time() + 100, monotonic() + 100)
    assert accounts(grants, V4) == []
    mint(grants, V4, ALICE)
    assert accounts(grants, V4) == [ALICE]


@pytest.mark.parametrize("who", [V4, "alice", "nobody"])
def test_what_is_not_there_is_told(home: Home, who: str) -> None:
    with pytest.raises(Refused, match=f'^"{who}" has no grant$'):
        run(home, "revoke", who)


def test_what_is_no_name_is_told(home: Home) -> None:
    with pytest.raises(Refused, match="no account name"):
        run(home, "revoke", "a b")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name an address, an account, or --all"),
        (["alice", "--all"], '--all revokes every grant: leave out "alice"'),
    ],
)
def test_nothing_is_revoked_by_accident(home: Home, grants: Grants, words: list[str], told: str) -> None:
    mint(grants, V4, ALICE)
    with pytest.raises(Misuse, match=told):
        run(home, "revoke", *words)
    assert accounts(grants, V4) == [ALICE]


@pytest.mark.parametrize("words", [["list"], ["revoke", V4]])
def test_a_home_without_grants_is_told(words: list[str], home: Home) -> None:
    os.rmdir(home.grants)
    with pytest.raises(Refused, match="no server has run on"):
        run(home, *words)


@pytest.mark.parametrize("words", [["list"], ["revoke", V4]])
def test_without_a_home_none_is_made(words: list[str], place: Path) -> None:
    with pytest.raises(Refused, match="there is no home"):
        run(Home(str(place)), *words)
    assert not place.exists()
