"""Local accounts in SQLite, and the rule for names."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store.accounts import AccountStore, full_name
from pillarbox.store.secrets import Seal
from pillarbox.terms import Refused, TryLater

DOMAINS = ("example.test", "example.org")
SEAL = Seal(bytes(32))
ALICE = "alice@example.test"


def opened(folder: Path, seal: Seal = SEAL) -> AccountStore:
    return AccountStore(str(folder / "accounts.db"), seal, "/mail")


# Names.


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("alice", ALICE),
        (b"ALICE", ALICE),
        (b"Alice@Example.Test", ALICE),
        (b"alice@example.org", "alice@example.org"),
        (b"alice@elsewhere.test", "alice@elsewhere.test"),
        (b"a.b_c+d-e@example.test", "a.b_c+d-e@example.test"),
        (b"x" * 64, "x" * 64 + "@example.test"),
        (b"a@b", "a@b"),
    ],
)
def test_a_login_leads_to_a_full_name(login: str | bytes, name: str) -> None:
    assert full_name(login, DOMAINS) == name


@pytest.mark.parametrize(
    "login",
    [
        b"",
        b"@",
        b"@example.test",
        b"alice@",
        b".alice",
        b"alice.",
        b"al..ice",
        b"..",
        b"../../etc/passwd",
        b"a/b",
        b"a\0b",
        b"alice\n",
        b"alice@example.test\n",
        b"alice@@example.test",
        b"al ice",
        b"alice@.example.test",
        b"alice@example..test",
        b"alice@example.test.",
        b"alice@-example.test",
        b"alice@example-.test",
        b"alice@..",
        b"alice@a/b",
        b"x" * 65,
        b"a@" + b"x" * 254,
        b"\xff\xfe",
        "\u212aelvin",  # the Kelvin sign, whose lower case is a plain k
        "al\u0131ce",
        "\udcff",
    ],
)
def test_what_is_no_account_name(login: str | bytes) -> None:
    assert full_name(login, DOMAINS) is None


def test_a_local_part_alone_needs_a_domain() -> None:
    assert full_name("alice", ()) is None
    assert full_name("alice", ("Example.TEST",)) == ALICE


@given(st.one_of(st.binary(max_size=90), st.text(max_size=90)))
def test_no_login_makes_trouble_or_a_path(login: str | bytes) -> None:
    name = full_name(login, DOMAINS)
    if name is not None:
        assert name == full_name(name, ())
        assert name.isascii()
        assert "/" not in name
        assert not {"", ".", ".."} & set(name.split("@"))


# The store.


def test_accounts_outlive_the_process(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in (ALICE, "zoe@example.test", "bob@example.test"):
        store.add(name, name.encode())
    store.set_secret("bob@example.test", b"another one")
    store.remove("zoe@example.test")
    store.close()
    store = opened(tmp_path)
    assert store.names() == [ALICE, "bob@example.test"]
    assert store.secret("bob@example.test") == b"another one"


def test_the_order_of_creation_survives_a_clock_that_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    for now, name in ((3000.0, "c@b.test"), (2000.0, "b@b.test"), (1000.0, "a@b.test")):
        monkeypatch.setattr("time.time", lambda now=now: now)
        store.add(name, b"secret")
    assert store.names() == ["c@b.test", "b@b.test", "a@b.test"]
    assert store.first(["a.test", "b.test"]) == "c@b.test"
    assert store.first(["a.test"]) is None


def test_an_empty_store(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.names() == []
    assert store.first(["b.test"]) is None


@pytest.mark.parametrize("name", ["", "alice", "Alice@example.test", "../x@example.test", "a@b@c", "a|b@c.test"])
def test_an_account_can_only_have_a_proper_name(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path)
    with pytest.raises(Refused, match="local@domain"):
        store.add(name, b"secret")
    assert store.names() == []


@pytest.mark.parametrize("name", ["", "\udcff", "\0", "x" * 100_000, "' OR 1=1 --"])
def test_a_hostile_name_is_nobodys(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path)
    store.add(ALICE, b"secret")
    assert store.find(name) is None
    assert store.secret(name) is None


def test_changes_of_who_does_not_exist_are_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for change in (lambda: store.remove(ALICE), lambda: store.set_secret(ALICE, b"secret")):
        with pytest.raises(Refused, match="there is no account alice@example"):
            change()


def test_an_account_made_again_does_not_have_its_old_secret(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(ALICE, b"old secret")
    store.remove(ALICE)
    assert store.secret(ALICE) is None
    store.add(ALICE, b"new secret")
    assert store.secret(ALICE) == b"new secret"


def test_the_broker_sees_what_the_command_line_writes(tmp_path: Path) -> None:
    broker, command_line = opened(tmp_path), opened(tmp_path)
    assert broker.find(ALICE) is None
    command_line.add(ALICE, b"first")
    assert broker.secret(ALICE) == b"first"
    command_line.set_secret(ALICE, b"second")
    assert broker.secret(ALICE) == b"second"
    command_line.remove(ALICE)
    assert broker.find(ALICE) is None


def test_reading_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(ALICE, b"secret")
    writer = sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM account")
    assert store.secret(ALICE) == b"secret"
    writer.execute("ROLLBACK")
    writer.close()


def test_no_secret_lies_in_the_clear_and_no_file_is_readable_by_others(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add(ALICE, b"canary-in-a-mine")
    assert sorted(os.listdir(tmp_path)) == ["accounts.db", "accounts.db-shm", "accounts.db-wal"]
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"canary" not in path.read_bytes()
    assert "canary" not in repr(store)


def test_a_database_that_others_can_read_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "accounts.db").chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        opened(tmp_path)


def test_a_secret_moved_to_another_account_opens_for_nobody(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.add("mallory@example.test", b"well known")
    store.add(ALICE, b"secret")
    thief = sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)
    thief.execute("UPDATE account SET secret = (SELECT secret FROM account WHERE name LIKE 'mallory%')")
    thief.close()
    with pytest.raises(TryLater, match="damaged"):
        store.secret(ALICE)


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    opened(tmp_path).add(ALICE, b"secret")
    with pytest.raises(TryLater, match="another key"):
        opened(tmp_path, Seal(bytes(31) + b"x")).secret(ALICE)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    path.write_bytes(b"this is no database" * 100)
    path.chmod(0o600)
    with pytest.raises(TryLater, match=r"accounts\.db: file is not a database"):
        opened(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match=r"nowhere/accounts\.db: No such file"):
        opened(tmp_path / "nowhere")


def test_a_locked_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.store.database.BUSY_SECONDS", 0.0)
    store = opened(tmp_path)
    other = sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TryLater, match=r"accounts\.db: database is locked"):
        store.add(ALICE, b"secret")
    other.close()
    store.add(ALICE, b"secret")


def test_a_later_schema_is_not_touched(tmp_path: Path) -> None:
    opened(tmp_path).close()
    later = sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)
    later.execute("UPDATE schema_version SET version = 3")
    later.close()
    with pytest.raises(TryLater, match="schema 3"):
        opened(tmp_path)


def _open_and_add(folder: Path, number: int) -> None:
    store = opened(folder)
    store.add(f"u{number}@example.test", b"secret")
    store.close()


def test_many_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open_and_add, args=(tmp_path, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert sorted(opened(tmp_path).names()) == [f"u{number}@example.test" for number in range(8)]


def test_whether_there_are_passwords_is_looked_up_once_until_somebody_writes(tmp_path: Path) -> None:
    """A wrong secret asks, and in a database without passwords each look passes over every account."""
    key, path = os.urandom(32), str(tmp_path / "accounts.sqlite3")
    ours, theirs = (AccountStore(path, Seal(key), "/mail") for _ in range(2))
    looked: list[str] = []
    ours._database._connection.set_trace_callback(lambda said: looked.append(said) if "IS NOT NULL" in said else None)
    ours.add("alice@example.test", b"secret")
    assert not ours.has_passwords() and not ours.has_passwords() and len(looked) == 1
    theirs.set_password("alice@example.test", "$argon2id$")
    assert ours.has_passwords() and ours.has_passwords() and len(looked) == 2
    ours.set_secret("alice@example.test", b"secret")
    assert not ours.has_passwords() and theirs.has_passwords() is False
    ours.close()
    theirs.close()
