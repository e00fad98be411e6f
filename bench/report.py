"""docs/performance.md: every figure from one run, and of every target whether it was reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .results import Column, Outcome, Verdict
from .ring import OURS

_INTRODUCTION = """\
*Written by `python3 run.py bench`; a run writes it anew.*

Pillarbox beside Dovecot and Postfix, on one machine, in one run. All servers run as they do in earnest: all processes,
each with its own uid, and logging. In every round all servers take their turn (A B, then B A), so that what drifts in
the machine meets all alike. Figures are medians of the rounds, with the lowest and the highest in brackets; ratios are
taken within each round. CPU is user and system time of all processes of a server, dead ones too. The load generator
takes part of the same cores, so ratios of throughput come out smaller than they are; its CPU stands beside the servers'.

Dovecot runs in three modes: *default* (a new process for every login and every session), *reused* (processes serve one
session after the other, `service_count = 0`) and *fastest* (two processes that serve any number of sessions at once,
`client_limit = 12000`). Postfix has `in_flow_delay = 0`, with which it delivers faster than as shipped here.
All serve the same messages, stored with LF, from Maildirs of their own. One small message in twenty has a line that
begins with a dot. The page cache is warm unless said.
"""


def markdown(
    outcomes: Sequence[Outcome], facts: Sequence[tuple[str, str]], command: str, date: str, *, plots: bool = True
) -> str:
    """The whole page."""
    parts = ["# Performance", _INTRODUCTION, _facts(facts, command, date), *_targets(outcomes)]
    for outcome in outcomes:
        parts += _section(outcome, plots=plots)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def write(folder: Path, page: str) -> Path:
    path = folder / "performance.md"
    path.write_text(page, encoding="utf-8")
    return path


def _facts(facts: Sequence[tuple[str, str]], command: str, date: str) -> str:
    rows = [("Date", date), ("Command", f"`{command}`"), *facts]
    return _table(("", ""), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _targets(outcomes: Sequence[Outcome]) -> list[str]:
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts(OURS)]
    if not verdicts:
        return []
    judged = [verdict for verdict in verdicts if verdict.reached is not None]
    reached = sum(bool(verdict.reached) for verdict in judged)
    rows = [verdict_row(verdict) for verdict in verdicts]
    return [
        "## Targets",
        f"{reached} of {len(judged)} reached." if judged else "Only the peers were measured.",
        _table(("workload", "target", "bound", "measured", ""), rows),
    ]


def verdict_row(verdict: Verdict) -> tuple[str, str, str, str, str]:
    """Workload, target, bound, measured, and the word."""
    target = verdict.target
    bound = f"{'≥' if target.at_least else '≤'} {target.bound:.4g}"
    word = {True: "reached", False: "**missed**", None: "not measured"}[verdict.reached]
    measured = "-"
    if verdict.measured is not None and verdict.spread is not None:
        measured = _spread(verdict.measured, *verdict.spread, digits=3 if target.bound <= 1 else 2)
    return verdict.workload, target.text, bound, measured, word


def _section(outcome: Outcome, *, plots: bool) -> list[str]:
    parts = [f"## {outcome.title}"]
    if outcome.how:
        parts.append(outcome.how)
    header = ("", *(column.title for column in outcome.columns))
    rows = [(server, *(_cell(outcome, server, column) for column in outcome.columns)) for server in outcome.samples]
    parts.append(_table(header, rows))
    parts += _errors(outcome)
    parts += outcome.notes
    if plots:
        parts.append(f"![{outcome.title}](performance/{outcome.key}.svg)")
    return parts


def _cell(outcome: Outcome, server: str, column: Column) -> str:
    values = outcome.values(server, column.key)
    median = outcome.median(server, column.key)
    if median is None:
        return "-"
    return _spread(median, min(values), max(values), digits=column.digits)


def _spread(median: float, low: float, high: float, *, digits: int) -> str:
    shown = [f"{value:,.{digits}f}" for value in (median, low, high)]
    return shown[0] if low == high else f"{shown[0]} [{shown[1]}-{shown[2]}]"


def _errors(outcome: Outcome) -> list[str]:
    found = []
    for server, samples in outcome.samples.items():
        failed = sum(sample.errors for sample in samples)
        if failed:
            first = next(sample.first_error for sample in samples if sample.errors)
            found.append(f"{server}: {failed} sessions failed, the first with: {first}")
    return found
