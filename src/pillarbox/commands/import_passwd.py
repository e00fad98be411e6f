"""`pillarbox import passwd`: what system users keep in ~/Maildir/.password, sealed, so that the files can go."""

from __future__ import annotations

import pwd
import sys
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from .. import administration
from ..broker.privilege import as_user
from ..config import Config
from ..store.accounts import AccountStore
from ..store.passwd import PasswdAccounts
from ..store.password_hash import STRONG_MINIMUM
from ..terminal import table
from ..terms import Refused, TryLater
from .import_app import LEFT_BEHIND
from .options import HomeOption, home_of

LABEL = "password-file"  # the device that the secret of the file becomes
SHORT = "imported, but it is short: it can be guessed from one overheard digest; `device add` makes a strong one"
DryRunOption = Annotated[bool, Parameter("--dry-run", negative=(), show_default=False, help="Change nothing.")]


def passwd(*, dry_run: DryRunOption = False, home: HomeOption = "") -> int:
    """Seal the secrets in system users' ~/Maildir/.password: each becomes the device `password-file` of its account.

    The users log in as before, by any mechanism, once the files are gone too; `device list` shows who does, `device revoke`
    ends it. The files are read as their owners, which root alone can do for all, and stay where they are. Columns: account,
    and what became of it. Exit status 1: the file of somebody could not be taken; it lets nobody in either.
    """
    with administration.opened(home_of(home), make=True) as (settings, store):
        if "passwd" not in settings.accounts.source:
            raise Refused('`accounts.source` in pillarbox.toml holds no "passwd": system users have no accounts here')
        rows = list(_import(settings, store, dry_run=dry_run))
    if not rows:
        print("no user has a password file", file=sys.stderr)
    table(("Account", "Result"), [(account, text) for account, text, _ in rows])
    return 0 if all(good for _, _, good in rows) else LEFT_BEHIND


def _import(settings: Config, store: AccountStore, *, dry_run: bool) -> Iterator[tuple[str, str, bool]]:
    """Account, what became of its file, and whether that is good; nothing for users without a file."""
    users = PasswdAccounts(settings.accounts.password_file, tuple(settings.domains), as_user)
    for name in sorted({user.pw_name for user in pwd.getpwall()}):
        try:
            account, secret = users.login(name)
        except (Refused, TryLater) as error:
            yield name, f"not imported: {error.why}", False
            continue
        if account is not None and secret is not None:
            yield account.name, *_seal(store, account.name, secret, dry_run=dry_run)


def _seal(store: AccountStore, account: str, secret: bytes, *, dry_run: bool) -> tuple[str, bool]:
    text = "imported" if len(secret) >= STRONG_MINIMUM else SHORT
    if any(device.label == LABEL for device in store.devices.of(account)):
        return f"imported before; `device revoke {account} {LABEL}` first, to take it anew", True
    if store.find(account) is not None:
        return "not imported: there is an account of that name with mail in the home folder", False
    try:
        if not dry_run:
            store.devices.add(account, LABEL, secret, sends=True)
    except Refused as error:
        return f"not imported: {error.why}", False
    return f"would be {text}" if dry_run else text, True
