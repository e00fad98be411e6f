"""Which targets were reached, and how the page says it."""

from __future__ import annotations

import pytest
from bench.report import markdown
from bench.results import Column, Outcome, Sample, Target

FASTER = Target("at least twice as fast", "rate", 2, True, "Peer")
CHEAPER = Target("at most half the CPU", "cpu", 0.5, False, "Peer")
COLUMNS = (Column("rate", "per second", 1), Column("cpu", "us", 2))


def outcome(*rounds: tuple[Sample, Sample]) -> Outcome:
    made = Outcome("storm", "Storm", "How it was done.", COLUMNS, (FASTER, CHEAPER))
    for ours, peer in rounds:
        made.add("Pillarbox", ours)
        made.add("Peer", peer)
    return made


def sample(rate: float, cpu: float, errors: int = 0) -> Sample:
    return Sample({"rate": rate, "cpu": cpu}, errors, "refused: -ERR" if errors else "")


@pytest.mark.parametrize(
    ("rate", "cpu", "reached"), [(200, 50, [True, True]), (199, 50, [False, True]), (200, 51, [True, False])]
)
def test_bounds(rate: float, cpu: float, reached: list[bool]) -> None:
    verdicts = outcome((sample(rate, cpu), sample(100, 100))).verdicts("Pillarbox")
    assert [verdict.reached for verdict in verdicts] == reached


def test_ratios_are_taken_within_each_round() -> None:
    made = outcome((sample(300, 1), sample(100, 2)), (sample(30, 1), sample(10, 2)), (sample(1000, 1), sample(1000, 2)))
    (faster, _) = made.verdicts("Pillarbox")
    assert (faster.measured, faster.spread) == (3, (1, 3))


def test_failed_sessions_reach_nothing() -> None:
    verdicts = outcome((sample(900, 1, errors=1), sample(100, 100))).verdicts("Pillarbox")
    assert [verdict.reached for verdict in verdicts] == [False, False]


def test_what_was_not_measured_is_not_judged() -> None:
    made = Outcome("storm", "Storm", "", COLUMNS, (FASTER,))
    made.add("Peer", sample(1, 1))
    assert [verdict.reached for verdict in made.verdicts("Pillarbox")] == [None]
    assert "not measured" in markdown([made], [], "command", "today")


def test_the_page_says_what_was_missed_and_what_failed() -> None:
    made = outcome((sample(100, 50, errors=2), sample(100, 100)), (sample(400, 50), sample(100, 100)))
    page = markdown([made], [("Processor", "2 x fast")], "python3 run.py bench", "today")
    assert "| Storm | at least twice as fast | ≥ 2 | 2.50 [1.00-4.00] | **missed** |" in page
    assert "| Pillarbox | 250.0 [100.0-400.0] | 50.00 |" in page
    assert "Pillarbox: 2 sessions failed, the first with: refused: -ERR" in page
    assert "performance/storm.svg" in page
