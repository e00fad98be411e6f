"""A secret per device: what a phone or a computer logs in with, instead of the account's own."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..terms import Refused
from .database import Database
from .secrets import Seal

DEVICES_LIMIT = 16  # of one account: a login by its plain name is judged against all of them
NETWORKS_LIMIT = 16  # of one device, each at most 43 characters
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
LABEL_RULE = "a label has at most 32 letters, digits, - and _, such as phone or work-laptop"
_COLUMNS = "account, label, created, networks, sends, used, used_from, mechanism"


@dataclass(frozen=True, slots=True)
class Use:
    """A login with a device's secret."""

    time: float  # Unix time, seconds
    address: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a device, without its secret."""

    account: str
    label: str
    created: float  # Unix time, seconds
    networks: tuple[str, ...]  # CIDR; empty: it may log in from everywhere
    sends: bool
    used: Use | None  # the last one; seconds may pass until it is written down


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that an account may log in with."""

    secret: bytes = field(repr=False)
    label: str = ""  # of the device; empty: the account's own
    networks: tuple[str, ...] = ()  # CIDR; empty: good from everywhere
    sends: bool = True  # a login with it may hand in mail, and leaves a grant
    hashed: bool = False  # `secret` is the verifier of a password: see password_hash


def label_of(text: str) -> str:
    """A label as it is kept, in lower case. Raises Refused."""
    label = text.lower()
    if not text.isascii() or not _LABEL.fullmatch(label):
        raise Refused(f'"{text}" is no label for a device: {LABEL_RULE}')
    return label


def split_label(name: str) -> tuple[str, str]:
    """Account and label of the full name account+label@domain; no label where that can't be one."""
    local, _, domain = name.partition("@")
    account, plus, label = local.rpartition("+")
    return (f"{account}@{domain}", label) if plus and account and _LABEL.fullmatch(label) else (name, "")


class Devices:
    """The devices of all accounts. Every method raises TryLater as Database does."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    # Written by the command line; durable when they return.

    def add(self, account: str, label: str, secret: bytes, networks: Iterable[str] = (), *, sends: bool) -> None:
        """Raises Refused where the account has a device of that label, or as many as it may have."""
        label, words = label_of(label), tuple(networks)
        if len(words) > NETWORKS_LIMIT:
            raise Refused(f"a device has at most {NETWORKS_LIMIT} networks")
        with self._database.transaction():
            if self._database.one("SELECT COUNT(*) FROM device WHERE account = ?", account)[0] == DEVICES_LIMIT:
                raise Refused(f"{account} has {DEVICES_LIMIT} devices, and can't have more: revoke one")
            local, _, domain = account.partition("@")
            rival = f"{local}+{label}@{domain}"
            if self._database.one("SELECT 1 FROM account WHERE name = ?", rival)[0]:
                raise Refused(f"there is an account {rival}, whose login name that would be: choose another label")
            sealed = self._seal.seal(secret, account=account, device=label, key_id=self.key_id())
            try:
                self._database.execute(
                    "INSERT INTO device (account, label, created, secret, networks, sends) VALUES (?, ?, ?, ?, ?, ?)",
                    *(account, label, time.time(), sealed, " ".join(words), int(sends)),
                )
            except sqlite3.IntegrityError:
                raise Refused(
                    f"{account} has a device {label} already: revoke it first, or choose another label"
                ) from None

    def key_id(self) -> bytes:
        """Of the key that secrets are sealed with; it stays the same within a transaction."""
        found = self._database.one("SELECT id FROM sealing_key")[0]
        return found if isinstance(found, bytes) else b""

    def revoke(self, account: str, label: str) -> None:
        """Its secret is void at once, with its grants and its logins where mail is handed in. Raises Refused where there
        is none."""
        statement = "DELETE FROM device WHERE account = ? AND label = ?"
        if self._database.execute(statement, account, label.lower()).rowcount != 1:
            raise Refused(f"{account} has no device {label}")

    def note_uses(self, uses: Iterable[tuple[str, str, Use]]) -> None:
        """The last login of these (account, label, use), in one transaction; those revoked meanwhile stay so."""
        with self._database.transaction():
            for account, label, use in uses:
                self._database.execute(
                    "UPDATE device SET used = ?, used_from = ?, mechanism = ? WHERE account = ? AND label = ?",
                    *(use.time, use.address, use.mechanism, account, label),
                )

    # Read by both.

    def of(self, account: str = "") -> list[Device]:
        """Those of an account, or of all, by account and label."""
        where, values = (" WHERE account = ?", (account,)) if account else ("", ())
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM device{where} ORDER BY account, label", *values)
        return [_device(*row) for row in rows]

    def credentials(self, account: str) -> tuple[Credential, ...]:
        """The secrets of an account's devices, in the clear."""
        if not account.isascii():
            return ()
        rows = self._database.execute("SELECT label, secret, networks, sends FROM device WHERE account = ?", account)
        return tuple(
            Credential(
                self._seal.unseal(sealed, account=account, device=label), label, tuple(networks.split()), bool(sends)
            )
            for label, sealed, networks, sends in rows.fetchall()
        )


def _device(
    account: str,
    label: str,
    created: float,
    networks: str,
    sends: int,
    used: float | None,
    address: str | None,
    mechanism: str | None,
) -> Device:
    use = Use(used, address or "", mechanism or "") if used is not None else None
    return Device(account, label, created, tuple(networks.split()), bool(sends), use)
