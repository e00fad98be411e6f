"""What a .qmail file says (dot-qmail(5)), and which one rules an address. Nothing is run, opened or written here.

Mail may go into Maildirs below the home folder and on to other addresses. What else a file asks for (a program, an mbox
file, a Maildir elsewhere) is an Obstacle: the caller defers the mail, and never passes over a line.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .address import BadAddress, forward_path

FILE_LIMIT = 1 << 20  # octets: 10,000 addresses of usual length, which is as many as one message may lead to
MAILDIRS_LIMIT = 100  # of one file; each is a copy, and its owner could fill the disk by one message
OBSTACLES_LIMIT = 100  # that are told of one file; the first is enough to defer the mail
BLANKS = b" \t"  # that qmail-local cuts from the end of a line

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

PROGRAM = "it runs a program"
MBOX = "it delivers into an mbox file"
OUTSIDE = "its Maildir lies outside the home folder"
FORWARD_ONLY = "it delivers here, and the file may only forward (its x bit is set, or +list stands above)"
NO_ADDRESS = "it is no address that mail could be sent to"
NO_TEXT = "it holds control characters, or is not UTF-8"
TOO_MANY = f"it would be Maildir number {MAILDIRS_LIMIT + 1}"
BLANK_START = "the first line is blank"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A line that can't be obeyed."""

    line: int  # the first is 1
    why: str
    text: bytes  # the line; the owner's business, so not for logs or strangers


@dataclass(frozen=True, slots=True)
class Instructions:
    """Each place once, in the order of the lines; up to the line where there are too many obstacles."""

    maildirs: tuple[str, ...] = ()  # relative to the home folder, with no slash at the end
    forwards: tuple[bytes, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


def names(extension: str) -> Iterator[str]:
    """The files that may rule `user-EXTENSION` (`user` alone where it is empty), in the order of the search."""
    if not extension:
        yield ".qmail"
        return
    safe = extension.lower().replace(".", ":")
    yield f".qmail-{safe}"
    for end in range(len(safe), -1, -1):
        if not end or safe[end - 1] == "-":
            yield f".qmail-{safe[:end]}default"


def parse(content: bytes, *, home: str, domain: str, forward_only: bool = False) -> Instructions | None:
    """The file's instructions; None where it is empty, and the default delivery applies.

    `home`: the absolute path of the home folder. `domain`: of addresses that have none. `forward_only`: the file's x bit.
    """
    if not content:
        return None
    maildirs: dict[str, None] = {}
    forwards: dict[bytes, None] = {}
    obstacles: list[Obstacle] = []
    for number, raw in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        line = raw.rstrip(BLANKS)
        if line == b"+list":
            forward_only = True
        found = _instruction(line, home, domain, forward_only, first=number == 1)
        if isinstance(found, bytes):
            forwards[found] = None
        elif isinstance(found, _Maildir) and len({*maildirs, found.path}) <= MAILDIRS_LIMIT:
            maildirs[found.path] = None
        elif found:
            obstacles.append(Obstacle(number, TOO_MANY if isinstance(found, _Maildir) else found, line))
        if len(obstacles) >= OBSTACLES_LIMIT:
            break
    return Instructions(tuple(maildirs), tuple(forwards), tuple(obstacles))


@dataclass(frozen=True, slots=True)
class _Maildir:
    path: str


def _instruction(line: bytes, home: str, domain: str, forward_only: bool, *, first: bool) -> bytes | _Maildir | str:
    """An address, a Maildir, or why it can't be obeyed; empty: there is nothing to do."""
    if not line:
        return BLANK_START if first else ""
    if line[:1] in (b"#", b"+"):
        return ""
    if line[:1] == b"|":
        return PROGRAM
    if line[:1] in (b".", b"/"):
        return FORWARD_ONLY if forward_only else _place(line, home)
    return _address(line.removeprefix(b"&"), domain)


def _place(line: bytes, home: str) -> _Maildir | str:
    if not line.endswith(b"/"):
        return MBOX
    if _CONTROL.search(line):
        return NO_TEXT
    try:
        path = line.decode("utf-8")
    except UnicodeDecodeError:
        return NO_TEXT
    whole = posixpath.join(home, path)
    relative = posixpath.relpath(posixpath.normpath(whole), posixpath.normpath(home))
    if ".." in whole.split("/") or relative.split("/")[0] in ("..", "."):
        return OUTSIDE
    return _Maildir(relative)


def _address(text: bytes, domain: str) -> bytes | str:
    address = text if b"@" in text else b"%b@%b" % (text, domain.encode())
    return address if is_address(address) else NO_ADDRESS


def is_address(text: bytes) -> bool:
    """Is it local@domain in ASCII, as SMTP writes it, and nothing else?"""
    try:
        return text.isascii() and forward_path(b"<%b>" % text) == (text, b"")
    except BadAddress:
        return False
