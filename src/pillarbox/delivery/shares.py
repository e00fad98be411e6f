"""How many may be at once for each destination, and in all; and who gets less when there is not enough for everybody."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable

PROMPT_SECONDS = 30.0  # who gives its share back within these is no tarpit; most exchangers need a second or two
LATELY_SECONDS = 600.0  # that this counts
REMEMBERED = 10_000  # lanes that were prompt


class Shares:
    """Counts; nobody waits here. Once half of all is taken, a lane that was not prompt lately gets `scarce` at once: many
    that stall, or one host under many names, leave room for all others."""

    def __init__(self, total: int, each: int, scarce: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.taken = 0
        self._total, self._each, self._scarce = total, each, min(each, scarce)
        self._clock = clock
        self._users: Counter[Hashable] = Counter()
        self._prompt: OrderedDict[Hashable, float] = OrderedDict()  # when each was prompt last; the latest at the end

    @property
    def free(self) -> int:
        """Of all."""
        return self._total - self.taken

    def room(self, lane: Hashable) -> bool:
        """For one more in that lane?"""
        if self.free <= 0:
            return False
        if 2 * self.taken >= self._total and not self._was_prompt(lane):
            return self._users[lane] < self._scarce
        return self._users[lane] < self._each

    def enter(self, lanes: Collection[Hashable]) -> float:
        """One that goes into all of these lanes; what it returns is for `leave`."""
        self.taken += 1
        self._users.update(lanes)
        return self._clock()

    def leave(self, lanes: Collection[Hashable], entered: float) -> None:
        self.taken -= 1
        for lane in lanes:
            self._users[lane] -= 1
            if not self._users[lane]:
                del self._users[lane]
            if self._clock() - entered <= PROMPT_SECONDS:
                self._remember(lane)

    def _was_prompt(self, lane: Hashable) -> bool:
        when = self._prompt.get(lane)
        return when is not None and self._clock() - when <= LATELY_SECONDS

    def _remember(self, lane: Hashable) -> None:
        self._prompt[lane] = self._clock()
        self._prompt.move_to_end(lane)
        if len(self._prompt) > REMEMBERED:
            self._prompt.popitem(last=False)
