"""How fast secrets may be guessed: an attempt waits before it is judged, and nobody is ever locked out.

Three brakes, and the strongest counts. Only attempts that failed count, so the owner of a secret waits for others'
guesses at most, never for logins of his own.

* An address (IPv4 /32, IPv6 /64): after its 1st, 2nd, 3rd, 4th failure nothing more is judged for 2, 4, 8, 15 seconds.
* A network (IPv4 /24, IPv6 /48): so many failures a minute.
* An account: so many failures a minute from networks that it does not know, existing or not. A network (IPv4 /24,
  IPv6 /64) from which it has logged in lately is known: who guesses elsewhere never slows its owner there. Nor does
  it slow a login with a secret that we generated, from wherever it comes.

The same wrong secret again, from the same address, is no further guess: it is a mail client with an old password. A
digest differs from connection to connection, so there each connection counts.

All tables are bounded, to 64 MiB under the worst attack, and forget what was touched longest ago. Whoever would drive
out his own penalty needs that many other addresses (or names) first, each with a failure; what he wins is the few guesses
of one of them. Addresses drive out no account, names no address, and only a good login writes which networks are known,
of its own account alone.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from .networks import host_of, network_of

DELAYS = (0.0, 2.0, 4.0, 8.0, 15.0)  # seconds after so many failures; a typo costs less than typing anew takes
HALF_LIFE = 600.0  # seconds in which half of an address's failures is forgiven
SCORE_LIMIT = 8.0  # failures that count: who has failed all night is back at no delay after 40 minutes
NETWORK_GUESSES = 30  # a minute; below it no office notices that somebody there has an old password
ACCOUNT_GUESSES = 20  # a minute: 10 million a year, against 2**128 of a generated secret
VERIFYING_SECONDS = 0.05  # what a slow hash takes
KNOCKS_LIMIT = 64.0  # attempts that found no place to wait, and are remembered
KNOCKS_FREE = 16  # of them: a client that asks once a minute has 14 at most that are not forgiven yet
LOOKS = 30  # a minute of a network: as many as it may have failures, so that guessers cost twice the work at most
LOOKS_NETWORKS = 8192  # entries; who drives his own out needs that many networks, and wins work, but no guess
KNOWN_SECONDS = 60 * 86_400.0  # that a network is known after a login: longer than a holiday
ADDRESSES = NETWORKS = ACCOUNTS = 32_768  # entries
KNOWN_ACCOUNTS, KNOWN_NETWORKS = 8192, 16  # of each: home, office, and the changing ones of a telephone
WRONG_SECRETS = 4  # remembered of an address: a household has few clients with old passwords
TAG_OCTETS = 8  # of a keyed digest; names may be long, and now and then somebody types a password in their place
LABEL_LIMIT = 64  # characters of a name that are shown
SHOWN, LOOKED_AT = 100, 4096  # of each kind: the most slowed of those that failed last

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Guess:
    """An attempt as the brakes see it; `Throttle.guess` makes it."""

    address: str
    network: str
    home: str  # the network that a login makes known
    account: bytes
    label: str  # the name as far as it is shown
    proof: bytes = field(repr=False)
    trusted: bool  # no brake of addresses and networks
    owner: bytes = b""  # whose login makes the network known
    generated: bool = False  # it was made with a secret that we generated: no brake of accounts


@dataclass(frozen=True, slots=True)
class Slowed:
    """What is slowed. `failures`: of an address those that still count, else 0. `wait`: seconds, from now."""

    name: str
    failures: float
    wait: float


class _Recent(Generic[Value]):
    """A table that forgets what was touched longest ago."""

    __slots__ = ("_limit", "entries")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.entries: OrderedDict[str | bytes, Value] = OrderedDict()

    def put(self, key: str | bytes, value: Value) -> None:
        self.entries[key] = value
        self.entries.move_to_end(key)
        if len(self.entries) > self._limit:
            self.entries.popitem(last=False)


def _left(count: float, since: float, now: float) -> float:
    """What has not been forgiven yet."""
    return float(count * 0.5 ** ((now - since) / HALF_LIFE))


class _Address:
    """Its failures: `score` of them at the time `since`, and what was wrong last."""

    __slots__ = ("score", "since", "wrong")

    def __init__(self, now: float) -> None:
        self.score = 0.0
        self.since = now
        self.wrong: tuple[bytes, ...] = ()

    def at(self, now: float) -> float:
        return _left(self.score, self.since, now)

    def failed(self, secret: bytes, now: float, *, counted: bool) -> None:
        if counted:
            self.score, self.since = min(self.at(now) + 1, SCORE_LIMIT), now
        self.wrong = (*self.wrong, secret)[-WRONG_SECRETS:]


class _Rate:
    """At most so many failures in any minute: half of them at once, the others spread over it."""

    __slots__ = ("_burst", "_spacing", "book")

    def __init__(self, limit: int) -> None:
        self.book: _Recent[tuple[float, str]] = _Recent(limit)  # when all of it is forgiven; and what to show
        self.limit(2)

    def limit(self, a_minute: int) -> None:
        half = max(1, a_minute // 2)
        self._spacing = 60.0 / half
        self._burst = (half - 1) * self._spacing

    def wait(self, key: str | bytes, now: float) -> float:
        entry = self.book.entries.get(key)
        return max(0.0, entry[0] - now - self._burst) if entry else 0.0

    def failed(self, key: str | bytes, label: str, now: float) -> None:
        entry = self.book.entries.get(key)
        forgiven = max(entry[0] if entry else 0.0, now) + self._spacing
        self.book.put(key, (min(forgiven, now + self._burst + self._spacing), label))


class Throttle:
    """What has failed lately, and where it succeeded. `now`: seconds of a clock that does not jump."""

    def __init__(self, key: bytes) -> None:
        """`key`: random, so that nobody outside can make two names, or two secrets, alike."""
        self._key = key
        self._addresses: _Recent[_Address] = _Recent(ADDRESSES)
        self._networks, self._accounts = _Rate(NETWORKS), _Rate(ACCOUNTS)
        self._looks = _Rate(LOOKS_NETWORKS)
        self._looks.limit(LOOKS)
        self._knocks: _Recent[tuple[float, float]] = _Recent(ADDRESSES)  # of an address: how many, and when
        self._known: _Recent[dict[str, float]] = _Recent(KNOWN_ACCOUNTS)
        self._verifying: Counter[str | bytes] = Counter()  # brakes behind which a verdict is awaited
        self.limit()

    def limit(
        self,
        longest: float = DELAYS[-1],
        network_guesses: int = NETWORK_GUESSES,
        account_guesses: int = ACCOUNT_GUESSES,
    ) -> None:
        """The longest delay of an address, in seconds: the shorter ones shrink or grow alike. Failures a minute of a
        network, and of an account."""
        self._longest = longest
        self._networks.limit(network_guesses)
        self._accounts.limit(account_guesses)

    def guess(self, peer: str, name: str, proof: bytes, *, trusted: bool = False, owner: str = "") -> Guess:
        """An attempt from that address. `name`: the account's full name, where it can be one, else as it was said: what
        the brake is for. `owner`: the account whose networks count, if it is another one."""
        address, network = host_of(peer), network_of(peer)
        home = address if ":" in address else network
        account = self._name_tag(name)
        known = self._name_tag(owner) if owner not in ("", name) else account
        return Guess(address, network, home, account, name[:LABEL_LIMIT], proof, trusted, known)

    def _name_tag(self, name: str) -> bytes:
        return self._tag(name.encode("utf-8", "surrogateescape"))

    def _tag(self, octets: bytes) -> bytes:
        return hashlib.blake2b(octets, key=self._key, digest_size=TAG_OCTETS).digest()

    # Before an attempt is judged.

    def wait(self, guess: Guess, now: float) -> float:
        """Seconds until it may be judged; 0: now."""
        account = self._account_wait(guess, now)
        if any(brake in self._verifying for brake in self.brakes(guess, now)):
            account = max(account, VERIFYING_SECONDS)
        if guess.trusted:
            return account
        return max(account, self._address_wait(guess.address, now), self._networks.wait(guess.network, now))

    def brakes(self, guess: Guess, now: float) -> tuple[str | bytes, ...]:
        """Those that may hold it: address and network, and the account where it counts."""
        places = () if guess.trusted else (guess.address, guess.network)
        return places if self._is_free(guess, now) else (*places, guess.account)

    def _is_free(self, guess: Guess, now: float) -> bool:
        """Of the account's brake."""
        return guess.generated or self.knows(guess, now)

    def _account_wait(self, guess: Guess, now: float) -> float:
        return 0.0 if self._is_free(guess, now) else self._accounts.wait(guess.account, now)

    def may_look(self, guess: Guess, now: float) -> bool:
        """Shall it be looked at before it waits, whether it was made with a secret that we generated?"""
        if self._is_free(guess, now):
            return False
        return guess.trusted or not self._looks.wait(guess.network, now)

    def looked(self, guess: Guess, now: float) -> None:
        """It was not."""
        if not guess.trusted:
            self._looks.failed(guess.network, guess.network, now)

    def verifying(self, brakes: tuple[str | bytes, ...]) -> None:
        """The verdict takes a while; until it is there, nothing else is judged behind these brakes, or a thousand
        guesses would be under way before the first has failed."""
        self._verifying.update(brakes)

    def verified(self, brakes: tuple[str | bytes, ...]) -> None:
        """To be said once that verdict is there, and a failure counted."""
        self._verifying -= Counter(brakes)

    def why(self, guess: Guess, now: float) -> str:
        """Whose brake is the strongest: "address", "network" or "account"."""
        waits = {
            "account": self._account_wait(guess, now),
            "network": 0.0 if guess.trusted else self._networks.wait(guess.network, now),
            "address": 0.0 if guess.trusted else self._address_wait(guess.address, now),
        }
        return max(waits, key=lambda kind: waits[kind])

    def _address_wait(self, address: str, now: float) -> float:
        entry = self._addresses.entries.get(address)
        if entry is None:
            return 0.0
        delay = DELAYS[self._level(entry, now)] * self._longest / DELAYS[-1]
        return max(0.0, entry.since + delay - now)

    def _level(self, entry: _Address, now: float) -> int:
        """Half a failure still counts: one is forgiven after a half-life."""
        return min(int(entry.at(now) + 0.5), len(DELAYS) - 1)

    def rank(self, guess: Guess, now: float) -> int:
        """Who goes first among those that wait, the lowest: whom others' guesses don't slow, then addresses with few
        failures. A thousand guessers at one account fail seldom, since few of them are judged: so whoever found no place
        again and again comes behind. To have waited, and in vain, costs an owner nothing."""
        if self._is_free(guess, now):
            return 0
        entry = self._addresses.entries.get(guess.address)
        surplus = max(0, round(self._knocked(guess.address, now)) - KNOCKS_FREE)
        return 1 + (self._level(entry, now) if entry else 0) + surplus

    def knock(self, guess: Guess, now: float) -> None:
        """It found no place to wait."""
        self._knocks.put(guess.address, (min(self._knocked(guess.address, now) + 1, KNOCKS_LIMIT), now))

    def _knocked(self, address: str, now: float) -> float:
        count, since = self._knocks.entries.get(address, (0.0, now))
        return _left(count, since, now)

    def knows(self, guess: Guess, now: float) -> bool:
        """Has the account logged in from this network lately?"""
        networks = self._known.entries.get(guess.owner)
        return networks is not None and now - networks.get(guess.home, -KNOWN_SECONDS) < KNOWN_SECONDS

    # Afterwards.

    def failed(self, guess: Guess, now: float) -> None:
        """Judged, and wrong."""
        entry, secret = self._addresses.entries.get(guess.address), self._tag(guess.account + guess.proof)
        if entry is not None and secret in entry.wrong:
            return
        entry = entry or _Address(now)
        entry.failed(secret, now, counted=not guess.trusted)
        self._addresses.put(guess.address, entry)
        if not guess.trusted:
            self._networks.failed(guess.network, guess.network, now)
        if not self.knows(guess, now):
            self._accounts.failed(guess.account, guess.label, now)

    def succeeded(self, guess: Guess, now: float) -> None:
        """Judged, and right: the network is known from now on. What failed at that address before stays counted, else
        whoever has one account could guess at others' between two logins of his own."""
        networks = self._known.entries.get(guess.owner) or {}
        networks.pop(guess.home, None)
        networks[guess.home] = now
        if len(networks) > KNOWN_NETWORKS:
            del networks[next(iter(networks))]
        self._known.put(guess.owner, networks)

    # For a person.

    def slowed(self, now: float, peer: str = "", name: str = "") -> dict[str, list[Slowed]]:
        """What counts just now, by kind, the most slowed first; at most SHOWN of each. `peer`, `name`: of that address
        and its network, or of that account, alone."""
        only: dict[str, list[str | bytes]] = {
            "addresses": [host_of(peer)] if peer else [],
            "networks": [network_of(peer)] if peer else [],
            "accounts": [self._name_tag(name)] if name else [],
        }
        found: dict[str, Iterator[Slowed]] = {
            "addresses": self._slowed_addresses(_chosen(self._addresses, only["addresses"], peer or name), now),
            "networks": _slowed(self._networks, _chosen(self._networks.book, only["networks"], peer or name), now),
            "accounts": _slowed(self._accounts, _chosen(self._accounts.book, only["accounts"], peer or name), now),
        }
        return {
            kind: heapq.nlargest(SHOWN, entries, key=lambda slowed: (slowed.wait, slowed.failures))
            for kind, entries in found.items()
        }

    def _slowed_addresses(self, keys: Iterable[str | bytes], now: float) -> Iterator[Slowed]:
        for key in keys:
            entry, address = self._addresses.entries[key], str(key)
            if self._level(entry, now):
                yield Slowed(address.removesuffix("/32"), entry.at(now), self._address_wait(address, now))

    def clear(self) -> None:
        """Forget all failures; networks stay known."""
        for book in (self._addresses, self._networks.book, self._accounts.book, self._looks.book, self._knocks):
            book.entries.clear()
        self._verifying.clear()

    def clear_address(self, peer: str) -> bool:
        """Forget the failures of that address, and of its network. False: there were none."""
        self._verifying.pop(host_of(peer), None)
        self._verifying.pop(network_of(peer), None)
        self._knocks.entries.pop(host_of(peer), None)
        self._looks.book.entries.pop(network_of(peer), None)
        address = self._addresses.entries.pop(host_of(peer), None)
        network = self._networks.book.entries.pop(network_of(peer), None)
        return address is not None or network is not None

    def clear_account(self, name: str) -> bool:
        """Forget the failures for that account; `name` as in `guess`. False: there were none."""
        key = self._name_tag(name)
        self._verifying.pop(key, None)
        return self._accounts.book.entries.pop(key, None) is not None


def _chosen(book: _Recent[Value], only: Sequence[str | bytes], is_filtered: str) -> Iterable[str | bytes]:
    """Those of the keys that the book has, or its latest."""
    if is_filtered:
        return [key for key in only if key in book.entries]
    return islice(reversed(book.entries), LOOKED_AT)


def _slowed(rate: _Rate, keys: Iterable[str | bytes], now: float) -> Iterator[Slowed]:
    for key in keys:
        if wait := rate.wait(key, now):
            yield Slowed(rate.book.entries[key][1], 0.0, wait)
