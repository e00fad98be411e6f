"""A user's password file, `.password` in the Maildir as checkpw has it: read with the user's rights, or not at all.

What is checked is what is read: the file is opened once, and no user can put another one in its place meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from ..terms import Refused, TryLater

LIMIT = 4096  # octets of the file
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_PLAIN_FILE = {errno.ELOOP, errno.ENXIO, errno.EISDIR}  # a link, a pipe or socket, a folder


class WrongMode(Refused):
    """Others may use the file, or its owner may not read it. To checkpw that is trouble (exit 111), not a refusal."""


def read(folder: str, path: Sequence[str], uid: int, *, faithful: bool = False) -> bytes | None:
    """The secret in the file `path` below `folder`; None where there is no file.

    `folder` may be reached by links, but from there on none is followed, and the file must have one name and at most
    LIMIT octets; `faithful`: none of these three is asked for, as checkpw does. Raises Refused for a file that can't be
    trusted, its text is for the log; TryLater when the disk fails us.
    """
    shown = "/".join((folder, *path))
    try:
        descriptor = os.open(shown, _FILE & ~os.O_NOFOLLOW) if faithful else _open_beneath(folder, path, uid)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise WrongMode(f"{shown}: {error.strerror}") from None
    except NotADirectoryError as error:
        raise Refused(f"{shown}: {error.strerror}") from None
    except OSError as error:
        if error.errno in _NO_PLAIN_FILE:
            raise Refused(f"{shown} is no plain file, or lies behind a link") from None
        raise TryLater(f"{shown}: {error.strerror}") from None
    try:
        state = os.fstat(descriptor)
        _check_trust(state, shown, uid)
        if not faithful:
            _check_form(state, shown)
        content = os.read(descriptor, LIMIT)
    finally:
        os.close(descriptor)
    return _secret(content, shown)


def _open_beneath(folder: str, path: Sequence[str], uid: int) -> int:
    """Raises OSError, and Refused where that says better why."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # /home itself may be a link
    try:
        for name in path[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=place)
            os.close(place)
            place = inner
        try:
            return os.open(path[-1], _FILE, dir_fd=place)
        except PermissionError:  # why? A file of somebody else is told before its mode
            _check_trust(os.stat(path[-1], dir_fd=place, follow_symlinks=False), path[-1], uid)
            raise
    finally:
        os.close(place)


def _check_trust(state: os.stat_result, shown: str, uid: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        wrong = WrongMode if stat.S_ISDIR(state.st_mode) and state.st_uid == uid else Refused  # as checkpw has it
        raise wrong(f"{shown} is no plain file")
    if state.st_uid != uid:
        raise Refused(f"{shown} belongs to uid {state.st_uid}, not to {uid}")
    if state.st_mode & 0o077:
        raise WrongMode(f"{shown} can be read by others: chmod 600 {shown}")


def _check_form(state: os.stat_result, shown: str) -> None:
    if state.st_nlink != 1:
        raise Refused(f"{shown} has {state.st_nlink} names; it must have one")
    if not 1 <= state.st_size <= LIMIT:
        raise Refused(f"{shown} is empty, or longer than {LIMIT} octets")


def _secret(content: bytes, shown: str) -> bytes:
    """As checkpw reads it: up to the first LF or NUL, a CR stays."""
    secret = content.partition(b"\n")[0].partition(b"\0")[0]
    if not secret:
        raise Refused(f"{shown} has an empty first line; an empty secret lets nobody in")
    return secret
