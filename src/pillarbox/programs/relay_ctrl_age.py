"""relay-ctrl-age (relay-ctrl): remove what has expired from the folder of grants; for cron.

    relay-ctrl-age

Everything in the folder but other folders, names with a dot at their beginning included, is removed when it was last
changed longer ago than the expiry.

Environment: RELAY_CTRL_DIR, RELAY_CTRL_EXPIRY (seconds, 900). RELAY_CTRL_DIR_FD does not count.
Exit status: 0; 1 when the folder can't be read.

Departs from the original: never removes the file of a login that has just come; what claims to be of the future, and is no
grant therefore, goes too.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from ..store.grant_folder import is_alive
from .chain import Environment
from .relay_ctrl import Voice, expiry, remove_old, text


def main(arguments: list[bytes], environment: Environment) -> int:
    """Once through the folder."""
    voice = Voice("relay-ctrl-age", numbered=False)
    path = environment.get(b"RELAY_CTRL_DIR")
    if path is None:
        voice.die(1, "$RELAY_CTRL_DIR is not set.")
    now, lasts = time.time(), expiry(environment)
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        names = os.listdir(folder)
    except OSError as error:
        voice.die(1, f"Could not open dir '{text(environment, b'RELAY_CTRL_DIR')}': {error.strerror}")
    for name in names:
        with suppress(OSError):
            _age(folder, name, lasts, now)
    return 0


def _age(folder: int, name: str, lasts: int, now: float) -> None:
    """Raises OSError."""
    state = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(state.st_mode) and not is_alive(int(state.st_mtime), lasts, int(now)):
        remove_old(folder, name, lasts, now)
