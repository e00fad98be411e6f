"""The system's user database."""

from __future__ import annotations

import pwd
from collections.abc import Iterable


def uid_of(user: str | int) -> int | None:
    """The uid of a name; a number is one. None where there is no such user."""
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def uids_of(users: Iterable[str | int]) -> frozenset[int]:
    """Those that there are."""
    return frozenset(uid for user in users if (uid := uid_of(user)) is not None)
