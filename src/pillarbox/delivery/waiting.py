"""Ids of messages that wait: until they are due, or for room in a lane. Only ids are kept in memory."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass

NEVER = math.inf  # when a message is due that waits for room alone


@dataclass(frozen=True, slots=True)
class Part:
    """Of a message, these lanes wait for room; all else is due at `rest`."""

    lanes: frozenset[Hashable]
    rest: float


class Waiting:
    """Times are Unix times."""

    def __init__(self) -> None:
        self._due: list[tuple[float, str]] = []  # a heap
        self._when: dict[str, float] = {}  # when each id in `_due` is due: an entry that says otherwise is stale
        self._aside: defaultdict[Hashable, deque[str]] = defaultdict(deque)  # ids by the lanes that they wait for
        self._parts: dict[str, Part] = {}  # of those that wait for room, and are due at a time too

    def __len__(self) -> int:
        return len(self._when)

    def add_all(self, due: Iterable[tuple[float, str]]) -> None:
        """Those that wait already wait as they did."""
        for when, identity in due:
            if identity not in self._when:
                self._when[identity] = when
                self._due.append((when, identity))
        heapq.heapify(self._due)

    def until(self, when: float, identity: str) -> None:
        """The whole message is due then."""
        self._parts.pop(identity, None)
        self._set(identity, when)

    def for_room(self, identity: str, lanes: Collection[Hashable], rest: float = NEVER) -> None:
        """It waits for room in each of these lanes; its other recipients are due at `rest`."""
        self.until(rest, identity)
        if rest != NEVER and lanes:
            self._parts[identity] = Part(frozenset(lanes), rest)
        for lane in lanes:
            self._aside[lane].append(identity)

    def drop(self, identity: str) -> float | None:
        """It waits no more; when it was due. None: it did not wait."""
        self._parts.pop(identity, None)
        return self._when.pop(identity, None)

    def all_due(self, now: float) -> None:
        """Everything is due, whatever it waited for."""
        self._when = dict.fromkeys(self._when, now)
        self._due = [(now, identity) for identity in self._when]
        self._aside.clear()
        self._parts.clear()

    def take(self, now: float) -> tuple[str, Part | None] | None:
        """The one that is due longest, which waits no more. With a part: what else there is of it is due later."""
        while self._due and self._due[0][0] <= now:
            when, identity = heapq.heappop(self._due)
            if self._when.get(identity) == when:
                del self._when[identity]
                part = self._parts.pop(identity, None)
                return identity, part if part is not None and part.rest > now else None
        return None

    def call(self, now: float, room: Callable[[Hashable], bool], lanes: Iterable[Hashable]) -> None:
        """Of each of these lanes that has room the message that has waited longest is due now."""
        called: set[str] = set()
        for lane in lanes:
            if lane in self._aside and room(lane):
                self._call(lane, now, called)

    def call_in_turn(self, now: float, room: Callable[[Hashable], bool], most: int) -> None:
        """The same for at most so many lanes; those whose turn has come are the last to have it again."""
        called: set[str] = set()
        for lane in list(self._aside):
            if len(called) >= most:
                return
            if room(lane):
                self._call(lane, now, called)

    def _set(self, identity: str, when: float) -> None:
        self._when[identity] = when
        if when != NEVER:
            heapq.heappush(self._due, (when, identity))

    def _call(self, lane: Hashable, now: float, called: set[str]) -> None:
        """Nobody more where one of `called` is the next: it comes for all the lanes that it waits for."""
        aside = self._aside.pop(lane)
        while aside:
            identity = aside.popleft()
            if identity in called or self._waits_for(identity, lane):
                if identity not in called:
                    called.add(identity)
                    self._set(identity, now)
                if aside:
                    self._aside[lane] = aside  # it comes last when lanes are called again
                return

    def _waits_for(self, identity: str, lane: Hashable) -> bool:
        """No: it was removed, held, or called for another lane."""
        when, part = self._when.get(identity), self._parts.get(identity)
        if part is None:
            return when == NEVER
        return when == part.rest and lane in part.lanes
