"""The commands `pillarbox account`."""

from __future__ import annotations

import io
import os
import poplib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox import cli
from pillarbox.administration import opened
from pillarbox.home import Home
from pillarbox.testing import Server, server

from .command_line import SECRET, login, say, type_in
from .system_users import system_user


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts={"alice": SECRET}) as running:
        yield running


def test_accounts_come_and_go(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    added = say(capsys, "account", "add", "Alice", "--home", place)
    assert added.status == 0
    assert added.out.startswith("account alice@localhost.localdomain added\nsecret: ")
    assert len(added.out.split("secret: ")[1]) >= 26
    assert say(capsys, "account", "add", "bob@localhost.localdomain", "--home", place).status == 0
    listed = say(capsys, "account", "list", "--home", place)
    assert [line.split("\t")[0] for line in listed.out.split("\n")[:-1]] == [
        "alice@localhost.localdomain",
        "bob@localhost.localdomain",
    ]
    assert say(capsys, "account", "remove", "alice", "--home", place).status == 0
    again = say(capsys, "account", "remove", "alice", "--home", place)
    assert again.status == 1 and "no account alice@localhost.localdomain" in again.err


def test_a_secret_is_shown_once_and_never_when_it_was_given(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"a chosen secret, long\r\n")
    given = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert given.status == 0 and "chosen" not in given.out + given.err
    made = say(capsys, "account", "secret", "alice", "--home", place)
    secret = made.out.split("secret: ")[1].removesuffix("\n")
    rest = [say(capsys, *words, "--home", place) for words in (["account", "list"], ["status"], ["config", "show"])]
    assert not any(secret in said.out + said.err for said in rest)
    for root, _, files in os.walk(place):
        for file in files:
            assert secret.encode() not in (Path(root) / file).read_bytes()


@pytest.mark.parametrize("text", [b"", b"short\n", b"tab\tinside it\n", b" blank before\n"])
def test_a_bad_secret_is_refused_and_not_repeated(
    text: bytes, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, text)
    said = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert said.status == 1 and said.err.count("\n") == 1
    assert not text.strip(b"\n") or text.strip(b"\n").decode() not in said.err
    assert say(capsys, "account", "list", "--home", place).out == ""


@pytest.mark.parametrize("name", ["", "a b", "alice@elsewhere.test", "../x", "a@b@c", "ali\u00e7e", ".alice"])
def test_a_bad_name_is_refused(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "account", "add", "--home", place, "--", name)
    assert said.status == 1 and said.err.count("\n") == 1 and not said.out


def test_an_account_outlives_its_domain(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    (place / "pillarbox.toml").write_text('domains = ["new.test"]')
    say(capsys, "account", "add", "bob", "--home", place)
    listed = say(capsys, "account", "list", "--home", place).out.splitlines()
    assert [line.split("\t")[2:] for line in listed] == [[cli.FOREIGN], []]
    old = "alice@localhost.localdomain"
    assert "secret: " in say(capsys, "account", "secret", old, "--home", place).out
    assert say(capsys, "account", "remove", old, "--home", place).status == 0
    assert say(capsys, "account", "add", old, "--home", place).status == 1


def test_mail_of_a_removed_account_is_not_handed_over_in_silence(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    maildir = place / "mail" / "localhost.localdomain" / "alice"
    (maildir / "new").mkdir(parents=True)
    (maildir / "new" / "1.a.b").write_text("Subject: x\n\n")
    assert str(maildir) in say(capsys, "account", "remove", "alice", "--home", place).out
    assert f"1 message lies in {maildir} already" in say(capsys, "account", "add", "alice", "--home", place).out


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a user is made")
@pytest.mark.root
@pytest.mark.parametrize(
    ("sources", "told"),
    [
        (
            '["local", "passwd"]',
            "this account goes before the system user {user}, whose logins and mail, {maildir}, it",
        ),
        ('["passwd", "local"]', "the system user {user} goes before this account in `accounts.source`: nobody can use"),
        ('["local"]', ""),
    ],
)
def test_an_account_with_the_name_of_a_system_user(
    sources: str, told: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text(f"[accounts]\nsource = {sources}\n")
    with system_user(f"pbxn{os.getpid()}") as user:
        added = say(capsys, "account", "add", user.pw_name, "--home", place)
        expected = told.format(user=user.pw_name, maildir=f"{user.pw_dir}/Maildir")
        assert added.status == 0
        assert f"warning: {expected}" in added.err if told else "warning" not in added.err
    other = say(
        capsys, "account", "add", "backup", "--home", place
    )  # as a system user it is no account: its home is root's
    assert (other.status, "warning" in other.err) == (0, False)
    listed = say(capsys, "account", "list", "--home", place)
    assert ("users of this system are accounts, too" in listed.err) == bool(told)


@pytest.mark.parametrize("command", [["list"], ["secret", "alice"], ["remove", "alice"]])
def test_looking_at_accounts_makes_no_home(command: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "account", *command, "--home", place)
    assert said.status == 1 and said.err == (
        f"pillarbox: there is no home in {place}: `account add NAME --home {place}` makes one, --home names another\n"
    )
    assert not place.exists()


def test_no_accounts_are_told_beside_the_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text("")
    said = say(capsys, "account", "list", "--home", place)
    assert (said.status, said.out, said.err) == (0, "", "no accounts\n")


def test_system_users_alone_leave_no_accounts_to_make(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text('[accounts]\nsource = ["passwd"]')
    said = say(capsys, "account", "add", "alice", "--home", place)
    assert said.status == 1 and "accounts.source" in said.err


def test_a_typed_secret_is_not_echoed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("seen by everybody\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "a typed secret, long enough" if prompt else "")
    said = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert said.status == 0 and "typed" not in said.out + said.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"a secret of 19 char\n", "20 characters or more"),
        (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "can be guessed in less than a second"),
        (b"passwordpasswordpassword\n", "can be guessed in less than a second"),
    ],
)
def test_a_secret_that_is_easily_guessed_is_not_for_apop(
    text: bytes, why: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, text)
    said = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert said.status == 1 and why in said.err and text.strip().decode() not in said.err


def test_how_long_guessing_takes_is_said(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"correct horse battery staple\n")
    said = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert said.status == 0 and re.search("takes a graphics card about [0-9]+ years; a generated one", said.err)


def test_a_password_lies_nowhere_and_takes_the_place_of_the_secret(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"my own password\n")
    said = say(capsys, "account", "add", "alice", "--password-stdin", "--home", place)
    assert said.status == 0 and "secret" not in said.out + said.err
    for root, _, files in os.walk(place):
        for file in files:
            assert b"my own password" not in (Path(root) / file).read_bytes()
    with opened(Home(str(place))) as (_, store):
        (kept,) = store.credentials("alice@localhost.localdomain")
        assert kept.hashed and kept.secret.startswith(b"$argon2id$") and store.has_passwords()
        assert store.secret("alice@localhost.localdomain") is None
    assert say(capsys, "account", "secret", "alice", "--home", place).status == 0
    with opened(Home(str(place))) as (_, store):
        assert store.credentials("alice@localhost.localdomain") == () and not store.has_passwords()
        assert store.secret("alice@localhost.localdomain")
    type_in(monkeypatch, b"another password\n")
    assert say(capsys, "account", "secret", "alice", "--password-stdin", "--home", place).status == 0
    with opened(Home(str(place))) as (_, store):
        assert store.has_passwords() and store.secret("alice@localhost.localdomain") is None


def test_a_password_and_a_secret_exclude_each_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "account", "add", "alice", "--password-stdin", "--secret-stdin", "--home", place)
    assert said.status == 2 and "exclude each other" in said.err


def test_a_lost_key_is_not_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    (place / "secret.key").unlink()
    said = say(capsys, "account", "add", "bob", "--home", place)
    assert said.status == 1 and "restore it" in said.err
    assert not (place / "secret.key").exists()


def test_account_changes_work_at_once_while_the_server_runs(
    running: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = say(capsys, "account", "add", "dora", "--home", running.home).out.split("secret: ")[1].strip("\n")
    login(running, "dora", secret)
    renewed = say(capsys, "account", "secret", "dora", "--home", running.home).out.split("secret: ")[1].strip("\n")
    with pytest.raises(poplib.error_proto):
        login(running, "dora", secret)
    login(running, "dora", renewed)
    assert say(capsys, "account", "remove", "dora", "--home", running.home).status == 0
    with pytest.raises(poplib.error_proto):
        login(running, "dora", renewed)
