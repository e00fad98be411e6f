"""envdir beside daemontools' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .sides import Case, check


def files(**content: bytes) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "env").mkdir()
        for name, octets in content.items():
            (folder / "env" / name).write_bytes(octets)

    return prepare


CASES = (
    Case("no arguments"),
    Case("no program", ("env",), prepare=files()),
    Case("a value", ("env", "env"), prepare=files(A=b"x\n")),
    Case("blanks at the end are cut, those at the beginning stay", ("env", "env"), prepare=files(A=b"  x \t \ny\n")),
    Case("no such folder", ("none", "env")),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, tmp_path: Path) -> None:
    check(case, originals / "envdir", ours / "envdir", tmp_path / "work")
