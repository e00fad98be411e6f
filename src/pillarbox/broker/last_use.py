"""When, from where and how each device logged in last: kept in memory, and written down now and then."""

from __future__ import annotations

from .. import log
from ..store.database import Database
from ..store.devices import Devices, Use
from ..store.secrets import Seal
from ..terms import TryLater

REWRITE_SECONDS = 60.0  # a client that polls every second need not cost a write each time
PENDING_LIMIT = 10_000  # devices of one interval; what is more is written down at their next login


class LastUse:
    """One for the broker's life. A power cut may take what was written last; a login never waits for it."""

    def __init__(self, path: str, seal: Seal) -> None:
        """`path`: the database of accounts. Raises TryLater."""
        self._devices = Devices(Database(path, seal.key_id, wait=0.0, durable=False), seal)
        self._written: dict[tuple[str, str], Use] = {}
        self._pending: dict[tuple[str, str], Use] = {}

    def note(self, account: str, label: str, use: Use) -> None:
        """A good login with the secret of that device."""
        device = account, label
        before = self._written.get(device)
        same = before and (before.address, before.mechanism) == (use.address, use.mechanism)
        if before and same and 0 <= use.time - before.time < REWRITE_SECONDS:
            return
        if device in self._pending or len(self._pending) < PENDING_LIMIT:
            self._pending[device] = use

    def write(self) -> None:
        """What has been noted, in one transaction. Where another writer is at work, later."""
        if not self._pending:
            return
        try:
            self._devices.note_uses((account, label, use) for (account, label), use in self._pending.items())
        except TryLater as error:
            log.line("last-use-deferred", why=error.why)
            return
        if len(self._written) > PENDING_LIMIT:
            self._written.clear()
        self._written |= self._pending
        self._pending.clear()
