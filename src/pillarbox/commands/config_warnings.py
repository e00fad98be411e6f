"""What `pillarbox config check` warns of: right to the letter, and still not what anybody wants."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator

from ..administration import opened
from ..broker.directory import (
    NO_POSTMASTER,
    Directory,
    alias_user,
    lacks_postmaster,
    names_postmaster,
    system_users,
)
from ..broker.privilege import as_user
from ..config import Config, targets
from ..home import Home
from ..protocol import dot_qmail
from ..store import cdb
from ..store.accounts import AccountStore, full_name
from ..store.dot_qmail import find
from ..terms import Account, Refused, TryLater

CLASSIC = '`relay.style` is "classic": whoever shares an address with a POP3 client of ours may send through this host'
NO_DOT_QMAIL = "`accounts.dot_qmail` is set, and `accounts.source` names no `passwd`: only system users have such files"


def warnings(place: Home, settings: Config) -> Iterator[str]:
    """Each names its key. Raises Refused for a user in `users` that there is not."""
    if settings.relay.style == "classic":
        yield CLASSIC
    if settings.accounts.dot_qmail and "passwd" not in settings.accounts.source:
        yield NO_DOT_QMAIL
    yield from _files(place, settings)
    yield from _rules(settings)
    yield from _postmaster(settings)
    if not settings.aliases and not settings.forwards:
        return
    if settings.accounts.source != ["local"]:
        return  # the broker alone may look at the homes of the system's users
    if not os.path.exists(place.accounts):
        yield "there are no accounts yet, so `aliases` and `forwards` may lead to nobody"
        return
    try:
        with opened(place) as (_, store):
            yield from _leads(settings, store)
    except (Refused, TryLater) as error:
        yield f"whether `aliases` and `forwards` lead to somebody can't be told: {error.why}"


def _files(place: Home, settings: Config) -> Iterator[str]:
    """Whether they are there for who reads them, which is the queue's user."""
    uid, gid = place.identities(settings).queue
    for key in ("smarthost_secret_file", "ca_file"):
        path = getattr(settings.delivery, key)
        if not path:
            continue
        try:
            with contextlib.nullcontext() if uid is None or gid is None else as_user(uid, gid):
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            whose = " by the user of `users.queue`" if uid is not None else ""
            yield f'`delivery.{key}` is "{path}", which can\'t be read{whose}: {error.strerror}'


def _rules(settings: Config) -> Iterator[str]:
    """Without them the server does not start; root reads them, where it starts it."""
    for key in ("rules_smtp", "rules_pop3"):
        path = getattr(settings.policy, key)
        try:
            if path:
                cdb.all_records(path)
        except OSError as error:
            yield f'`policy.{key}` is "{path}", which is no good: {error.strerror}'


# Names that are nobody's.


def _postmaster(settings: Config) -> Iterator[str]:
    """The alias user's folder is looked at by root alone."""
    if lacks_postmaster(settings):
        yield NO_POSTMASTER
    if not settings.accounts.dot_qmail or "passwd" not in settings.accounts.source or os.geteuid() != 0:
        return
    try:
        account = system_users(settings).find(alias_user(settings))
    except TryLater as error:
        yield f"mail that the user `{alias_user(settings)}` should get has to wait: {error.why}"
        return
    if account is None:
        yield from _no_alias_user(settings)
    if "local" not in settings.accounts.source and not names_postmaster(settings) and not _says_postmaster(account):
        yield NO_POSTMASTER + (f", or in {account.home}/.qmail-postmaster" if account else "")


def _no_alias_user(settings: Config) -> Iterator[str]:
    """A user of that name whom nobody counts."""
    name = alias_user(settings)
    with contextlib.suppress(KeyError):
        home = pwd.getpwnam(name).pw_dir
        yield (
            f"the .qmail files of `{name}` count for nothing: its folder {home} must be there, and belong to it or to"
            f" root, and the user must not be root: chown {name} {home}"
        )


def _says_postmaster(account: Account | None) -> bool:
    if account is None or account.uid is None or account.gid is None:
        return False
    with as_user(account.uid, account.gid), contextlib.suppress(TryLater):
        return find(account.home, dot_qmail.names("postmaster"), dot_qmail.FILE_LIMIT) is not None
    return True  # it can't be told now


# Aliases and forwards.


def _leads(settings: Config, store: AccountStore) -> Iterator[str]:
    """Which targets lead to nobody. Raises TryLater."""
    directory = Directory(settings, store, system_users)
    aliases = {_full(name, settings): targets(settings.aliases, name) for name in settings.aliases}
    for name in settings.forwards:
        if directory.account(_full(name, settings)) is None:
            yield f'`forwards` holds "{name}", and there is no such account'
    for key, table in (("aliases", settings.aliases), ("forwards", settings.forwards)):
        for name in table:
            for target in targets(table, name):
                found = directory.resolve(target.encode())
                if not found.local or found.deliverable:
                    continue
                if _full(target, settings) not in aliases:
                    yield f'`{key}` leads "{name}" to "{target}", which is neither an account nor an alias'
                elif key == "aliases" and _comes_back(_full(name, settings), aliases, settings):
                    yield f'`aliases` leads "{name}" to "{target}", and in a circle, to nobody'


def _full(name: str, settings: Config) -> str:
    """A name of ours in full; another as it is."""
    return full_name(name, settings.domains) or name.lower()


def _comes_back(name: str, aliases: dict[str, list[str]], settings: Config) -> bool:
    """Do the targets of an alias lead back to it?"""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for target in aliases.get(waiting.pop(), []):
            full = _full(target, settings)
            if full == name:
                return True
            if full not in seen:
                seen.add(full)
                waiting.append(full)
    return False
