"""A new sealing key: everything opens at any moment, whatever is cut off."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pillarbox.store import files, key_rotation
from pillarbox.store.accounts import AccountStore
from pillarbox.store.key_rotation import rotate
from pillarbox.store.secrets import KEY_OCTETS, load_keys, seal_of
from pillarbox.terms import Refused, TryLater

ALICE, BOB = "alice@example.test", "bob@example.test"


class Place:
    """A home's key and database, with two accounts, one without a secret of its own, and a device."""

    def __init__(self, folder: Path) -> None:
        self.key, self.database = folder / "secret.key", folder / "accounts.sqlite3"
        store = self.opened(create=True)
        store.add(ALICE, b"own secret of alice")
        store.add(BOB, b"own secret of bob")
        store.devices.add(ALICE, "phone", b"of the phone", sends=False)
        store.close()

    def opened(self, *, create: bool = False) -> AccountStore:
        return AccountStore(str(self.database), seal_of(str(self.key), create=create), "/mail")

    def rotate(self) -> tuple[int, str]:
        store = self.opened()
        try:
            return rotate(str(self.key), store)
        finally:
            store.close()


def check(store: AccountStore) -> None:
    assert store.secret(ALICE) == b"own secret of alice" and store.secret(BOB) == b"own secret of bob"
    assert [credential.secret for credential in store.devices.credentials(ALICE)] == [b"of the phone"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_everything_is_sealed_anew_and_the_old_key_is_gone(place: Place) -> None:
    (old,) = load_keys(str(place.key))
    before = place.database.read_bytes()
    count, name = place.rotate()
    (new,) = load_keys(str(place.key))
    assert count == 3 and new != old and place.key.stat().st_mode & 0o777 == 0o600
    assert place.database.read_bytes() != before
    check(place.opened())
    assert seal_of(str(place.key), create=False).key_id.hex() == name
    place.key.write_bytes(old)
    with pytest.raises(TryLater, match="another key"):
        place.opened().secret(ALICE)


def test_a_server_that_runs_meanwhile_opens_old_and_new(place: Place) -> None:
    running = place.opened()
    check(running)
    place.rotate()
    check(running)
    place.rotate()
    check(running)


def test_who_had_read_the_old_key_seals_with_the_new_one(place: Place) -> None:
    beside = place.opened()
    place.rotate()
    beside.set_secret(BOB, b"own secret of bob")
    beside.devices.add(BOB, "phone", b"of another", sends=False)
    fresh = place.opened()
    check(fresh)
    assert [credential.secret for credential in fresh.devices.credentials(BOB)] == [b"of another"]


STEPS = ["create", "write_all", "fsync", "rename", "sync_directory"]  # of each of both writings of the key file


class Killed(BaseException):
    """What a kill is here: nothing that would clean up runs, as `unlink` fails too."""


def killed_at(monkeypatch: pytest.MonkeyPatch, count: int, late: bool) -> None:
    """Die at the file operation of that number, before it or behind it."""
    left = [count]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and not late):
                raise Killed
            found = real(*arguments)
            if left[0] == 0:
                raise Killed
            return found

        return step

    for name in [*STEPS, "unlink"]:
        monkeypatch.setattr(files, name, dying(getattr(files, name)))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("count", range(1, 2 * len(STEPS) + 1))
def test_a_rotation_may_be_cut_off_anywhere(
    place: Place, monkeypatch: pytest.MonkeyPatch, count: int, late: bool
) -> None:
    running = place.opened()
    store = place.opened()
    with monkeypatch.context() as patch:
        killed_at(patch, count, late)
        with pytest.raises(Killed):
            rotate(str(place.key), store)
    store.close()
    check(running)
    check(place.opened())
    assert place.rotate()[0] == 3
    check(running)
    check(place.opened())
    assert len(load_keys(str(place.key))) == 1
    assert sorted(path for path in os.listdir(place.key.parent) if "key" in path) == ["secret.key"]


def test_cut_off_within_the_database_everything_is_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (old,) = load_keys(str(place.key))
    with monkeypatch.context() as patch:
        patch.setattr("pillarbox.store.accounts.AccountStore.reseal", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            place.rotate()
    assert load_keys(str(place.key))[1] == old and place.key.stat().st_size == 2 * KEY_OCTETS
    check(place.opened())
    begun = load_keys(str(place.key))[0]
    place.rotate()
    assert load_keys(str(place.key)) == (begun,)
    check(place.opened())


def test_a_secret_that_can_not_be_opened_stops_it(place: Place) -> None:
    damager = sqlite3.connect(place.database, isolation_level=None)
    (sealed,) = damager.execute("SELECT secret FROM account WHERE name = ?", (BOB,)).fetchone()
    damager.execute("UPDATE account SET secret = ? WHERE name = ?", (sealed[:-1], BOB))
    damager.close()
    with pytest.raises(Refused, match=r"bob@example\.test is damaged"):
        place.rotate()
    store = place.opened()
    assert store.secret(ALICE) == b"own secret of alice"
    store.set_secret(BOB, b"own secret of bob")
    assert place.rotate()[0] == 3
    check(place.opened())


def test_a_full_disk_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_rotation.files, "replace_file", full)
    with pytest.raises(TryLater, match=r"secret\.key can't be written: No space left"):
        place.rotate()


def test_with_another_key_nothing_is_done(place: Place) -> None:
    place.key.write_bytes(os.urandom(KEY_OCTETS))
    with pytest.raises(Refused, match="restore that key first"):
        place.rotate()
