"""System users for a while. Only for root; several test processes may make some at the same time."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pillarbox.broker.privilege import as_user

HOMES = "/var/tmp"  # where their homes lie; /home may be closed, or not be there
_UIDS = itertools.count(100_000 + os.getpid() % 10_000 * 10)  # no machine of another test gives its users these
_SECONDS = 20  # until the user database is free, and the user's last process has been reaped
_PASSING = ("lock", "currently used by process")


@contextlib.contextmanager
def system_user(name: str) -> Iterator[pwd.struct_passwd]:
    """A user of that name, with a home of its own, which goes with it."""
    _change("useradd", "--create-home", "--base-dir", HOMES, "--uid", str(next(_UIDS)), name)
    try:
        yield pwd.getpwnam(name)
    finally:
        _change("userdel", "--remove", name)


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Not as root, but as a user without a name, or as who we are."""
    uid = 65_000 if os.geteuid() == 0 else os.geteuid()
    with as_user(uid, uid):
        yield


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may reach and write."""
    with tempfile.TemporaryDirectory(prefix="pillarbox-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o777)
        yield Path(name)


def _change(*command: str) -> None:
    """The user database takes one at a time."""
    end = time.monotonic() + _SECONDS
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        assert any(word in done.stderr for word in _PASSING) and time.monotonic() < end, done.stderr
        time.sleep(0.1)
