"""Devices of an account: their labels, their secrets, their last use."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store.accounts import AccountStore, full_name
from pillarbox.store.devices import DEVICES_LIMIT, Credential, Use, label_of, split_label
from pillarbox.store.secrets import Seal
from pillarbox.terms import Refused, TryLater

ALICE, BOB = "alice@example.test", "bob@example.test"


@pytest.fixture
def store(tmp_path: Path) -> AccountStore:
    store = AccountStore(str(tmp_path / "accounts.db"), Seal(bytes(32)), "/mail")
    for name in (ALICE, BOB):
        store.add(name, b"own secret")
    return store


# Names.


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("alice+phone@example.test", (ALICE, "phone")),
        ("alice+a+phone@example.test", ("alice+a@example.test", "phone")),
        ("alice@example.test", (ALICE, "")),
        ("alice+@example.test", ("alice+@example.test", "")),
        ("+phone@example.test", ("+phone@example.test", "")),
        ("alice+-x@example.test", ("alice+-x@example.test", "")),
        ("", ("", "")),
    ],
)
def test_a_login_name_holds_account_and_label(name: str, parts: tuple[str, str]) -> None:
    assert split_label(name) == parts


@pytest.mark.parametrize("label", ["", "a b", "-a", "a-", "a+b", "a.b", "a|b", "x" * 33, "\u212aelvin", "a\n", "../a"])
def test_what_is_no_label(label: str) -> None:
    with pytest.raises(Refused, match="label"):
        label_of(label)


@given(st.text(max_size=40))
def test_a_label_makes_a_login_name_that_leads_back(text: str) -> None:
    try:
        label = label_of(text)
    except Refused:
        return
    name = full_name(f"alice+{label}", ("example.test",))
    assert name is not None and split_label(name) == (ALICE, label)


# The store.


def test_each_device_has_its_secret(store: AccountStore) -> None:
    store.devices.add(ALICE, "Phone", b"of the phone", ["192.0.2.0/24", "2001:db8::/32"], sends=True)
    store.devices.add(ALICE, "laptop", b"of the laptop", sends=False)
    store.devices.add(BOB, "phone", b"of another phone", sends=False)
    assert set(store.devices.credentials(ALICE)) == {
        Credential(b"of the phone", "phone", ("192.0.2.0/24", "2001:db8::/32"), True),
        Credential(b"of the laptop", "laptop", (), False),
    }
    assert [(device.account, device.label) for device in store.devices.of()] == [
        (ALICE, "laptop"),
        (ALICE, "phone"),
        (BOB, "phone"),
    ]
    assert store.devices.credentials("carol@example.test") == () == store.devices.credentials("\udcff")


def test_a_revoked_device_is_gone(store: AccountStore) -> None:
    store.devices.add(ALICE, "phone", b"of the phone", sends=False)
    store.devices.revoke(ALICE, "PHONE")
    assert store.devices.credentials(ALICE) == () and store.devices.of(ALICE) == []
    with pytest.raises(Refused, match="no device phone"):
        store.devices.revoke(ALICE, "phone")
    store.devices.add(ALICE, "phone", b"another", sends=False)
    assert [credential.secret for credential in store.devices.credentials(ALICE)] == [b"another"]


def test_an_account_that_is_removed_takes_its_devices_along(store: AccountStore) -> None:
    store.devices.add(ALICE, "phone", b"of the phone", sends=False)
    store.devices.add(BOB, "phone", b"of another", sends=False)
    store.remove(ALICE)
    store.add(ALICE, b"of somebody else")
    assert store.devices.of(ALICE) == [] and len(store.devices.of(BOB)) == 1


def test_an_account_has_so_many_devices_and_no_more(store: AccountStore) -> None:
    for number in range(DEVICES_LIMIT):
        store.devices.add(ALICE, f"d{number}", b"secret", sends=False)
    with pytest.raises(Refused, match="revoke one"):
        store.devices.add(ALICE, "another", b"secret", sends=False)
    store.devices.add(BOB, "another", b"secret", sends=False)


def test_one_name_is_never_two_logins(store: AccountStore) -> None:
    store.add("alice+home@example.test", b"an account")
    with pytest.raises(Refused, match="there is an account alice\\+home"):
        store.devices.add(ALICE, "home", b"secret", sends=False)
    store.devices.add(ALICE, "phone", b"secret", sends=False)
    with pytest.raises(Refused, match="device phone"):
        store.add("alice+phone@example.test", b"secret")
    with pytest.raises(Refused, match="already"):
        store.devices.add(ALICE, "PHONE", b"secret", sends=False)


def test_a_secret_moved_to_another_device_opens_for_nobody(store: AccountStore, tmp_path: Path) -> None:
    store.devices.add(ALICE, "phone", b"secret", sends=False)
    thief = sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)
    thief.execute("UPDATE device SET label = 'laptop'")
    with pytest.raises(TryLater, match="damaged"):
        store.devices.credentials(ALICE)
    thief.execute("UPDATE device SET label = 'phone', account = ?", (BOB,))
    thief.close()
    with pytest.raises(TryLater, match="damaged"):
        store.devices.credentials(BOB)


def test_no_secret_shows(store: AccountStore, tmp_path: Path) -> None:
    store.devices.add(ALICE, "phone", b"canary-in-a-mine", sends=False)
    assert "canary" not in repr(store.devices.credentials(ALICE)) + repr(store.devices.of(ALICE))
    for path in tmp_path.iterdir():
        assert b"canary" not in path.read_bytes()


def test_the_last_use_is_kept(store: AccountStore) -> None:
    store.devices.add(ALICE, "phone", b"secret", sends=False)
    assert [device.used for device in store.devices.of(ALICE)] == [None]
    use = Use(1_800_000_000.0, "192.0.2.1", "APOP")
    store.devices.note_uses([(ALICE, "phone", use), (ALICE, "revoked", use)])
    assert [device.used for device in store.devices.of(ALICE)] == [use]
