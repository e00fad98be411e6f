"""A long listing crosses to the network process as a sealed memory file, made once and mapped by all who see it."""

from __future__ import annotations

import fcntl
import os
import weakref

from ..listing import Listing

INLINE_OCTETS = 16 << 10  # a shorter listing travels in its message, and is held by each session
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class MemoryFiles:
    """The memory files of the listings that are alive."""

    def __init__(self) -> None:
        self._descriptors: weakref.WeakKeyDictionary[Listing, int] = weakref.WeakKeyDictionary()

    def of(self, listing: Listing) -> int:
        """A descriptor of the listing's file, the caller's to close."""
        descriptor = self._descriptors.get(listing)
        if descriptor is None:
            descriptor = self._descriptors[listing] = _sealed(listing)
            weakref.finalize(listing, os.close, descriptor)
        return os.dup(descriptor)


def _sealed(listing: Listing) -> int:
    descriptor = os.memfd_create("listing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(listing.blob)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
