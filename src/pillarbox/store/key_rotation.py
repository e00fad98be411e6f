"""A new sealing key for everything that is sealed, while the server runs.

The key file holds the new key and the old one until the database, in one transaction, has everything sealed with the
new one; then the new one alone. Whatever is cut off in between leaves a file that opens all, and the next rotation
goes on from there.
"""

from __future__ import annotations

import glob
import os

from ..terms import Refused
from . import files
from .accounts import AccountStore
from .secrets import KEY_OCTETS, Seal, key_id_of, load_keys


def rotate(path: str, store: AccountStore) -> tuple[int, str]:
    """How many secrets have been sealed anew, and the id of the new key. `path`: the file of keys.

    Raises Refused where a secret can't be opened, TryLater where the disk or the database fails us.
    """
    try:
        with store.exclusively():
            _remove_leftovers(path)
            new, old = _pair(load_keys(path, create=False), store.devices.key_id())
            files.replace_file(path, new + old)
            count = store.reseal(Seal(new, old))
        files.replace_file(path, new)
    except OSError as error:
        raise files.trouble(error, f"{path} can't be written") from None
    return count, key_id_of(new).hex()


def _pair(keys: tuple[bytes, ...], current: bytes) -> tuple[bytes, bytes]:
    """The key to seal with, and the one that everything is sealed with now."""
    old = next((key for key in keys if key_id_of(key) == current), None)
    if old is None:
        raise Refused("the secrets are sealed with another key than this one: restore that key first")
    new = keys[0] if keys[0] != old else os.urandom(KEY_OCTETS)  # another rotation was cut off
    return new, old


def _remove_leftovers(path: str) -> None:
    """Keys in files that a killed rotation has left."""
    for name in glob.glob(f"{glob.escape(path)}.*.tmp"):
        files.unlink(name)
