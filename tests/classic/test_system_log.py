"""A log that goes away, comes back, or reads nothing, stops nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.programs import system_log
from pillarbox.programs.system_log import INFO, Lines, SystemLog

from .private_log import PrivateLog

FULL = 5000  # datagrams; no queue of a socket holds so many


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(system_log, "SOCKET", str(tmp_path / "log").encode())
    monkeypatch.setattr(system_log, "SECONDS", 0.05)
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Iterator[PrivateLog]:
    private = PrivateLog(path)
    yield private
    private.close()


def test_a_log_that_was_started_anew_gets_the_next_line(path: Path, log: PrivateLog) -> None:
    system = SystemLog(b"t", 3)
    system.write(INFO, b"1")
    log.close()
    path.unlink()
    system.write(INFO, b"2")
    again = PrivateLog(path)
    system.write(INFO, b"3")
    assert [datagram[-1:] for datagram in again.drain()] == [b"3"]
    again.close()


def test_a_line_is_not_lost_when_the_log_was_restarted_before_it(path: Path, log: PrivateLog) -> None:
    system = SystemLog(b"t", 3)
    system.write(INFO, b"1")
    log.close()
    path.unlink()
    again = PrivateLog(path)
    system.write(INFO, b"2")
    assert [datagram[-1:] for datagram in again.drain()] == [b"2"]
    again.close()


def test_a_log_that_reads_nothing_is_waited_for_once(log: PrivateLog) -> None:
    system = SystemLog(b"t", 3)
    for _ in range(FULL):
        system.write(INFO, b"x")
    taken = len(log.drain())
    assert 0 < taken < FULL
    system.write(INFO, b"y")
    assert [datagram[-1:] for datagram in log.drain()] == [b"y"]


@pytest.mark.parametrize("step", [1, 7, 799, 800, 5000])
def test_lines_do_not_depend_on_how_they_are_read(step: int, log: PrivateLog) -> None:
    text = b"a\n" + b"x" * 799 + b"\n" + b"warning:" + b"y" * 1700 + b"\n\n" + b"z" * 800
    lines = Lines(SystemLog(b"t", 3))
    for start in range(0, len(text), step):
        lines.take(text[start : start + step])
    lines.end()
    assert [(priority, len(shown), shown[:1]) for priority, _tag, shown in log.lines()] == [
        (30, 2, b" "), (30, 800, b" "), (28, 800, b" "), (28, 800, b"+"), (28, 111, b"+"), (30, 800, b" "), (30, 2, b"+"),
    ]  # fmt: skip
