"""APOP challenges (RFC 1939 section 7): each is issued once, to one network process, and serves one connection.

The broker keeps these books, so that a captured network process can neither choose a challenge nor use one twice.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque

LIFE = 600.0  # seconds from the greeting; no login may take longer
ATTEMPTS = 3  # that a connection has
CAPACITY = 200_000  # of each issuer, about 60 MB at the worst; a flood of greetings makes its own oldest void
RANDOM_OCTETS = 16
SWEPT = 4  # challenges looked at, at each issue, for being too old: more than come in, so the books shrink again

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class _Issued:
    __slots__ = ("attempts", "greeted")

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.greeted: float | None = None  # None: still in the network process's stock


class _Book:
    """What one network process got."""

    __slots__ = ("issued", "stock")

    def __init__(self) -> None:
        self.issued: OrderedDict[bytes, _Issued] = OrderedDict()  # in the order of issue; finds its oldest at once
        self.stock: deque[bytes] = deque()  # not yet reported as greeted, in the order of issue


class Challenges:
    """What has been issued and is not void yet. Randomness and time come from the caller: `now` is of a clock that nobody
    sets (monotonic, seconds), `stamp` the Unix time that the challenge shows."""

    def __init__(self, host: str, *, life: float = LIFE, attempts: int = ATTEMPTS, capacity: int = CAPACITY) -> None:
        """Raises ValueError for a host that a strict client would not take (RFC 822 msg-id, CVE-2007-1558)."""
        self.rename(host)
        self._life = life
        self._attempts = attempts
        self._capacity = capacity
        self._counter = 0
        self._books: dict[int, _Book] = {}

    def rename(self, host: str) -> None:
        """The host's name in what is issued from now on. Raises ValueError for one that a strict client would not take."""
        if not _HOST.fullmatch(host) or ".." in host:
            raise ValueError(f"{host!r} can't stand in a challenge: letters, digits, dots and hyphens only")
        self._host = host.encode("ascii")

    def issue(self, issuer: int, random: bytes, now: float, stamp: int = 0) -> bytes:
        """`<32 hex digits.counter.stamp@host>` for that network process. `random`: 16 octets, never used before."""
        if len(random) != RANDOM_OCTETS:
            raise ValueError(f"a challenge is made with {RANDOM_OCTETS} random octets, not {len(random)}")
        self._counter += 1
        challenge = b"<%b.%x.%d@%b>" % (random.hex().encode("ascii"), self._counter, stamp or int(now), self._host)
        book = self._books.setdefault(issuer, _Book())
        book.issued[challenge] = _Issued(self._attempts)
        book.stock.append(challenge)
        self._sweep(book, now)
        return challenge

    def _sweep(self, book: _Book, now: float) -> None:
        for _ in range(SWEPT):
            oldest = next(iter(book.issued))
            if len(book.issued) <= self._capacity and not self._is_old(book.issued[oldest], now):
                break
            del book.issued[oldest]
        if len(book.stock) > self._capacity:
            book.stock.popleft()

    def _is_old(self, issued: _Issued, now: float) -> bool:
        return issued.greeted is not None and now - issued.greeted > self._life

    def greeted(self, issuer: int, count: int, now: float) -> None:
        """The next `count` challenges, in the order of issue, have gone out in greetings: their age counts from now."""
        book = self._books.get(issuer)
        if book is None:
            return
        for _ in range(min(count, len(book.stock))):
            issued = book.issued.get(book.stock.popleft())
            if issued is not None and issued.greeted is None:
                issued.greeted = now

    def spend(self, issuer: int, challenge: bytes, now: float) -> int | None:
        """May this attempt be judged? Then it counts, and that many more are left; None: no."""
        book = self._books.get(issuer)
        issued = book.issued.get(challenge) if book else None
        if book is None or issued is None:
            return None
        if issued.greeted is None:
            issued.greeted = now
        if issued.attempts <= 0 or self._is_old(issued, now):
            del book.issued[challenge]
            return None
        issued.attempts -= 1
        return issued.attempts

    def failed(self, challenge: bytes) -> int:
        """The attempt that was spent last was wrong: how many are left; at 0 the challenge is void."""
        for book in self._books.values():
            if issued := book.issued.get(challenge):
                if issued.attempts <= 0:
                    del book.issued[challenge]
                return issued.attempts
        return 0

    def succeeded(self, challenge: bytes) -> None:
        """One success, and it is void."""
        for book in self._books.values():
            book.issued.pop(challenge, None)

    def forget_issuer(self, issuer: int) -> None:
        """That network process has died: all that it got is void."""
        self._books.pop(issuer, None)
