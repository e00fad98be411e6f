"""Local accounts: who has a mailbox here, and their sealed secrets, in SQLite."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Sequence

from ..terms import Account, Refused, TryLater
from .secrets import Seal

SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0  # a writer of one row is done long before

_LOCAL = re.compile(r"[a-z0-9_+-][a-z0-9._+-]{0,63}")
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?")


def full_name(login: str | bytes, domains: Sequence[str]) -> str | None:
    """local@domain in lower case; a local part alone belongs to the first of `domains`. None: that is no account name."""
    if isinstance(login, bytes):
        if not login.isascii():
            return None
        login = login.decode("ascii")
    local, at, domain = login.lower().rpartition("@")
    if not at:
        local, domain = domain, domains[0]
    if not _LOCAL.fullmatch(local) or ".." in local or not _DOMAIN.fullmatch(domain) or ".." in domain:
        return None
    return f"{local}@{domain}"


class AccountStore:
    """The accounts of one home. Opened by the broker, and by the command line beside it."""

    def __init__(self, path: str, seal: Seal, mail: str) -> None:
        """`mail`: the folder that all mail lies in. Raises TryLater when the database can't be used."""
        self._path = path
        self._seal = seal
        self._mail = mail
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._execute("PRAGMA journal_mode=WAL")
        self._execute("PRAGMA synchronous=FULL")
        self._create()

    def _create(self) -> None:
        self._execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        self._execute(
            "CREATE TABLE IF NOT EXISTS account (name VARCHAR(320) PRIMARY KEY, created DOUBLE PRECISION NOT NULL,"
            " secret BLOB)"
        )
        found = self._execute("SELECT version FROM schema_version").fetchone()
        if found is None:
            self._execute("INSERT INTO schema_version (version) VALUES (?)", SCHEMA_VERSION)
        elif found[0] != SCHEMA_VERSION:
            raise TryLater(f"{self._path} has schema {found[0]}, this version knows {SCHEMA_VERSION}")

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise TryLater(f"{self._path}: {error}") from None

    def add(self, name: str, secret: bytes) -> None:
        """Raises Refused if the account exists."""
        try:
            self._execute(
                "INSERT INTO account (name, created, secret) VALUES (?, ?, ?)",
                name,
                time.time(),
                self._sealed(name, secret),
            )
        except sqlite3.IntegrityError:
            raise Refused(f"there is an account {name} already") from None

    def remove(self, name: str) -> None:
        """The mail stays where it is. Raises Refused if there is no such account."""
        self._changed(self._execute("DELETE FROM account WHERE name = ?", name), name)

    def set_secret(self, name: str, secret: bytes) -> None:
        """Raises Refused if there is no such account."""
        self._changed(
            self._execute("UPDATE account SET secret = ? WHERE name = ?", self._sealed(name, secret), name), name
        )

    def _changed(self, cursor: sqlite3.Cursor, name: str) -> None:
        if cursor.rowcount != 1:
            raise Refused(f"there is no account {name}")

    def _sealed(self, name: str, secret: bytes) -> bytes:
        return self._seal.seal(secret, account=name)

    def names(self) -> list[str]:
        """All accounts, the oldest first."""
        return [name for (name,) in self._execute("SELECT name FROM account ORDER BY created, name")]

    def first(self) -> str | None:
        """The oldest account: postmaster's, unless an alias says otherwise."""
        found = self._execute("SELECT name FROM account ORDER BY created, name LIMIT 1").fetchone()
        return found[0] if found else None

    def find(self, name: str) -> Account | None:
        """The account of that full name."""
        found = self._execute("SELECT name FROM account WHERE name = ?", name).fetchone()
        return self._account(name) if found else None

    def secret(self, name: str) -> bytes | None:
        """Its secret in the clear. Raises TryLater when it can't be unsealed."""
        found = self._execute("SELECT secret FROM account WHERE name = ?", name).fetchone()
        return self._seal.unseal(found[0], account=name) if found and found[0] else None

    def _account(self, name: str) -> Account:
        local, _, domain = name.partition("@")
        return Account(name, f"{self._mail}/{domain}/{local}")

    def close(self) -> None:
        self._database.close()
