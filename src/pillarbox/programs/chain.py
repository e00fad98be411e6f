"""What every classic program does: read its environment as it came, complain, and become the next program of the chain.

A chain is one process that changes its program: `envdir DIR tcpserver ... qmail-popup ...`. Descriptors pass through,
exec takes the place of a call, and the exit status is the last program's.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False  # typing takes longer to load than all else here
if TYPE_CHECKING:
    from typing import NoReturn

Environment = dict[bytes, bytes]

MISUSED = 100
TROUBLE = 111  # ours, and passing: whoever called may try again
SEARCH = b"/bin:/usr/bin"  # where there is no PATH, as the originals have it
AFTER_EXEC = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these; the next program must not inherit that

# The words in which the originals name an error; others are told in the system's words, without capitals.
_WORDS = {
    errno.ENOENT: "file does not exist",
    errno.EACCES: "access denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "not a directory",
    errno.EISDIR: "is a directory",
    errno.EEXIST: "file already exists",
    errno.ENOSPC: "out of disk space",
    errno.EADDRINUSE: "address already used",
    errno.EADDRNOTAVAIL: "address not available",
    errno.EIO: "input/output error",
    errno.ELOOP: "symbolic link loop",
    errno.ETXTBSY: "text busy",
    errno.EMFILE: "process cannot open more files",
    errno.ENFILE: "system cannot open more files",
    errno.ENOMEM: "out of memory",
    errno.EBADF: "file descriptor not open",
}


def inherited() -> Environment:
    """The environment as the caller gave it: Python adds LC_CTYPE where the locale is C (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb", buffering=0) as file:
            content = file.read() or b""
    except OSError:  # no /proc: then with what Python added
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in content.split(b"\0"))
    environment: Environment = {}
    for name, equals, value in pairs:
        if name and equals:  # exec takes no variable without a name
            environment.setdefault(name, value)  # of two entries the first one is what getenv finds
    return environment


def words(error: OSError) -> str:
    """Why, as the originals say it."""
    return _WORDS.get(error.errno or 0) or (error.strerror or "unknown error").lower()


def complain(text: str | bytes) -> None:
    """A line on descriptor 2, in one write; where nobody takes it, it is lost, as it was with the originals."""
    line = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    try:
        os.write(2, line + b"\n")
    except OSError:
        pass


def die(status: int, text: str | bytes) -> NoReturn:
    """Complain, and end with that exit status."""
    complain(text)
    raise SystemExit(status)


def become(program: Sequence[bytes], environment: Mapping[bytes, bytes], search: bytes | None = None) -> NoReturn:
    """Exec. Returns by raising OSError only: what kept the last candidate from running.

    `program`: its name and its arguments, at least the name. `search`: the PATH to look for it in, where that is not the
    environment's: the originals look in the one that they were started with. Descriptors that were inherited stay open;
    what this process opened itself does not pass on, unless it was made inheritable.
    """
    for number in AFTER_EXEC:
        signal.signal(number, signal.SIG_DFL)
    if not program[0]:  # the folder itself, to execve; Python does not let it try
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    # A failed candidate does not end the search, but a file that may not be run is told rather than a missing one.
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in candidates(program[0], environment.get(b"PATH", SEARCH) if search is None else search):
        try:
            os.execve(path, list(program), dict(environment))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR):
                raise
            if error.errno != errno.ENOENT:
                failure = error
    raise failure


def candidates(name: bytes, search: bytes) -> list[bytes]:
    """Where a program of that name may lie, in the order in which it is looked for."""
    if b"/" in name:
        return [name]
    return [(folder or b".") + b"/" + name for folder in search.split(b":")]


def run(
    program: Sequence[bytes], environment: Mapping[bytes, bytes], name: str, search: bytes | None = None
) -> NoReturn:
    """`become`, or the complaint of `name` that it can't, with exit status 111."""
    try:
        become(program, environment, search)
    except OSError as error:
        die(TROUBLE, f"{name}: fatal: unable to run {os.fsdecode(program[0])}: {words(error)}")


def read_all(descriptor: int, limit: int) -> bytes:
    """To the end, or up to `limit` octets and one more. Raises OSError."""
    parts: list[bytes] = []
    left = limit + 1
    while left and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def write_all(descriptor: int, data: bytes) -> None:
    """Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def arguments() -> list[bytes]:
    """argv[1:], octet for octet."""
    return [os.fsencode(argument) for argument in sys.argv[1:]]
