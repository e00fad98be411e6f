"""Does an address look shared? Behind a café's one address, who fetches mail must not open the relay for all others.

Each IPv6 address counts for itself, as its grants do: who shares one shares a proxy or a translator, not just a network.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from ..terms import Mechanism
from .networks import Networks

DAY = 86_400.0  # seconds that a sighting counts
ADDRESSES = 65_536  # remembered with logins, and as many with failures: a flood of failures drives out no login
NAMES = 4  # remembered of an address, the newest; two would do to find another than a given one
TYPOS = 2  # failures under one's own name that one person may make in a day
CACHED = 16_384  # addresses whose spelling we know

_PASSWORDS = (Mechanism.USER_PASS, Mechanism.PLAIN, Mechanism.LOGIN)  # they travel as they are

_Names = dict[bytes, tuple[float, ...]]  # digest of a name -> its latest times, the oldest first; the newest name last


class Sightings:
    """Who has logged in, and who has failed to, from which address. Time: seconds of a clock that does not jump."""

    def __init__(self) -> None:
        self._logins: OrderedDict[str, _Names] = OrderedDict()
        self._failures: OrderedDict[str, _Names] = OrderedDict()

    def logged_in(self, address: str, account: str, now: float) -> None:
        """An account's login from this address."""
        _note(self._logins, address, account, now)

    def failed(self, address: str, name: str, now: float) -> None:
        """A failed login. `name`: the account's full name where the name leads to one, else as the client said it."""
        _note(self._failures, address, name, now)

    def looks_shared(self, address: str, account: str, now: float) -> str:
        """Is this address not this account's alone? Empty, or the reason, for the log."""
        own = _digest(account)
        logins = _within_a_day(self._logins, address, now)
        failures = _within_a_day(self._failures, address, now)
        if logins.keys() - {own}:
            return f"{len(logins.keys() | {own})} accounts or more have logged in from there within a day"
        if failures.keys() - {own}:
            return "somebody else has failed to log in from there within a day"
        if len(failures.get(own, ())) > TYPOS:
            return f"more than {TYPOS} logins of that account have failed from there within a day"
        return ""


def may_mint(
    address: str,
    mechanism: Mechanism,
    *,
    secured: bool,
    trusted: bool,
    shared: Networks,
    unshared: Networks,
    sighted: str,
) -> str:
    """May this login leave a grant to send? Empty: yes; else why not, for the log.

    `secured`: TLS covered it. `trusted`: it came from a network where passwords may be sent. The rest: see `why_shared`.
    """
    if mechanism in _PASSWORDS and not secured and not trusted:
        return "the password crossed an untrusted network in the clear"
    return why_shared(address, shared=shared, unshared=unshared, sighted=sighted)


def why_shared(address: str, *, shared: Networks, unshared: Networks, sighted: str) -> str:
    """Is the address taken for a shared one? Empty, or the reason, for the log.

    `shared`, `unshared`: as configured; the former goes first. `sighted`: what `Sightings.looks_shared` says.
    """
    if shared.contains(address):
        return "the address lies in relay.shared"
    return "" if unshared.contains(address) else sighted


def _note(book: OrderedDict[str, _Names], address: str, name: str, now: float) -> None:
    key, digest = _spelt(address), _digest(name)
    names = book.setdefault(key, {})
    names[digest] = (*names.pop(digest, ()), now)[-(TYPOS + 1) :]
    book.move_to_end(key)
    if len(names) > NAMES:
        del names[next(iter(names))]
    if len(book) > ADDRESSES:
        book.popitem(last=False)


def _within_a_day(book: OrderedDict[str, _Names], address: str, now: float) -> _Names:
    names = book.get(_spelt(address), {})
    recent = {digest: tuple(time for time in times if now - time < DAY) for digest, times in names.items()}
    return {digest: times for digest, times in recent.items() if times}


def _digest(name: str) -> bytes:
    """Names are hostile and long, and now and then somebody types a password in their place."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


@lru_cache(CACHED)
def _spelt(address: str) -> str:
    """One spelling for an address; what is no address stays as it is."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str((isinstance(parsed, IPv6Address) and parsed.ipv4_mapped) or parsed)
