"""Who is who: logins and recipients to accounts, over all sources in their order; aliases, forwards, extensions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from .. import log
from ..config import Config, targets
from ..store.accounts import AccountStore, full_name
from ..store.devices import Credential, split_label
from ..store.passwd import PasswdAccounts
from ..store.secrets import is_generated
from ..terms import Account, Refused, TryLater
from .privilege import as_user

ALWAYS_DELIVERABLE = ("postmaster", "abuse")  # RFC 5321 section 4.5.1, RFC 2142 section 4
NO_POSTMASTER = "postmaster leads to nobody, and must (RFC 5321 section 4.5.1): name somebody in `aliases`"


def alias_user(config: Config) -> str:
    """Whose .qmail files rule names that are nobody's; empty: nobody's do."""
    return config.accounts.alias_user.lower() if config.accounts.dot_qmail else ""


def names_postmaster(config: Config) -> bool:
    """Does `aliases` lead postmaster somewhere?"""
    domain = config.domains[0].lower()
    return not {"postmaster", f"postmaster@{domain}", f"@{domain}"}.isdisjoint(name.lower() for name in config.aliases)


def lacks_postmaster(config: Config) -> bool:
    """As far as the configuration tells: a local account would stand in, and the alias user's .qmail files may say it."""
    return "local" not in config.accounts.source and not config.accounts.dot_qmail and not names_postmaster(config)


def system_users(config: Config) -> PasswdAccounts:
    """As this process may look at them."""
    accounts = config.accounts
    return PasswdAccounts(accounts.password_file, tuple(config.domains), as_user, alias_user(config))


class Source(Protocol):
    """Where accounts are kept."""

    def find(self, name: str) -> Account | None: ...

    def login(self, name: str) -> tuple[Account | None, bytes | None]: ...


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where mail for an address goes."""

    local: bool  # its domain is ours
    accounts: tuple[Account, ...] = ()  # mailboxes
    forwards: tuple[str, ...] = ()  # addresses, of ours too, to be looked at in their turn
    instructed: Account | None = None  # among the accounts: a system user whose .qmail files have a say
    extension: str = ""  # of the file that rules this address; empty: .qmail itself

    @property
    def deliverable(self) -> bool:
        return bool(self.accounts or self.forwards)

    @property
    def needs_a_file(self) -> bool:
        """It leads somewhere only if a .qmail file rules its extension, which a worker alone can tell."""
        return bool(self.instructed and self.extension and not self.forwards)

    @property
    def mailbox(self) -> Account | None:
        """Where the address is one mailbox and nothing else: that one."""
        return self.accounts[0] if len(self.accounts) == 1 and not (self.forwards or self.instructed) else None


NOT_OURS, NOBODY = Resolution(False), Resolution(True)


class Directory:
    """All accounts. Methods raise TryLater when a store can't tell."""

    def __init__(self, config: Config, local: AccountStore, passwd: Callable[[Config], PasswdAccounts]) -> None:
        self._local = local
        self.domains = tuple(config.domains)
        self._extensions = config.accounts.extensions
        self._aliases = self._table(config.aliases)
        self._dot_qmail = config.accounts.dot_qmail
        self._alias_user = alias_user(config)
        self._prefixes = {domain.lower(): prefix for domain, prefix in config.accounts.virtual_domains.items()}
        self._forwards = self._table(config.forwards)
        sources: dict[str, Callable[[], Source]] = {"local": lambda: local, "passwd": lambda: passwd(config)}
        self._sources = [sources[kind]() for kind in config.accounts.source]

    def _table(self, table: Mapping[str, str | list[str]]) -> dict[str, list[str]]:
        return {self._folded(name): [self._folded(target) for target in targets(table, name)] for name in table}

    def _folded(self, name: str) -> str:
        """A name of ours in full and in lower case; anything else as it is: a foreign local part is not ours to fold."""
        domain = name.rpartition("@")[2].lower()
        if "@" in name and domain not in self.domains:
            return name
        return full_name(name, self.domains) or name.lower()

    # Logins.

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

    def credentials(self, name: bytes) -> tuple[Account | None, tuple[Credential, ...]]:
        """The account that the login name leads to, and what it may log in with: its own secret or password, its devices'.

        By account+label, where that is no account itself, the secret of that device alone.
        """
        account, secret = self.login(name)
        if account is not None:
            own = (Credential(secret),) if secret else ()
            return account, own + self._local.credentials(account.name)
        full = full_name(name, self.domains) or ""
        owner, label = split_label(full)
        if label and (account := self.account(owner)):
            found = self._local.credentials(account.name)
            return account, tuple(credential for credential in found if credential.label == label)
        self._local.credentials(full)  # nobody's, but the look takes its time for all alike
        return None, ()

    def generated(self, name: bytes) -> tuple[bytes, ...]:
        """Those sealed secrets among the `credentials` that we generated; no user's file is read."""
        full = full_name(name, self.domains) or ""
        account, (owner, label) = self.account(full), split_label(full)
        if account is not None:
            own = self._local.login(account.name)[1] if account.uid is None else None
            found = (Credential(own or b""), *self._local.credentials(account.name))
        elif label and (account := self.account(owner)):
            found = tuple(one for one in self._local.credentials(account.name) if one.label == label)
        else:
            return ()
        return tuple(one.secret for one in found if not one.hashed and is_generated(one.secret))

    def has_passwords(self) -> bool:
        """Are there passwords that only a slow hash can judge?"""
        return self._local.has_passwords()

    def account(self, name: str) -> Account | None:
        """The account of that full name."""
        for source in self._sources:
            if account := source.find(name):
                return account
        return None

    def known(self, name: str) -> Account | None:
        """`account`; None where that can't be told just now, too."""
        try:
            return self.account(name)
        except TryLater:
            return None

    # Addresses.

    def glance(self, address: bytes) -> Resolution:
        """As much of `resolve` as tells whether it is deliverable, and whether to one mailbox alone: two targets suffice.

        Strangers ask as often as they like, and a list may have thousands of targets.
        """
        return self.resolve(address, enough=2)

    def resolve(self, address: bytes, enough: float = math.inf) -> Resolution:
        """Where mail for this address goes. `enough`: so many targets are looked for, or a few more."""
        name = self._name(address)
        if name is None:
            return NOT_OURS
        accounts: dict[str, Account] = {}
        forwards: dict[str, None] = {}
        instructed: Account | None = None
        for target, account in self._follow(name):
            if account is None:
                forwards[target] = None
            elif self._is_instructed(account):
                if target == name and self._extension(name, account) is not None:
                    accounts[account.name] = instructed = account
                else:
                    forwards[target if target != name else account.name] = None
            elif account.name not in self._forwards:
                accounts[account.name] = account
            elif account.name in (name, self._base(name)):
                self._forward(account, accounts, forwards)
            else:
                forwards[account.name] = None  # looked at in its turn, so that Delivered-To names it
            if len(accounts) + len(forwards) >= enough:
                break
        if not accounts and not forwards:
            return NOBODY
        extension = self._extension(name, instructed) if instructed else None
        return Resolution(True, tuple(accounts.values()), tuple(forwards), instructed, extension or "")

    def _is_instructed(self, account: Account) -> bool:
        """Do its .qmail files say where its mail goes? Those of system users do, but the configuration goes before."""
        return self._dot_qmail and account.uid is not None and account.name not in self._forwards

    def _extension(self, name: str, account: Account) -> str | None:
        """What the name has behind the user's: which .qmail file rules it. None: the name is not that user's own."""
        local, user = name.partition("@")[0], account.name.partition("@")[0]
        if local == user:
            return ""
        if local.startswith(user) and local[len(user)] in self._extensions:
            return local[len(user) + 1 :]
        return local if user == self._alias_user else None

    def _forward(self, account: Account, accounts: dict[str, Account], forwards: dict[str, None]) -> None:
        for target in self._forwards[account.name]:
            if target == account.name:
                accounts[account.name] = account
            else:
                forwards[target] = None

    def owns(self, account: str, address: bytes) -> bool:
        """Does mail for this address reach that account? Then it may send as that address."""
        name = self._name(address)
        if not address or name is None:
            return False
        return any(found is not None and found.name == account for _, found in self._follow(name))

    def _name(self, address: bytes) -> str | None:
        """The full name of an address of ours; where nobody can have that name, the catch-all's. None: it is not ours."""
        local, at, octets = address.rpartition(b"@")
        if not at:
            local, octets = address, self.domains[0].encode()
        domain = octets.lower().decode("ascii", "replace")
        if domain not in self.domains:
            return None
        name = full_name(local + b"@" + octets, self.domains) or f"@{domain}"
        return self._prefixed(name) if domain in self._prefixes else name

    def _prefixed(self, name: str) -> str:
        """The user's name that a name in a virtual domain stands for, unless it has a mailbox or an alias of its own."""
        local, _, domain = name.partition("@")
        if not local or any(
            candidate in self._aliases or self.account(candidate) for candidate in self._candidates(name)
        ):
            return name
        prefix = self._prefixes[domain]
        meant = f"{prefix}-{local}" if prefix else local
        return full_name(f"{meant}@{self.domains[0]}", self.domains) or name

    def _follow(self, name: str) -> Iterator[tuple[str, Account | None]]:
        """Every target that the name leads to through aliases, once, with its account; None: an address elsewhere."""
        seen: set[str] = set()
        waiting: deque[tuple[Iterable[str], tuple[str, ...]]] = deque()  # names, with the aliases that led there
        waiting.append(((name,), ()))
        while waiting:
            names, way = waiting.popleft()
            for target in names:
                if target in way and (account := self.account(target)):
                    yield target, account  # an alias of an account's own name, back at itself: a copy stays there
                elif target not in seen:
                    seen.add(target)
                    found = self._lookup(target) if self._is_ours(target) else None
                    if isinstance(found, list):
                        waiting.append((found, (*way, target)))
                    else:
                        yield target, found

    def _is_ours(self, name: str) -> bool:
        return name.rpartition("@")[2].lower() in self.domains

    def _lookup(self, name: str) -> Account | list[str]:
        """The first that there is: alias or account of this name, of this name without an extension, the catch-all."""
        for candidate in self._candidates(name):
            if alias := self._aliases.get(candidate):
                return alias
            if account := self.account(candidate):
                return account
        local, _, domain = name.partition("@")
        if (
            local in ALWAYS_DELIVERABLE
            and (first := self._local.first(self.domains))
            and (account := self.account(first))
        ):
            return account
        if catch_all := self._aliases.get(f"@{domain}"):
            return catch_all
        if self._alias_user and domain == self.domains[0] and local:
            return self._alias_account() or []
        return []

    def _alias_account(self) -> Account | None:
        """Whose .qmail files rule the names that are nobody's, as qmail's `alias` user does."""
        account = self.account(f"{self._alias_user}@{self.domains[0]}")
        return account if account and self._is_instructed(account) else None

    def _candidates(self, name: str) -> Iterator[str]:
        """The name, and what stands before each separator in it, the longest first (qmail's user-extension)."""
        yield name
        local, _, domain = name.partition("@")
        for place in range(len(local) - 1, 0, -1):
            if local[place] in self._extensions:
                yield f"{local[:place]}@{domain}"

    def _base(self, name: str) -> str:
        """The account whose own address this is, with an extension or without; empty: an alias leads to it."""
        found = self._lookup(name)
        return found.name if isinstance(found, Account) else ""
