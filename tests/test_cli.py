"""The command line: what it says, where it says it, and with which exit status."""

from __future__ import annotations

import json
import os
import poplib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox import __version__
from pillarbox.config import Config, keys
from pillarbox.home import Home, Identities
from pillarbox.testing import Server, server

from .command_line import SECRET, login, say

NOWHERE_ELSE = "".join(f"{name} = []\n" for name, _ in keys(Config().listen) if name != "pop3")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts={"alice": SECRET}) as running:
        yield running


# Being called.


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "--help")
    assert said.status == 0 and not said.err
    for command in ("serve", "demo", "account", "status", "stop", "reload", "config", "--home", "--version"):
        assert command in said.out
    assert "tether" not in say(capsys, "serve", "--help").out


@pytest.mark.parametrize(
    "command",
    [["serve"], ["status"], ["stop"], ["reload"], ["config", "check"], ["config", "show"], ["account", "list"],
     ["account", "add"], ["account", "remove"], ["account", "secret"], []],
)  # fmt: skip
def test_every_command_takes_a_home(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--home" in say(capsys, *command, "--help").out


def test_the_demo_has_no_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--home" not in say(capsys, "demo", "--help").out
    said = say(capsys, "demo", "--home", "x")
    assert said.status == 2 and "there is no option `--home`" in said.err


@pytest.mark.parametrize(
    ("command", "usage", "rest"),
    [
        ("queue hold", "ID ...", ""),
        ("queue release", "ID ...", ""),
        ("queue remove", "ID ...", ""),
        ("queue retry", "[ID ...]", ""),
        ("queue list", "", "Columns: id, age, octets, sender, recipient, next try, last outcome."),
        ("grants list", "", "Columns: address, account, login, since, until, messages left, recipients left."),
        ("account list", "", "Columns: account, Maildir, and a note"),
        ("grants revoke", "WHO | --all", "WHO"),
        ("dkim add", "[DOMAIN]", ""),
        ("import qmail", "[DIR]", "--tcp-rules FILE"),
        ("link", "DIR [NAME ...]", ""),
    ],
)
def test_help_names_what_stands_there(command: str, usage: str, rest: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(say(capsys, *command.split(" "), "--help").out.split())
    assert said.startswith(" ".join(filter(None, ("Usage: pillarbox", command, usage, "")))) and rest in said
    assert "ARGS" not in said and 'default: ""' not in said


def test_help_shows_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "account", "add", "--help").out
    assert "--home DIR" in said and "default:" not in said and "--name" not in said


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pillarbox", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pillarbox {__version__}\n" and not done.stderr


def test_a_reader_that_has_gone_is_no_trouble() -> None:
    command = [sys.executable, "-u", "-m", "pillarbox", "config", "show"]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert done.returncode == 1 and done.stderr == ""


# Configuration.


def test_the_configuration_is_shown_and_checked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "defaults apply" in say(capsys, "config", "check", "--home", place).out
    assert not place.exists()
    place.mkdir()
    (place / "pillarbox.toml").write_text(say(capsys, "config", "show", "--home", place).out)
    assert say(capsys, "config", "check", "--home", place).status == 0
    (place / "pillarbox.toml").write_text("[limits]\nconections = 1\n")
    said = say(capsys, "config", "check", "--home", place)
    assert said.status == 1
    assert said.err == (
        f"pillarbox: {place}/pillarbox.toml: `limits.conections` is no key that Pillarbox knows; "
        "the nearest one is `limits.connections`\n"
    )


# The server.


def test_without_a_server(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "status", "--home", place).status == 1
    assert json.loads(say(capsys, "status", "--json", "--home", place).out) == {"pid": None, "listen": {}}
    for command in ("stop", "reload"):
        said = say(capsys, command, "--home", place)
        assert said.status == 1 and said.err == f"pillarbox: no server runs on {place}\n"
    assert not place.exists()


def test_status_says_where_it_listens(running: Server, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "status", "--json", "--home", running.home)
    status = json.loads(said.out)
    assert said.status == 0 and status["pid"] == running.pid
    assert status["listen"] == {
        "pop3": [f"127.0.0.1:{running.pop3_port}"],
        "pop3s": [f"127.0.0.1:{running.pop3s_port}"],
        "smtp": [f"127.0.0.1:{running.smtp_port}"],
        "submission": [f"127.0.0.1:{running.submission_port}"],
        "submissions": [f"127.0.0.1:{running.submissions_port}"],
    }
    plain = say(capsys, "status", "--home", running.home).out
    assert f"127.0.0.1:{running.pop3_port}" in plain and str(running.pid) in plain


@pytest.mark.root
def test_the_home_of_another_user_is_no_home_without_a_server(running: Server) -> None:
    def status(*command: str) -> tuple[int, str, str]:
        code = (
            "import os, sys; from pillarbox.cli import main; from pillarbox.commands import queue, grants, dkim;"
            "from pillarbox import administration; os.setgid(4242); os.setuid(4242); main()"
        )
        words = [sys.executable, "-c", code, *command, "--home", str(running.home)]
        done = subprocess.run(words, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    told = f"pillarbox: the server's folder {running.home} belongs to root, and is closed to you\n"
    assert status("status") == status("status", "--json") == (75, "", told)
    assert status("stop") == (1, "", told)
    for command in ("queue", "grants", "account", "dkim"):
        assert status(command, "list") == (1, "", told)


@pytest.mark.root
@pytest.mark.parametrize("command", ["grants", "account", "dkim"])
def test_as_root_the_home_of_another_user_is_told(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    for path in (place, *place.iterdir()):
        os.chown(path, 4242, 4242)
    said = say(capsys, command, "list", "--home", place)
    assert said.status == 1
    assert said.err == f"pillarbox: the home folder {place} belongs to another user (uid 4242)\n"


@pytest.mark.root
def test_the_check_looks_for_the_users_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text('[users]\nmail = "nobody-of-that-name"')
    said = say(capsys, "config", "check", "--home", place)
    told = f"pillarbox: {place}/pillarbox.toml: users.mail: there is no user nobody-of-that-name\n"
    assert (said.status, said.err) == (1, told)
    for command in (["serve"], ["dkim", "list"], ["dkim", "add"]):
        assert say(capsys, *command, "--home", place).err == told


def test_the_check_and_a_reload_warn(capsys: pytest.CaptureFixture[str]) -> None:
    with server(config={"relay": {"style": "classic"}, "aliases": {"info": "nosuch"}}) as running:
        warnings = [
            '`relay.style` is "classic": whoever shares an address with a POP3 client of ours may send',
            '`aliases` leads "info" to "nosuch", which is neither an account nor an alias',
        ]
        for command in (["config", "check"], ["reload"]):
            said = say(capsys, *command, "--home", running.home)
            lines = said.err.splitlines()
            assert said.status == 0 and len(lines) == 2
            for line, text in zip(lines, warnings, strict=True):
                assert line.startswith(f"pillarbox: {running.home}/pillarbox.toml: {text}")


def test_a_second_server_on_the_same_home_says_so(running: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["serve"], []):
        said = say(capsys, *command, "--home", running.home)
        assert said.status == 75
        assert f"already (pid {running.pid})" in said.err and said.err.count("\n") == 1
    login(running, "alice", SECRET)


def test_words_of_a_server_that_was_killed_are_not_believed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(str(place))
    home.prepare(Identities.of(Config()))
    home.write_status({"pid": os.getpid(), "listen": {}, "generation": 1})
    assert say(capsys, "status", "--home", place).status == 1
    said = say(capsys, "stop", "--home", place)  # and this very process is not stopped
    assert said.status == 1


def test_stop_waits_until_the_server_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with server() as running:
        assert say(capsys, "stop", "--home", running.home).status == 0
        assert Home(str(running.home)).running() is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((running.host, running.pop3_port))


def test_reload_takes_a_new_configuration_and_drops_no_session(capsys: pytest.CaptureFixture[str]) -> None:
    with server(accounts={"alice": SECRET}) as running:
        pop3 = poplib.POP3(running.host, running.pop3_port)
        pop3.apop("alice", SECRET)
        path = running.home / "pillarbox.toml"
        path.write_text(path.read_text().replace("message_octets = 52428800", "message_octets = 100000"))
        assert say(capsys, "reload", "--home", running.home).status == 0
        with socket.create_connection((running.host, running.smtp_port)) as smtp, smtp.makefile("rb") as lines:
            lines.readline()
            smtp.sendall(b"EHLO client.test\r\n")
            while (line := lines.readline()).startswith(b"250-") and b"SIZE" not in line:
                pass
            assert line.removesuffix(b"\r\n").endswith(b"SIZE 100000")
        assert pop3.noop().startswith(b"+OK")
        pop3.quit()


def test_reload_of_a_wrong_configuration_changes_nothing(running: Server, capsys: pytest.CaptureFixture[str]) -> None:
    path = running.home / "pillarbox.toml"
    right = path.read_text()
    try:
        path.write_text("nonsense = 1")
        said = say(capsys, "reload", "--home", running.home)
        assert said.status == 1 and "`nonsense`" in said.err
        login(running, "alice", SECRET)
    finally:
        path.write_text(right)


def test_reload_tells_why_the_server_refused(running: Server, capsys: pytest.CaptureFixture[str]) -> None:
    path = running.home / "pillarbox.toml"
    right = path.read_text()
    try:
        path.write_text(right.replace('pop3 = ["127.0.0.1:0"]', 'pop3 = ["192.0.2.1:4110"]'))
        for _ in range(2):
            said = say(capsys, "reload", "--home", running.home)
            assert said.status == 1 and "this machine has no such address; change `listen.pop3`" in said.err
        assert "reload-refused why=" in running.log()
    finally:
        path.write_text(right)
    assert say(capsys, "reload", "--home", running.home).out == "the server uses the new configuration\n"


def test_reload_says_what_it_can_not_change(capsys: pytest.CaptureFixture[str]) -> None:
    with server() as running:
        path = running.home / "pillarbox.toml"
        path.write_text(
            path.read_text().replace("network = 1", "network = 2").replace("queue = 61811", "queue = 61813")
        )
        said = say(capsys, "reload", "--home", running.home)
        assert said.status == 0
        assert "stopped, and served again: processes.network, users.queue" in said.out
        assert "needs_restart=" in running.log()


def test_start_and_stop_stand_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with server() as running:
        assert (
            f"started version={__version__} home={running.home} "
            f"pop3=127.0.0.1:{running.pop3_port} pop3s=127.0.0.1:{running.pop3s_port}"
            f" smtp=127.0.0.1:{running.smtp_port} submission=127.0.0.1:{running.submission_port}"
            f" submissions=127.0.0.1:{running.submissions_port}\n"
        ) in running.log()
        say(capsys, "stop", "--home", running.home)
        assert running.log().endswith("]: stopped\n")


def test_a_taken_port_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place.mkdir(mode=0o711)
        (place / "pillarbox.toml").write_text(f'[listen]\npop3 = ["127.0.0.1:{port}"]\n{NOWHERE_ELSE}')
        command = [sys.executable, "-m", "pillarbox", "serve", "--home", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stderr == (
        f"pillarbox: can't listen on 127.0.0.1:{port} for pop3: another program has it; "
        f"change `listen.pop3` in {place}/pillarbox.toml\n"
    )
    assert "Traceback" not in done.stderr


def test_serve_ends_cleanly_at_ctrl_c(place: Path) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text(f'[listen]\npop3 = ["127.0.0.1:0"]\n{NOWHERE_ELSE}')
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "pillarbox", "serve", "--home", str(place), "--tether", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        assert json.loads(ours.makefile().readline())["pid"] == process.pid
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
