"""Who is who: logins and recipients to accounts, over all sources in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .. import log
from ..config import Config
from ..store.accounts import AccountStore, full_name
from ..store.passwd import PasswdAccounts
from ..terms import Account, Refused

ALWAYS_DELIVERABLE = "postmaster"  # RFC 5321 section 4.5.1


class Source(Protocol):
    """Where accounts are kept."""

    def find(self, name: str) -> Account | None: ...

    def login(self, name: str) -> tuple[Account | None, bytes | None]: ...


class Directory:
    """All accounts. Methods raise TryLater when a store can't tell."""

    def __init__(self, config: Config, local: AccountStore, passwd: Callable[[Config], PasswdAccounts]) -> None:
        self._local = local
        self.domains = tuple(config.domains)
        self._aliases = {self._folded(alias): self._folded(target) for alias, target in config.aliases.items()}
        sources: dict[str, Callable[[], Source]] = {"local": lambda: local, "passwd": lambda: passwd(config)}
        self._sources = [sources[kind]() for kind in config.accounts.source]

    def _folded(self, name: str) -> str:
        return full_name(name, self.domains) or name.lower()

    def login(self, name: bytes) -> tuple[Account | None, bytes | None]:
        """The account that the login name leads to, and its secret; one, the other or both may be missing."""
        full = full_name(name, self.domains)
        if full is None:
            return None, None
        for source in self._sources:
            try:
                account, secret = source.login(full)
            except Refused as error:
                log.line("secret-refused", user=full, why=error.why)
                return None, None
            if account is not None:
                return account, secret
        return None, None

    def account(self, name: str) -> Account | None:
        """The account of that full name."""
        for source in self._sources:
            if account := source.find(name):
                return account
        return None

    def recipient(self, address: bytes) -> tuple[Account | None, bool]:
        """Whose mailbox an address is, and whether its domain is ours."""
        local, at, domain = address.rpartition(b"@")
        if not at:
            local, domain = address, self.domains[0].encode()
        if domain.lower().decode("ascii", "replace") not in self.domains:
            return None, False
        name = full_name(local + b"@" + domain, self.domains)
        if name is None:
            return None, True
        account = self.account(self._aliases.get(name, name))
        if account is None and name.partition("@")[0] == ALWAYS_DELIVERABLE:
            first = self._local.first()
            account = self.account(first) if first else None
        return account, True
