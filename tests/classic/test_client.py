"""What qmail-popup and qmail-pop3d do with a client that says nothing, takes nothing, or comes by an odd descriptor."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import pillarbox

from .sides import SECONDS

# The same program, with other seconds for each read and write, or for all that comes before the login.
IMPATIENT = """
import sys
sys.path.append(sys.argv[1])
from pillarbox.programs import client, names, qmail_popup
client.TIMEOUT, qmail_popup.LOGIN_SECONDS = map(int, sys.argv[2:4])
names.run(sys.argv[4], [argument.encode() for argument in sys.argv[5:]])
"""


def impatient(
    name: str, *arguments: str, end: socket.socket, folder: Path, timeout: int = 1, login: int = SECONDS
) -> subprocess.Popen[bytes]:
    source = str(Path(pillarbox.__file__).parent.parent)
    timeout = SECONDS if login < SECONDS else timeout
    command = [sys.executable, "-I", "-S", "-c", IMPATIENT, source, str(timeout), str(login), name, *arguments]
    return subprocess.Popen(command, stdin=end, stdout=end, cwd=folder)


def everything(client: socket.socket) -> bytes:
    with client.makefile("rb") as replies:
        return replies.read()


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    (tmp_path / "Maildir/new/1000.a").write_bytes(b"x" * 8_000_000)
    return tmp_path


@pytest.mark.parametrize("said", [b"", b"USER a\r\n", b"USER a\r\nPASS without an end"])
def test_popup_does_not_wait_for_ever(said: bytes, tmp_path: Path) -> None:
    client, end = socket.socketpair()
    with client, impatient("qmail-popup", "h", "cat", end=end, folder=tmp_path) as popup:
        end.close()
        client.sendall(said)
        assert everything(client).count(b"\r\n") == 1 + said.count(b"\r\n")  # and no word of farewell
        assert popup.wait(SECONDS) == 1


def test_popup_lets_go_of_who_talks_and_never_logs_in(tmp_path: Path) -> None:
    """A word now and then prolongs nothing; what the client says is answered until then."""
    client, end = socket.socketpair()
    with client, impatient("qmail-popup", "h", "cat", end=end, folder=tmp_path, login=1) as popup:
        end.close()
        client.settimeout(0.1)
        heard = bytearray()
        while popup.poll() is None:
            with suppress(OSError):  # a time without an answer, or its end
                client.sendall(b"NOOP\r\n")
                heard += client.recv(1000)
        assert heard.count(b"+OK \r\n") > 1 and popup.returncode == 1


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_popup_takes_nothing_beyond_the_line(size: int, ours: Path) -> None:
    """However the octets come, the program behind it finds all that follows PASS, and nothing else."""
    client, end = socket.socketpair()
    said = b"NOOP\r\nUSER a\r\nPASS b\r\n" + b"STAT\r\n" * 100
    with client, subprocess.Popen([ours / "qmail-popup", "h", "cat"], stdin=end, stdout=end) as popup:
        end.close()
        for start in range(0, len(said), size):
            client.sendall(said[start : start + size])
        client.shutdown(socket.SHUT_WR)
        assert everything(client).partition(b"\r\n")[2] == b"+OK \r\n" * 2 + b"STAT\r\n" * 100
        assert popup.wait(SECONDS) == 1


def test_popup_waits_for_a_session_as_long_as_that_lasts(tmp_path: Path) -> None:
    """Its own time is for its own reads and writes."""
    client, end = socket.socketpair()
    with client, impatient("qmail-popup", "h", "sh", "-c", "sleep 2; echo served", end=end, folder=tmp_path) as popup:
        end.close()
        client.sendall(b"USER a\r\nPASS b\r\n")
        assert everything(client).endswith(b"+OK \r\nserved\n")
        assert popup.wait(SECONDS) == 1


def test_pop3d_removes_nothing_when_nobody_asks_any_more(maildir: Path) -> None:
    client, end = socket.socketpair()
    with client, impatient("qmail-pop3d", "--faithful", "Maildir", end=end, folder=maildir) as pop3d:
        end.close()
        client.sendall(b"DELE 1\r\n")
        assert everything(client) == b"+OK \r\n+OK \r\n"
        assert pop3d.wait(SECONDS) == 0
    assert (maildir / "Maildir/new/1000.a").exists()


def test_pop3d_does_not_wait_for_ever_for_a_client_that_takes_nothing(maildir: Path) -> None:
    client, end = socket.socketpair()
    with client, impatient("qmail-pop3d", "--faithful", "Maildir", end=end, folder=maildir) as pop3d:
        end.close()
        client.sendall(b"RETR 1\r\n")
        assert pop3d.wait(SECONDS) == 0
        assert len(everything(client)) < 8_000_000


def test_a_descriptor_that_does_not_block(maildir: Path, ours: Path) -> None:
    client, end = socket.socketpair()
    end.setblocking(False)
    with (
        client,
        subprocess.Popen([ours / "qmail-pop3d", "--faithful", "Maildir"], stdin=end, stdout=end, cwd=maildir) as pop3d,
    ):
        end.close()
        client.sendall(b"RETR 1\r\nQUIT\r\n")
        assert len(everything(client)) == len(b"+OK \r\n" * 3 + b"\r\n.\r\n") + 8_000_000
        assert pop3d.wait(SECONDS) == 0


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (2,), (0, 1, 2)], ids=str)
def test_closed_descriptors(closed: tuple[int, ...], ours: Path, maildir: Path) -> None:
    """No fault, and no file or pipe of ours in the client's place."""

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    for name, arguments, status in (("qmail-popup", ("h", "true"), 1), ("qmail-pop3d", ("--faithful", "Maildir"), 0)):
        done = subprocess.run(
            [ours / name, *arguments],
            input=b"QUIT\n",
            capture_output=True,
            preexec_fn=close,
            cwd=maildir,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stderr) == (status, b""), name


def test_the_alarm_is_no_inheritance(ours: Path, tmp_path: Path) -> None:
    """A pending alarm would go on through exec, and kill a program that knows nothing of it."""
    client, end = socket.socketpair()
    show = "import signal; print(signal.getitimer(signal.ITIMER_REAL)[0])"
    with (
        client,
        subprocess.Popen(
            [ours / "qmail-popup", "h", "/usr/bin/python3", "-I", "-S", "-c", show], stdin=end, stdout=end
        ) as popup,
    ):
        end.close()
        client.sendall(b"USER a\r\nPASS b\r\n")
        assert everything(client).endswith(b"0.0\n")
        assert popup.wait(SECONDS) == 1
