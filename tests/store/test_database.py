"""The database of accounts: a file as version 0.1.0 made it, and what becomes of it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pillarbox.store import database
from pillarbox.store.accounts import AccountStore
from pillarbox.store.secrets import Seal
from pillarbox.terms import TryLater

KEY = bytes(range(32))
ALICE, BOB = "alice@example.test", "bob@example.test"
FIRST_SCHEMA = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE account (name VARCHAR(320) PRIMARY KEY, number INTEGER NOT NULL UNIQUE, created DOUBLE PRECISION NOT NULL, secret BLOB);
INSERT INTO schema_version (version) VALUES (1);
"""  # noqa: E501


def sealed(secret: bytes, account: str) -> bytes:
    """As version 0.1.0 did, by its documentation alone."""
    head = b"\x01" + hashlib.sha256(b"pillarbox key id" + KEY).digest()[:4]
    nonce = os.urandom(12)
    return head + nonce + AESGCM(KEY).encrypt(nonce, secret, f"{account}||apop|1".encode())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of version 0.1.0, with two accounts in a log that no checkpoint has emptied."""
    path = tmp_path / "accounts.sqlite3"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(FIRST_SCHEMA)
    for number, name in enumerate((ALICE, BOB), 1):
        values = (name, number, 1_790_000_000.0, sealed(name.encode(), name))
        connection.execute("INSERT INTO account VALUES (?, ?, ?, ?)", values)
    connection.close()
    return path


def opened(path: Path, key: bytes = KEY) -> AccountStore:
    return AccountStore(str(path), Seal(key), "/mail")


def test_an_old_database_keeps_its_accounts_and_can_have_devices(old: Path) -> None:
    store = opened(old)
    assert store.names() == [ALICE, BOB]
    assert store.secret(ALICE) == ALICE.encode() and store.secret(BOB) == BOB.encode()
    store.devices.add(ALICE, "phone", b"of the phone", sends=False)
    store.close()
    store = opened(old)
    assert [device.label for device in store.devices.of(ALICE)] == ["phone"]
    assert store.devices.key_id() == Seal(KEY).key_id


def test_a_copy_of_the_old_file_is_kept_closed_to_others_and_whole(old: Path) -> None:
    opened(old).close()
    copy = old.with_name("accounts.sqlite3.v1")
    assert copy.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
    names = connection.execute("SELECT name FROM account ORDER BY number").fetchall()
    connection.close()
    assert names == [(ALICE,), (BOB,)]
    assert sorted(os.listdir(old.parent)) == ["accounts.sqlite3", "accounts.sqlite3.v1"]


def test_a_copy_that_a_killed_process_left_is_removed_and_one_that_is_being_made_is_not(old: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, growing = (old.with_name(f"accounts.sqlite3.{pid}.0123abcd.tmp") for pid in (dead.pid, os.getpid()))
    for path in (left, growing):
        path.write_bytes(b"secrets")
    opened(old).close()
    assert not left.exists() and growing.read_bytes() == b"secrets"


def test_version_0_1_0_can_still_read_a_changed_database(old: Path) -> None:
    """A server that was not restarted yet goes on."""
    running = sqlite3.connect(old, isolation_level=None)
    store = opened(old)
    store.set_secret(ALICE, b"another")
    (found,) = running.execute("SELECT secret FROM account WHERE name = ?", (ALICE,)).fetchone()
    assert Seal(KEY).unseal(found, account=ALICE) == b"another"


def test_a_change_that_fails_in_the_middle_leaves_the_old_database(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(database, "_SECOND", (*database._SECOND, "INSERT INTO nowhere VALUES (1)"))
        with pytest.raises(TryLater, match="nowhere"):
            opened(old)
    connection = sqlite3.connect(old)
    assert connection.execute("SELECT version FROM schema_version").fetchone() == (1,)
    connection.close()
    assert opened(old).secret(ALICE) == ALICE.encode()


def _open(path: Path) -> None:
    assert opened(path).names() == [ALICE, BOB]


def test_many_processes_may_bring_it_up_to_date_at_once(old: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open, args=(old,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    copy = sqlite3.connect(old.with_name("accounts.sqlite3.v1"))
    assert copy.execute("SELECT version FROM schema_version").fetchone() == (1,)
    copy.close()


def test_with_another_key_nothing_is_lost_and_nothing_new_is_sealed(old: Path) -> None:
    """A key that was mixed up: what would be written with it could not be opened once the right one is back."""
    store = opened(old, bytes(32))
    with pytest.raises(TryLater, match="restore that key"):
        store.add("carol@example.test", b"secret of carol")
    store.close()
    assert opened(old).names() == [ALICE, BOB]
