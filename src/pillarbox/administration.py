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
from .store.accounts import AccountStore, full_name
from .store.secrets import Seal, generate, load_key
from .terms import Refused

NAMELESS = "me"  # the first account of somebody whose login name can't be one


@contextlib.contextmanager
def opened(home: Home) -> Iterator[tuple[Config, AccountStore]]:
    """The configuration and the accounts of a home, which is made where there is none. Raises Refused and TryLater."""
    settings = config.load(home.config)
    home.make()
    key = load_key(home.key, create=not os.path.exists(home.accounts))  # a new key would open none of the secrets
    store = AccountStore(home.accounts, Seal(key), home.mail)
    try:
        yield settings, store
    finally:
        store.close()


def account_name(name: str, settings: Config) -> str:
    """local@domain for what a person typed. Raises Refused."""
    full = full_name(name, settings.domains)
    if full is None:
        raise Refused(f'"{name}" is no account name: local or local@domain, of letters, digits and . _ + -')
    if full.partition("@")[2] not in settings.domains:
        raise Refused(
            f"{full} is in no domain of ours; `domains` in pillarbox.toml says: {', '.join(settings.domains)}"
        )
    return full


def first_account(home: Home, name: str = "") -> tuple[str, str | None]:
    """The first account, and its secret if it is new. Where there is none, one is made: `name`, or who sits here.

    Raises Refused and TryLater.
    """
    with opened(home) as (settings, store):
        if there := store.first():
            return there, None
        full, secret = account_name(name or _own_name(settings), settings), generate()
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
