"""What pillarbox.service takes away from the server, taken away from a real one: it works without."""

from __future__ import annotations

import poplib
import shlex
import shutil
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox import cli
from pillarbox.commands import service

from .machine import greeting, within

pytestmark = pytest.mark.root
SECRET = "a-long-secret-for-alice-alone"


def settings() -> dict[str, str]:
    lines = (service.SOURCES / "pillarbox.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-unit-"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder)


def as_the_unit_runs_it(*command: str) -> list[str]:
    """With no more privilege than the unit leaves, and no way to get more."""
    unit = settings()
    assert unit["NoNewPrivileges"] == "yes"
    kept = [f"+{name.removeprefix('CAP_').lower()}" for name in unit["CapabilityBoundingSet"].split()]
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set={','.join(['-all', *kept])}", *command]


def test_a_low_port_a_login_a_message_a_reload(home: Path) -> None:
    pop3, smtp = (next(port for port in range(low, 1000) if not greeting(port)) for low in (620, 720))
    home.mkdir(mode=0o711)
    text = 'domains = ["example.test"]\n[listen]\npop3 = ["127.0.0.1:{}"]\nsmtp = ["127.0.0.1:{}"]\nsubmission = []\n'
    text += "pop3s = []\nsubmissions = []\n"
    (home / "pillarbox.toml").write_text(text.format(pop3, smtp))
    program = shlex.split(settings()["ExecStart"].replace("@PILLARBOX@", "pillarbox"))[1:2]
    command = [sys.executable, "-m", "pillarbox", *program]
    with subprocess.Popen(as_the_unit_runs_it(*command, "--home", str(home)), stderr=subprocess.PIPE) as server:
        try:
            within(60, "it does not greet", lambda: greeting(pop3))
            _add(home)
            with smtplib.SMTP("127.0.0.1", smtp) as sending:
                sending.sendmail("bob@elsewhere.test", "alice@example.test", "Subject: hello\r\n\r\nhello\r\n")
            fetching = poplib.POP3("127.0.0.1", pop3)
            fetching.apop("alice", SECRET)
            assert b"Subject: hello" in fetching.retr(1)[1]
            fetching.quit()
            assert cli.run(["reload", "--home", str(home)]) == 0
        finally:
            server.terminate()
        assert server.stderr
        said = server.stderr.read().decode()
    assert server.returncode == 0
    assert "reloaded" in said and "bug" not in said and "process-died" not in said


def _add(home: Path) -> None:
    command = [sys.executable, "-m", "pillarbox", "account", "add", "alice", "--secret-stdin", "--home", str(home)]
    subprocess.run(command, input=f"{SECRET}\n".encode(), check=True, capture_output=True)
