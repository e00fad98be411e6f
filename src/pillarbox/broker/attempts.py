"""The broker's side of the ledger: each attempt to log in becomes a line; trouble with the disk stops no login."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from .. import log
from ..config import Config
from ..home import Home
from ..messages import Authenticate, Login
from ..policy.exposure import of
from ..policy.throttle import KNOWN_SECONDS
from ..store.accounts import full_name
from ..store.devices import split_label
from ..store.ledger import Ledger
from ..store.ledger_line import Entry
from ..store.ledger_reading import last_logins
from ..terms import Attempt, Exposure, Mechanism
from .directory import Directory

SYNC_SECONDS = 1.0  # what a power cut can take of the ledger
TOLD_SECONDS = 60.0  # between two lines in the log about the same trouble
WORD_LIMIT = 45  # characters of an address or a mechanism; the longest address, of IPv6, has as many


class Attempts:
    """Writes the ledger of one home. One for the broker's life."""

    def __init__(self, home: Home) -> None:
        self._folder = home.ledger
        self._ledger = Ledger(home.ledger, home.ledger_key, files_kept=1)
        self._syncing: threading.Thread | None = None
        self._told = -TOLD_SECONDS
        self._troubled = False
        asyncio.get_running_loop().call_later(SYNC_SECONDS, self._tick)

    def configure(self, config: Config, directory: Directory) -> None:
        self._directory = directory
        self._ledger.files_kept = config.ledger.files
        try:
            self._ledger.open()
        except OSError as error:
            self._trouble(error)
        if self._ledger.torn:
            log.line("ledger-torn", octets=self._ledger.torn)
            self._ledger.torn = 0

    def last_logins(self) -> dict[tuple[str, str], float]:
        """See store.ledger_reading; none where the disk fails us: it delays nobody who has logged in, and no start."""
        try:
            return last_logins(self._folder, time.time() - KNOWN_SECONDS)
        except OSError as error:
            self._trouble(error)
            return {}

    def record(self, login: Login, reason: str, account: str = "", device: str = "") -> None:
        """`reason`: why it was refused or put off; empty: it was good. `account`: whose it is, if that is known; `device`:
        the label of that whose secret it was."""
        entry = Entry(
            seq=0,
            time=round(time.time(), 3),
            account=account or self._account(login.name),
            device=device,
            address=login.peer[:WORD_LIMIT],
            protocol="submission" if isinstance(login, Authenticate) else "pop3",
            mechanism=login.mechanism[:WORD_LIMIT],
            tls=login.tls[:WORD_LIMIT],
            exposure=_exposure(login).value,
            reason=reason,
        )
        try:
            self._ledger.append(entry)
        except OSError as error:
            self._trouble(error)
            return
        if self._troubled and not self._ledger.lost:
            self._troubled = False
            log.line("ledger-goes-on")

    def _account(self, name: bytes) -> str:
        """Of an account of ours. What else was typed is not written down: people type passwords where names belong."""
        full = full_name(name, self._directory.domains) or ""
        for meant in (full, split_label(full)[0]):  # by account+label, the account
            if meant and (found := self._directory.known(meant)):
                return found.name
        return ""

    def _trouble(self, error: OSError) -> None:
        self._troubled = True
        now = time.monotonic()
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            log.line("ledger-trouble", why=error.strerror, file=error.filename, lost=self._ledger.lost)

    # The disk.

    def _tick(self) -> None:
        asyncio.get_running_loop().call_later(SYNC_SECONDS, self._tick)
        if self._syncing is not None and self._syncing.is_alive():
            return
        if found := self._ledger.unsynced():
            # A thread that lives as long as the fsync: glibc makes every change of uid wait for all threads, and the
            # broker changes its uid at each login of a system user.
            self._syncing = threading.Thread(target=_sync, args=(found,), daemon=True)
            self._syncing.start()

    def close(self) -> None:
        """Everything is durable when it returns."""
        if self._syncing is not None:
            self._syncing.join()
        _sync(self._ledger.unsynced())
        self._ledger.close()


def _exposure(login: Login) -> Exposure:
    try:
        mechanism = Mechanism(login.mechanism)
    except ValueError:  # whatever it was, it may have been a password
        mechanism = Mechanism.USER_PASS
    return of(Attempt(b"", b"", mechanism, secured=login.secured))


def _sync(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as error:
            log.line("ledger-trouble", why=error.strerror)
        finally:
            os.close(descriptor)
