"""The SQLite file of accounts and their devices: private, durable, and brought up to date by itself."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator

from ..terms import Refused, TryLater
from . import files
from .secrets import key_id_of_sealed

SCHEMA_VERSION = 2
BUSY_SECONDS = 5.0  # readers never wait for a writer (WAL); a writer of one row is done long before

# Plain SQL of any engine. `number` keeps the order of creation when a clock has been set back.
_FIRST = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    "CREATE TABLE account (name VARCHAR(320) PRIMARY KEY, number INTEGER NOT NULL UNIQUE,"
    " created DOUBLE PRECISION NOT NULL, secret BLOB)",
)
# Every secret is sealed with the key of this id, the only row. Networks: CIDR, blanks between them.
_SECOND = (
    "ALTER TABLE account ADD COLUMN password VARCHAR(200)",  # argon2id, as PHC string
    "CREATE TABLE sealing_key (id BLOB NOT NULL)",
    "CREATE TABLE device (account VARCHAR(320) NOT NULL, label VARCHAR(32) NOT NULL, created DOUBLE PRECISION NOT NULL,"
    " secret BLOB NOT NULL, networks VARCHAR(2000) NOT NULL, sends INTEGER NOT NULL, used DOUBLE PRECISION,"
    " used_from VARCHAR(45), mechanism VARCHAR(32), PRIMARY KEY (account, label))",
)
_KNOWN = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_version'"
_VERSION = "SELECT version FROM schema_version"


class Database:
    """One connection. Every method raises TryLater, naming the file, where it is locked, damaged or gone."""

    def __init__(self, path: str, key_id: bytes, *, wait: float | None = None, durable: bool = True) -> None:
        """`key_id`: of the key that secrets of a new database are sealed with; `wait`: seconds for another writer.

        `durable=False`: a power cut may take the last transactions, but never half of one, nor the file.
        Raises Refused for a file that others can read.
        """
        self.path = path
        self._key_id = key_id
        _make_private(path)
        try:
            # Used from one thread at a time; SQLite itself is built to allow more.
            wait = BUSY_SECONDS if wait is None else wait
            self._connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise TryLater(f"{path}: {error}") from None
        self.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._prepare()

    def _prepare(self) -> None:
        """Of several processes that open a new or an old database at once, one makes or changes the tables."""
        if self.one("PRAGMA journal_mode")[0] != "wal":
            self.execute("PRAGMA journal_mode=WAL")
        if not self.one(_KNOWN)[0]:
            self._make_tables()
        if self.one(_VERSION)[0] == 1:
            self._keep_copy(1)
            self._from_first_schema()
        version = self.one(_VERSION)[0]
        if version != SCHEMA_VERSION:
            raise TryLater(f"{self.path} has schema {version}; this version of Pillarbox knows {SCHEMA_VERSION}")

    def _make_tables(self) -> None:
        with self.transaction():
            if not self.one(_KNOWN)[0]:
                for statement in (*_FIRST, *_SECOND):
                    self.execute(statement)
                self.execute("INSERT INTO schema_version (version) VALUES (?)", SCHEMA_VERSION)
                self.execute("INSERT INTO sealing_key (id) VALUES (?)", self._key_id)

    def _from_first_schema(self) -> None:
        """What it holds was sealed with one key, as there was no other yet."""
        with self.transaction():
            if self.one(_VERSION)[0] == 1:
                for statement in _SECOND:
                    self.execute(statement)
                sealed = self.one("SELECT secret FROM account WHERE LENGTH(secret) > 0")[0]
                key_id = key_id_of_sealed(sealed) if isinstance(sealed, bytes) else self._key_id
                self.execute("INSERT INTO sealing_key (id) VALUES (?)", key_id)
                self.execute("UPDATE schema_version SET version = ?", SCHEMA_VERSION)

    def _keep_copy(self, version: int) -> None:
        """Beside the file, with the old version behind its name; whoever goes back has the accounts of that day."""
        temporary = f"{self.path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        try:
            self._remove_leftovers()
            os.close(files.create(temporary))
            try:
                self.execute("VACUUM INTO ?", temporary)
                if _version_in(temporary) == version:  # another process may have been faster
                    _sync(temporary)
                    files.rename(temporary, f"{self.path}.v{version}")
                    files.sync_directory(os.path.dirname(self.path) or ".")
            finally:
                with contextlib.suppress(FileNotFoundError):
                    files.unlink(temporary)
        except OSError as error:
            raise files.trouble(error, f"the copy of {self.path} can't be made") from None

    def _remove_leftovers(self) -> None:
        """Copies whose process was killed: they hold all secrets, and nobody would miss them. Raises OSError."""
        folder, name = os.path.split(os.path.abspath(self.path))
        leftover = re.compile(re.escape(name) + r"\.([0-9]+)\.[0-9a-f]{8}\.tmp")
        for entry in os.listdir(folder):
            found = leftover.fullmatch(entry)
            if found and not os.path.exists(f"/proc/{found[1]}"):
                with contextlib.suppress(FileNotFoundError):
                    files.unlink(f"{folder}/{entry}")

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Raises sqlite3.IntegrityError too."""
        try:
            return self._connection.execute(statement, values)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise TryLater(f"{self.path}: {error}") from None

    def one(self, statement: str, *values: object) -> tuple[object, ...]:
        """The first row, or one None."""
        found: tuple[object, ...] | None = self.execute(statement, *values).fetchone()
        return found or (None,)

    def state(self) -> tuple[object, int]:
        """Another one once anybody has written, here or by another connection."""
        return self.one("PRAGMA data_version")[0], self._connection.total_changes

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """One writer at a time from here to the end; whatever is raised undoes it all."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """The last one to close also empties the log beside the database."""
        self._connection.close()


def _make_private(path: str) -> None:
    """SQLite gives -wal and -shm the mode and owner of the database."""
    try:
        try:
            os.close(files.create(path))
            files.sync_directory(os.path.dirname(path) or ".")
        except FileExistsError:
            if os.stat(path).st_mode & 0o077:
                raise Refused(f"{path} can be read by others: chmod 600 {path}") from None
    except OSError as error:
        raise files.trouble(error, path) from None


def _version_in(path: str) -> object:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(_VERSION).fetchone()[0]
    finally:
        connection.close()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        files.fsync(descriptor)
    finally:
        os.close(descriptor)
