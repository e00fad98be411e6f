"""qmail's control files (qmail-control(5)): one value, or one of a list, a line. Standard library only."""

from __future__ import annotations

import errno
import os

from ..terms import TryLater

FOLDER = "control"  # below /var/qmail
FILE_LIMIT = 64 << 20  # octets; a list of a million domains


class Controls:
    """The files of one folder. Every method raises TryLater for a file that is there and can't be read."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def line(self, name: str, fallback: bytes | None = None) -> bytes | None:
        """The first line, without blanks at its end; an empty one counts. `fallback` where there is no file."""
        content = self.content(name)
        return fallback if content is None else _trimmed(content.partition(b"\n")[0])

    def lines(self, name: str) -> list[bytes] | None:
        """The lines that are neither empty nor comments; None where there is no file."""
        content = self.content(name)
        if content is None:
            return None
        lines = (_trimmed(line) for line in content.split(b"\n"))
        return [line for line in lines if line and not line.startswith(b"#")]

    def number(self, name: str, fallback: int) -> int:
        """The digits at the start of the first line; `fallback` where there is no file, or no digit."""
        line = self.line(name) or b""
        digits = line[: len(line) - len(line.lstrip(b"0123456789"))][:10]
        return int(digits) if digits else fallback

    def me(self) -> bytes | None:
        """The host's name, the fallback of many others; None where qmail was never configured."""
        return self.line("me")

    def content(self, name: str) -> bytes | None:
        """The whole file; None where there is none."""
        path = os.path.join(self._folder, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TryLater(f"{path}: {error.strerror}") from None
        try:
            return _read(descriptor)
        except OSError as error:
            raise TryLater(f"{path}: {error.strerror}") from None
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> bytes:
    if os.fstat(descriptor).st_size > FILE_LIMIT:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    parts = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _trimmed(line: bytes) -> bytes:
    return line.rstrip(b" \t\r")
