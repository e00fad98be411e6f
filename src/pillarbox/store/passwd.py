"""System users as accounts: the mail in ~/Maildir, the secret in ~/Maildir/.password, as checkpw has them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ..terms import Account, Refused, TryLater
from . import password_file
from .accounts import full_name

MAILDIR = "Maildir"  # below the home folder

AsUser = Callable[[int, int], AbstractContextManager[None]]


class PasswdAccounts:
    """What the system's user database says, by qmail-getpw's rule: not root, and the home folder is the user's own.

    `as_user(uid, gid)` takes on a user's uid while their folder is looked at; it raises Refused where it can't.
    """

    def __init__(self, password_file: str, domains: Sequence[str], as_user: AsUser, alias_user: str = "") -> None:
        """`password_file`: relative to the home folder. System users live in the first of `domains`. Raises ValueError.

        The folder of `alias_user` may be root's, too: qmail asks nobody whose it is.
        """
        self._path = tuple(password_file.split("/"))
        if {"", ".", ".."} & set(self._path):
            raise ValueError(f"{password_file!r}: the password file must be a path below the home folder")
        self._domains = domains
        self._as_user = as_user
        self._alias_user = alias_user

    def find(self, name: str) -> Account | None:
        """The account of local@domain, or of a user's name alone. Raises TryLater when the home folder can't be seen."""
        user = self._user(name)
        if user is None:
            return None
        try:
            with self._as_user(user.pw_uid, user.pw_gid):
                owner = os.stat(user.pw_dir).st_uid
        except (Refused, FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as error:
            raise TryLater(f"{user.pw_dir}: {error.strerror}") from None
        if owner != user.pw_uid and (owner or user.pw_name != self._alias_user):
            return None
        full = f"{user.pw_name}@{self._domains[0].lower()}"
        return Account(full, f"{user.pw_dir}/{MAILDIR}", user.pw_uid, user.pw_gid)

    def _user(self, name: str) -> pwd.struct_passwd | None:
        local, _, domain = (full_name(name, self._domains) or "").partition("@")
        if not local or domain != self._domains[0].lower():
            return None
        try:
            user = pwd.getpwnam(local)
        except KeyError:
            return None
        return user if user.pw_uid != 0 and user.pw_name == local and os.path.isabs(user.pw_dir) else None

    def secret(self, name: str) -> bytes | None:
        """The first line of the user's file, read as the user; None where there is no file.

        Raises Refused for a file that can't be trusted: the text is for the log. TryLater when the disk fails us.
        """
        user = self._user(name)
        if user is None:
            return None
        with self._as_user(user.pw_uid, user.pw_gid):
            return password_file.read(user.pw_dir, self._path, user.pw_uid)

    def login(self, name: str) -> tuple[Account | None, bytes | None]:
        """find and secret; raises what these do."""
        account = self.find(name)
        return account, self.secret(name) if account is not None else None
