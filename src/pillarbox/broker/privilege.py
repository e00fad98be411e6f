"""Taking on another uid, for a moment or for good. Standard library only: the classic programs import it too."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..terms import Refused

_PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 15, 36, 38  # linux/prctl.h
NAME_LIMIT = 15  # octets of a process's name that the kernel keeps


@contextmanager
def as_user(uid: int, gid: int) -> Iterator[None]:
    """Effective uid, gid and groups of a user while the block runs; for processes of one thread only.

    Raises Refused for root, and where we may not; an ordinary user may be itself.
    """
    if uid == 0:
        raise Refused("nothing is done as root")
    own, own_group, own_groups = os.geteuid(), os.getegid(), os.getgroups()
    if own == uid:
        yield
        return
    if own != 0:
        raise Refused(f"only root can act as uid {uid}")
    try:
        os.setgroups([gid])
        os.setegid(gid)
        os.seteuid(uid)  # last: it takes the right to do the others
        yield
    finally:
        os.seteuid(own)
        os.setegid(own_group)
        os.setgroups(own_groups)


def become(uid: int, gid: int, groups: Sequence[int] | None = None) -> None:
    """That user for good: groups (gid alone if None), gid, uid; then make sure that there is no way back.

    Raises Refused for root, and where we may not. An ordinary user that is this one already stays as it is.
    """
    if uid == 0 or gid == 0:
        raise Refused("refusing to become root")
    if os.getresuid() == (uid, uid, uid):
        return
    try:
        os.setgroups([gid] if groups is None else list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError:
        raise Refused(f"only root can become uid {uid}") from None
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or _can_return():
        raise SystemExit("the way back to root is open: the kernel did not take the uid away")


def _can_return() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True


def name_process(name: str) -> None:
    """What ps, top and the kernel call this process; cut to 15 octets."""
    import ctypes  # here: see harden

    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode("ascii")[:NAME_LIMIT], 0, 0, 0)


def adopt_orphans() -> None:
    """Whoever loses its parent below this process becomes its child, rather than init's."""
    import ctypes  # here: see harden

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def harden() -> None:
    """No core dumps, no ptrace by our own uid, no privilege gained by exec: this process and what it forks."""
    import ctypes  # here: the classic programs, which do not call this, start without it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if prctl(option, value, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"prctl({option}): {os.strerror(error)}")
