"""A maildrop in memory: what tests of others, and a server without a disk, hold against store.contract.Maildrop."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..listing import Entry, Listing
from ..wire_form import survey


class MemoryMaildrops:
    """The messages of one account, and the sessions that look at them."""

    def __init__(self) -> None:
        self._messages: dict[bytes, bytes] = {}
        self._last = 0

    def deliver(self, message: bytes) -> bytes:
        """Keep a message, in stored form (LF or CRLF line ends); its unique id."""
        self._last += 1
        uidl = b"%d" % self._last
        self._messages[uidl] = message
        return uidl

    def session(self) -> MemoryMaildrop:
        """The maildrop as it is now."""
        return MemoryMaildrop(self._messages)


class MemoryMaildrop:
    """One session's view; implements contract.Maildrop."""

    def __init__(self, messages: dict[bytes, bytes]) -> None:
        self._messages = messages
        self._uidls = list(messages)
        self._listing = Listing.render([Entry(uidl, *survey((message,))) for uidl, message in messages.items()])

    def listing(self) -> Listing:
        return self._listing

    def open(self, number: int) -> int:
        message = self._messages.get(self._uidls[number - 1])
        if message is None:
            raise FileNotFoundError(f"message {number} is gone")
        descriptor = os.memfd_create("message", os.MFD_CLOEXEC)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(message)
        return descriptor

    def remove(self, numbers: Sequence[int]) -> int:
        for number in numbers:
            self._messages.pop(self._uidls[number - 1], None)
        return 0
