"""What a workload gives: samples of each server, round by round, and what they say about the targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One server, one round. `values` has the figures by their column's key; `errors` counts failed sessions."""

    values: dict[str, float]
    errors: int = 0
    first_error: str = ""


@dataclass(frozen=True)
class Column:
    """A figure in the table: `digits` after the point."""

    key: str
    title: str
    digits: int = 0
    plotted: bool = False


@dataclass(frozen=True)
class Target:
    """Our figure divided by the peer's, or the other way, or ours alone: at least or at most `bound`."""

    text: str
    key: str
    bound: float
    at_least: bool
    peer: str = ""  # empty: our figure alone


@dataclass(frozen=True)
class Verdict:
    """`measured` and `reached` are None where there is nothing to judge."""

    workload: str
    target: Target
    measured: float | None
    spread: tuple[float, float] | None
    reached: bool | None


@dataclass
class Outcome:
    """One workload's rounds."""

    key: str
    title: str
    how: str
    columns: Sequence[Column]
    targets: Sequence[Target] = ()
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, server: str, sample: Sample) -> None:
        self.samples.setdefault(server, []).append(sample)

    def median(self, server: str, key: str) -> float | None:
        values = self.values(server, key)
        return statistics.median(values) if values else None

    def values(self, server: str, key: str) -> list[float]:
        return [sample.values[key] for sample in self.samples.get(server, ()) if key in sample.values]

    def verdicts(self, ours: str) -> list[Verdict]:
        return [self._verdict(target, ours) for target in self.targets]

    def _verdict(self, target: Target, ours: str) -> Verdict:
        """Ratios are taken within a round, where both met the same machine; failed sessions reach no target."""
        figures = self._paired(ours, target.peer, target.key) if target.peer else self.values(ours, target.key)
        if not figures:
            return Verdict(self.title, target, None, None, None)
        measured = statistics.median(figures)
        sound = not any(sample.errors for sample in self.samples[ours])
        compare: Callable[[float, float], bool] = float.__ge__ if target.at_least else float.__le__
        reached = sound and compare(float(measured), float(target.bound))
        return Verdict(self.title, target, measured, (min(figures), max(figures)), reached)

    def _paired(self, ours: str, peer: str, key: str) -> list[float]:
        pairs = zip(self.values(ours, key), self.values(peer, key), strict=False)
        return [mine / theirs for mine, theirs in pairs if theirs]
