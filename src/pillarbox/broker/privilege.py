"""Taking on another uid, for a moment or for good. Standard library only: the classic programs import it too."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..terms import Refused

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


@contextmanager
def as_user(uid: int, gid: int) -> Iterator[None]:
    """Effective uid and gid of a user while the block runs; single-threaded processes only.

    Raises Refused where we may not, and for root.
    """
    if uid == 0:
        raise Refused("root's own files are not read")
    before = os.geteuid(), os.getegid(), os.getgroups()
    if before[0] == uid:
        yield
        return
    if before[0] != 0:
        raise Refused(f"only root can act as uid {uid}")
    try:
        os.setgroups([gid])
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])


def become(uid: int, gid: int, groups: Sequence[int] | None = None) -> None:
    """That user for good: groups, gid, uid, in this order; then make sure that there is no way back.

    Raises Refused for root, and where we may not.
    """
    if uid == 0 or gid == 0:
        raise Refused("refusing to become root")
    if os.getuid() == uid and os.geteuid() == uid:
        return
    try:
        os.setgroups([gid] if groups is None else list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError:
        raise Refused(f"only root can become uid {uid}") from None
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise SystemExit("the way back to root is open: the kernel did not take the uid away")


def harden() -> None:
    """No core dumps, no ptrace by our own uid, no privilege by exec, for this process and what it forks."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
