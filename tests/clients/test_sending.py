"""Real SMTP clients, and what reception must refuse."""

from __future__ import annotations

import poplib
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from ..corpus.sample import REFUSED, Bad
from .conftest import unavailable
from .drivers import CLIENT_SECONDS
from .post import connect, differs_only_in_trace

ALICE = "alice@example.test"
SECRET = "violin case 55"
HEADER = (
    b"Message-ID: <1@sender.test>\nFrom: a@sender.test\nDate: Mon, 01 Sep 2025 12:00:00 +0000\n"  # else msmtp adds one
)
MESSAGE = HEADER + b"Subject: x\n\n.dot\nlast\n"
WIRE = MESSAGE.replace(b"\n", b"\r\n")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """Nobody logs in here by POP3: there is no grant to relay."""
    with server(accounts={"alice": SECRET, "bob": SECRET, "refusing": SECRET}) as running:
        yield running


@pytest.fixture
def smtp(running: Server) -> Iterator[smtplib.SMTP]:
    smtp = connect(running)
    yield smtp
    smtp.close()


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        unavailable(f"{name} is not installed (apt-get install {name})")
    return found or name


def _run(command: list[str], place: Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {"HOME": str(place), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
    return subprocess.run(command, env=environment, input=given, capture_output=True, timeout=CLIENT_SECONDS)


def _newest(running: Server, sender: bytes) -> bytes:
    """The one message of alice's from that sender."""
    (found,) = [one for one in running.messages("alice") if one.startswith(b"Return-Path: <%b>\n" % sender)]
    return found


@pytest.mark.client
@pytest.mark.parametrize("option", ["--pipeline", "--no-pipeline"])
def test_swaks(running: Server, option: str, tmp_path: Path) -> None:
    sender = f"swaks{option}@sender.test"
    path = tmp_path / "message"
    path.write_bytes(MESSAGE)
    options = [option] if option == "--pipeline" else []
    to = f"{running.host}:{running.smtp_port}"
    command = [_program("swaks"), "--server", to, "--from", sender, "--to", ALICE, "--data", f"@{path}", *options]
    done = _run(command, tmp_path, b"")
    assert done.returncode == 0, done.stdout + done.stderr
    assert differs_only_in_trace(_newest(running, sender.encode()).rstrip(b"\n") + b"\n", MESSAGE)


@pytest.mark.client
def test_msmtp(running: Server, tmp_path: Path) -> None:
    command = [_program("msmtp"), f"--host={running.host}", f"--port={running.smtp_port}", "--tls=off", "--auth=off"]
    done = _run([*command, "--from=msmtp@sender.test", ALICE], tmp_path, MESSAGE)
    assert done.returncode == 0, done.stderr
    assert differs_only_in_trace(_newest(running, b"msmtp@sender.test"), MESSAGE)


@pytest.mark.client
def test_curl(running: Server, tmp_path: Path) -> None:
    to = f"smtp://{running.host}:{running.smtp_port}/client.test"
    command = [_program("curl"), "-q", "-sS", to, "--mail-from", "curl@sender.test", "--mail-rcpt", ALICE, "-T", "-"]
    done = _run(command, tmp_path, WIRE)
    assert done.returncode == 0, done.stderr
    assert differs_only_in_trace(_newest(running, b"curl@sender.test"), MESSAGE)


@pytest.mark.client
def test_swaks_is_told_of_an_unknown_recipient(running: Server, tmp_path: Path) -> None:
    to = f"{running.host}:{running.smtp_port}"
    command = [_program("swaks"), "--server", to, "--from", "a@sender.test", "--to", "nobody@example.test"]
    done = _run(command, tmp_path, b"")
    assert done.returncode == 24  # "no recipients accepted"
    assert b"550 5.1.1" in done.stdout + done.stderr


def test_the_extensions_are_announced(smtp: smtplib.SMTP) -> None:
    offered = {"size", "pipelining", "8bitmime", "smtputf8", "enhancedstatuscodes", "chunking"}
    assert offered <= set(smtp.esmtp_features)
    assert int(smtp.esmtp_features["size"]) > 0


def test_an_internationalised_message(running: Server, smtp: smtplib.SMTP) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "jürgen@sender.test", ALICE, "Grüße aus Köln"
    message.set_content("déjà vu\n", cte="8bit")
    assert smtp.send_message(message) == {}
    came = _newest(running, "jürgen@sender.test".encode())
    assert "Subject: Grüße aus Köln\n".encode() in came
    assert "\ndéjà vu\n".encode() in came


def test_8bitmime_is_taken_unchanged(running: Server, smtp: smtplib.SMTP) -> None:
    text = "Subject: x\r\n\r\nSüß\r\n".encode("iso-8859-1")
    assert smtp.sendmail("eight@sender.test", ALICE, text, ["BODY=8BITMIME"]) == {}
    assert differs_only_in_trace(_newest(running, b"eight@sender.test"), text.replace(b"\r\n", b"\n"))


def test_nul_and_every_other_octet_pass_unchanged(running: Server, smtp: smtplib.SMTP) -> None:
    octets = b"".join(b"%b\n" % bytes([octet]) for octet in range(256) if octet not in b"\r\n.")
    assert smtp.sendmail("octets@sender.test", ALICE, octets.replace(b"\n", b"\r\n")) == {}
    assert differs_only_in_trace(_newest(running, b"octets@sender.test"), octets)


def test_a_declared_size_beyond_the_limit_is_refused_at_mail(smtp: smtplib.SMTP) -> None:
    limit = int(smtp.esmtp_features["size"])
    code, text = smtp.mail("a@sender.test", [f"SIZE={limit + 1}"])
    assert code == 552 and text.startswith(b"5.3.4")


def test_several_recipients_each_get_it(running: Server, smtp: smtplib.SMTP) -> None:
    sender = b"several@sender.test"
    assert smtp.sendmail(sender.decode(), [ALICE, "bob@example.test"], WIRE) == {}
    for name in ("alice", "bob"):
        (came,) = running.wait_for(name, lambda one: one.startswith(b"Return-Path: <%b>" % sender))
        assert differs_only_in_trace(came, MESSAGE)


def test_an_unknown_recipient_is_refused_in_the_dialogue(smtp: smtplib.SMTP) -> None:
    smtp.mail("a@sender.test")
    code, text = smtp.rcpt("nobody@example.test")
    assert code == 550 and text.startswith(b"5.1.1")
    assert smtp.rcpt(ALICE)[0] == 250


def test_relaying_is_refused_without_a_login_by_pop(smtp: smtplib.SMTP) -> None:
    smtp.mail("a@sender.test")
    code, text = smtp.rcpt("someone@elsewhere.test")
    assert code == 550 and text.startswith(b"5.7.1")


def test_a_login_by_pop_opens_the_way_for_its_account_alone() -> None:
    with server(accounts={"alice": SECRET}) as running:
        pop = poplib.POP3(running.host, running.pop3_port, timeout=60)
        pop.apop("alice", SECRET)
        pop.quit()
        smtp = connect(running)
        smtp.mail("alice@example.test")
        assert smtp.rcpt("someone@elsewhere.test")[0] == 250
        smtp.rset()
        smtp.mail("a@sender.test")
        code, text = smtp.rcpt("someone@elsewhere.test")
        smtp.close()
        assert code == 550 and text.startswith(b"5.7.1 a@sender.test is not an address of the account")


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.name)
def test_what_is_refused_leaves_nothing_behind(running: Server, bad: Bad) -> None:
    """Sent with no regard for replies, as a smuggler does; the first reply after 354 is the refusal."""
    with socket.create_connection((running.host, running.smtp_port), timeout=60) as sock:
        replies = sock.makefile("rb")
        sock.sendall(b"HELO x\r\nMAIL FROM:<bad@sender.test>\r\nRCPT TO:<refusing@example.test>\r\nDATA\r\n")
        assert [replies.readline()[:3] for _ in range(5)] == [b"220", b"250", b"250", b"250", b"354"]
        try:
            sock.sendall(_stuffed(bad) + b".\r\nQUIT\r\n")
        except ConnectionError:
            pass  # more than the server cares to drain; its reply still waits to be read
        assert replies.readline().startswith(bad.reply)
    assert running.messages("refusing") == []


def _stuffed(bad: Bad) -> bytes:
    """A smuggler's dots stay as they are."""
    return bad.data if bad.name.startswith("smuggled") else bad.data.replace(b"\r\n.", b"\r\n..")
