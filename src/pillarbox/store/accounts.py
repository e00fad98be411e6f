"""Local accounts: who has a mailbox here, and their sealed secrets, in SQLite."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Sequence

from ..terms import Account, Refused, TryLater
from . import files
from .secrets import Seal

SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0  # readers never wait for a writer (WAL); a writer of one row is done long before

_LOCAL = re.compile(r"(?!\.)(?:[a-z0-9_+-]|\.(?!\.|$)){1,64}")
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
NAME_RULE = "an account is named local@domain: letters, digits and . _ + - before the @, a host name after it"

# Plain SQL of any engine. `number` keeps the order of creation when a clock has been set back.
_SCHEMA = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    "CREATE TABLE account (name VARCHAR(320) PRIMARY KEY, number INTEGER NOT NULL UNIQUE,"
    " created DOUBLE PRECISION NOT NULL, secret BLOB)",
)


def full_name(login: str | bytes, domains: Sequence[str]) -> str | None:
    """local@domain in lower case; a local part alone belongs to the first of `domains`. None: that is no account name."""
    if not login.isascii():  # lower() would turn the Kelvin sign into a k
        return None
    text = login.decode("ascii") if isinstance(login, bytes) else login
    local, at, domain = text.lower().rpartition("@")
    if not at:
        local, domain = domain, domains[0].lower() if domains else ""
    return f"{local}@{domain}" if _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain) else None


class AccountStore:
    """The accounts of one home. Opened by the broker, and by the command line beside it.

    Every method raises TryLater, naming the file, where the database is locked, damaged or gone.
    """

    def __init__(self, path: str, seal: Seal, mail: str) -> None:
        """`mail`: the folder that all mail lies in. Raises Refused for a file that others can read."""
        self._path = path
        self._seal = seal
        self._mail = mail
        self._make_private()
        try:
            # Used from one thread at a time; SQLite itself is built to allow more.
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise TryLater(f"{path}: {error}") from None
        self._execute("PRAGMA synchronous=FULL")
        self._prepare()

    def _make_private(self) -> None:
        """SQLite gives -wal and -shm the mode and owner of the database."""
        try:
            try:
                os.close(files.create(self._path))
                files.sync_directory(os.path.dirname(self._path) or ".")
            except FileExistsError:
                if os.stat(self._path).st_mode & 0o077:
                    raise Refused(f"{self._path} can be read by others: chmod 600 {self._path}") from None
        except OSError as error:
            raise files.trouble(error, self._path) from None

    def _prepare(self) -> None:
        """Of several processes that open a new database at once, one makes the tables."""
        if self._one("PRAGMA journal_mode")[0] != "wal":
            self._execute("PRAGMA journal_mode=WAL")
        known = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_version'"
        if not self._one(known)[0]:
            self._execute("BEGIN IMMEDIATE")
            if not self._one(known)[0]:
                for statement in _SCHEMA:
                    self._execute(statement)
                self._execute("INSERT INTO schema_version (version) VALUES (?)", SCHEMA_VERSION)
            self._execute("COMMIT")
        version = self._one("SELECT version FROM schema_version")[0]
        if version != SCHEMA_VERSION:
            raise TryLater(f"{self._path} has schema {version}; this version of Pillarbox knows {SCHEMA_VERSION}")

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise TryLater(f"{self._path}: {error}") from None

    def _one(self, statement: str, *values: object) -> tuple[object, ...]:
        found: tuple[object, ...] | None = self._execute(statement, *values).fetchone()
        return found or (None,)

    # Written by the command line; durable when they return.

    def add(self, name: str, secret: bytes) -> None:
        """Raises Refused if the account exists, or can't be named so."""
        if full_name(name, ()) != name:
            raise Refused(NAME_RULE)
        try:
            self._execute(
                "INSERT INTO account (name, number, created, secret)"
                " SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ? FROM account",
                name,
                time.time(),
                self._seal.seal(secret, account=name),
            )
        except sqlite3.IntegrityError:
            raise Refused(f"there is an account {name} already") from None

    def remove(self, name: str) -> None:
        """The mail stays where it is. Raises Refused if there is no such account."""
        self._must_change(self._execute("DELETE FROM account WHERE name = ?", name), name)

    def set_secret(self, name: str, secret: bytes) -> None:
        """Raises Refused if there is no such account."""
        sealed = self._seal.seal(secret, account=name)
        self._must_change(self._execute("UPDATE account SET secret = ? WHERE name = ?", sealed, name), name)

    def _must_change(self, cursor: sqlite3.Cursor, name: str) -> None:
        if cursor.rowcount != 1:
            raise Refused(f"there is no account {name}")

    # Read by both.

    def names(self) -> list[str]:
        """All accounts, the oldest first."""
        return [name for (name,) in self._execute("SELECT name FROM account ORDER BY number")]

    def first(self, domains: Sequence[str]) -> str | None:
        """The oldest account in one of these domains: postmaster's, unless an alias says otherwise."""
        wanted = " OR ".join(["name LIKE ?"] * len(domains))
        name = self._one(
            f"SELECT name FROM account WHERE {wanted} ORDER BY number LIMIT 1", *(f"%@{domain}" for domain in domains)
        )[0]
        return name if isinstance(name, str) else None

    def find(self, name: str) -> Account | None:
        """The account of that full name (local@domain in lower case)."""
        if not name.isascii() or self._one("SELECT 1 FROM account WHERE name = ?", name)[0] is None:
            return None
        return self._account(name)

    def secret(self, name: str) -> bytes | None:
        """Its secret in the clear, or None where it has none."""
        return self.login(name)[1]

    def login(self, name: str) -> tuple[Account | None, bytes | None]:
        """Account and secret, in one look at the database: this is what a login costs."""
        if not name.isascii():
            return None, None
        row = self._execute("SELECT secret FROM account WHERE name = ?", name).fetchone()
        if row is None:
            return None, None
        sealed = row[0]
        secret = self._seal.unseal(sealed, account=name) if isinstance(sealed, bytes) and sealed else None
        return self._account(name), secret

    def _account(self, name: str) -> Account:
        local, _, domain = name.partition("@")
        return Account(name, f"{self._mail}/{domain}/{local}")

    def close(self) -> None:
        """The last one to close also empties the log beside the database."""
        self._database.close()
