"""The file operations that durability hangs on, in one place: a test can record their order, or fail any of them."""

from __future__ import annotations

import errno
import os

from ..terms import TryLater

Path = str | bytes

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fsync(descriptor: int) -> None:
    """Make a file's content durable. After a failure the descriptor is worthless: the kernel may have dropped pages."""
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make what was linked, renamed or unlinked in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create(path: Path) -> int:
    """A new file of our own, 0600, open for reading and writing. Raises FileExistsError; never follows a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def rename(old: Path, new: Path) -> None:
    os.rename(old, new)


def link(old: Path, new: Path) -> None:
    """Raises FileExistsError rather than replace anything."""
    os.link(old, new, follow_symlinks=False)


def unlink(path: Path) -> None:
    os.unlink(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Every octet, or an OSError: a short write is not the end."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: str, data: bytes) -> None:
    """The file has this content from now on, durably; whoever reads meanwhile sees the old or the new one whole."""
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    descriptor = create(temporary)
    try:
        write_all(descriptor, data)
        fsync(descriptor)
        rename(temporary, path)
    except BaseException:
        unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    sync_directory(os.path.dirname(path))


def trouble(error: OSError, what: str) -> TryLater:
    """The TryLater for a failed file operation: full disks have a code of their own (RFC 3463)."""
    code = "4.2.2" if error.errno == errno.EDQUOT else "4.3.1" if error.errno in FULL else "4.3.0"
    return TryLater(f"{what}: {error.strerror}", code)
