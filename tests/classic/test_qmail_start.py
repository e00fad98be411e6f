"""qmail-start: our delivery in the place of qmail-send, and its log in the hands of a program of the admin's choice."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pillarbox.administration import new_account_name, opened
from pillarbox.commands import executable
from pillarbox.config import Config, Listen, to_toml
from pillarbox.demo import throw_away_home
from pillarbox.home import Home

from ..process.test_deaths import until

MESSAGE = b"Subject: hello\n\nhello\n"
SECONDS = 60


@pytest.fixture
def home() -> Iterator[Home]:
    """With one account, and ports that somebody else holds: they aren't ours to open."""
    with throw_away_home() as home:
        Path(home.config).write_text(
            to_toml(Config(domains=["example.test"], listen=Listen(["192.0.2.1:110"], [], [])))
        )
        with opened(home, make=True) as (settings, store):
            store.add(new_account_name("alice", settings), b"secret of alice")
        yield home


def environment(home: Home) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PILLARBOX_HOME": home.folder}


@contextmanager
def started(ours: Path, home: Home, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Running; ended with TERM."""
    with open(log, "wb") as output:
        process = subprocess.Popen([ours / "qmail-start", *arguments], stdout=output, env=environment(home))
    try:
        until(lambda: home.read_status() is not None)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
        until(lambda: b"stopped" in log.read_bytes())


def run(ours: Path, home: Home, *command: str, octets: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [ours / command[0], *command[1:]], input=octets, capture_output=True, env=environment(home), timeout=SECONDS
    )


def test_mail_is_delivered_and_the_log_goes_to_descriptor_1(ours: Path, home: Home, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(ours, home, "./Maildir/", log=log) as process:
        status = home.read_status()
        assert status is not None and status["pid"] == process.pid  # it has become the server
        assert not any(status["listen"].values())
        assert run(ours, home, "qmail-inject", "alice@example.test", octets=MESSAGE).returncode == 0
        new = Path(home.mail) / "example.test" / "alice" / "new"
        until(lambda: new.is_dir() and any(new.iterdir()))
        (message,) = new.iterdir()
        assert message.read_bytes().endswith(b"\n\nhello\n")
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: b"reloaded" in log.read_bytes())
        assert home.read_status()["listen"]["pop3"] == []  # type: ignore[index]
    assert process.returncode == 0 and b"outcome=delivered" in log.read_bytes()


def test_a_server_without_ports_says_that_it_is_meant_so(ours: Path, home: Home) -> None:
    Path(home.config).write_text(to_toml(Config(listen=Listen(*[[]] * len(Listen.__struct_fields__)))))
    command = [ours.parent / executable.NAME, "serve"]
    done = subprocess.run(command, capture_output=True, env=environment(home), timeout=SECONDS)
    assert done.returncode == 1 and b"nobody could come in; `serve --no-listen`" in done.stderr


def test_a_logger_reads_the_log(ours: Path, home: Home, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(ours, home, "./Maildir/", "sh", "-c", f"exec cat >'{log}.seen'", log=log):
        (tmp_path / "log").write_bytes(b"stopped")  # nothing of the server's comes here
        until(lambda: b"started" in Path(f"{log}.seen").read_bytes())
    until(lambda: b"stopped" in Path(f"{log}.seen").read_bytes())


@pytest.mark.root
def test_the_logger_is_qmaill_where_there_is_one(ours: Path, home: Home, tmp_path: Path) -> None:
    try:
        wanted = pwd.getpwnam("qmaill").pw_name
    except KeyError:
        wanted = pwd.getpwuid(os.geteuid()).pw_name
    log = tmp_path / "log"
    with started(ours, home, "./Maildir/", "sh", "-c", "id -un; exec cat", log=log):
        until(lambda: b"started" in log.read_bytes())
    assert log.read_bytes().startswith(wanted.encode() + b"\n")


def test_a_second_start_fails_with_a_clear_word(ours: Path, home: Home, tmp_path: Path) -> None:
    with started(ours, home, log=tmp_path / "log") as process:
        done = run(ours, home, "qmail-start", "./Maildir/", "cat")
        assert done.returncode == 111 and not done.stdout
        word = f"qmail-start: cannot start: the server on {home.folder} is already running (pid {process.pid})\n"
        assert done.stderr == word.encode()


@pytest.mark.parametrize("delivery", ["./Mailbox", "|program", "/var/mail/x"])
def test_another_delivery_than_maildirs_is_refused(delivery: str, ours: Path, home: Home) -> None:
    done = run(ours, home, "qmail-start", delivery)
    assert done.returncode == 111 and done.stderr.startswith(
        b"qmail-start: cannot start: mail is delivered to ./Maildir/"
    )
    assert home.running() is None


def test_a_logger_that_is_not_there_is_told(ours: Path, home: Home, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with open(errors, "wb") as output:
        process = subprocess.Popen(
            [ours / "qmail-start", "./Maildir/", "no-such-logger"],
            stdout=subprocess.DEVNULL, stderr=output, env=environment(home),
        )  # fmt: skip
    try:
        until(lambda: errors.read_bytes().endswith(b"\n"))
        assert errors.read_bytes() == b"qmail-start: fatal: unable to run no-such-logger: file does not exist\n"
        until(lambda: home.read_status() is not None)  # mail is delivered all the same
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
