"""POP-before-SMTP grants: who has logged in from an address may send from there for a while, a few messages.

One file an address, as relay-ctrl keeps them, so that relay-ctrl-check can read ours. No fsync: losing one fails closed.
The folder may be relay-ctrl's own, where every user can write: what does not bear our seal (store.grant_file) is no
grant, and nothing is removed that is not named like one. In classic style any plain file of the right age is a grant,
for everybody at that address.

Wall clock and monotonic clock must agree: a clock that jumps can end a grant, and never lengthen it. Nor does a grant
outlive a boot, as its monotonic clock has begun again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import TypeVar

from ..terms import Grant, TryLater
from . import files
from .grant_file import (
    CONTENT_LIMIT,
    FINGERPRINT_LIMIT,
    FINGERPRINT_MINIMUM,
    GRANTS_PER_ADDRESS,
    GrantFile,
    StoredGrant,
    account_of,
    decode,
    encode,
    file_name,
    is_account,
    is_address,
    is_temporary,
)
from .grant_folder import FUTURE_SECONDS, is_alive
from .grant_key import KEY_OCTETS
from .grant_shares import Shares

__all__ = ["Grants", "StoredGrant"]

REWRITE_SECONDS = 10.0  # a client that polls every second need not cost a write each time
PROLONG_SECONDS = 60.0  # thousands of sessions need not cost a write each at every tick; a tenth of a short expiry
REMEMBERED = 65_536  # addresses whose last writing, last failure, or last prolonging we know
SWEPT = 5000  # files looked at in one call of expire: some 20 ms
LOCK_TRIES, LOCK_WAIT = 5, 0.001  # a writer is done within that; whoever holds it longer is none of ours

_Key = TypeVar("_Key")
_Note = TypeVar("_Note")
_NO_PLAIN_FILE = {errno.ENOENT, errno.ELOOP, errno.ENXIO}  # nothing there, a link, a pipe or socket


class Grants:
    """The grants in one folder, which must exist. `now` is Unix time, `monotonic` what the function of that name says."""

    def __init__(
        self, directory: str, *, key: bytes, boot: str, expiry: float, messages: int, recipients: int, classic: bool
    ) -> None:
        """`key`, `boot`: from `grant_key`, `boot_id`. The rest: see `limit`. Raises ValueError for a wrong key."""
        if len(key) != KEY_OCTETS:
            raise ValueError(f"a key of grants has {KEY_OCTETS} octets")
        self._directory = directory
        self._key = key
        self._boot = boot
        self._newest: OrderedDict[str, int] = OrderedDict()  # serial of the last writing of an address's file
        self._failed: OrderedDict[str, float] = OrderedDict()  # monotonic time of a login that left no grant
        self._rests: OrderedDict[tuple[str, str], float] = (
            OrderedDict()
        )  # a session's grant is not looked at until then
        self._shares = Shares()
        self._written = count()
        self._sweep: Iterator[os.DirEntry[str]] = iter(())
        self.limit(expiry=expiry, messages=messages, recipients=recipients, classic=classic)

    def rekey(self, key: bytes) -> None:
        """From now on this key; grants that were sealed with another are void."""
        self._key = key

    def limit(self, *, expiry: float, messages: int, recipients: int, classic: bool) -> None:
        """What counts from now on; what has been noted of addresses stays. `expiry`: seconds that a grant lasts;
        `messages`, `recipients`: that a login allows."""
        self._expiry = expiry
        self._messages = messages
        self._recipients = recipients
        self._classic = classic
        self._rest = min(PROLONG_SECONDS, expiry / 10)
        self._rests.clear()  # a shorter expiry has no time for the old rest

    # What the server does.

    def mint(
        self, address: str, account: str, mechanism: str, fingerprint: bytes, now: float, monotonic: float
    ) -> None:
        """This account has just logged in from this address: a grant with fresh counts. May be called at each login.

        `fingerprint`: 8 to 16 octets that change with the account's secret. Raises OSError when it can't be written;
        then `find` raises TryLater for this address, rather than say that nobody has logged in.
        """
        name = file_name(address)
        if name is None:
            raise OSError(errno.EINVAL, "not an address", address)
        if not is_account(account) or not FINGERPRINT_MINIMUM <= len(fingerprint) <= FINGERPRINT_LIMIT:
            raise OSError(errno.EINVAL, "a grant can't be for that account", account)
        grant = Grant(name, account, now, now + self._expiry, mechanism, self._messages, self._recipients)
        fresh = StoredGrant(grant, fingerprint, monotonic + self._expiry)
        try:
            if not any(_as_good(old, fresh) for old in self._live(name, now, monotonic)):
                with self._alone():
                    others = [old for old in self._live(name, now, monotonic) if old.grant.account != account]
                    self._write(name, [*others, fresh][-GRANTS_PER_ADDRESS:], now)
        except OSError:
            _remember(self._failed, name, monotonic)
            raise
        self._failed.pop(name, None)

    def prolong(self, address: str, account: str, now: float, monotonic: float) -> None:
        """A session of this account from this address lasts: so does its grant, if it still has one. Raises OSError.

        May be called often; what is written lags by a minute or so, which the grant then ends earlier.
        """
        if monotonic < self._rests.get((address, account), 0):
            return
        _remember(self._rests, (address, account), monotonic + self._rest)

        def later(old: StoredGrant) -> StoredGrant:
            until = monotonic + self._expiry
            if old.grant.account != account or until - old.until < self._rest:
                return old
            return replace(old, grant=replace(old.grant, expires=now + self._expiry), until=until)

        self._change(address, later, now, monotonic)

    def find(self, address: str, now: float, monotonic: float) -> tuple[StoredGrant, ...]:
        """All live grants of this address, of one account each, the oldest first; some may have nothing left to spend.

        Whoever believes one compares its fingerprint with that of the account's secret now; a classic grant has none,
        and no counts. Raises TryLater when that can't be told: the caller fails closed.
        """
        name = file_name(address)
        if name is None:
            return ()
        with _or_later(name):
            found = self._classic_grants(name, now) if self._classic else self._live(name, now, monotonic)
        if not found and monotonic - self._failed.get(name, -self._expiry) < self._expiry:
            raise TryLater(f"the grant of {name} could not be written", "4.3.0")
        return tuple(replace(stored, grant=self._shares.whole(stored.grant)) for stored in found)

    def expired(self, address: str, now: float) -> float | None:
        """For the log: when the latest grant of this address ended; None: not known, as its file is soon removed."""
        name = file_name(address)
        with contextlib.suppress(OSError):
            found = self._read(name) if name else None
            if found and found[0] + self._expiry <= now:
                return found[0] + self._expiry
        return None

    def spend(self, address: str, account: str, recipients: int, now: float, monotonic: float) -> bool:
        """Take one message to so many recipients off the account's grant; False where it has not enough left, or is none.

        The file of a big grant is written for a share at a time; what was taken ahead is lost with this process.
        In classic style nothing is counted. Raises TryLater when that can't be told or written.
        """
        if self._classic:
            return True

        name = file_name(address)
        if name is None:
            return False

        taken: list[tuple[Grant, Grant]] = []

        def less(old: StoredGrant) -> StoredGrant:
            grant, whole = old.grant, self._shares.whole(old.grant)
            if grant.account != account or whole.messages < 1 or not 0 < recipients <= whole.recipients:
                return old
            taken.append((grant, self._shares.less(grant, recipients)))
            return replace(old, grant=taken[-1][1])

        with _or_later(address):
            mine = [old.grant for old in self._live(name, now, monotonic) if old.grant.account == account]
            if any(self._shares.spend(grant, recipients) for grant in mine):
                return True
            if not self._change(address, less, now, monotonic):
                return False
        self._shares.took(*taken[-1], recipients)
        return True

    def _change(self, address: str, change: Callable[[StoredGrant], StoredGrant], now: float, monotonic: float) -> bool:
        """Make of each live grant what `change` says; a write only where that is another."""
        name = file_name(address)
        if name is None or all(change(old) is old for old in self._live(name, now, monotonic)):
            return False
        with self._alone():
            live = self._live(name, now, monotonic)
            changed = [change(old) for old in live]
            if changed == live:
                return False
            self._write(name, changed, now)
            return True

    def expire(self, now: float) -> None:
        """Remove what is no longer live, and leftovers of writing. A big folder takes several calls. Raises OSError."""
        entries = list(islice(self._sweep, SWEPT))
        if not entries:
            self._sweep = os.scandir(self._directory)
            entries = list(islice(self._sweep, SWEPT))
        for entry in entries:
            if is_address(entry.name) or is_temporary(entry.name):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    if not self._of_the_right_age(entry.stat(follow_symlinks=False).st_mtime, now):
                        os.unlink(entry.path)

    # What the administrator does, beside the running server. Each reads the whole folder, or one file. Raises OSError.

    def every(self, now: float, monotonic: float) -> Iterator[StoredGrant]:
        """All live grants of the folder."""
        for name in self._names():
            yield from self._classic_grants(name, now) if self._classic else self._live(name, now, monotonic)

    def revoke(self, address: str, account: str = "") -> bool:
        """No grant any more for this address; with `account`: for that one there. False where there was none."""
        name = file_name(address)
        if name is None:
            return False
        with self._alone():
            before = self._ours(name)
            after = [old for old in before if account and old.grant.account != account]
            if account and len(after) == len(before):
                return self._classic and self._is_classic(name, account) and self._unlink(name)
            if not after:
                return self._unlink(name)
            self._write(name, after, 0)
            return True

    def revoke_account(self, account: str) -> int:
        """No grant any more for this account, wherever it has logged in; how many addresses that were."""
        return sum(self.revoke(name, account) for name in self._names())

    def revoke_all(self) -> int:
        """No grant any more; how many addresses had some."""
        return sum(map(self.revoke, self._names()))

    def _names(self) -> Sequence[str]:
        return [name for name in os.listdir(self._directory) if is_address(name)]

    # Reading.

    def _live(self, name: str, now: float, monotonic: float) -> list[StoredGrant]:
        """Those of our own that both clocks hold for alive. One of the future, that is longer than it may, is none."""
        return [
            stored
            for stored in self._ours(name)
            if 0 < stored.grant.expires - now <= self._expiry + FUTURE_SECONDS and monotonic < stored.until
        ]

    def _ours(self, name: str) -> tuple[StoredGrant, ...]:
        """What we wrote since the machine was started, and nobody put back since we wrote again."""
        found = self._read(name)
        file = decode(name, found[1], self._key) if found else None
        if file is None or file.boot != self._boot or file.serial < self._newest.get(name, 0):
            return ()
        _remember(self._newest, name, file.serial)
        return file.grants

    def _classic_grants(self, name: str, now: float) -> list[StoredGrant]:
        found = self._read(name)
        if found is None or not self._of_the_right_age(found[0], now):
            return []
        mtime, content = found
        return [StoredGrant(Grant(name, account_of(content), mtime, mtime + self._expiry))]

    def _is_classic(self, name: str, account: str) -> bool:
        found = self._read(name)
        return found is not None and account_of(found[1]) == account

    def _of_the_right_age(self, mtime: float, now: float) -> bool:
        return is_alive(mtime, self._expiry, now)

    def _read(self, name: str) -> tuple[float, bytes] | None:
        """The mtime and the content of an address's file; None where there is no plain file of one name."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(f"{self._directory}/{name}", flags)
        except OSError as error:
            if error.errno not in _NO_PLAIN_FILE:
                raise
            os.stat(self._directory)  # a folder that is gone tells nothing about its grants
            return None
        try:
            state = os.fstat(descriptor)
            # no name at all is right too: the grant was written anew between opening and looking
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                return None
            return state.st_mtime, os.read(descriptor, CONTENT_LIMIT)
        finally:
            os.close(descriptor)

    # Writing.

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of ours writes meanwhile: what the command line revokes stays revoked. Raises OSError."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _write(self, name: str, grants: Sequence[StoredGrant], now: float) -> None:
        """The file's mtime is when the latest of them was made or prolonged: for relay-ctrl-check it lasts from then."""
        serial = max(self._newest.get(name, 0) + 1, int(now * 1000))  # grows over restarts of the server, too
        content = encode(name, GrantFile(serial, self._boot, tuple(grants)), self._key)
        mtime = max(stored.grant.expires for stored in grants) - self._expiry
        temporary = f"{self._directory}/.{int(mtime)}.{next(self._written):06}:{os.getpid()}"
        descriptor = files.create(temporary)
        try:
            files.write_all(descriptor, content)
            # relay-ctrl-check reads it as the SMTP server's uid; strangers are kept out by the folder above.
            os.fchmod(descriptor, 0o644)
            os.utime(descriptor, (mtime, mtime))
            files.rename(temporary, f"{self._directory}/{name}")
        except OSError:
            files.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        _remember(self._newest, name, serial)

    def _unlink(self, name: str) -> bool:
        try:
            os.unlink(f"{self._directory}/{name}")
        except FileNotFoundError:
            return False
        _remember(self._newest, name, self._newest.get(name, 0) + 1)
        return True


def _as_good(old: StoredGrant, fresh: StoredGrant) -> bool:
    """Would it be a waste to write `fresh`? It would change nothing but the times, and these little."""
    same = replace(fresh.grant, created=old.grant.created, expires=old.grant.expires)
    return (
        (same, fresh.fingerprint) == (old.grant, old.fingerprint)
        and fresh.grant.expires - old.grant.expires < REWRITE_SECONDS
        and fresh.until - old.until < REWRITE_SECONDS
    )


def _lock(directory: int) -> None:
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            return fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not tries_left:
                raise
            time.sleep(LOCK_WAIT)


def _remember(notes: OrderedDict[_Key, _Note], key: _Key, note: _Note) -> None:
    notes[key] = note
    notes.move_to_end(key)
    if len(notes) > REMEMBERED:
        notes.popitem(last=False)


@contextlib.contextmanager
def _or_later(name: str) -> Iterator[None]:
    """What the disk fails to do is told as TryLater."""
    try:
        yield
    except OSError as error:
        raise TryLater(f"the grant of {name} can't be read or written: {error.strerror}", "4.3.0") from None
