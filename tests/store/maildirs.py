"""Another program at work in a Maildir, and what a test wants to know of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.listing import Listing
from pillarbox.store import files, maildir_scan
from pillarbox.store.maildir import Drop
from pillarbox.store.maildir_scan import Facts

OPERATIONS = ("create", "write_all", "fsync", "link", "rename", "unlink", "sync_directory")  # of store.files

# As qmail, Postfix, Dovecot, maildrop and getmail name them.
FOREIGN_NAMES = [
    "1795491907.28730.vm",
    "1795491908.V801I2a3c4dM345678.mx.example.test",
    "1795491909.M345678P12345.mail,S=6,W=7",
    "1795491910.M20046P2137_0.courier,S=6",
    "1795491911.M1P2Q3R0a1b2c3d.getmail",
]


class Maildir:
    """What other programs do, without a word to us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for folder in ("tmp", "new", "cur"):
            (path / folder).mkdir(parents=True, exist_ok=True)

    def put(self, file: str, content: bytes = b"hello\n") -> None:
        """`file`: "new/NAME" or "cur/NAME"."""
        (self.path / file).write_bytes(content)

    def move(self, file: str, to: str) -> None:
        (self.path / file).rename(self.path / to)

    def remove(self, file: str) -> None:
        (self.path / file).unlink()

    def files(self) -> list[str]:
        return sorted(f"{folder}/{file.name}" for folder in ("new", "cur") for file in (self.path / folder).iterdir())

    def settle(self) -> None:
        """Come back when a change could not hide behind the present time stamps any more."""
        while not maildir_scan.is_safe(maildir_scan.stamp(os.fsencode(self.path)), time.time_ns()):
            time.sleep(0.002)


def entries(listing: Listing) -> list[tuple[bytes, int]]:
    """Unique id and octets of each message."""
    return [(listing.uidl(number), listing.size(number)) for number in range(1, listing.count + 1)]


def uidls(drop: Drop) -> list[bytes]:
    return [uidl for uidl, _ in entries(drop.listing())]


def content(drop: Drop, number: int) -> bytes:
    descriptor = drop.open(number)
    try:
        return os.pread(descriptor, 1 << 20, 0)
    finally:
        os.close(descriptor)


def watch_looks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that are looked at from now on."""
    looked: list[bytes] = []
    real = maildir_scan._look

    def look(root: int, file: bytes) -> Facts | None:
        looked.append(file)
        return real(root, file)

    monkeypatch.setattr(maildir_scan, "_look", look)
    return looked


def watch_listings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The folders that are listed from now on."""
    listed: list[bytes] = []
    real = os.listdir

    def listdir(path: bytes) -> list[bytes]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    return listed


def spy(monkeypatch: pytest.MonkeyPatch, before: Callable[..., None]) -> None:
    """`before(name, *arguments)` is called before each operation of store.files."""

    def watched(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def operation(*arguments: object) -> object:
            before(name, *arguments)
            return real(*arguments)

        return operation

    for name in OPERATIONS:
        monkeypatch.setattr(files, name, watched(name, getattr(files, name)))
