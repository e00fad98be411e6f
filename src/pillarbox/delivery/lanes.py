"""Who may connect where, and when: places per destination, connections kept for reuse, and who is known to be dead."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..tasks import Tasks
from .conversation import Conversation
from .exchangers import Target
from .shares import Shares

IDLE_SECONDS = 5.0  # that a connection is kept for the next message
MESSAGES_LIMIT = 100  # over one connection: some exchangers count, and others should get their turn
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0  # seconds that a dead exchanger is left alone; doubled each time
DEAD_LIMIT = 10_000  # exchangers whose death is remembered
FORGET_SECONDS = 4 * LONGEST_PAUSE  # after the end of its pause; then a dead one begins anew


class Places:
    """So many at once for each lane, and in all. Who waits for a full lane takes nothing from the others, and a slow lane
    gets one place when half of all are taken (see Shares)."""

    def __init__(self, total: int, each: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._each = total, each
        self._shares = Shares(total, each, 1, clock)
        self._waiting: dict[Hashable, deque[asyncio.Future[float]]] = {}

    @property
    def taken(self) -> int:
        return self._shares.taken

    def swamped(self, name: Hashable) -> bool:
        """Many wait for this lane, and many in all: one more had better come another time than keep the others out."""
        many = 2 * sum(map(len, self._waiting.values())) >= self._total
        return many and len(self._waiting.get(name, ())) >= self._each

    @asynccontextmanager
    async def of(self, name: Hashable) -> AsyncIterator[None]:
        entered = await self._enter(name)
        try:
            yield
        finally:
            self._leave(name, entered)

    async def _enter(self, name: Hashable) -> float:
        if name not in self._waiting and self._shares.room(name):
            return self._shares.enter((name,))
        called: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, deque()).append(called)
        try:
            return await called
        except asyncio.CancelledError:
            if not called.cancelled():  # it had just been called
                self._leave(name, called.result())
            raise

    def _leave(self, name: Hashable, entered: float) -> None:
        self._shares.leave((name,), entered)
        for lane in list(self._waiting):
            while lane in self._waiting and self._shares.room(lane):
                self._call(lane)

    def _call(self, name: Hashable) -> None:
        """Whoever has waited longest there comes in, and the lane is the last to be called again."""
        waiting = self._waiting.pop(name)
        while waiting:
            called = waiting.popleft()
            if not called.done():
                called.set_result(self._shares.enter((name,)))
                if waiting:
                    self._waiting[name] = waiting
                return


class Kept:
    """Connections between two messages, each for a few seconds."""

    def __init__(self, total: int, each: int) -> None:
        """`total`: connections there may be, those in use among them. `each`: that are kept to one endpoint, though it may
        serve many lanes: it has a limit of its own, most likely."""
        self._total, self._each = total, each
        self._at: Counter[tuple[str, int]] = Counter()  # by endpoint
        self._idle: dict[Hashable, deque[Conversation]] = {}
        self._timers: OrderedDict[Conversation, tuple[Hashable, asyncio.TimerHandle]] = OrderedDict()
        self._farewells = Tasks("delivery")

    def take(self, lane: Hashable) -> Conversation | None:
        """One that is still open, as far as is known; the caller closes it or keeps it again."""
        while idle := self._idle.get(lane):
            conversation = idle[-1]
            self._forget(conversation)
            if conversation.open:
                return conversation
            conversation.close()
        return None

    def keep(self, lane: Hashable, conversation: Conversation) -> None:
        """It may serve another message; or it is ended, if it can't."""
        if not conversation.open:
            conversation.close()
        elif conversation.sent >= MESSAGES_LIMIT:
            self._farewells.start(conversation.quit())
        else:
            timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end, conversation)
            self._timers[conversation] = lane, timer
            self._idle.setdefault(lane, deque()).append(conversation)
            self._at[conversation.target.endpoint] += 1
            self._bound(conversation.target.endpoint)

    def make_room(self, used: int) -> None:
        """One more is about to be opened, so that so many will be in use: those that were kept longest may have to go."""
        while self._timers and len(self._timers) + used > self._total:
            self._end(next(iter(self._timers)))

    def _bound(self, endpoint: tuple[str, int]) -> None:
        """Of too many there, the one that was kept longest goes."""
        if self._at[endpoint] > self._each:
            self._end(next(each for each in self._timers if each.target.endpoint == endpoint))

    def _forget(self, conversation: Conversation) -> None:
        lane, timer = self._timers.pop(conversation)
        timer.cancel()
        idle = self._idle[lane]
        idle.remove(conversation)
        if not idle:
            del self._idle[lane]
        endpoint = conversation.target.endpoint
        self._at[endpoint] -= 1
        if not self._at[endpoint]:
            del self._at[endpoint]

    def _end(self, conversation: Conversation) -> None:
        self._forget(conversation)
        self._farewells.start(conversation.quit())

    def drop(self) -> None:
        """Begin to end them all."""
        for conversation in list(self._timers):
            self._end(conversation)

    async def close(self) -> None:
        """End them all."""
        self.drop()
        await self._farewells.settled()


@dataclass(frozen=True, slots=True)
class _Death:
    until: float
    pause: float
    why: str


class Dead:
    """Exchangers that did not answer: for a while they are not asked again (qmail's tcpto). Success brings them back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deaths: OrderedDict[Target, _Death] = OrderedDict()

    def why(self, target: Target) -> str:
        """Why it is not to be asked now; empty: it may be."""
        death = self._deaths.get(target)
        return death.why if death is not None and death.until > self._clock() else ""

    def mark(self, target: Target, why: str) -> None:
        """It did not answer. Several who found out at the same time count as one."""
        now = self._clock()
        death = self._deaths.get(target)
        if death is not None and death.until > now:
            return
        recent = death is not None and death.until + FORGET_SECONDS > now
        pause = min(2 * death.pause, LONGEST_PAUSE) if death is not None and recent else FIRST_PAUSE
        self._deaths[target] = _Death(now + pause, pause, why)
        self._deaths.move_to_end(target)
        if len(self._deaths) > DEAD_LIMIT:
            self._deaths.popitem(last=False)

    def alive(self, target: Target) -> None:
        self._deaths.pop(target, None)

    def forget(self) -> None:
        """A person wants all of them asked again."""
        self._deaths.clear()
