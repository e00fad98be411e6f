"""Where attempts wait until the throttle lets them be judged: few places, a bounded time, and an order.

Whom others' guesses don't slow goes before all others, then come addresses in the order of how often they have failed:
who has not does not stand behind those who have been guessing all the while. Among equals each network has one lot, for
that one of its attempts that waits longest, and the lots are drawn anew each time: neither how many addresses of a network
wait, nor how long, nor how often somebody tries again, counts. So whoever waits for an account beside `n` networks that
have failed no more than he is the next with a probability of 1 in n + 1.

Whoever comes when others wait for the same brake waits with them. With all places taken, the last of the most crowded
network among those that have failed most goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from .throttle import Guess, Throttle

PLACES = 256  # in all; a look at everybody takes less than a millisecond
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

    def __init__(self, throttle: Throttle, lot: Callable[[], float]) -> None:
        """`lot`: a random number, another one each time."""
        self._throttle = throttle
        self._lot = lot
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
        newcomer = _Waiting(guess, self._throttle.rank(guess, now), now + LONGEST_WAIT)
        crowd = self._crowds[guess.address] >= PLACES_PER_ADDRESS
        last = None
        if crowd or len(self._waiting) >= PLACES:
            last = self._last(guess.address if crowd else None)
            if self._claim(self._waiting[last]) <= self._claim(newcomer, 1):
                self._throttle.knock(guess, now)
                return key
            self.leave(last)
        self._waiting[key] = newcomer
        self._crowds.update((guess.address, guess.network, guess.account))
        return last

    def _last(self, address: str | None) -> Key:
        """The newest of the worst claim; `address`: of those there."""
        found = (
            (self._claim(one), number, key)
            for number, (key, one) in enumerate(self._waiting.items())
            if address is None or one.guess.address == address
        )
        return max(found, key=lambda one: one[:2])[2]

    def _claim(self, one: _Waiting, more: int = 0) -> tuple[int, int, int]:
        """To a place: the lower, the better. `more`: how many there are with it that have none yet."""
        return one.rank, self._crowds[one.guess.network] + more, self._crowds[one.guess.address] + more

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
        for key, one in self._order():
            if key not in self._waiting:
                continue
            judged = not self._throttle.wait(one.guess, now)
            if judged or now >= one.until:
                self.leave(key)
                yield key, one.guess, judged

    def _order(self) -> list[tuple[Key, _Waiting]]:
        """As they are to be judged: of each rank the oldest of each address, and of these the oldest of each network."""
        seen: Counter[object] = Counter()
        found = []
        for key, one in self._waiting.items():
            mine = one.rank, one.guess.account, one.guess.address
            turn = seen[mine]
            neighbours = one.rank, one.guess.account, turn, one.guess.network
            found.append(((one.rank, turn, seen[neighbours], self._lot()), key, one))
            seen[mine] += 1
            seen[neighbours] += 1
        return [(key, one) for _, key, one in sorted(found, key=lambda entry: entry[0])]
