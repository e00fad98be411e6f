"""Tries the messages of the queue that are due, as many at once as there is room for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from .. import log
from ..store.queue import Damaged, DiskQueue, QueuedMessage
from ..tasks import Tasks
from ..terms import Refused, TryLater
from .attempt import Attempts
from .questions import Broker
from .shares import Shares
from .waiting import NEVER, Part, Waiting

TRIES_AT_ONCE = 1000  # messages on their way to other hosts; each holds its envelope, and its content while it travels
LANE_SHARE = 20  # of these for one destination: a slow one must not take them all
SCARCE_SHARE = 2  # for one that is not known to be prompt, once half of the tries are under way: see Shares
HERE_AT_ONCE = 200  # messages that go to mailboxes here alone: however many hosts stall, these don't wait for them
HERE = "here"  # where those wait for room; the other lanes are Remote's
TROUBLED_SECONDS = 60.0  # before a message is tried again whose envelope could not be read or written
TURN_SECONDS = 0.005  # of the loop, to begin tries: envelopes are read from the disk, and reception must not wait long
TICK_SECONDS = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Try:
    """A message, and the lanes in which it is tried now; none: only here."""

    message: QueuedMessage
    lanes: frozenset[Hashable]
    full: frozenset[Hashable]  # where it waits for room
    early: frozenset[Hashable]  # where it is not due before `rest`
    rest: float


class Runner:
    """Tries what is due. `broker()`: the link to the broker, or None while there is none."""

    def __init__(self, queue: DiskQueue, attempts: Attempts, broker: Callable[[], Broker | None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._attempts = attempts
        self._broker = broker
        self._waiting = Waiting()
        self._busy: set[str] = set()  # being tried, or removed
        self._again: set[str] = set()  # of these, what a person wants tried once more, should this try be in vain
        self._shares = Shares(TRIES_AT_ONCE, LANE_SHARE, SCARCE_SHARE)
        self._here = 0  # tries that go to mailboxes here alone
        self._tasks = Tasks("delivery")
        self._begun = False  # the queue has been read
        self._all_wanted = False  # what will be found there, too, is to be tried at once
        self._turn_comes = False
        self._draining = False
        self._tick()

    def begin(self, due: list[tuple[float, str]]) -> None:
        """What was found in the queue: when each message is due, and its id. What is known already stays as it is."""
        latest = time.time() if self._all_wanted else NEVER
        self._waiting.add_all((min(when, latest), identity) for when, identity in due if identity not in self._busy)
        self._begun, self._all_wanted = True, False
        self._soon()

    def accepted(self, identity: str) -> None:
        """A message is new in the queue: try it at once."""
        self._schedule(identity, time.time())
        self._soon()

    def close(self) -> None:
        """Begin no more tries; the queue keeps the rest."""
        self._draining = True

    async def settled(self) -> None:
        """The tries under way have ended. After `close`."""
        await self._tasks.settled()

    # Commands of a person. All raise Refused where the message is not queued, and TryLater.

    def retry(self, identity: str) -> None:
        """Try it now. Raises Refused where it is held."""
        if self._load(identity).held:
            raise Refused(f"{identity} is held; release it first")
        if identity in self._busy:
            self._again.add(identity)
            return
        self._schedule(identity, time.time())
        self._soon()

    def retry_all(self) -> int:
        """Try everything now, and what is not known yet as soon as it is found; how many messages are known."""
        self._again |= self._busy
        self._all_wanted = not self._begun
        self._waiting.all_due(time.time())
        self._soon()
        return len(self._waiting) + len(self._busy)

    async def hold(self, identity: str) -> None:
        """Try it no more until it is released; a try under way goes on."""
        when = self._waiting.drop(identity)
        try:
            await _in_thread(lambda: self._mark(identity, held=True))
        except BaseException:
            self._restore(identity, when)
            raise

    async def release(self, identity: str) -> None:
        """It may be tried again."""
        await _in_thread(lambda: self._mark(identity, held=False))

    async def remove(self, identity: str) -> None:
        """Throw it away, and tell nobody. No try begins meanwhile."""
        if identity in self._busy:
            raise TryLater(f"{identity} is being tried at this moment; hold it, and remove it then")
        when = self._waiting.drop(identity)
        self._busy.add(identity)
        try:
            await _in_thread(lambda: self._throw_away(identity))
        except BaseException:
            self._busy.discard(identity)
            self._restore(identity, when)
            raise
        self._busy.discard(identity)
        self._again.discard(identity)
        self._attempts.forget(identity)

    def _restore(self, identity: str, when: float | None) -> None:
        """It was not held or removed after all."""
        if identity in self._again or when == NEVER:
            when = time.time()
        self._again.discard(identity)
        if when is not None:
            self._schedule(identity, when)

    def _mark(self, identity: str, *, held: bool) -> None:
        self._load(identity)
        self._queue.mark(identity, held=held)

    def _throw_away(self, identity: str) -> None:
        self._load(identity)
        self._queue.remove(identity)

    def _load(self, identity: str) -> QueuedMessage:
        try:
            return self._queue.load(identity)
        except FileNotFoundError:
            raise Refused(f"no message {identity} is queued") from None

    # Running.

    def _schedule(self, identity: str, when: float) -> None:
        if identity not in self._busy:
            self._waiting.until(when, identity)

    def _tick(self) -> None:
        self._loop.call_later(TICK_SECONDS, self._tick)
        now = time.time()  # whoever was called in vain has called nobody after it
        self._waiting.call(now, self._has_room, (HERE,))
        self._waiting.call_in_turn(now, self._has_room, self._shares.free)
        self._soon()

    def _soon(self) -> None:
        if not self._turn_comes:
            self._turn_comes = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Begin what is due, for a moment."""
        self._turn_comes = False
        now, broker, until = time.time(), self._broker(), self._loop.time() + TURN_SECONDS
        if broker is None or self._draining:
            return
        while found := self._waiting.take(now):
            identity, part = found
            self._begin_try(broker, identity, part, now)
            if self._loop.time() >= until:
                self._soon()
                return

    def _begin_try(self, broker: Broker, identity: str, part: Part | None, now: float) -> None:
        try:
            message = self._queue.load(identity)
            plan = None if message.held else self._plan(message, part)
        except FileNotFoundError:
            return  # a person has removed it
        except Damaged as error:
            self._set_aside(identity, error.why)
            return
        except TryLater as error:
            log.line("try-failed", id=identity, why=error.why)
            self._schedule(identity, now + TROUBLED_SECONDS)
            return
        except Exception as error:  # one message must not stop the others
            log.bug(error, where="try")
            self._schedule(identity, now + TROUBLED_SECONDS)
            return
        if plan is not None:
            self._busy.add(identity)
            self._tasks.start(self._try(broker, plan, self._enter(plan)))

    def _plan(self, message: QueuedMessage, part: Part | None) -> Try | None:
        """Where there is room for it now. None: nowhere, and it has been put aside."""
        lanes = frozenset(self._attempts.lanes(message))
        early = lanes - part.lanes if part is not None else lanes - lanes
        rest = part.rest if part is not None else NEVER
        full = frozenset(lane for lane in lanes - early if not self._shares.room(lane))
        plan = Try(message, lanes - early - full, full, early, rest)
        if plan.lanes:
            return plan
        here = part is None or HERE in part.lanes
        if here and (not lanes or self._attempts.stays_here(message)):
            if self._has_room(HERE):
                return plan
            full |= {HERE}
        self._waiting.for_room(message.identity, full, rest)
        return None

    def _has_room(self, lane: Hashable) -> bool:
        return self._here < HERE_AT_ONCE if lane == HERE else self._shares.room(lane)

    def _enter(self, plan: Try) -> float:
        if plan.lanes:
            return self._shares.enter(plan.lanes)
        self._here += 1
        return 0.0

    def _leave(self, plan: Try, entered: float) -> None:
        """There is room again: whoever has waited longest for it comes next."""
        tight = not self._shares.free
        if plan.lanes:
            self._shares.leave(plan.lanes, entered)
        else:
            self._here -= 1
        if plan.lanes and tight:
            self._waiting.call_in_turn(time.time(), self._has_room, 1)
        else:
            self._waiting.call(time.time(), self._has_room, plan.lanes or (HERE,))

    def _set_aside(self, identity: str, why: str) -> None:
        self._attempts.forget(identity)
        log.line("queue-damaged", file=self._queue.set_aside(identity), why=why, what="set aside; look at it")

    async def _try(self, broker: Broker, plan: Try, entered: float) -> None:
        identity = plan.message.identity
        when: float | None = time.time() + TROUBLED_SECONDS
        try:
            when = await self._attempts.attempt(broker, plan.message, plan.full | plan.early)
        except FileNotFoundError:
            when = None
            self._set_aside(identity, "its message has gone")
        except (TryLater, OSError) as error:
            log.line("try-failed", id=identity, why=str(error))
        except Exception as error:
            log.bug(error, where="try")
        finally:
            self._busy.discard(identity)
            if when is not None:
                self._wait(plan, when)
            self._again.discard(identity)
            self._leave(plan, entered)
            self._soon()

    def _wait(self, plan: Try, when: float) -> None:
        """For room in the lanes that were full; for the rest until it is due again."""
        now, identity = time.time(), plan.message.identity
        if identity in self._again:
            self._schedule(identity, now)
        elif plan.full or plan.early:
            self._waiting.for_room(identity, plan.full, min(when, plan.rest))
        else:
            self._schedule(identity, when)


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Raises TryLater in place of OSError."""
    try:
        return await asyncio.get_running_loop().run_in_executor(None, work)
    except OSError as error:
        raise TryLater(f"the queue can't be written: {error.strerror}") from None
