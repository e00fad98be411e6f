"""System users as accounts: the mail in ~/Maildir, the secret in ~/Maildir/.password, as checkpw has them."""

from __future__ import annotations

import ctypes
import os
import pwd
import stat
import struct
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ..terms import Account, Refused
from .accounts import full_name

SECRET_LIMIT = 4096  # octets of the file
_OPENAT2 = 437  # the same number on all architectures
_NO_LINKS = 0x04 | 0x08  # RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

AsUser = Callable[[int, int], AbstractContextManager[None]]


class PasswdAccounts:
    """What /etc/passwd says. `as_user(uid, gid)` is how we take on a user's uid while its file is read."""

    def __init__(self, password_file: str, domains: Sequence[str], as_user: AsUser) -> None:
        """`password_file`: relative to the home folder; its folder is the Maildir."""
        self._file = password_file
        self._maildir = os.path.dirname(password_file)
        self._domains = domains
        self._as_user = as_user

    def find(self, name: str) -> Account | None:
        """The system user of that name in the first domain. Root has no mail here."""
        local, _, domain = name.partition("@")
        if domain != self._domains[0] or full_name(name, self._domains) is None:
            return None
        try:
            user = pwd.getpwnam(local)
        except KeyError:
            return None
        if user.pw_uid == 0 or not os.path.isabs(user.pw_dir):
            return None
        return Account(name, f"{user.pw_dir}/{self._maildir}", user.pw_uid, user.pw_gid)

    def secret(self, name: str) -> bytes | None:
        """The first line of the user's file, read as the user. Raises Refused, whose text is for the log."""
        account = self.find(name)
        if account is None or account.uid is None or account.gid is None:
            return None
        home = account.maildir[: len(account.maildir) - len(self._maildir) - 1]
        with self._as_user(account.uid, account.gid):
            return _read(home, self._file, account.uid)


def _read(home: str, path: str, uid: int) -> bytes | None:
    """Safely: no link anywhere below the home, no race between looking and reading."""
    try:
        folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{home}: {error.strerror}") from None
    try:
        descriptor = _open_beneath(folder, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{home}/{path}: {error.strerror}") from None
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        _check(os.fstat(descriptor), f"{home}/{path}", uid)
        content = file.read(SECRET_LIMIT)
    return content.partition(b"\n")[0].partition(b"\0")[0] or None


def _check(state: os.stat_result, path: str, uid: int) -> None:
    if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
        raise Refused(f"{path} is no plain file with one name")
    if state.st_uid != uid:
        raise Refused(f"{path} belongs to uid {state.st_uid}, not to {uid}")
    if stat.S_IMODE(state.st_mode) & 0o077:
        raise Refused(f"{path} can be read by others: chmod 600 it")
    if not 1 <= state.st_size <= SECRET_LIMIT:
        raise Refused(f"{path} is empty, or longer than {SECRET_LIMIT} octets")


def _open_beneath(folder: int, path: str) -> int:
    how = struct.pack("=QQQ", _FLAGS, 0, _NO_LINKS)
    descriptor = int(_libc.syscall(_OPENAT2, folder, path.encode(), how, len(how)))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


_libc = ctypes.CDLL(None, use_errno=True)
