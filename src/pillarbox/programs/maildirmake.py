"""maildirmake (qmail): make an empty Maildir.

    maildirmake NAME

Makes the folder NAME, and tmp, new and cur in it, all with mode 0700; folders above it must be there. Exit status 100 for
wrong usage, 111 if one of them can't be made, or if NAME is there already.

Unlike the original it leaves nothing behind when it fails halfway.
"""

from __future__ import annotations

import os

from .chain import MISUSED, TROUBLE, Environment, die, words

_FOLDERS = (b"", b"/tmp", b"/new", b"/cur")


def main(arguments: list[bytes], _environment: Environment) -> int:
    """0, or SystemExit."""
    if not arguments:
        die(MISUSED, "maildirmake: usage: maildirmake name")
    os.umask(0o077)
    made: list[bytes] = []
    for folder in _FOLDERS:
        path = arguments[0] + folder
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            for each in reversed(made):
                os.rmdir(each)
            die(TROUBLE, f"maildirmake: fatal: unable to mkdir {os.fsdecode(path)}: {words(error)}")
        made.append(path)
    return 0
