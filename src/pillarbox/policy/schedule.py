"""When a deferred message is tried again: qmail's quadratic back-off (qmail-send), counted from its arrival."""

from __future__ import annotations

from math import isqrt

LOCAL_SKIP = 10  # qmail's: a local recipient is tried at 0, 100, 400, 900, 1600 ... seconds
LONGEST_WAIT = 4 * 3600  # seconds; a mailbox that can take mail again need not wait for days


def next_try(received: float, now: float, skip: int = LOCAL_SKIP) -> float:
    """The Unix time of the next try, for a message that came at `received` and was just tried."""
    age = max(0, int(now - received))
    return min(received + (isqrt(age) + skip) ** 2, now + LONGEST_WAIT)
