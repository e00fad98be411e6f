"""The command line: what it says, where it says it, and with which exit status."""

from __future__ import annotations

import io
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

from pillarbox import __version__, cli
from pillarbox.config import Config
from pillarbox.home import Home, Identities
from pillarbox.testing import Server, server

SECRET = "violin case 55"


@pytest.fixture
def place(open_folder: Path) -> Path:
    return open_folder / "home"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts={"alice": SECRET}) as running:
        yield running


class Said:
    """What one command said, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> None:
        capsys.readouterr()
        self.status = cli.run([str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()


def say(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Said:
    return Said(capsys, *arguments)


def type_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


# Being called.


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "--help")
    assert said.status == 0 and not said.err
    for command in ("serve", "demo", "account", "status", "stop", "reload", "config", "--home", "--version"):
        assert command in said.out
    assert "tether" not in say(capsys, "serve", "--help").out


@pytest.mark.parametrize(
    "command",
    [["serve"], ["demo"], ["status"], ["stop"], ["reload"], ["config", "check"], ["config", "show"], ["account", "list"],
     ["account", "add"], ["account", "remove"], ["account", "secret"], []],
)  # fmt: skip
def test_every_command_takes_a_home(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--home" in say(capsys, *command, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["account", "add"], ["account", "add", "a", "b"], ["status", "--bogus"], ["status", "--home"],
     ["stop", "now"], ["serve", "--tether", "x"]],
)  # fmt: skip
def test_a_wrong_call_is_told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, *arguments)
    assert said.status == 2 and not said.out
    assert said.err.startswith("pillarbox: ") and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "there is no command `statsu`; the nearest is `status`; see `run --help`"),
        (["zzz"], "there is no command `zzz`; see `run --help`"),
        (["account", "ad"], "there is no command `account ad`; the nearest is `account add`; see `run account --help`"),
        (["account", "add"], "NAME is missing: run account add NAME; see `run account add --help`"),
        (["account", "add", "a", "b"], "`account add` takes no `b`; see `run account add --help`"),
        (["account", "--home", "x"], "`account` wants a command first: add, secret, list, remove; see"),
        (["status", "--jsn"], "there is no option `--jsn`; the nearest is `--json`; see `run status --help`"),
        (["serve", "--tethr"], "there is no option `--tethr`; see `run serve --help`"),
        (["status", "--home"], "a value behind --home is missing; see `run status --help`"),
        (["--home", "x", "status"], "options stand behind the command: run status ...; see `run --help`"),
    ],
)
def test_a_wrong_call_is_told_what_was_meant(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARBOX_COMMAND", "run")
    assert say(capsys, *arguments).err.startswith(f"pillarbox: {told}")


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


# Accounts.


def test_accounts_come_and_go(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    added = say(capsys, "account", "add", "Alice", "--home", place)
    assert added.status == 0
    assert added.out.startswith("account alice@localhost.localdomain added\nsecret: ")
    assert len(added.out.split("secret: ")[1]) >= 26
    assert say(capsys, "account", "add", "bob@localhost.localdomain", "--home", place).status == 0
    listed = say(capsys, "account", "list", "--home", place)
    assert [line.split("\t")[0] for line in listed.out.split("\n")[:-1]] == [
        "alice@localhost.localdomain",
        "bob@localhost.localdomain",
    ]
    assert say(capsys, "account", "remove", "alice", "--home", place).status == 0
    again = say(capsys, "account", "remove", "alice", "--home", place)
    assert again.status == 1 and "no account alice@localhost.localdomain" in again.err


def test_a_secret_is_shown_once_and_never_when_it_was_given(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"a chosen secret, long\r\n")
    given = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert given.status == 0 and "chosen" not in given.out + given.err
    made = say(capsys, "account", "secret", "alice", "--home", place)
    secret = made.out.split("secret: ")[1].removesuffix("\n")
    rest = [say(capsys, *words, "--home", place) for words in (["account", "list"], ["status"], ["config", "show"])]
    assert not any(secret in said.out + said.err for said in rest)
    for root, _, files in os.walk(place):
        for file in files:
            assert secret.encode() not in (Path(root) / file).read_bytes()


@pytest.mark.parametrize("text", [b"", b"short\n", b"tab\tinside it\n", b" blank before\n"])
def test_a_bad_secret_is_refused_and_not_repeated(
    text: bytes, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, text)
    said = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert said.status == 1 and said.err.count("\n") == 1
    assert not text.strip(b"\n") or text.strip(b"\n").decode() not in said.err
    assert say(capsys, "account", "list", "--home", place).out == ""


@pytest.mark.parametrize("name", ["", "a b", "alice@elsewhere.test", "../x", "a@b@c", "ali\u00e7e", ".alice"])
def test_a_bad_name_is_refused(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "account", "add", "--home", place, "--", name)
    assert said.status == 1 and said.err.count("\n") == 1 and not said.out


def test_an_account_outlives_its_domain(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    (place / "pillarbox.toml").write_text('domains = ["new.test"]')
    say(capsys, "account", "add", "bob", "--home", place)
    listed = say(capsys, "account", "list", "--home", place).out.splitlines()
    assert [line.split("\t")[2:] for line in listed] == [[cli.FOREIGN], []]
    old = "alice@localhost.localdomain"
    assert "secret: " in say(capsys, "account", "secret", old, "--home", place).out
    assert say(capsys, "account", "remove", old, "--home", place).status == 0
    assert say(capsys, "account", "add", old, "--home", place).status == 1


def test_mail_of_a_removed_account_is_not_handed_over_in_silence(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    maildir = place / "mail" / "localhost.localdomain" / "alice"
    (maildir / "new").mkdir(parents=True)
    (maildir / "new" / "1.a.b").write_text("Subject: x\n\n")
    assert str(maildir) in say(capsys, "account", "remove", "alice", "--home", place).out
    assert f"1 message lies in {maildir} already" in say(capsys, "account", "add", "alice", "--home", place).out


@pytest.mark.parametrize("command", [["list"], ["secret", "alice"], ["remove", "alice"]])
def test_looking_at_accounts_makes_no_home(command: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "account", *command, "--home", place)
    assert said.status == 1 and said.err == f"pillarbox: there is no home in {place}\n"
    assert not place.exists()


def test_no_accounts_are_told_beside_the_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text("")
    said = say(capsys, "account", "list", "--home", place)
    assert (said.status, said.out, said.err) == (0, "", "no accounts\n")


def test_system_users_alone_leave_no_accounts_to_make(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text('[accounts]\nsource = ["passwd"]')
    said = say(capsys, "account", "add", "alice", "--home", place)
    assert said.status == 1 and "accounts.source" in said.err


def test_a_typed_secret_is_not_echoed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("seen by everybody\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "a typed secret" if prompt else "")
    said = say(capsys, "account", "add", "alice", "--secret-stdin", "--home", place)
    assert said.status == 0 and "typed" not in said.out + said.err


def test_a_lost_key_is_not_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(capsys, "account", "add", "alice", "--home", place)
    (place / "secret.key").unlink()
    said = say(capsys, "account", "add", "bob", "--home", place)
    assert said.status == 1 and "restore it" in said.err
    assert not (place / "secret.key").exists()


def test_account_changes_work_at_once_while_the_server_runs(
    running: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = say(capsys, "account", "add", "dora", "--home", running.home).out.split("secret: ")[1].strip("\n")
    login(running, "dora", secret)
    renewed = say(capsys, "account", "secret", "dora", "--home", running.home).out.split("secret: ")[1].strip("\n")
    with pytest.raises(poplib.error_proto):
        login(running, "dora", secret)
    login(running, "dora", renewed)
    assert say(capsys, "account", "remove", "dora", "--home", running.home).status == 0
    with pytest.raises(poplib.error_proto):
        login(running, "dora", renewed)


def login(running: Server, name: str, secret: str) -> None:
    pop3 = poplib.POP3(running.host, running.pop3_port)
    try:
        pop3.apop(name, secret)
        pop3.quit()
    finally:
        pop3.close()


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
        "smtp": [f"127.0.0.1:{running.smtp_port}"],
    }
    plain = say(capsys, "status", "--home", running.home).out
    assert f"127.0.0.1:{running.pop3_port}" in plain and str(running.pid) in plain


@pytest.mark.root
def test_the_home_of_another_user_is_no_home_without_a_server(running: Server) -> None:
    def status(*command: str) -> tuple[int, str, str]:
        code = "import os, sys; from pillarbox.cli import main; os.setgid(4242); os.setuid(4242); main()"
        words = [sys.executable, "-c", code, *command, "--home", str(running.home)]
        done = subprocess.run(words, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    told = f"pillarbox: the server's folder {running.home} belongs to root, and is closed to you\n"
    assert status("status") == status("status", "--json") == (75, "", told)
    assert status("stop") == (1, "", told)


@pytest.mark.root
def test_the_check_looks_for_the_users_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text('[users]\nmail = "nobody-of-that-name"')
    said = say(capsys, "config", "check", "--home", place)
    assert said.status == 1 and "no user nobody-of-that-name" in said.err


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
            f"pop3=127.0.0.1:{running.pop3_port} smtp=127.0.0.1:{running.smtp_port}\n"
        ) in running.log()
        say(capsys, "stop", "--home", running.home)
        assert running.log().endswith("]: stopped\n")


def test_a_taken_port_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place.mkdir(mode=0o711)
        (place / "pillarbox.toml").write_text(f'[listen]\npop3 = ["127.0.0.1:{port}"]\nsmtp = []\n')
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
    (place / "pillarbox.toml").write_text('[listen]\npop3 = ["127.0.0.1:0"]\nsmtp = []\n')
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "pillarbox", "serve", "--home", str(place), "--tether", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        assert json.loads(ours.makefile().readline())["pid"] == process.pid
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
