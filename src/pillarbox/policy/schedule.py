"""When a deferred message is tried again: qmail's quadratic back-off (qmail-send), counted from its arrival."""

from __future__ import annotations

from math import isqrt

LOCAL_SKIP = 10  # qmail's: a local recipient is tried at 0, 100, 400, 900, 1600 ... seconds
REMOTE_SKIP = 20  # qmail's: another host is tried at 0, 400, 1600, 3600 ... seconds


def next_try(received: float, now: float, *, remote: bool, longest: float) -> float:
    """The Unix time of the next try, for a message that came at `received` and was just tried.

    `remote`: another host is to be tried. `longest`: seconds that it waits at the most.
    """
    age = max(0, int(now - received))
    skip = REMOTE_SKIP if remote else LOCAL_SKIP
    return min(received + (isqrt(age) + skip) ** 2, now + longest)
