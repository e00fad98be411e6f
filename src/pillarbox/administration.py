"""What a person at the keyboard may do to a home, while a server runs on it or not: accounts, and their secrets."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from collections.abc import Iterator

from . import config
from .config import Config
from .home import Home
from .store import certificates
from .store.accounts import AccountStore, full_name
from .store.secrets import generate, seal_of
from .terms import Account, Refused, TryLater

NAMELESS = "me"  # the first account of somebody whose login name can't be one


@contextlib.contextmanager
def opened(home: Home, *, make: bool = False) -> Iterator[tuple[Config, AccountStore]]:
    """The configuration and the accounts of a home; `make`: where there is none, make it. Raises Refused and TryLater."""
    if not make:
        home.must_exist()
    settings = config.load(home.config)
    home.make()
    seal = seal_of(home.key, create=not os.path.exists(home.accounts))  # a new key would open none of the secrets
    store = AccountStore(home.accounts, seal, home.mail)
    try:
        yield settings, store
    finally:
        store.close()


def account_name(name: str, settings: Config) -> str:
    """local@domain for what a person typed, be it an account or not. Raises Refused."""
    full = full_name(name, settings.domains)
    if full is None:
        raise Refused(f'"{name}" is no account name: local or local@domain, of letters, digits and . _ + -')
    return full


def served(account: str, settings: Config) -> bool:
    """Is its domain still one of ours? An account outlives a change of `domains`."""
    return account.partition("@")[2] in settings.domains


def new_account_name(name: str, settings: Config) -> str:
    """The same, for an account that is to be made. Raises Refused."""
    full = account_name(name, settings)
    if not served(full, settings):
        raise Refused(
            f"{full} is in no domain of ours; `domains` in pillarbox.toml says: {', '.join(settings.domains)}"
        )
    return full


def add(home: Home, name: str, secret: bytes, password: str | None = None) -> tuple[Account, int]:
    """A new account, and how many messages lie in its Maildir already, of an older account of that name.

    `password`: see AccountStore.add. Raises Refused and TryLater.
    """
    with opened(home, make=True) as (settings, store):
        if "local" not in settings.accounts.source:
            raise Refused('`accounts.source` in pillarbox.toml holds no "local": accounts are the users of this system')
        full = new_account_name(name, settings)
        store.add(full, secret, password)
        account = store.find(full)
    if account is None:
        raise TryLater(f"account {full} was removed at once by somebody else")
    return account, _messages(account.maildir)


def _messages(maildir: str) -> int:
    count = 0
    for folder in ("new", "cur"):
        with contextlib.suppress(FileNotFoundError):
            count += sum(not name.startswith(".") for name in os.listdir(f"{maildir}/{folder}"))
    return count


def first_account(home: Home, name: str = "") -> tuple[str, str | None]:
    """The oldest account of a domain of ours, and None; where there is none, one is made, and its secret returned.

    `name`: what a new one is called, else who sits here. Raises Refused and TryLater.
    """
    with opened(home, make=True) as (settings, store):
        for there in store.names():
            if served(there, settings):
                return there, None
        full, secret = new_account_name(name or _own_name(settings), settings), generate()
        store.add(full, secret.encode())
        return full, secret


def secret_of(home: Home, account: str) -> bytes | None:
    """The secret that an account has now. Raises Refused and TryLater."""
    with opened(home) as (_, store):
        return store.secret(account)


def _own_name(settings: Config) -> str:
    """Who sits here, as a local part."""
    try:
        login = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return NAMELESS
    name = re.sub(r"[^a-z0-9._+-]", "", login.lower())
    return name if full_name(name, settings.domains) else NAMELESS


# TLS.


def own_fingerprint(home: Home, settings: Config) -> str:
    """SHA-256 of the certificate of our own making; empty where another one is configured, or none is made yet."""
    if settings.tls.certificate:
        return ""
    try:
        return certificates.fingerprint(certificates.read_certificate(certificates.own_files(home.tls)[0])[1])
    except Refused:
        return ""
