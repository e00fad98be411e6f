"""Accounts for which nothing without TLS is taken any more (`policy.ratchet_days`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .. import log
from ..messages import Login
from ..policy.networks import Networks
from ..store.ratchet import Ratchet
from ..terms import TryLater

DAY = 86_400.0


class TlsOnly:
    """Turns the ratchet by good logins, and says whom it holds. One for the broker's life."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._ratchet: Ratchet | None = None
        self._days = 0

    def configure(self, days: int, trusted: Networks) -> None:
        """`days`: of logins under TLS alone, 0: the ratchet is off. Logins from `trusted` neither count nor are refused."""
        self._days, self._trusted = days, trusted
        if not days and os.path.exists(self._path):
            try:
                self._store().forget_unlatched()
            except TryLater as error:
                log.line("ratchet-trouble", why=error.why)

    def refuses(self, account: str, login: Login) -> bool:
        """Count a login with the right secret: may it not be, for want of TLS? Nor may it where that can't be told."""
        if not self._days or self._trusted.contains(login.peer):
            return False
        try:
            return self._secured(account) if login.secured else self._clear(account)
        except TryLater as error:
            log.line("ratchet-trouble", user=account, why=error.why)
            return not login.secured

    def _store(self) -> Ratchet:
        if self._ratchet is None:
            self._ratchet = Ratchet(self._path)
        return self._ratchet

    def _secured(self, account: str) -> bool:
        """Never refused. Days with logins are counted, not the time between: a clock that jumps adds one, not a year."""
        store, now = self._store(), self._clock()
        notch = store.find(account)
        if (notch is None or notch.latched is None) and store.count(account, int(now // DAY)) > self._days:
            store.latch(account, now)
            log.line("ratchet-latched", user=account, days=self._days)
        return False

    def _clear(self, account: str) -> bool:
        store = self._store()
        notch = store.find(account)
        if notch is not None and notch.latched is None:
            store.release(account)  # it begins anew
        return notch is not None and notch.latched is not None
