"""The ratchet: accounts that have logged in under TLS alone for long enough, and no longer may without it.

SQLite, in a file of its own, since the command line releases an account while the broker runs. No login waits for an fsync:
a power cut can cost the last changes, so that an account waits longer. The file itself stays whole, as each checkpoint is
fsynced (synchronous=NORMAL): a damaged one would keep everybody out who has no TLS.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass

from ..terms import TryLater
from . import files

BUSY_SECONDS = 1.0  # a login may wait so long for the command line, which writes one row

_TABLE = (
    "CREATE TABLE IF NOT EXISTS ratchet (account VARCHAR(320) PRIMARY KEY, day INTEGER NOT NULL, days INTEGER NOT NULL,"
    " latched DOUBLE PRECISION)"
)


@dataclass(frozen=True, slots=True)
class Notch:
    """How far an account is. Unix times in seconds."""

    account: str
    days: int  # different ones with logins, all under TLS
    latched: float | None  # from then on nothing is taken without TLS; None: not yet


class Ratchet:
    """All accounts that have begun. Every method raises TryLater, naming the file, where it is locked or damaged."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            try:
                os.close(files.create(path))
            except FileExistsError:
                pass
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._execute("PRAGMA journal_mode=WAL")
            self._execute("PRAGMA synchronous=NORMAL")
            self._execute(_TABLE)
        except OSError as error:
            raise files.trouble(error, path) from None
        except sqlite3.Error as error:
            raise TryLater(f"{path}: {error}") from None

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise TryLater(f"{self._path}: {error}") from None

    def find(self, account: str) -> Notch | None:
        """None: it has not logged in under TLS since its last login in the clear."""
        row = self._execute("SELECT account, days, latched FROM ratchet WHERE account = ?", account).fetchone()
        return Notch(*row) if row else None

    def every(self) -> list[Notch]:
        """All of them, by name."""
        rows = self._execute("SELECT account, days, latched FROM ratchet ORDER BY account")
        return [Notch(*row) for row in rows]

    def count(self, account: str, day: int) -> int:
        """A login under TLS on that day, whatever its number means: how many different days there are now."""
        row = self._execute("SELECT day, days FROM ratchet WHERE account = ?", account).fetchone()
        if row is not None and row[0] == day:
            return int(row[1])
        if row is None:
            self._execute("INSERT INTO ratchet (account, day, days) VALUES (?, ?, 1)", account, day)
            return 1
        self._execute("UPDATE ratchet SET day = ?, days = days + 1 WHERE account = ?", day, account)
        return int(row[1]) + 1

    def forget_unlatched(self) -> None:
        """Days are no longer counted: what came before must not count when they are again."""
        self._execute("DELETE FROM ratchet WHERE latched IS NULL")

    def latch(self, account: str, now: float) -> None:
        self._execute("UPDATE ratchet SET latched = ? WHERE account = ? AND latched IS NULL", now, account)

    def release(self, account: str) -> bool:
        """It begins anew with its next login under TLS. False: there was nothing to release."""
        return self._execute("DELETE FROM ratchet WHERE account = ?", account).rowcount > 0

    def close(self) -> None:
        self._database.close()
