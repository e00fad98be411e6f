"""Where attempts wait until the throttle lets them be judged: few places, a bounded time, and an order.

A known network goes before all others, then come addresses in the order of how often they have failed or waited: whoever
knocks for the first time does not stand behind those who have been guessing all the while. Whoever comes when others wait
for the same brake waits with them. With all places taken, the last in that order goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from .throttle import Guess, Throttle

PLACES = 256  # in all; a look at everybody takes half a millisecond
PLACES_PER_ADDRESS = 8  # clients behind one address that may wait for its brake at once
LONGEST_WAIT = 45.0  # seconds: mail clients give up after a minute

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class _Waiting:
    guess: Guess
    rank: int
    until: float


class WaitingRoom(Generic[Key]):
    """Attempts by a key of the caller's, one each. `now`: as in Throttle."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._waiting: dict[Key, _Waiting] = {}  # in the order of arrival
        self._crowds: Counter[str | bytes] = Counter()  # by address, network and account

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def must_wait(self, guess: Guess, now: float) -> bool:
        """May it not be judged at once?"""
        if self._throttle.wait(guess, now):
            return True
        if not self._waiting:
            return False
        return any(brake in self._crowds for brake in self._throttle.brakes(guess, now))

    def enter(self, key: Key, guess: Guess, now: float) -> Key | None:
        """Let it wait. Returns who finds no place because of it: another one, itself, or (None) nobody."""
        rank = self._throttle.rank(guess, now)
        self._throttle.knock(guess, now)
        crowd = self._crowds[guess.address] >= PLACES_PER_ADDRESS
        last = None
        if crowd or len(self._waiting) >= PLACES:
            last = self._last(guess.address if crowd else None)
            if self._waiting[last].rank <= rank:
                return key
            self.leave(last)
        self._waiting[key] = _Waiting(guess, rank, now + LONGEST_WAIT)
        self._crowds.update((guess.address, guess.network, guess.account))
        return last

    def _last(self, address: str | None) -> Key:
        """The newest of the highest rank; `address`: of those there."""
        found = (
            (one.rank, number, key)
            for number, (key, one) in enumerate(self._waiting.items())
            if address is None or one.guess.address == address
        )
        return max(found, key=lambda one: one[:2])[2]

    def leave(self, key: Key) -> None:
        """It waits no longer, if it did."""
        one = self._waiting.pop(key, None)
        if one is not None:
            for crowd in (one.guess.address, one.guess.network, one.guess.account):
                self._crowds[crowd] -= 1
                if not self._crowds[crowd]:
                    del self._crowds[crowd]

    def keys(self) -> list[Key]:
        return list(self._waiting)

    def due(self, now: float) -> Iterator[tuple[Key, Guess, bool]]:
        """Each that waits no longer: may it be judged (True), or is its time over? Judge one before taking the next:
        a failure makes the others wait."""
        for key, one in sorted(self._waiting.items(), key=lambda entry: entry[1].rank):
            if key not in self._waiting:
                continue
            judged = not self._throttle.wait(one.guess, now)
            if judged or now >= one.until:
                self.leave(key)
                yield key, one.guess, judged
