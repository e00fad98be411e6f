"""One program under several names: the name of a link reaches a script through its interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script as an installer writes it, and the links to it."""
    script = tmp_path / "pillarbox"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom pillarbox.multicall import main\nsys.exit(main())\n")
    script.chmod(0o755)
    for name in ("sendmail", "qmail-inject", "mailq"):
        (tmp_path / name).symlink_to(script)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PILLARBOX_HOME": str(folder / "home")}
    return subprocess.run(
        [folder / command[0], *command[1:]], input="\nhello\n", capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize(
    ("command", "status", "error"),
    [
        (("sendmail", "bob"), 75, "sendmail: no server runs on"),
        (("sendmail",), 64, "sendmail: no recipient"),
        (("qmail-inject", "bob"), 111, "qmail-inject: no server runs on"),
        (("pillarbox", "send", "bob"), 75, "send: no server runs on"),
        (("mailq",), 69, "mailq: there is no home in"),
        (("pillarbox", "serv"), 2, "pillarbox: there is no command `serv`"),
    ],
)
def test_the_name_says_what_is_run(folder: Path, command: tuple[str, ...], status: int, error: str) -> None:
    done = run(folder, *command)
    assert (done.returncode, done.stdout) == (status, "") and done.stderr.startswith(error), done.stderr


def test_by_any_other_name_it_is_pillarbox(folder: Path) -> None:
    assert run(folder, "pillarbox", "--version").stdout.startswith("pillarbox ")
