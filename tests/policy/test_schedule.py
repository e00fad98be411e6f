"""When a deferred message is tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy.schedule import next_try

DAY = 86400.0
TIMES = st.floats(0, 2**40)


def tries(*, remote: bool, longest: float, until: float) -> list[float]:
    """Seconds after its arrival at which a message is tried, if each try takes no time."""
    found, now = [0.0], 1000.0
    while (now := next_try(1000.0, now, remote=remote, longest=longest)) - 1000.0 < until:
        found.append(now - 1000.0)
    return found


@pytest.mark.parametrize(
    ("remote", "first"),
    [(False, [0, 100, 400, 900, 1600, 2500]), (True, [0, 400, 1600, 3600, 6400, 10000])],
    ids=["here", "elsewhere"],
)
def test_the_first_tries_are_those_of_qmail(remote: bool, first: list[float]) -> None:
    assert tries(remote=remote, longest=DAY, until=DAY)[: len(first)] == first


def test_from_some_hours_on_the_distance_stays_the_same() -> None:
    found = tries(remote=True, longest=14400.0, until=7 * DAY)
    distances = [later - earlier for earlier, later in pairwise(found)]
    assert max(distances) == 14400.0 and distances[-1] == 14400.0
    assert 45 <= len(found) <= 55  # in a week


@given(received=TIMES, waited=st.floats(-DAY, 30 * DAY), remote=st.booleans(), longest=st.floats(1, DAY))
def test_it_lies_ahead_and_not_too_far(received: float, waited: float, remote: bool, longest: float) -> None:
    """A clock that was set back makes no exception."""
    now = received + waited
    when = next_try(received, now, remote=remote, longest=longest)
    assert when <= now + longest
    assert when > now or when == pytest.approx(now, abs=1.0)
