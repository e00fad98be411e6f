"""/etc/init.d/pillarbox-chain, really run, under Debian's tcpserver: whom it starts, ends, and leaves alone.

The programs behind tcpserver are stand-ins of a line or two: what they do is not in question here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machine import Machine, end, free_port, greeting, pids_with, within

pytestmark = pytest.mark.root

CHAINS = ("pop3", "smtp", "deliver")
THROUGH = '#!/bin/sh\nexec "$@"\n'
STAND_INS = {
    "relay-ctrl-chdir": THROUGH,
    "relay-ctrl-check": THROUGH,
    "relay-ctrl-allow": THROUGH,
    "selectcheckpw": THROUGH,
    "checkpw": THROUGH,
    "checkapoppw": THROUGH,
    "qmail-pop3d": THROUGH,
    # A session: a greeting, a line, a reply; a child beside it, as qmail-popup has.
    "qmail-popup": "#!/bin/sh\nprintf '+OK hello\\r\\n'\nread -r line\nsleep 0.2\nprintf '+OK %s\\r\\n' \"$line\"\n",
    "qmail-smtpd": '#!/bin/sh\nprintf \'220 %s %s\\r\\n\' "$(id -un)" "$(pwd)"\nread -r line\n',
    "qmail-start": "#!/bin/sh\ntrap 'echo \"hup $1\"' HUP\ntrap exit TERM\nenv\nwhile :; do sleep 0.1; done\n",
    "splogger": '#!/bin/sh\nwhile read -r line; do echo "$1 $2 $(id -un) $line"; done >>@LOG@\n',
}


@pytest.fixture
def machine() -> Iterator[Machine]:
    if shutil.which("tcpserver") is None or shutil.which("envdir") is None:
        reason = "not installed: ucspi-tcp, daemontools"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-service-"))
    folder.chmod(0o755)
    machine = Machine.installed(folder, "--chain", "--programs", str(folder / "names"))
    for name in ("names", "qmail/control", "relay", "spool/allow"):
        (folder / name).mkdir(parents=True)
    (folder / "spool").chmod(0o700)
    (folder / "spool/allow").chmod(0o777)
    for name, text in STAND_INS.items():
        (machine.names / name).write_text(text.replace("@LOG@", str(folder / "log")))
        (machine.names / name).chmod(0o755)
    (folder / "log").touch(0o666)
    (folder / "log").chmod(0o666)
    (folder / "qmail/control/me").write_text("mail.example.test\n")
    (folder / "qmail/control/rcpthosts").write_text("example.test\n")
    (folder / "relay/RELAY_CTRL_DIR").write_text(f"{folder}/spool/allow\n")
    settle(machine)
    yield machine
    end(pids_with(str(folder)))
    shutil.rmtree(folder)


def settle(machine: Machine, **changed: object) -> None:
    """Its settings: the defaults of these tests, and what is changed."""
    folder = machine.folder
    values: dict[str, object] = {
        "CHAIN": folder / "usr/local/sbin/pillarbox-chain",
        "RUN": machine.run,
        "QMAIL": folder / "qmail",
        "RELAY": folder / "relay",
        "POP3_ADDRESS": "127.0.0.1",
        "SMTP_ADDRESS": "127.0.0.1",
        "POP3_PORT": 0,
        "SMTP_PORT": 0,
        "SMTP_RULES": "",
        "SMTP_USER": "mail",
        "LOG_USER": "daemon",
        "GRACE": 1,
        "QUEUE_SECONDS": 1,
    }
    machine.settings("pillarbox-chain", **values | changed)


def service(machine: Machine, action: str) -> tuple[int, str]:
    done = machine.service("pillarbox-chain", action)
    return done.returncode, done.stdout


def port(machine: Machine, chain: str) -> int:
    return int((machine.run / f"{chain}.port").read_text())


def pid(machine: Machine, chain: str) -> int:
    return int((machine.run / chain).read_text().split()[0])


def ours(machine: Machine) -> list[int]:
    """All processes of its chains; not those that log, which see the end of their input a moment later."""
    return [pid for name in CHAINS if (token := _token(machine, name)) for pid in pids_with(token)]


def _token(machine: Machine, chain: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (machine.run / chain).read_text().split()[1]
    return ""


@contextlib.contextmanager
def session(port: int) -> Iterator[socket.socket]:
    """One that has been greeted."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        assert connection.recv(100) == b"+OK hello\r\n"
        yield connection


@pytest.fixture
def unrelated() -> Iterator[int]:
    """The port of a tcpserver that is none of our business."""
    command = ["tcpserver", "-1RHl0", "127.0.0.1", "0", "sh", "-c", "echo unrelated"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield int(process.stdout.readline())
        process.terminate()


def test_the_whole_life_of_the_chains(machine: Machine, unrelated: int) -> None:
    assert service(machine, "status")[0] == 3
    status, said = service(machine, "start")
    assert status == 0, said
    assert [line.split(" (")[0] for line in said.splitlines()] == [
        f"pillarbox-chain: {chain} started" for chain in CHAINS
    ]
    assert greeting(port(machine, "pop3")) == b"+OK hello\r\n"
    assert greeting(port(machine, "smtp")).startswith(b"220 mail ")  # not root: SMTP_USER
    status, said = service(machine, "status")
    assert status == 0 and said.count(" runs (pid ") == 3
    before = [pid(machine, chain) for chain in CHAINS]
    status, said = service(machine, "start")
    assert status == 1 and said.count(" runs already (pid ") == 3
    assert [pid(machine, chain) for chain in CHAINS] == before
    assert service(machine, "stop") == (
        0,
        "".join(f"pillarbox-chain: {c} stopped\n" for c in CHAINS),
    )
    assert service(machine, "status")[0] == 3
    assert service(machine, "stop") == (
        0,
        "".join(f"pillarbox-chain: {chain} does not run\n" for chain in CHAINS),
    )
    assert greeting(unrelated) == b"unrelated\n"


def test_the_log_is_not_roots_and_the_queue_inherits_nothing(machine: Machine) -> None:
    assert service(machine, "start")[0] == 0
    token = _token(machine, "deliver")
    service(machine, "stop")
    lines = (machine.folder / "log").read_text().splitlines()
    assert any(line.startswith("pop3d 3 daemon tcpserver: status: 0/") for line in lines)
    environment = {line.removeprefix("qmail 2 daemon ") for line in lines if line.startswith("qmail 2 daemon ")}
    names = {line.partition("=")[0] for line in environment}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "PILLARBOX_HOME", "PILLARBOX_CHAIN"}
    assert f"PILLARBOX_CHAIN={token}" in environment


def test_stop_lets_a_session_come_to_its_end(machine: Machine) -> None:
    settle(machine, CHAINS="pop3", GRACE=30)
    assert service(machine, "start")[0] == 0
    with session(port(machine, "pop3")) as connection:
        stopping = threading.Thread(target=service, args=(machine, "stop"))
        stopping.start()
        within(30, "tcpserver still listens", lambda: not greeting_or_refusal(port_of(connection)))
        assert stopping.is_alive()
        connection.sendall(b"bye\n")
        assert connection.recv(100) == b"+OK bye\r\n"
        stopping.join()


def port_of(connection: socket.socket) -> int:
    return int(connection.getpeername()[1])


def greeting_or_refusal(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=10):
        return True
    return False


def test_stop_ends_a_session_that_does_not_end(machine: Machine) -> None:
    settle(machine, CHAINS="pop3")
    assert service(machine, "start")[0] == 0
    with session(port(machine, "pop3")) as connection:
        token = _token(machine, "pop3")
        assert len(pids_with(token)) == 2  # tcpserver, and the session
        assert service(machine, "stop")[0] == 0
        assert pids_with(token) == []
        assert connection.recv(100) == b""


def test_sessions_of_a_tcpserver_that_was_killed_are_ours_still(machine: Machine) -> None:
    settle(machine, CHAINS="pop3")
    assert service(machine, "start")[0] == 0
    with session(port(machine, "pop3")) as connection:
        os.kill(pid(machine, "pop3"), 9)
        within(30, "it lives", lambda: not Path(f"/proc/{pid(machine, 'pop3')}").exists())
        status, said = service(machine, "status")
        assert status == 3 and "but sessions of it do" in said
        assert service(machine, "start")[0] == 0  # a new tcpserver, beside the old session
        assert len(ours(machine)) == 2
        assert service(machine, "stop")[0] == 0
        assert connection.recv(100) == b""


def test_a_number_that_is_now_anothers_is_nobody_of_ours(machine: Machine) -> None:
    settle(machine, CHAINS="pop3")
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        machine.run.mkdir()
        (machine.run / "pop3").write_text(f"{stranger.pid} 0123-4567\n")
        assert service(machine, "status")[0] == 3
        assert service(machine, "stop")[0] == 0
        (machine.run / "pop3").write_text(f"{stranger.pid} 0123-4567\n")
        assert service(machine, "start")[0] == 0
        assert service(machine, "restart")[0] == 0
        assert service(machine, "stop")[0] == 0
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "x y", "1", "-1 abc", "1 *", "99999999 abc", "\0\0"])
def test_a_state_file_with_nonsense_in_it(machine: Machine, text: str) -> None:
    settle(machine, CHAINS="pop3")
    machine.run.mkdir()
    (machine.run / "pop3").write_text(text)
    assert service(machine, "status")[0] == 3
    assert service(machine, "start")[0] == 0
    assert service(machine, "stop")[0] == 0


def test_restart_under_load(machine: Machine) -> None:
    number = free_port()
    settle(machine, CHAINS="pop3", POP3_PORT=number)
    assert service(machine, "start")[0] == 0
    first, over, counts = pid(machine, "pop3"), threading.Event(), [0] * 4

    def load(number_of: int) -> None:
        while not over.is_set():
            counts[number_of] += greeting(number) == b"+OK hello\r\n"

    threads = [threading.Thread(target=load, args=(each,)) for each in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        status, said = service(machine, "restart")
        assert status == 0, said
        seen = sum(counts)
        within(30, "nobody is served any more", lambda: sum(counts) > seen + 20)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert pid(machine, "pop3") != first
    assert service(machine, "stop")[0] == 0


def test_a_user_that_is_not_there_is_not_root(machine: Machine) -> None:
    for user, why in (("no-such-user", "there is no user no-such-user"), ("root", "root is root")):
        settle(machine, CHAINS="smtp", SMTP_USER=user)
        status, said = service(machine, "start")
        assert status == 1 and why in said and "smtp was not started" in said
        assert ours(machine) == []


def test_a_port_that_is_taken_is_told(machine: Machine, unrelated: int) -> None:
    settle(machine, CHAINS="pop3", POP3_PORT=unrelated)
    status, said = service(machine, "start")
    assert status == 1 and "pop3 was not started" in said
    assert f"pillarbox-chain: pop3: port {unrelated} is taken, by tcpserver (pid " in said
    assert service(machine, "status")[0] == 3


def test_a_start_that_fails_says_which_log_has_the_reason(machine: Machine) -> None:
    settle(machine, CHAINS="pop3", POP3_ADDRESS="192.0.2.1")
    status, said = service(machine, "start")
    assert status == 1 and "pop3 did not start; the log of pop3d says why" in said
    assert "tcpserver: fatal: unable to bind: address not available" in (machine.folder / "log").read_text()


def check(machine: Machine, *chain: str) -> tuple[int, list[str]]:
    done = machine.call(machine.folder / "usr/local/sbin/pillarbox-chain", "check", *chain)
    return done.returncode, [line.removeprefix("pillarbox-chain: ") for line in done.stdout.splitlines()]


def test_check_tells_of_each_chain_that_nothing_is_missing(machine: Machine) -> None:
    number = free_port()
    settle(machine, CHAINS="pop3", POP3_PORT=number)
    (machine.names / "relay-ctrl-age").symlink_to("relay-ctrl-check")
    well = (0, ["pop3: nothing is missing", "age: nothing is missing"])
    assert check(machine) == well
    assert service(machine, "start")[0] == 0
    assert check(machine) == well  # its own tcpserver is in nobody's way
    assert service(machine, "stop")[0] == 0


def test_check_names_the_chain_that_lacks_something(machine: Machine) -> None:
    (machine.folder / "qmail/control/me").unlink()
    status, lines = check(machine)
    assert status == 78
    missing = f"{machine.folder}/qmail/control/me does not say this host's name"
    assert [line for line in lines if missing in line] == [f"{chain}: {missing}" for chain in CHAINS]


def test_a_chain_that_there_is_not_is_told(machine: Machine) -> None:
    settle(machine, CHAINS="pop smtp")
    wrong = "no chain `pop`; there are pop3, smtp, deliver: mend CHAINS in /etc/default/pillarbox-chain"
    assert check(machine, "pop") == (78, [wrong])
    status, said = service(machine, "start")
    assert status == 1 and f"pillarbox-chain: {wrong}\n" in said and "pillarbox-chain: smtp started" in said
    assert service(machine, "stop")[0] == 0


@pytest.mark.parametrize(
    ("outer", "inner", "told"),
    [(0o700, 0o755, "users can't note"), (0o755, 0o777, "let anybody send: chmod 700"), (0o700, 0o1777, "")],
)
def test_the_folders_of_grants_are_looked_at(machine: Machine, outer: int, inner: int, told: str) -> None:
    (machine.folder / "spool").chmod(outer)
    (machine.folder / "spool/allow").chmod(inner)
    status, lines = check(machine, "pop3")
    assert status == 0
    assert told in lines[0] if told else len(lines) == 1


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("qmail/control/me", "does not say this host's name"),
        ("qmail/control/rcpthosts", "would be an open relay"),
        ("relay/RELAY_CTRL_DIR", "should name is not there"),
        ("names/qmail-smtpd", "no program qmail-smtpd"),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(machine: Machine, missing: str, why: str) -> None:
    settle(machine, CHAINS="smtp")
    (machine.folder / missing).unlink()
    status, said = service(machine, "start")
    assert status == 1 and why in said
    assert ours(machine) == []


def test_rules_that_are_named_must_be_there(machine: Machine) -> None:
    settle(machine, CHAINS="pop3", POP3_RULES=machine.folder / "pop3.cdb")
    assert service(machine, "start")[0] == 1
    rules = machine.folder / "pop3.cdb"
    subprocess.run(["tcprules", rules, f"{rules}.tmp"], input=b"127.0.0.1:deny\n", check=True)
    assert service(machine, "start")[0] == 0
    assert greeting(port(machine, "pop3")) == b""


def test_reload_reaches_the_queue_alone(machine: Machine) -> None:
    assert service(machine, "start")[0] == 0
    listening = pid(machine, "pop3"), pid(machine, "smtp")
    assert service(machine, "reload")[0] == 0
    within(30, "no HUP came", lambda: "qmail 2 daemon hup ./Maildir/" in (machine.folder / "log").read_text())
    assert (pid(machine, "pop3"), pid(machine, "smtp")) == listening
    assert greeting(port(machine, "pop3")) == b"+OK hello\r\n"
    assert service(machine, "stop")[0] == 0
    assert service(machine, "reload")[0] == 7


def test_two_starts_at_once_are_one(machine: Machine) -> None:
    answers: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda: answers.append(service(machine, "start"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [0, 1, 1]
    # qmail-start's stand-in sleeps in a child, which it may only just be starting
    within(30, "not one process of each", lambda: len(ours(machine)) == 3 + 1)
    assert service(machine, "stop")[0] == 0
