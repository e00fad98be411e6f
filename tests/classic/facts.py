"""Cases of programs whose originals no distribution ships: what these say and do was observed, and is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .sides import Case, Normalise, run


@dataclass(frozen=True)
class Fact(Case):
    """One row: what the original does; where `mended` gives a reason, what ours does instead."""

    program: str = ""  # where a table has several
    status: int = 0
    out: bytes = b""
    err: bytes = b""
    files: Mapping[str, bytes] = field(
        default_factory=dict
    )  # that lie in the working folder afterwards, all others apart


def check(fact: Fact, program: Path, folder: Path, normalise: Normalise = lambda result: result) -> None:
    """Ours does that, octet for octet."""
    result = normalise(run(program, fact, folder))
    assert (result.out, result.err, result.status) == (fact.out, fact.err, fact.status), fact.title
    assert {name: result.files.get(name) for name in fact.files} == fact.files, fact.title
