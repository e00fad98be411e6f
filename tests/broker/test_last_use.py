"""Last uses: written down together, and not at each login."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pillarbox.broker.last_use import REWRITE_SECONDS, LastUse
from pillarbox.store.accounts import AccountStore
from pillarbox.store.devices import Use
from pillarbox.store.secrets import Seal

ALICE = "alice@example.test"
SEAL = Seal(bytes(32))


@pytest.fixture
def store(tmp_path: Path) -> AccountStore:
    store = AccountStore(str(tmp_path / "accounts.db"), SEAL, "/mail")
    store.add(ALICE, b"own secret")
    store.devices.add(ALICE, "phone", b"of the phone", sends=False)
    return store


@pytest.fixture
def last_use(store: AccountStore, tmp_path: Path) -> LastUse:
    return LastUse(str(tmp_path / "accounts.db"), SEAL)


def use(seconds: float, address: str = "192.0.2.1", mechanism: str = "APOP") -> Use:
    return Use(1_800_000_000.0 + seconds, address, mechanism)


def test_of_many_logins_the_last_is_written(store: AccountStore, last_use: LastUse) -> None:
    for second in range(100):
        last_use.note(ALICE, "phone", use(second))
    assert store.devices.of(ALICE)[0].used is None
    last_use.write()
    assert store.devices.of(ALICE)[0].used == use(99)


def test_the_same_again_soon_costs_no_write(store: AccountStore, last_use: LastUse) -> None:
    last_use.note(ALICE, "phone", use(0))
    last_use.write()
    for again in (use(1), use(REWRITE_SECONDS - 1)):
        last_use.note(ALICE, "phone", again)
        last_use.write()
        assert store.devices.of(ALICE)[0].used == use(0)
    for news in (
        use(REWRITE_SECONDS),
        use(61, "192.0.2.2"),
        use(62, "192.0.2.2", "PLAIN"),
        use(-1000, "192.0.2.2", "PLAIN"),
    ):
        last_use.note(ALICE, "phone", news)
        last_use.write()
        assert store.devices.of(ALICE)[0].used == news


def test_a_writer_beside_it_is_not_waited_for(
    store: AccountStore, last_use: LastUse, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = sqlite3.connect(tmp_path / "accounts.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    last_use.note(ALICE, "phone", use(0))
    last_use.write()
    assert "last-use-deferred" in capfd.readouterr().err
    writer.execute("ROLLBACK")
    writer.close()
    last_use.write()
    assert store.devices.of(ALICE)[0].used == use(0)


def test_a_device_revoked_meanwhile_stays_so(store: AccountStore, last_use: LastUse) -> None:
    last_use.note(ALICE, "phone", use(0))
    store.devices.revoke(ALICE, "phone")
    last_use.write()
    assert store.devices.of(ALICE) == []
