"""Shares: nobody takes all, and the slow leave room for everybody else."""

from __future__ import annotations

import pytest

from pillarbox.delivery import shares
from pillarbox.delivery.shares import LATELY_SECONDS, PROMPT_SECONDS, Shares


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def fill(made: Shares, lane: str) -> int:
    """Take all that there is for that lane: how many."""
    count = 0
    while made.room(lane):
        made.enter((lane,))
        count += 1
    return count


def test_each_lane_has_its_share_and_no_more() -> None:
    made = Shares(100, 20, 2)
    assert fill(made, "a") == 20
    assert fill(made, "b") == 20


def test_many_that_stall_leave_room_for_others() -> None:
    made = Shares(100, 20, 2)
    stalled = [fill(made, f"stalls {number}") for number in range(20)]
    assert stalled == [20, 20, 10] + [2] * 17
    assert fill(made, "another") == 2


def test_the_whole_is_bounded() -> None:
    made = Shares(10, 2, 2)
    assert sum(fill(made, str(number)) for number in range(20)) == 10
    assert not made.room("another")


@pytest.mark.parametrize(
    ("taken", "since", "share"),
    [(PROMPT_SECONDS, LATELY_SECONDS, 20), (PROMPT_SECONDS + 1, 0.0, 2), (1.0, LATELY_SECONDS + 1, 2)],
)
def test_who_was_prompt_lately_has_its_whole_share(taken: float, since: float, share: int) -> None:
    clock = Clock()
    made = Shares(100, 20, 2, clock)
    entered = made.enter(("known",))
    clock.now += taken
    made.leave(("known",), entered)
    clock.now += since
    for number in range(10):
        fill(made, f"stalls {number}")
    assert fill(made, "known") == share


def test_one_that_goes_into_several_lanes_counts_in_each_and_once_in_all() -> None:
    made = Shares(3, 1, 1)
    entered = made.enter(("a", "b"))
    assert (made.taken, made.room("a"), made.room("b"), made.room("c")) == (1, False, False, True)
    made.leave(("a", "b"), entered)
    assert (made.taken, made.room("a"), made.room("b")) == (0, True, True)


def test_the_memory_of_the_prompt_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "REMEMBERED", 3)
    made = Shares(10, 2, 1)
    for number in range(5):
        made.leave((number,), made.enter((number,)))
    assert sorted(map(str, made._prompt)) == ["2", "3", "4"]
