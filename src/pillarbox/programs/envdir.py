"""envdir (daemontools): run a program with the environment that a folder's files say.

    envdir DIR PROGRAM [ARG ...]

A file's name is the variable, its first line the value, without blanks at its end, each NUL an end of line. An empty
file removes the variable. Files whose names begin with a dot don't count. Exit status 111 for whatever goes wrong.
"""

from __future__ import annotations

import os

from . import chain
from .chain import TROUBLE, Environment, die, words

FILE_LIMIT = 64 << 10  # octets of a file's first line that are read; more than an environment could well hold


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; never returns but by SystemExit."""
    if len(arguments) < 2:
        die(TROUBLE, "envdir: usage: envdir dir child")
    folder, *program = arguments
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith(b"."))
    except OSError as error:
        die(TROUBLE, f"envdir: fatal: unable to switch to directory {os.fsdecode(folder)}: {words(error)}")
    for name in names:
        _set(environment, name, _content(folder, name))
    chain.run(program, environment, "envdir")


def _content(folder: bytes, name: bytes) -> bytes:
    path = folder + b"/" + name
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(FILE_LIMIT) or b""
    except OSError as error:
        die(TROUBLE, f"envdir: fatal: unable to read {os.fsdecode(path)}: {words(error)}")


def _set(environment: Environment, name: bytes, content: bytes) -> None:
    if not content:
        environment.pop(name, None)
        return
    environment[name] = content.partition(b"\n")[0].rstrip(b" \t").replace(b"\0", b"\n")
