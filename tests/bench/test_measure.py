"""CPU and memory of all processes that a server starts, by both ways of measuring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from bench.measure import Meter, meter

WORK = "import time\nwhile time.process_time() < 0.2: pass\n"
FAMILY = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {WORK!r}], check=True)
child = subprocess.Popen([sys.executable, "-c", {WORK + "print(flush=True); input()"!r}], stdin=subprocess.PIPE)
{WORK}
print(flush=True)
input()
child.communicate(b"\\n")
"""


@pytest.fixture(params=["proc", "best"])
def gauge(request: pytest.FixtureRequest) -> Iterator[Meter]:
    """/proc, and the best way here: a control group, where one can be made."""
    if request.param == "proc":
        yield Meter()
        return
    with meter("test") as made:
        yield made


def test_parent_living_child_and_dead_child_are_all_measured(gauge: Meter) -> None:
    command = gauge.wrapped([sys.executable, "-c", FAMILY])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        gauge.follow(process.pid)
        process.stdout.readline(), process.stdout.readline()
        assert gauge.cpu() >= 0.55  # 3 x 0.2 seconds, less the ticks that /proc rounds off
        assert len(gauge.pids()) == 2
        assert len(gauge.by_process()) == 2
        assert gauge.memory().processes > 1 << 20
        process.communicate(b"\n")
    assert gauge.pids() == []
