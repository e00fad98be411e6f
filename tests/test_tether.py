"""A server as a child process, seen from whoever started it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pillarbox.terms import TryLater
from pillarbox.tether import ServerProcess


def test_a_server_that_can_not_start_is_reported_at_once(open_folder: Path) -> None:
    (open_folder / "pillarbox.toml").write_text("nonsense = 1")
    log, theirs = os.pipe()
    process = ServerProcess(str(open_folder), theirs)
    os.close(theirs)
    with open(log, "rb") as said, pytest.raises(TryLater, match="did not start"):
        process.wait_until_ready()
        said.read()
    assert process.end() == 1


def test_the_status_comes_when_it_is_ready_and_ending_twice_does_no_harm(open_folder: Path) -> None:
    listen = (
        '[listen]\npop3 = ["127.0.0.1:0", "127.0.0.1:0"]\nsmtp = []\nsubmission = []\npop3s = []\nsubmissions = []\n'
    )
    (open_folder / "pillarbox.toml").write_text(listen)
    log, theirs = os.pipe()
    process = ServerProcess(str(open_folder), theirs)
    os.close(theirs)
    status = process.wait_until_ready()
    assert len(status["listen"]["pop3"]) == 2 and status["listen"]["smtp"] == []
    assert process.end() == 0
    assert process.end() == 0
    with open(log, "rb") as said:
        assert b"Traceback" not in said.read()  # and its end comes: no process of the server is left
