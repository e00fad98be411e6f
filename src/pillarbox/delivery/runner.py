"""When each message of the queue is due: only ids are kept in memory, and those of a full lane wait aside."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable

from .. import log
from ..store.queue import Damaged, DiskQueue, QueuedMessage
from ..tasks import Tasks
from ..terms import Refused, TryLater
from .attempt import Attempts
from .questions import Broker

TRIES_AT_ONCE = 1000  # messages being tried; each holds its envelope, and its content while it travels
LANE_SHARE = 20  # of these for one destination: a slow one must not take them all
TROUBLED_SECONDS = 60.0  # before a message is tried again whose envelope could not be read or written
LOOKED_AT = 100  # messages in one turn of the loop: their envelopes are read from the disk
TICK_SECONDS = 1.0
ASIDE = -1.0  # when a message is due that waits for room in a lane


class Runner:
    """Tries what is due. `broker()`: the link to the broker, or None while there is none."""

    def __init__(self, queue: DiskQueue, attempts: Attempts, broker: Callable[[], Broker | None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._attempts = attempts
        self._broker = broker
        self._due: list[tuple[float, str]] = []
        self._waiting: dict[str, float] = {}  # when each id in `_due` is due: an entry that says otherwise is stale
        self._aside: defaultdict[Hashable, deque[str]] = defaultdict(deque)  # ids that wait for room in a lane
        self._trying: set[str] = set()
        self._again: set[str] = set()  # of these, what a person wants tried once more, should this try be in vain
        self._lanes: Counter[Hashable] = Counter()  # messages being tried, by lane
        self._tasks = Tasks("delivery")
        self._draining = False
        self._tick()

    def begin(self, due: list[tuple[float, str]]) -> None:
        """What the queue holds at the start: when each message is due, and its id."""
        self._due = due
        heapq.heapify(self._due)
        self._waiting = {identity: when for when, identity in due}

    def accepted(self, identity: str) -> None:
        """A message is new in the queue: try it at once."""
        self._schedule(identity, time.time())
        self._try_due()

    async def drain(self) -> None:
        """Finish the tries under way, and begin no more; the queue keeps the rest."""
        self._draining = True
        await self._tasks.settled()

    # Commands of a person.

    def retry(self, identity: str) -> None:
        """Try it now. Raises Refused where it is held, or not queued."""
        if self._load(identity).held:
            raise Refused(f"{identity} is held; release it first")
        if identity in self._trying:
            self._again.add(identity)
            return
        self._schedule(identity, time.time())
        self._try_due()

    def retry_all(self) -> int:
        """Try everything now; how many messages these are."""
        now = time.time()
        waiting = list(self._waiting)
        self._again |= self._trying
        self._waiting = dict.fromkeys(waiting, now)
        self._due = [(now, identity) for identity in waiting]
        count = len(waiting) + len(self._trying)
        self._try_due()
        return count

    def hold(self, identity: str) -> None:
        """Try it no more until it is released; a try under way goes on. Raises Refused, TryLater and OSError."""
        self._load(identity)
        self._queue.mark(identity, held=True)
        self._waiting.pop(identity, None)

    def release(self, identity: str) -> None:
        """It may be tried again. Raises Refused, TryLater and OSError."""
        self._load(identity)
        self._queue.mark(identity, held=False)

    def remove(self, identity: str) -> None:
        """Throw it away, and tell nobody. Raises Refused, TryLater and OSError."""
        self._load(identity)
        if identity in self._trying:
            raise TryLater(f"{identity} is being tried at this moment; hold it, and remove it then")
        self._waiting.pop(identity, None)
        self._queue.remove(identity)

    def _load(self, identity: str) -> QueuedMessage:
        try:
            return self._queue.load(identity)
        except FileNotFoundError:
            raise Refused(f"no message {identity} is queued") from None

    # Running.

    def _schedule(self, identity: str, when: float) -> None:
        self._waiting[identity] = when
        heapq.heappush(self._due, (when, identity))

    def _tick(self) -> None:
        self._loop.call_later(TICK_SECONDS, self._tick)
        for lane in list(self._aside):  # whoever was called in vain has called nobody after it
            if self._lanes[lane] < LANE_SHARE:
                self._call(lane)
        self._try_due()

    def _try_due(self) -> None:
        now, broker = time.time(), self._broker()
        for _ in range(LOOKED_AT):
            room = len(self._trying) < TRIES_AT_ONCE and not self._draining
            if broker is None or not room or not self._due or self._due[0][0] > now:
                return
            when, identity = heapq.heappop(self._due)
            if self._waiting.get(identity) == when and identity not in self._trying:
                del self._waiting[identity]
                self._begin_try(broker, identity, now)
        self._loop.call_soon(self._try_due)

    def _begin_try(self, broker: Broker, identity: str, now: float) -> None:
        try:
            message = self._queue.load(identity)
            lanes = self._attempts.lanes(message)
        except FileNotFoundError:
            return  # a person has removed it
        except Damaged as error:
            self._set_aside(identity, error.why)
            return
        except TryLater as error:
            log.line("try-failed", id=identity, why=error.why)
            self._schedule(identity, now + TROUBLED_SECONDS)
            return
        except Exception as error:  # one message must not stop the others, nor its own acceptance
            log.bug(error, where="try")
            self._schedule(identity, now + TROUBLED_SECONDS)
            return
        if message.held:
            return
        full = {lane for lane in lanes if self._lanes[lane] >= LANE_SHARE}
        if full and full == lanes and not self._attempts.stays_here(message):
            self._put_aside(identity, full)
            return
        self._trying.add(identity)
        self._lanes.update(lanes - full)
        self._tasks.start(self._try(broker, message, lanes - full, full))

    def _put_aside(self, identity: str, full: set[Hashable]) -> None:
        """Until there is room in one of these lanes."""
        self._waiting[identity] = ASIDE
        self._aside[next(iter(full))].append(identity)

    def _set_aside(self, identity: str, why: str) -> None:
        log.line("queue-damaged", file=self._queue.set_aside(identity), why=why, what="set aside; look at it")

    async def _try(self, broker: Broker, message: QueuedMessage, lanes: set[Hashable], full: set[Hashable]) -> None:
        """In these lanes and here; for those that are full it is put aside."""
        identity = message.identity
        when: float | None = time.time() + TROUBLED_SECONDS
        try:
            when = await self._attempts.attempt(broker, message, full)
        except FileNotFoundError:
            when = None
            self._set_aside(identity, "its message has gone")
        except (TryLater, OSError) as error:
            log.line("try-failed", id=identity, why=str(error))
        except Exception as error:
            log.bug(error, where="try")
        finally:
            self._trying.discard(identity)
            self._leave(lanes)
            if when is not None and full:
                self._put_aside(identity, full)
            elif when is not None:
                self._schedule(identity, time.time() if identity in self._again else when)
            self._again.discard(identity)
            self._loop.call_soon(self._try_due)

    def _leave(self, lanes: set[Hashable]) -> None:
        """There is room again: whoever has waited longest for it comes next."""
        for lane in lanes:
            self._lanes[lane] -= 1
            if not self._lanes[lane]:
                del self._lanes[lane]
            self._call(lane)

    def _call(self, lane: Hashable) -> None:
        """Whoever has waited longest for room there; those that were removed, held or called otherwise wait no more."""
        while aside := self._aside.get(lane):
            identity = aside.popleft()
            if not aside:
                del self._aside[lane]
            if self._waiting.get(identity) == ASIDE:
                self._schedule(identity, time.time())
                return
