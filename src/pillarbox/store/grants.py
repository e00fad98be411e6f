"""POP-before-SMTP grants: one file an address, as relay-ctrl keeps them, so that relay-ctrl-check can read ours.

The file's name is the address, its mtime the time of the grant, its content `USER=name\\0DOMAIN=name\\0`. No fsync:
losing one fails closed. The folder may be relay-ctrl's own, where every user can write: nothing in it is believed that
is no plain file, and nothing removed that is not named like a grant.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from itertools import count, islice

from ..terms import Grant, TryLater

REWRITE_SECONDS = 10.0  # a client that polls every second need not cost a write each time
REMEMBERED = 65_536  # (address, account) pairs whose last write we know
CACHED = 16_384  # addresses whose file names we know
CONTENT_LIMIT = 8192  # octets read of a file, as relay-ctrl-check does
FUTURE_SECONDS = 5.0  # an mtime further ahead is a forgery, or a clock gone wrong
SWEPT = 5000  # files looked at in one call of expire: some 20 ms

_NO_PLAIN_FILE = {errno.ENOENT, errno.ELOOP, errno.ENXIO}  # nothing there, a link, a pipe or socket
_TEMPORARY = re.compile(r"\.[0-9]+\.[0-9]+:[0-9]+")


class Grants:
    """The grants in one folder, which must exist."""

    def __init__(self, directory: str, expiry: float) -> None:
        """`expiry`: seconds that a grant lasts."""
        self._directory = directory
        self._expiry = expiry
        self._written: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._serial = count()
        self._sweep: Iterator[os.DirEntry[str]] = iter(())

    def renew(self, address: str, account: str, now: float) -> None:
        """This account has just logged in from this address. Raises OSError when that can't be written."""
        key = (address, account)
        if 0 <= now - self._written.get(key, now - REWRITE_SECONDS) < REWRITE_SECONDS:
            return
        name = _file_name(address)
        if name is None:
            raise OSError(errno.EINVAL, "not an address", address)
        self._write(name, account, now)
        self._written[key] = now
        self._written.move_to_end(key)
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _write(self, name: str, account: str, now: float) -> None:
        user, _, domain = account.partition("@")
        content = f"USER={user}\0DOMAIN={domain}\0" if domain else f"USER={user}\0"
        temporary = f"{self._directory}/.{int(now)}.{next(self._serial):06}:{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            os.write(descriptor, content.encode())
            # relay-ctrl-check reads it as the SMTP server's uid; strangers are kept out by the folder above.
            os.fchmod(descriptor, 0o644)
            os.utime(descriptor, (now, now))
            os.rename(temporary, f"{self._directory}/{name}")
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)

    def find(self, address: str, now: float) -> Grant | None:
        """The live grant of this address. Raises TryLater when that can't be told: the caller fails closed."""
        name = _file_name(address)
        if name is None:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(f"{self._directory}/{name}", flags)
            try:
                return self._grant(descriptor, name, now)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _NO_PLAIN_FILE:
                return None
            raise TryLater(f"the grant of {name} can't be read: {error.strerror}", "4.3.0") from None

    def _grant(self, descriptor: int, name: str, now: float) -> Grant | None:
        state = os.fstat(descriptor)
        # no name at all is right too: the grant was renewed between opening and looking
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1 or not self._live(state.st_mtime, now):
            return None
        return Grant(name, _account(os.read(descriptor, CONTENT_LIMIT)), state.st_mtime, state.st_mtime + self._expiry)

    def _live(self, mtime: float, now: float) -> bool:
        return mtime + self._expiry >= now and mtime <= now + FUTURE_SECONDS

    def expire(self, now: float) -> None:
        """Remove what is no longer live, and leftovers of writing. A big folder takes several calls. Raises OSError."""
        entries = list(islice(self._sweep, SWEPT))
        if not entries:
            self._sweep = os.scandir(self._directory)
            entries = list(islice(self._sweep, SWEPT))
        for entry in entries:
            if _is_grant_name(entry.name):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    if not self._live(entry.stat(follow_symlinks=False).st_mtime, now):
                        os.unlink(entry.path)


@lru_cache(CACHED)
def _file_name(address: str) -> str | None:
    """The address as a file name; None for what is no address. An IPv6 zone (%eth0) is no name for a file."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        return None if parsed.scope_id is not None else str(parsed.ipv4_mapped or parsed)
    return str(parsed)


def _is_grant_name(name: str) -> bool:
    return _file_name.__wrapped__(name) == name or _TEMPORARY.fullmatch(name) is not None


def _account(content: bytes) -> str:
    """Whose grant it is; empty where the file does not say (relay-ctrl-udp's are empty)."""
    fields = dict(part.split(b"=", 1) for part in content.split(b"\0")[:-1] if b"=" in part)
    user, domain = fields.get(b"USER", b""), fields.get(b"DOMAIN", b"")
    return (user + (b"@" + domain if domain else b"")).decode("utf-8", "replace")
