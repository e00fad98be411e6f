"""maildirmake (qmail): make an empty Maildir.

    maildirmake NAME

Makes the folder NAME, and tmp, new and cur in it, all with mode 0700; folders above it must be there. Exit status 100 for
wrong usage, 111 if one of them can't be made, or if NAME is there already.
"""

from __future__ import annotations

import os

from .chain import MISUSED, TROUBLE, Environment, die, words


def main(arguments: list[bytes], _environment: Environment) -> int:
    """0, or SystemExit."""
    if not arguments:
        die(MISUSED, "maildirmake: usage: maildirmake name")
    os.umask(0o077)
    name = arguments[0]
    _make(name, name)
    try:
        os.chdir(name)
    except OSError as error:
        die(TROUBLE, f"maildirmake: fatal: unable to chdir to {os.fsdecode(name)}: {words(error)}")
    for folder in (b"tmp", b"new", b"cur"):
        _make(folder, name + b"/" + folder)
    return 0


def _make(path: bytes, shown: bytes) -> None:
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        die(TROUBLE, f"maildirmake: fatal: unable to mkdir {os.fsdecode(shown)}: {words(error)}")
