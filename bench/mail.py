"""The mail that every server gets: the same messages under the same names, in a Maildir tree of its own."""

from __future__ import annotations

import base64
import os
import random
from dataclasses import dataclass
from pathlib import Path

DOMAIN = "example.test"
MAIL_UID = 61812  # whom the mail belongs to where servers start as root
FIRST_SECOND = 1_700_000_000
DOTTED_EVERY = 20  # one message in so many has a line that begins with a dot, and must be stuffed

_HEADER = (
    b"Return-Path: <sender@sender.test>\nReceived: from client.test by mail.example.test; 14 Nov 2023 22:13:20 +0000\n"
    b"From: Sender <sender@sender.test>\nTo: Recipient <recipient@example.test>\nSubject: Message %d\n"
    b"Message-ID: <%d.%d@sender.test>\nDate: Tue, 14 Nov 2023 22:13:20 +0000\nMIME-Version: 1.0\n"
    b"Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"
)
_LINE = 77  # octets of a base64 line with its LF
_PAPER = base64.encodebytes(random.Random(1939).randbytes(1 << 20))


@dataclass(frozen=True)
class Laid:
    """What lies in a maildrop: how many messages, and the octets of all on the wire, stuffing included."""

    messages: int
    octets: int


def message(number: int, size: int) -> bytes:
    """About `size` octets of stored message, always the same for the same number."""
    parts = [_HEADER % (number, number, size)]
    if number % DOTTED_EVERY == 0:
        parts.append(b".this line begins with a dot\n")
    left = size - sum(map(len, parts))
    while left > 0:
        start = number * 31 * _LINE % (len(_PAPER) // 2 // _LINE * _LINE)
        piece = _PAPER[start : start + max(left // _LINE, 1) * _LINE]
        parts.append(piece)
        left -= len(piece) if len(piece) >= _LINE else left
    return b"".join(parts)


def octets(content: bytes) -> int:
    """As RFC 1939 section 11 counts, before stuffing."""
    return len(content) + content.count(b"\n")


def file_name(number: int, content: bytes) -> str:
    """As Maildir++ deliverers make it; seen by a mail program, so that no server moves it."""
    return f"{FIRST_SECOND + number}.M{number}P1.bench,S={len(content)},W={octets(content)}:2,S"


def plain_name(name: str) -> str:
    """The same name without the sizes, as qmail and Postfix deliver it."""
    return name.partition(",")[0] + ":2,S"


def make_maildir(folder: Path) -> None:
    for part in (folder, folder / "new", folder / "cur", folder / "tmp"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(part)


def give(path: Path) -> None:
    """To the user whom mail belongs to; where we are not root, that is us."""
    if os.geteuid() == 0:
        os.chown(path, MAIL_UID, MAIL_UID)


def lay(folder: Path, count: int, size: int) -> Laid:
    """Fill a Maildir with `count` messages of about `size` octets."""
    make_maildir(folder)
    total = 0
    for number in range(count):
        content = message(number, size)
        total += octets(content) + content.count(b"\n.")
        _write(folder / "cur" / file_name(number, content), content)
    return Laid(count, total)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, MAIL_UID, MAIL_UID)
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def link_copy(source: Path, folder: Path) -> None:
    """The same messages in another Maildir, with no second copy on the disk or in the page cache."""
    make_maildir(folder)
    for path in (source / "cur").iterdir():
        os.link(path, folder / "cur" / path.name)


def forget(folder: Path) -> None:
    """Remove what servers keep beside new, cur and tmp: to them, the Maildir is new."""
    for path in folder.iterdir():
        if path.name not in ("new", "cur", "tmp"):
            path.unlink()


def rename_all(folder: Path, *, plain: bool) -> None:
    """Give all messages names without sizes, or with them again."""
    for path in (folder / "cur").iterdir():
        if plain:
            path.rename(path.with_name(plain_name(path.name)))
        else:
            path.rename(path.with_name(file_name(_number(path.name), path.read_bytes())))


def _number(name: str) -> int:
    return int(name.partition(".")[0]) - FIRST_SECOND


def clear_new(domain: Path) -> int:
    """Remove delivered messages from all Maildirs of a domain. How many there were."""
    removed = 0
    for folder in domain.iterdir():
        for path in (folder / "new").iterdir():
            path.unlink()
            removed += 1
    return removed
