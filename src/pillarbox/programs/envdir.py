"""envdir (daemontools): run a program with the environment that a folder's files say.

    envdir DIR PROGRAM [ARG ...]

A file's name is the variable, its first line the value, without blanks and tabs at its end, each NUL an end of line. An
empty file removes the variable. Files whose names begin with a dot don't count. PROGRAM is looked for in the PATH that
envdir was started with, not in one that DIR sets. Descriptors pass through.

Exit status 111 for whatever goes wrong here, else PROGRAM's.

Unlike the original it needs no readable current folder, and of a file it reads no more than an environment could hold.
"""

from __future__ import annotations

import os

from . import chain
from .chain import SEARCH, TROUBLE, Environment, die, read_all, words

FILE_LIMIT = 128 << 10  # octets; Linux refuses to exec with a longer string, so a longer line fails and is not cut
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe that nobody writes to is an empty file


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; never returns but by SystemExit."""
    if len(arguments) < 2:
        die(TROUBLE, "envdir: usage: envdir dir child")
    folder, *program = arguments
    search = environment.get(b"PATH", SEARCH)
    for name in _names(folder):
        _set(environment, name, _content(folder, name))
    chain.run(program, environment, "envdir", search)


def _names(folder: bytes) -> list[bytes]:
    try:
        os.stat(folder and folder + b"/.")
    except OSError as error:
        die(TROUBLE, f"envdir: fatal: unable to switch to directory {os.fsdecode(folder)}: {words(error)}")
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith(b"."))
    except OSError as error:
        die(TROUBLE, f"envdir: fatal: unable to read directory {os.fsdecode(folder)}: {words(error)}")


def _content(folder: bytes, name: bytes) -> bytes:
    path = folder + b"/" + name
    try:
        descriptor = os.open(path, _FILE)
        try:
            return read_all(descriptor, FILE_LIMIT)
        finally:
            os.close(descriptor)
    except FileNotFoundError:  # a link to nothing, or removed meanwhile
        return b""
    except OSError as error:
        die(TROUBLE, f"envdir: fatal: unable to read {os.fsdecode(path)}: {words(error)}")


def _set(environment: Environment, name: bytes, content: bytes) -> None:
    """The first `=` ends a variable's name, even one in the name of the file: to exec, an entry is one string."""
    entry = name
    if content:
        entry += b"=" + content.partition(b"\n")[0].rstrip(b" \t").replace(b"\0", b"\n")
    variable, equals, value = entry.partition(b"=")
    if equals and variable:
        environment[variable] = value
    else:
        environment.pop(variable, None)
