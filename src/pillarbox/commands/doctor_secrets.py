"""Secrets that let anybody in, or nobody: of the accounts made here, and in system users' password files."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from itertools import islice

from ..administration import opened, served
from ..broker.privilege import as_user
from ..config import Config
from ..home import Home
from ..store.accounts import AccountStore
from ..store.passwd import PasswdAccounts
from ..store.secrets import CHOSEN_MINIMUM
from ..terms import Refused, TryLater
from .findings import Finding, advice, fine, serious

ABOUT_ACCOUNTS, ABOUT = "accounts", "secrets"
USERS_LIMIT = 100_000  # of the system; a directory service may list more, and none of them has a home here
STRONG = 20  # characters that a secret needs which a person chose, if its digest is to stand an offline guesser

WRONG = "its owner can't log in here; the old checkapoppw lets anybody in where it is empty"


def check_accounts(place: Home, settings: Config) -> Iterator[Finding]:
    if "local" not in settings.accounts.source:
        return
    if not os.path.exists(place.accounts):
        yield advice(ABOUT_ACCOUNTS, "there are no accounts yet", "nobody has a mailbox", "pillarbox account add NAME")
        return
    with opened(place) as (_, store):
        names = store.names()
        found = [finding for name in names for finding in _account(name, store, settings)]
    yield from found
    if not found:
        yield fine(ABOUT_ACCOUNTS, f"each of {len(names)} has its secret")


def _account(name: str, store: AccountStore, settings: Config) -> Iterator[Finding]:
    renew = f"pillarbox account secret {name}"
    try:
        if not (store.secret(name) or store.credentials(name)):
            yield serious(ABOUT_ACCOUNTS, f"{name} has no secret", "its owner can't log in", renew)
    except TryLater as error:
        yield serious(ABOUT_ACCOUNTS, error.why, "its owner can't log in", renew)
    if not served(name, settings):
        what = f"{name} is in no domain of `domains`"
        yield advice(ABOUT_ACCOUNTS, what, "it gets no mail", f"name the domain, or pillarbox account remove {name}")


def check_password_files(place: Home, settings: Config) -> Iterator[Finding]:
    """Every system user's, by root, as the user; by somebody else his own, where it is used."""
    used = "passwd" in settings.accounts.source
    if os.geteuid() != 0 and not used:
        return
    accounts = PasswdAccounts(settings.accounts.password_file, settings.domains, as_user)
    count, found = 0, []
    for user in _users():
        for finding in _file(user, accounts, settings.accounts.password_file):
            count += 1
            found += [finding] if finding.level != "fine" else []
    yield from found
    if not found and (used or count):
        yield fine(ABOUT, f"{count} system users have a {settings.accounts.password_file}, each closed to others")


def _users() -> list[pwd.struct_passwd]:
    if os.geteuid() == 0:
        return list(islice(pwd.getpwall(), USERS_LIMIT))
    try:
        return [pwd.getpwuid(os.geteuid())]
    except KeyError:
        return []


def _file(user: pwd.struct_passwd, accounts: PasswdAccounts, name: str) -> Iterator[Finding]:
    """One for a user who has a file."""
    path = f"{user.pw_dir}/{name}"
    renew = f"as {user.pw_name}: (umask 077; head -c 20 /dev/urandom | base32 > ~/{name})"
    try:
        if accounts.find(user.pw_name) is None:
            return
        secret = accounts.secret(user.pw_name)
    except Refused as error:
        what = error.why if path in error.why else f"{path}: {error.why}"
        yield serious(ABOUT, what, WRONG, renew)
        return
    except TryLater as error:
        yield advice(ABOUT, f"could not be read: {error.why}", "", "mend the disk")
        return
    if secret is not None:
        yield strength(path, len(secret), renew)


def strength(path: str, octets: int, renew: str) -> Finding:
    """Of a secret that long, which is all that is looked at."""
    why = "who hears one APOP login can guess it offline"
    if octets < CHOSEN_MINIMUM:
        return serious(ABOUT, f"{path} holds {octets} octets", why, renew)
    if octets < STRONG:
        return advice(ABOUT, f"{path} holds less than {STRONG} octets", why, renew)
    return fine(ABOUT, f"{path} is long enough")
