"""A system user's .qmail files: found and read as that user, or not at all. Whoever calls has become the user."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from ..terms import TryLater

WRITABLE = 0o022  # by group or others: then the mail is not the owner's alone to lead
FORWARD_ONLY = 0o100
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """The file that rules an address."""

    name: str
    content: bytes
    forward_only: bool  # its x bit is set


def find(home: str, names: Iterable[str], limit: int) -> Found | None:
    """The first of these files that is there, whole; None where there is none.

    A link is followed, as qmail-local does: nothing is read that the user could not read. Raises TryLater, with a code
    of RFC 3463, where the home folder or the file can't be trusted or read, and for a file of more than `limit` octets.
    """
    _check_home(home)
    for name in names:
        path = f"{home}/{name}"
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TryLater(f"{path}: {error.strerror}", "4.3.0") from None
        try:
            return _read(descriptor, path, name, limit)
        except OSError as error:
            raise TryLater(f"{path}: {error.strerror}", "4.3.0") from None
        finally:
            os.close(descriptor)
    return None


def _check_home(home: str) -> None:
    try:
        mode = os.stat(home).st_mode
    except OSError as error:
        raise TryLater(f"{home}: {error.strerror}", "4.3.0") from None
    if not stat.S_ISDIR(mode):
        raise TryLater(f"{home} is no folder", "4.3.0")
    if mode & WRITABLE:
        raise TryLater(f"others may write to the home folder {home}: chmod go-w {home}", "4.7.0")
    if mode & stat.S_ISVTX:
        raise TryLater(f"the home folder {home} is sticky: its owner is changing .qmail files", "4.2.1")


def _read(descriptor: int, path: str, name: str, limit: int) -> Found:
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        raise TryLater(f"{path} is no plain file", "4.3.0")
    if state.st_uid not in (os.geteuid(), 0):  # root's: whoever installs qmail makes the alias user's files
        raise TryLater(f"{path} belongs to uid {state.st_uid}", "4.7.0")
    if state.st_mode & WRITABLE:
        raise TryLater(f"others may write to {path}: chmod go-w {path}", "4.7.0")
    content = b""
    while part := os.read(descriptor, limit + 1 - len(content)):
        content += part
    if len(content) > limit:
        raise TryLater(f"{path} is longer than {limit} octets", "4.3.0")
    return Found(name, content, bool(state.st_mode & FORWARD_ONLY))
