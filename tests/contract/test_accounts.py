"""What every source of accounts promises (store.contract.Accounts)."""

from __future__ import annotations

import os
import pwd
from contextlib import nullcontext
from pathlib import Path

import pytest

from pillarbox.store.accounts import AccountStore
from pillarbox.store.contract import Accounts
from pillarbox.store.passwd import PasswdAccounts
from pillarbox.store.secrets import Seal

ALICE, BOB = "alice@example.test", "bob@example.test"  # bob has no secret
UID, GID = os.geteuid() or 4242, os.getegid() or 4242


def local(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    store = AccountStore(str(folder / "accounts.db"), Seal(bytes(32)), str(folder / "mail"))
    store.add(ALICE, b"secret of alice")
    store.add(BOB, b"")
    return store


def passwd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    users = {}
    for name in ("alice", "bob"):
        home = folder / name
        (home / "Maildir").mkdir(parents=True)
        os.chown(home, UID, GID)
        users[name] = pwd.struct_passwd((name, "x", UID, GID, "", str(home), "/bin/sh"))
    file = folder / "alice" / "Maildir" / ".password"
    file.write_bytes(b"secret of alice\n")
    file.chmod(0o600)
    os.chown(file, UID, GID)
    monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
    return PasswdAccounts("Maildir/.password", ("example.test",), lambda uid, gid: nullcontext())


@pytest.fixture(params=[local, passwd], ids=["local", "passwd"])
def accounts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    made: Accounts = request.param(tmp_path, monkeypatch)
    return made


def test_an_account_is_found_by_its_full_name(accounts: Accounts, tmp_path: Path) -> None:
    account = accounts.find(ALICE)
    assert account is not None
    assert account.name == ALICE
    assert account.maildir.startswith(f"{tmp_path}/")
    assert account.uid != 0
    assert accounts.find(account.name) == account


def test_two_accounts_have_two_maildirs(accounts: Accounts) -> None:
    alice, bob = accounts.find(ALICE), accounts.find(BOB)
    assert alice is not None
    assert bob is not None
    assert alice.maildir != bob.maildir


def test_a_secret_is_the_accounts_own(accounts: Accounts) -> None:
    assert accounts.secret(ALICE) == b"secret of alice"


def test_an_account_without_a_secret_is_one_all_the_same(accounts: Accounts) -> None:
    assert accounts.find(BOB) is not None
    assert not accounts.secret(BOB)


@pytest.mark.parametrize("name", ["", "carol@example.test", "alice@example.org", "../alice@example.test", "\udcff@x"])
def test_nobody_is_nobody(accounts: Accounts, name: str) -> None:
    assert accounts.find(name) is None
    assert accounts.secret(name) is None
