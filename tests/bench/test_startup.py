"""The start-up bench: what it measures, what it does not count, and the installation that it measures on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.classic import Installation
from bench.results import Outcome, Sample
from bench.ring import OURS
from bench.startup import BARE, _head, measure

from bench import startup


def program(folder: Path, text: str) -> list[str]:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def test_a_run_is_timed_to_its_end(tmp_path: Path) -> None:
    run = measure(program(tmp_path, "sleep 0.2"))
    assert run.wall >= 200 and run.cpu > 0 and run.fault == ""


def test_a_usage_error_is_no_fault(tmp_path: Path) -> None:
    assert measure(program(tmp_path, "echo usage: program >&2; exit 100")).fault == ""


@pytest.mark.parametrize(
    "said", ["envdir: fatal: a fault in this program: KeyError", "Traceback (most recent call last):"]
)
def test_a_broken_program_is_a_fault(said: str, tmp_path: Path) -> None:
    assert measure(program(tmp_path, f"echo '{said}' >&2; exit 111")).fault == said


def test_a_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PATIENCE", 0.2)
    run = measure(program(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 1000"))
    assert run.fault == "program did not end within 0.2 s"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_the_slowest_stands_for_all_and_a_fault_of_any_counts() -> None:
    outcome = Outcome("startup", "Start", "", startup._COLUMNS, (startup.TARGET,))
    outcome.add(BARE, Sample({"wall": 10.0}))
    outcome.add("quick", Sample({"own": 5.0}, 1, "broken"))
    outcome.add("slow", Sample({"own": 20.0}))
    _head(outcome)
    assert list(outcome.samples) == [OURS, BARE, "quick", "slow"]
    (verdict,) = outcome.verdicts(OURS)
    assert (verdict.measured, verdict.reached) == (20.0, False)
    outcome.samples["quick"] = [Sample({"own": 5.0})]
    _head(outcome)
    assert outcome.verdicts(OURS)[0].reached


def test_an_installation_runs_under_its_names(tmp_path: Path) -> None:
    installed = Installation.under(tmp_path)
    links = installed.links("some", ("envdir",))
    assert os.listdir(links) == ["envdir"]
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "NAME").write_text("value\n")
    command = [links / "envdir", tmp_path / "variables", sys.executable, "-c", "import os; print(os.environ['NAME'])"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"value\n"
    assert Installation.under(tmp_path) == installed
