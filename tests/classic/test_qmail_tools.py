"""qmail-qread, qmail-qstat and qmail-showctl; and that the names of issue 3 are there under the same executable."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from ..process.test_deaths import until
from .sides import Case, run

STAYS = "x@elsewhere.test"


@pytest.fixture(scope="module")
def mail() -> Iterator[Server]:
    """What goes elsewhere stays in the queue: nothing listens there."""
    with server(config={"delivery": {"routes": {"elsewhere.test": "127.0.0.1:1"}}}) as running:
        yield running


def call(ours: Path, home: Path, *command: str, octets: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": "/usr/bin:/bin", "PILLARBOX_HOME": str(home), **more}
    return subprocess.run(
        [ours / command[0], *command[1:]], input=octets, capture_output=True, env=environment, timeout=60
    )


def send(ours: Path, mail: Server, *recipients: str, name: str = "qmail-inject", **more: str) -> None:
    done = call(ours, mail.home, name, *recipients, octets=b"Subject: x\n\nhello\n", **more)
    assert done.returncode == 0, done.stderr


def test_the_queue_is_read(ours: Path, mail: Server) -> None:
    send(ours, mail, "-f", "a@sender.test", STAYS, "alice@example.test")
    until(lambda: b"  done\tlocal\t" in call(ours, mail.home, "qmail-qread").stdout)
    done = call(ours, mail.home, "qmail-qread")
    date = rb"[1-9][0-9]? [A-Z][a-z]{2} 20[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    message = rb"  #[0-9]+\.[0-9a-f]{16}  [0-9]+  <a@sender\.test> \n"
    recipients = rb"\tremote\tx@elsewhere\.test\n  done\tlocal\talice@example\.test\n"
    assert re.fullmatch(date + message + recipients, done.stdout) and done.returncode == 0
    counted = call(ours, mail.home, "qmail-qstat")
    assert counted.stdout == b"messages in queue: 1\nmessages in queue but not yet preprocessed: 0\n"


def test_a_queue_that_is_not_there(ours: Path, tmp_path: Path) -> None:
    for program in ("qmail-qread", "qmail-qstat"):
        done = call(ours, tmp_path, program)
        assert done.returncode == 111 and not done.stdout
        assert done.stderr.decode() == (
            f"{program}: fatal: there is no queue of Pillarbox in {tmp_path}; PILLARBOX_HOME names another home,"
            f" and the queue of a qmail is read by its own /var/qmail/bin/{program}\n"
        )


def test_nobody_reads_what_is_written(ours: Path, mail: Server, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    for command in (("qmail-qread",), ("qmail-qstat",), ("qmail-showctl", "--qmail", str(tmp_path))):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [ours / command[0], *command[1:]], stdout=full, stderr=subprocess.PIPE,
                env={"PATH": "/usr/bin:/bin", "PILLARBOX_HOME": str(mail.home)},
            )  # fmt: skip
        assert done.returncode == 111
        assert done.stderr == f"{command[0]}: fatal: unable to write: out of disk space\n".encode()


def test_the_environment_of_qmail_inject_names_the_sender(ours: Path, mail: Server) -> None:
    send(ours, mail, STAYS, QMAILUSER="list", QMAILHOST="sender.test", QMAILNAME="A List")
    done = call(ours, mail.home, "qmail-qread")
    assert b"<list@sender.test> \n" in done.stdout
    printed = call(ours, mail.home, "qmail-inject", "-n", STAYS, octets=b"\nhello\n", QMAILNAME="A List").stdout
    assert b"From: A List <" in printed
    assert call(ours, mail.home, "mailq").stdout.count(STAYS.encode()) >= 1
    assert call(ours, mail.home, "sendmail", "-V", "id-1", STAYS, octets=b"\nhello\n").returncode == 0


# Control files.


def showctl(ours: Path, folder: Path, **files: bytes) -> tuple[int, str, str]:
    def prepare(place: Path) -> None:
        (place / "q" / "control").mkdir(parents=True)
        for name, content in files.items():
            (place / "q" / "control" / name.replace("_", ".")).write_bytes(content)

    result = run(ours / "qmail-showctl", Case("", ("--qmail", "q"), prepare=prepare), folder)
    return result.status, result.out.decode(), result.err.decode()


def test_defaults_are_told(ours: Path, tmp_path: Path) -> None:
    status, out, err = showctl(ours, tmp_path / "work", me=b"mx.test\n")
    assert (status, err) == (0, "") and out.startswith("qmail home directory: q.\nuser-ext delimiter: -.\n\n")
    for line in (
        "me: My name is mx.test.",
        "badmailfrom: (Default.) Any MAIL FROM is allowed.",
        "bouncefrom: (Default.) Bounce user name is MAILER-DAEMON.",
        "databytes: (Default.) SMTP DATA limit is 0 bytes.",
        "doublebouncehost: (Default.) 2B recipient host: mx.test.",
        "locals: (Default.) Messages for mx.test are delivered locally.",
        "queuelifetime: (Default.) Message lifetime in the queue is 604800 seconds.",
        "rcpthosts: (Default.) SMTP clients may send messages to no recipient.",
        "smtpgreeting: (Default.) SMTP greeting: 220 mx.test.",
        "smtproutes: (Default.) No artificial SMTP routes.",
        "timeoutsmtpd: (Default.) SMTP server data timeout is 1200 seconds.",
        "virtualdomains: (Default.) No virtual domains.",
    ):
        assert f"\n{line}\n" in out


def test_what_is_set_is_told(ours: Path, tmp_path: Path) -> None:
    status, out, _ = showctl(
        ours, tmp_path / "work",
        me=b"mx.test\n", databytes=b"1000 \n", rcpthosts=b"a.test\n# no\n\n.b.test\n", smtproutes=b":relay.test:26\n",
        morercpthosts_cdb=b"\0\1", badmailfrom=b"@bad.test\n", other=b"x", locals=b"",
    )  # fmt: skip
    assert status == 0
    allowed = "SMTP clients may send messages to recipients at {}.\n"
    assert f"\nrcpthosts: \n{allowed.format('a.test')}{allowed.format('.b.test')}\n" in out
    for text in (
        "\nme: My name is mx.test.\n",
        "\ndatabytes: SMTP DATA limit is 1000 bytes.\n",
        "\nsmtproutes: \nSMTP route: :relay.test:26\n",
        "\nbadmailfrom: \n@bad.test not accepted in MAIL FROM.\n",
        "\nmorercpthosts.cdb: There is a compiled list.\n",
        "\nlocals: \n\nme",
        "\nother: I have no idea what this file does.\n",
    ):
        assert text in out


def test_a_host_without_a_name_and_a_terminal(ours: Path, tmp_path: Path) -> None:
    status, out, _ = showctl(ours, tmp_path / "work", smtpgreeting=b"\x1b[2Jhi\n")
    assert status == 0 and "\nme: Undefined! Uh-oh.\n" in out and "\nhelohost: Undefined! Uh-oh.\n" in out
    assert "SMTP greeting: 220 ?[2Jhi." in out


def test_a_folder_that_is_not_there(ours: Path, tmp_path: Path) -> None:
    result = run(ours / "qmail-showctl", Case("", ("--qmail", "none")), tmp_path / "work")
    assert result.status == 111
    assert result.err == b"qmail-showctl: fatal: unable to read none/control: file does not exist\n"
    assert run(ours / "qmail-showctl", Case("", ("x",)), tmp_path / "work").status == 100


def test_sendmail_speaks_smtp_with_its_user(ours: Path, mail: Server) -> None:
    lines = ("MAIL FROM:<a@sender.test>", "RCPT TO:<alice@example.test>", "RCPT TO:<nobody@example.test>",
             f"RCPT TO:<{STAYS}>", "DATA", "Subject: by -bs", "", ".", "QUIT", "")  # fmt: skip
    outside = {"RELAYCLIENT": "@fixup", "TCPREMOTEIP": "192.0.2.9", "QMAILQUEUE": "/nonexistent"}
    done = call(ours, mail.home, "sendmail", "-bs", octets="\r\n".join(lines).encode(), **outside)
    codes = [line[:3] for line in done.stdout.split(b"\r\n")]
    assert codes == [b"220", b"250", b"250", b"550", b"250", b"354", b"250", b"221", b""] and done.returncode == 0
    (message,) = mail.wait_for("alice", lambda message: b"by -bs" in message)
    assert b"Received: from localhost (unknown)\n  by localhost with SMTP; " in message
