"""What is right in a configuration, and still can't work."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pillarbox import administration, config
from pillarbox.broker.directory import NO_POSTMASTER
from pillarbox.commands.config_warnings import CLASSIC, NO_DOT_QMAIL, warnings
from pillarbox.home import Home
from pillarbox.store import cdb


@pytest.fixture
def home(place: Path) -> Home:
    """A home with the accounts alice and bob."""
    made = Home(str(place))
    for name in ("alice", "bob"):
        administration.add(made, name, b"violin case 55")
    return made


def found(home: Home, text: str) -> list[str]:
    Path(home.config).write_text(text)
    return list(warnings(home, config.load(home.config)))


def nobody(key: str, name: str, target: str) -> str:
    return f'`{key}` leads "{name}" to "{target}", which is neither an account nor an alias'


def circle(name: str, target: str) -> str:
    return f'`aliases` leads "{name}" to "{target}", and in a circle, to nobody'


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[aliases]\ninfo = ["alice", "Bob@localhost.localdomain", "carl@elsewhere.test", "alice-lists", "postmaster"]',
        '[aliases]\ninfo = "sales"\nsales = "alice"\n[forwards]\nbob = ["bob", "info"]',
        '[aliases]\n"@localhost.localdomain" = "alice"\ninfo = "anybody"',
        '[aliases]\na = ["b", "alice"]\nb = "a"',
        '[aliases]\nalice = ["alice", "bob"]',
    ],
)
def test_what_leads_to_somebody_is_right(text: str, home: Home) -> None:
    assert found(home, text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[aliases]\ninfo = ["alice", "nosuch"]', [nobody("aliases", "info", "nosuch")]),
        ('[aliases]\ninfo = "x@localhost.localdomain"', [nobody("aliases", "info", "x@localhost.localdomain")]),
        ('[aliases]\ninfo = "sales"\nsales = "nosuch"', [nobody("aliases", "sales", "nosuch")]),
        ('[forwards]\nalice = ["alice", "nosuch"]', [nobody("forwards", "alice", "nosuch")]),
        ('[forwards]\ncarl = "alice"', ['`forwards` holds "carl", and there is no such account']),
        ('[aliases]\na = "b"\nb = "A@localhost.localdomain"',
         [circle("a", "b"), circle("b", "A@localhost.localdomain")]),
        ('[aliases]\na = "a"', [circle("a", "a")]),
        ('[aliases]\na = "b"\nb = "b"', [circle("b", "b")]),
    ],
)  # fmt: skip
def test_what_leads_to_nobody_is_told(text: str, told: list[str], home: Home) -> None:
    assert found(home, text) == told


def test_accounts_that_are_kept_elsewhere_are_not_guessed_at(home: Home) -> None:
    assert found(home, '[accounts]\nsource = ["local", "passwd"]\n[aliases]\ninfo = "nosuch"') == []


def test_before_the_first_account_nothing_is_made(place: Path) -> None:
    place.mkdir(mode=0o711)
    (told,) = found(Home(str(place)), '[aliases]\ninfo = "alice"')
    assert "there are no accounts yet" in told
    assert os.listdir(place) == ["pillarbox.toml"]


def test_accounts_that_can_not_be_read_are_no_error(home: Home) -> None:
    os.unlink(home.key)
    (told,) = found(home, '[aliases]\ninfo = "alice"')
    assert told.startswith("whether `aliases` and `forwards` lead to somebody can't be told: ") and home.key in told


def test_the_classic_style_has_its_price(home: Home) -> None:
    assert found(home, '[relay]\nstyle = "classic"') == [CLASSIC]


def test_files_that_are_not_there_are_told(home: Home, open_folder: Path) -> None:
    there = open_folder / "secret"
    there.write_text("x")
    there.chmod(0o644)
    login = '[delivery]\nsmarthost = "mail.x.test:587"\nsmarthost_user = "us"\n'
    assert found(home, f'{login}smarthost_secret_file = "{there}"\nca_file = "{there}"') == []
    secret, authorities = found(home, f'{login}smarthost_secret_file = "/no/such"\nca_file = "/no/ca"')
    assert secret.startswith('`delivery.smarthost_secret_file` is "/no/such", which can\'t be read')
    assert authorities.startswith('`delivery.ca_file` is "/no/ca"') and authorities.endswith(
        "No such file or directory"
    )


def test_rules_that_would_keep_the_server_from_starting(home: Home, tmp_path: Path) -> None:
    (tmp_path / "good.cdb").write_bytes(cdb.content([(b"", b"D\0")]))
    (tmp_path / "bad.cdb").write_text("1.2.3.4:allow\n")
    keys = f'[policy]\nrules_smtp = "{tmp_path}/good.cdb"\nrules_pop3 = "{tmp_path}/bad.cdb"'
    assert found(home, keys) == [f'`policy.rules_pop3` is "{tmp_path}/bad.cdb", which is no good: Protocol error']
    (told,) = found(home, '[policy]\nrules_smtp = "/no/such.cdb"')
    assert told == '`policy.rules_smtp` is "/no/such.cdb", which is no good: No such file or directory'


@pytest.mark.root
def test_files_are_looked_at_as_who_will_read_them(home: Home, open_folder: Path) -> None:
    closed = open_folder / "secret"
    closed.write_text("x")
    closed.chmod(0o600)
    (told,) = found(home, f'[delivery]\nca_file = "{closed}"')
    assert told.endswith("can't be read by the user of `users.queue`: Permission denied")
    assert os.geteuid() == 0


@pytest.mark.parametrize(("source", "told"), [('["local"]', [NO_DOT_QMAIL]), ('["local", "passwd"]', [])])
def test_dot_qmail_without_system_users_is_warned_of(home: Home, source: str, told: list[str]) -> None:
    assert found(home, f"[accounts]\ndot_qmail = true\nsource = {source}") == told


# Postmaster, and the alias user.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", [NO_POSTMASTER]),
        ('[aliases]\ninfo = "alice"', [NO_POSTMASTER]),
        ('[aliases]\nPostmaster = "alice"', []),
        ('[aliases]\n"postmaster@localhost.localdomain" = "alice"', []),
        ('[aliases]\n"@localhost.localdomain" = "alice"', []),
    ],
)
def test_a_postmaster_who_is_nobody_is_told(text: str, told: list[str], home: Home) -> None:
    assert found(home, f'[accounts]\nsource = ["passwd"]\n{text}') == told


@pytest.mark.root
def test_the_alias_users_folder_is_looked_at(home: Home, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place / "alias"
    folder.mkdir()
    entry = pwd.struct_passwd(("alias", "x", 4242, 4242, "", str(folder), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {"alias": entry}[name])
    text = '[accounts]\nsource = ["passwd"]\ndot_qmail = true\n'
    assert found(home, text) == [f"{NO_POSTMASTER}, or in {folder}/.qmail-postmaster"]
    (folder / ".qmail-default").write_text("&alice\n")
    assert found(home, text) == []
    os.chown(folder, 4243, 4243)
    told = found(home, text)
    assert len(told) == 2 and f"chown alias {folder}" in told[0] and told[1] == NO_POSTMASTER
