"""POP-before-SMTP grants: one file an address, as relay-ctrl keeps them, so that relay-ctrl-check can read ours.

The file's name is the address, its mtime the time of the grant, its content `USER=name\\0DOMAIN=name\\0`. No fsync:
losing one fails closed.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from ..terms import Grant, TryLater

REWRITE_SECONDS = 10.0  # a client that polls every second need not cost a write each time
REMEMBERED = 65_536  # (address, account) pairs whose last write we know
CONTENT_LIMIT = 1024  # octets read of a file
FUTURE_SECONDS = 5.0  # an mtime further ahead is a forgery or a clock gone wrong


class Grants:
    """The grants in one directory."""

    def __init__(self, directory: str, expiry: float) -> None:
        """`expiry`: seconds that a grant lasts."""
        self._directory = directory
        self._expiry = expiry
        self._written: OrderedDict[tuple[str, str], float] = OrderedDict()

    def renew(self, address: str, account: str, now: float) -> None:
        """This account has just logged in from this address. Raises OSError when that can't be written."""
        key = (address, account)
        if now - self._written.get(key, 0.0) < REWRITE_SECONDS:
            return
        self._write(_file_name(address), account)
        self._written[key] = now
        self._written.move_to_end(key)
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _write(self, name: str, account: str) -> None:
        user, _, domain = account.partition("@")
        temporary = f"{self._directory}/.{name}.{os.getpid()}"
        # relay-ctrl-check reads as the SMTP server's uid, so the file is readable; the directory above it is not
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, f"USER={user}\0DOMAIN={domain}\0".encode())
        finally:
            os.close(descriptor)
        os.rename(temporary, f"{self._directory}/{name}")

    def find(self, address: str, now: float) -> Grant | None:
        """The live grant of this address. Raises TryLater when that can't be told."""
        try:
            path = f"{self._directory}/{_file_name(address)}"
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise TryLater(f"the grant of {address} can't be read: {error.strerror}", "4.3.0") from None
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or not self._live(state.st_mtime, now):
                return None
            return Grant(address, _account(file.read(CONTENT_LIMIT)), state.st_mtime, state.st_mtime + self._expiry)

    def _live(self, mtime: float, now: float) -> bool:
        return mtime + self._expiry >= now and mtime <= now + FUTURE_SECONDS

    def expire(self, now: float) -> None:
        """Remove what is no longer live; what is no grant of ours stays. Raises OSError."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    continue
                if not self._live(entry.stat(follow_symlinks=False).st_mtime, now):
                    os.unlink(entry.path)


@lru_cache(4096)
def _file_name(address: str) -> str:
    """The address as a file name, checked to be an address. Raises ValueError."""
    parsed = ip_address(address)
    return str((isinstance(parsed, IPv6Address) and parsed.ipv4_mapped) or parsed)


def _account(content: bytes) -> str:
    fields = dict(part.split(b"=", 1) for part in content.split(b"\0") if b"=" in part)
    user, domain = fields.get(b"USER", b""), fields.get(b"DOMAIN", b"")
    return (user + (b"@" + domain if domain else b"")).decode("utf-8", "replace")
