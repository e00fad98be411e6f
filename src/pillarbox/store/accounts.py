"""Local accounts: who has a mailbox here, and their sealed secrets, in SQLite."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from ..terms import Account, Refused, TryLater
from .database import Database
from .devices import Credential, Devices, split_label
from .secrets import Seal

_LOCAL = re.compile(r"(?!\.)(?:[a-z0-9_+-]|\.(?!\.|$)){1,64}")
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
NAME_RULE = "an account is named local@domain: letters, digits and . _ + - before the @, a host name after it"


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
        self._seal = seal
        self._mail = mail
        self._database = Database(path, seal.key_id)
        self.devices = Devices(self._database, seal)
        self._asked: object = None  # the database's state when it was asked for passwords
        self._passwords = False

    # Written by the command line; durable when they return.

    def add(self, name: str, secret: bytes, password: str | None = None) -> None:
        """`password`: the verifier of one that was chosen, see password_hash.

        Raises Refused if the account exists, or can't be named so."""
        if full_name(name, ()) != name:
            raise Refused(NAME_RULE)
        with self._database.transaction():
            owner, label = split_label(name)
            if label and self._database.one("SELECT 1 FROM device WHERE account = ? AND label = ?", owner, label)[0]:
                raise Refused(
                    f"{name} is the login name of {owner}'s device {label}: revoke that, or choose another name"
                )
            try:
                self._database.execute(
                    "INSERT INTO account (name, number, created, secret, password)"
                    " SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ?, ? FROM account",
                    *(name, time.time(), self._sealed(name, secret) if secret else None, password),
                )
            except sqlite3.IntegrityError:
                raise Refused(f"there is an account {name} already") from None

    def _sealed(self, name: str, secret: bytes) -> bytes:
        """Within a transaction: a rotation waits meanwhile, or is over."""
        return self._seal.seal(secret, account=name, key_id=self.devices.key_id())

    def remove(self, name: str) -> None:
        """Its devices go with it, the mail stays where it is. Raises Refused if there is no such account."""
        with self._database.transaction():
            self._must_change(self._database.execute("DELETE FROM account WHERE name = ?", name), name)
            self._database.execute("DELETE FROM device WHERE account = ?", name)

    def set_secret(self, name: str, secret: bytes) -> None:
        """In place of secret or password. Raises Refused if there is no such account."""
        with self._database.transaction():
            sealed = self._sealed(name, secret)
            statement = "UPDATE account SET secret = ?, password = NULL WHERE name = ?"
            self._must_change(self._database.execute(statement, sealed, name), name)

    def set_password(self, name: str, password: str) -> None:
        """The verifier of a password, in place of secret or password. Raises Refused if there is no such account."""
        statement = "UPDATE account SET secret = NULL, password = ? WHERE name = ?"
        self._must_change(self._database.execute(statement, password, name), name)

    def _must_change(self, cursor: sqlite3.Cursor, name: str) -> None:
        if cursor.rowcount != 1:
            raise Refused(f"there is no account {name}")

    def exclusively(self) -> AbstractContextManager[None]:
        """Nobody else writes while the block runs; what it wrote is durable behind it, or undone by what it raised."""
        return self._database.transaction()

    def reseal(self, seal: Seal) -> int:
        """Every secret again, with the first key of this seal; how many there were. To be called `exclusively`.

        Raises Refused where one can't be opened.
        """
        rows = self._database.execute(
            "SELECT name, '', secret FROM account WHERE LENGTH(secret) > 0"
            " UNION ALL SELECT account, label, secret FROM device"
        ).fetchall()
        for name, label, sealed in rows:
            try:
                secret = seal.unseal(sealed, account=name, device=label)
            except TryLater as error:
                raise Refused(error.why) from None
            anew = seal.seal(secret, account=name, device=label)
            if label:
                where = "UPDATE device SET secret = ? WHERE account = ? AND label = ?"
                self._database.execute(where, anew, name, label)
            else:
                self._database.execute("UPDATE account SET secret = ? WHERE name = ?", anew, name)
        self._database.execute("UPDATE sealing_key SET id = ?", seal.key_id)
        return len(rows)

    # Read by both.

    def names(self) -> list[str]:
        """All accounts, the oldest first."""
        return [name for (name,) in self._database.execute("SELECT name FROM account ORDER BY number")]

    def first(self, domains: Sequence[str]) -> str | None:
        """The oldest account in one of these domains: postmaster's, unless an alias says otherwise."""
        wanted = " OR ".join(["name LIKE ?"] * len(domains))
        name = self._database.one(
            f"SELECT name FROM account WHERE {wanted} ORDER BY number LIMIT 1", *(f"%@{domain}" for domain in domains)
        )[0]
        return name if isinstance(name, str) else None

    def find(self, name: str) -> Account | None:
        """The account of that full name (local@domain in lower case)."""
        if not name.isascii() or self._database.one("SELECT 1 FROM account WHERE name = ?", name)[0] is None:
            return None
        return self._account(name)

    def secret(self, name: str) -> bytes | None:
        """Its secret in the clear, or None where it has none."""
        return self.login(name)[1]

    def login(self, name: str) -> tuple[Account | None, bytes | None]:
        """Account and secret, in one look at the database: this is what a login costs."""
        if not name.isascii():
            return None, None
        row = self._database.execute("SELECT secret FROM account WHERE name = ?", name).fetchone()
        if row is None:
            return None, None
        sealed = row[0]
        secret = self._seal.unseal(sealed, account=name) if isinstance(sealed, bytes) and sealed else None
        return self._account(name), secret

    def credentials(self, name: str) -> tuple[Credential, ...]:
        """What an account may log in with besides its own secret: password and devices."""
        if not name.isascii():
            return ()
        password = self._database.one("SELECT password FROM account WHERE name = ?", name)[0]
        own = (Credential(password.encode(), hashed=True),) if isinstance(password, str) else ()
        return own + self.devices.credentials(name)

    def has_passwords(self) -> bool:
        """Has any account a chosen password? Each wrong secret asks, and where none has one that is a look at every row:
        it is remembered until the database changes.
        """
        state = self._database.state()
        if state != self._asked:
            found = self._database.one("SELECT 1 FROM account WHERE password IS NOT NULL LIMIT 1")[0]
            self._asked, self._passwords = state, found is not None
        return self._passwords

    def _account(self, name: str) -> Account:
        local, _, domain = name.partition("@")
        return Account(name, f"{self._mail}/{domain}/{local}")

    def close(self) -> None:
        """See Database.close."""
        self._database.close()
