"""System users as accounts: the mail in ~/Maildir, the secret in ~/Maildir/.password, as checkpw has them."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ..terms import Account, Refused, TryLater
from .accounts import full_name

MAILDIR = "Maildir"  # below the home folder
FILE_LIMIT = 4096  # octets of the password file
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_PLAIN_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR}  # a link, a pipe or socket, a folder

AsUser = Callable[[int, int], AbstractContextManager[None]]


class PasswdAccounts:
    """What the system's user database says, by qmail-getpw's rule: not root, and the home folder is the user's own.

    `as_user(uid, gid)` takes on a user's uid while their folder is looked at; it raises Refused where it can't.
    """

    def __init__(self, password_file: str, domains: Sequence[str], as_user: AsUser) -> None:
        """`password_file`: relative to the home folder. System users live in the first of `domains`. Raises ValueError."""
        self._path = tuple(password_file.split("/"))
        if {"", ".", ".."} & set(self._path):
            raise ValueError(f"{password_file!r}: the password file must be a path below the home folder")
        self._domains = domains
        self._as_user = as_user

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
        if owner != user.pw_uid:
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
            return _read(user.pw_dir, self._path, user.pw_uid)

    def login(self, name: str) -> tuple[Account | None, bytes | None]:
        """find and secret; raises what these do."""
        account = self.find(name)
        return account, self.secret(name) if account is not None else None


def _read(home: str, path: Sequence[str], uid: int) -> bytes | None:
    """No link is followed below the home folder, and what is checked is what is read (no race with the file's owner)."""
    shown = "/".join((home, *path))
    try:
        descriptor = _open_beneath(home, path)
    except FileNotFoundError:
        return None
    except (NotADirectoryError, PermissionError) as error:
        raise Refused(f"{shown}: {error.strerror}") from None
    except OSError as error:
        if error.errno in _NO_PLAIN_FILE:
            raise Refused(f"{shown} is no plain file, or lies behind a link") from None
        raise TryLater(f"{shown}: {error.strerror}") from None
    try:
        _check(os.fstat(descriptor), shown, uid)
        content = os.read(descriptor, FILE_LIMIT)
    finally:
        os.close(descriptor)
    # As checkpw reads it: up to the first LF or NUL, a CR stays
    secret = content.partition(b"\n")[0].partition(b"\0")[0]
    if not secret:
        raise Refused(f"{shown} has an empty first line; an empty secret lets nobody in")
    return secret


def _open_beneath(home: str, path: Sequence[str]) -> int:
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # /home itself may be a link
    try:
        for name in path[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(path[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _check(state: os.stat_result, shown: str, uid: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise Refused(f"{shown} is no plain file")
    if state.st_nlink != 1:
        raise Refused(f"{shown} has {state.st_nlink} names; it must have one")
    if state.st_uid != uid:
        raise Refused(f"{shown} belongs to uid {state.st_uid}, not to {uid}")
    if state.st_mode & 0o077:
        raise Refused(f"{shown} can be read by others: chmod 600 {shown}")
    if not 1 <= state.st_size <= FILE_LIMIT:
        raise Refused(f"{shown} is empty, or longer than {FILE_LIMIT} octets")
