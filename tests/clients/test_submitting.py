"""Real clients send: after fetching their mail, with no password; and where mail is handed in, after a login."""

from __future__ import annotations

import re
import shutil
import smtplib
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from ..peers.misbehaving import Misbehaving, Transaction, misbehaving
from .conftest import unavailable
from .drivers import CLIENT_SECONDS, Client, ClientFailed, Curl, Door, Fetchmail, Mpop, Poplib

ALICE, BOB, OUT = "alice@example.test", "bob@example.test", "x@elsewhere.test"
SECRET, WRONG = "violin case 55", "violin case 56"
SECRETS = {"alice": SECRET, "bob": "another secret of bob"}
NEAR, FAR = "127.0.0.1", "127.0.0.9"  # in policy.trusted, and not
TRUSTED = ["127.0.0.0/30"]
DATE, MESSAGE_ID = b"Date: Mon, 01 Sep 2025 12:00:00 +0000\n", b"Message-ID: <1@client.test>\n"


@dataclass(frozen=True)
class Desk:
    """Where a client hands in a message, and as whom it logs in, if it does."""

    server: Server
    place: Path  # an empty folder
    source: str = NEAR
    mechanism: str = ""
    secret: str = SECRET
    submission: bool = False

    @property
    def port(self) -> int:
        return self.server.submission_port if self.submission else self.server.smtp_port


class Sender(ABC):
    """A program that sends. Raises ClientFailed with all that it said."""

    program = ""

    def missing(self) -> str:
        return "" if not self.program or shutil.which(self.program) else f"{self.program} is not installed"

    @abstractmethod
    def send(self, desk: Desk, sender: str, recipient: str, message: bytes) -> None:
        """`message`: with LF line ends."""

    def changed(self, message: bytes) -> bytes:
        """What this program makes of that message."""
        return message

    def __repr__(self) -> str:
        return type(self).__name__.lower()


class Swaks(Sender):
    program = "swaks"

    def changed(self, message: bytes) -> bytes:
        return message + b"\n"

    def send(self, desk: Desk, sender: str, recipient: str, message: bytes) -> None:
        (desk.place / "message").write_bytes(message)
        login = ["--auth", desk.mechanism, "--auth-user", "alice", "--auth-password", desk.secret]
        _run(
            desk,
            b"",
            *("swaks", "--server", f"{desk.server.host}:{desk.port}", "--local-interface", desk.source),
            *("--from", sender, "--to", recipient, "--data", f"@{desk.place}/message"),
            *(login if desk.mechanism else []),
        )


class Msmtp(Sender):
    program = "msmtp"

    def send(self, desk: Desk, sender: str, recipient: str, message: bytes) -> None:
        login = f"auth {desk.mechanism.lower()}\nuser alice\npassword {desk.secret}\n"
        rc = desk.place / "msmtprc"
        rc.write_text(
            f"account it\nhost {desk.server.host}\nport {desk.port}\nsource_ip {desk.source}\ntls off\n"
            f"set_date_header off\n{login if desk.mechanism else 'auth off'}\n"
        )
        rc.chmod(0o600)
        _run(desk, message, "msmtp", "-C", str(rc), "-a", "it", f"--from={sender}", recipient)


class CurlSmtp(Sender):
    program = "curl"

    def send(self, desk: Desk, sender: str, recipient: str, message: bytes) -> None:
        (desk.place / "curlrc").write_text(
            f'user = "alice:{desk.secret}"\nlogin-options = "AUTH={desk.mechanism}"\n' if desk.mechanism else ""
        )
        _run(
            desk,
            message.replace(b"\n", b"\r\n"),
            *("curl", "-q", "-sSv", "--config", str(desk.place / "curlrc"), "--interface", desk.source),
            *("--mail-from", sender, "--mail-rcpt", recipient, "-T", "-"),
            f"smtp://{desk.server.host}:{desk.port}/client.test",
        )


class Smtplib(Sender):
    def send(self, desk: Desk, sender: str, recipient: str, message: bytes) -> None:
        smtp = smtplib.SMTP(desk.server.host, desk.port, "client.test", CLIENT_SECONDS, source_address=(desk.source, 0))
        try:
            if desk.mechanism:
                smtp.login("alice", desk.secret)
            smtp.sendmail(sender, recipient, message.replace(b"\n", b"\r\n"))
            smtp.quit()
        except smtplib.SMTPException as error:
            raise ClientFailed(repr(error)) from error
        finally:
            smtp.close()


def _run(desk: Desk, given: bytes, *command: str) -> None:
    environment = {"HOME": str(desk.place), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, input=given, capture_output=True, timeout=CLIENT_SECONDS)
    if done.returncode:
        raise ClientFailed(
            f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr).decode('latin-1')}"
        )


SENDERS: tuple[Sender, ...] = (Swaks(), Msmtp(), CurlSmtp(), Smtplib())
LOGINS = [
    pytest.param(sender, mechanism, id=f"{sender!r}-{mechanism}")
    for sender in SENDERS[:3]
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5")
] + [pytest.param(Smtplib(), "CRAM-MD5", id="smtplib")]


@pytest.fixture(autouse=True)
def _sender_is_there(request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        if isinstance(value, Sender) and (why := value.missing()):
            unavailable(why)


@pytest.fixture(scope="module")
def sink() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


@pytest.fixture(scope="module")
def running(sink: Misbehaving) -> Iterator[Server]:
    """Nobody fetches mail here."""
    config = {"policy": {"trusted": TRUSTED}, "delivery": {"routes": {"elsewhere.test": sink.route}}}
    with server(accounts=SECRETS, config={**config, "aliases": {"info": "alice"}}) as running:
        yield running


@pytest.fixture
def desk(running: Server, tmp_path: Path) -> Desk:
    """Where mail is handed in after a login."""
    return Desk(running, tmp_path, mechanism="CRAM-MD5", submission=True)


def message(subject: str, header: bytes = DATE + MESSAGE_ID) -> bytes:
    return b"From: %b\nTo: %b\n%bSubject: %b\n\n.dot\nlast\n" % (ALICE.encode(), OUT.encode(), header, subject.encode())


def left(sink: Misbehaving, subject: str) -> Transaction:
    """The one transaction that brought this message to the other host."""

    def found() -> list[Transaction]:
        return [one for one in sink.taken if b"\r\nSubject: %b\r\n" % subject.encode() in one.wire]

    sink.wait_until(lambda: bool(found()))
    (one,) = found()
    return one


def body(one: Transaction) -> bytes:
    """Without our Received field; LF line ends."""
    whole = one.message.replace(b"\r\n", b"\n")
    found = re.match(rb"Received: [^\n]*\n(?:[ \t][^\n]*\n)*", whole)
    assert found, whole
    return whole[found.end() :]


# The promise: fetch, then send.


@pytest.mark.client
@pytest.mark.parametrize(
    ("fetcher", "sender"),
    [
        (Fetchmail(), Swaks()),
        (Fetchmail(), Msmtp()),
        (Mpop(), Msmtp()),
        (Curl(), CurlSmtp()),
        (Poplib(), Smtplib()),
    ],
    ids=lambda client: repr(client),
)
def test_who_fetches_by_apop_may_send_without_a_password(
    sink: Misbehaving, fetcher: Client, sender: Sender, tmp_path: Path
) -> None:
    subject = f"{fetcher!r} then {sender!r}"
    config = {"aliases": {"info": "alice"}, "delivery": {"routes": {"elsewhere.test": sink.route}}}
    with server(accounts=SECRETS, config=config) as running:
        desk = Desk(running, tmp_path)
        with pytest.raises(ClientFailed, match=r"550[- ]5\.7\.1|550, b'5\.7\.1"):
            sender.send(desk, ALICE, OUT, message("too early"))
        running.deliver("alice", b"Subject: waiting\n\nx\n")
        fetched = fetcher.fetch(Door(running.host, running.pop3_port, "alice", SECRET, True), tmp_path)
        assert len(fetched) == 1
        sender.send(desk, ALICE, OUT, message(subject))
        sent = left(sink, subject)
        assert (sent.sender, sent.recipients) == (ALICE.encode(), [OUT.encode()])
        assert body(sent) == sender.changed(message(subject))
        sender.send(desk, "info@example.test", OUT, message(f"{subject} by another name"))
        assert left(sink, f"{subject} by another name").sender == b"info@example.test"
        for source, origin in (("127.0.0.2", ALICE), (NEAR, BOB), (NEAR, "alice@elsewhere.test")):
            with pytest.raises(ClientFailed, match=r"550[- ]5\.7\.1|550, b'5\.7\.1"):
                sender.send(replace(desk, source=source), origin, OUT, message("refused"))
        assert f'user="{ALICE}" by=grant' in running.log()


def test_the_way_closes_some_time_after_the_session(sink: Misbehaving, tmp_path: Path) -> None:
    """relay.expiry is a quarter of an hour else."""
    config = {"relay": {"expiry": 3}, "delivery": {"routes": {"elsewhere.test": sink.route}}}
    with server(accounts=SECRETS, config=config) as running:
        Poplib().fetch(Door(running.host, running.pop3_port, "alice", SECRET, True), tmp_path)
        with smtplib.SMTP(running.host, running.smtp_port, "client.test", CLIENT_SECONDS) as smtp:
            smtp.sendmail(ALICE, OUT, b"Subject: in time\r\n\r\nx\r\n")
            smtp.mail(ALICE)
            until = time.monotonic() + CLIENT_SECONDS
            while (reply := smtp.rcpt(OUT))[0] == 250:
                assert time.monotonic() < until
                smtp.rset()
                smtp.mail(ALICE)
                time.sleep(0.02)
            assert reply[0] == 550 and b"relaying denied" in reply[1]
        assert left(sink, "in time").sender == ALICE.encode()


# A login where mail is handed in.


@pytest.mark.client
@pytest.mark.parametrize(("sender", "mechanism"), LOGINS)
def test_a_login_sends(sink: Misbehaving, desk: Desk, sender: Sender, mechanism: str) -> None:
    subject = f"by {sender!r} with {mechanism}"
    sender.send(replace(desk, mechanism=mechanism), ALICE, OUT, message(subject))
    sent = left(sink, subject)
    assert (sent.sender, sent.recipients) == (ALICE.encode(), [OUT.encode()])
    assert body(sent) == sender.changed(message(subject))
    sender.send(replace(desk, mechanism=mechanism), ALICE, BOB, message(subject))
    (stored,) = desk.server.wait_for("bob", lambda one: f"Subject: {subject}\n".encode() in one)
    assert stored.endswith(sender.changed(message(subject)))
    assert f'user="{ALICE}" by=login' in desk.server.log()


@pytest.mark.client
@pytest.mark.parametrize(("sender", "mechanism"), LOGINS)
def test_a_wrong_password_sends_nothing(desk: Desk, sender: Sender, mechanism: str) -> None:
    with pytest.raises(ClientFailed, match=r"535|(?i:login denied)"):
        sender.send(replace(desk, mechanism=mechanism, secret=WRONG), ALICE, OUT, message("wrong"))
    log = desk.server.log()
    assert f"auth-fail rip={NEAR} proto=submission mech={mechanism} reason=badcred" in log
    assert SECRET not in log and WRONG not in log


@pytest.mark.client
@pytest.mark.parametrize("sender", SENDERS, ids=repr)
def test_without_a_login_nothing_is_taken(desk: Desk, sender: Sender) -> None:
    for recipient in (OUT, BOB):
        with pytest.raises(ClientFailed, match=r"530[- ]5\.7\.0|530, b'5\.7\.0|\b55\b.*530"):
            sender.send(replace(desk, mechanism=""), ALICE, recipient, message("no login"))


@pytest.mark.client
@pytest.mark.parametrize("sender", SENDERS, ids=repr)
def test_a_login_sends_as_its_own_addresses_alone(sink: Misbehaving, desk: Desk, sender: Sender) -> None:
    for origin in (BOB, "alice@elsewhere.test"):
        with pytest.raises(ClientFailed, match=rf"5\.7\.1 {origin} is not an address of the account"):
            sender.send(desk, origin, OUT, message("not owned"))
    subject = f"an alias by {sender!r}"
    sender.send(desk, "Info@example.test", OUT, message(subject))
    assert left(sink, subject).sender == b"Info@example.test"


@pytest.mark.client
@pytest.mark.parametrize("sender", SENDERS, ids=repr)
@pytest.mark.parametrize(("source", "submission"), [(NEAR, False), (FAR, True)], ids=["port 25", "from afar"])
def test_a_client_finds_no_login_there(desk: Desk, sender: Sender, source: str, submission: bool) -> None:
    with pytest.raises(ClientFailed, match=r"(?i)auth|relaying denied"):
        sender.send(replace(desk, source=source, submission=submission), ALICE, OUT, message("no login here"))


@pytest.mark.parametrize(
    ("port", "source", "offered"),
    [
        ("submission", NEAR, {"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5"}),
        ("submission", FAR, None),
        ("smtp", NEAR, None),
        ("smtp", FAR, None),
    ],
)
def test_where_a_login_is_offered(running: Server, port: str, source: str, offered: set[str] | None) -> None:
    number = running.submission_port if port == "submission" else running.smtp_port
    with smtplib.SMTP(running.host, number, "client.test", CLIENT_SECONDS, source_address=(source, 0)) as smtp:
        smtp.ehlo()
        found = smtp.esmtp_features.get("auth")
        assert (None if found is None else set(found.split())) == offered
        if offered is None:
            assert smtp.docmd("AUTH", "PLAIN AGFsaWNlAHg=")[0] in (502, 503, 504, 530, 538)
        smtp.mail(ALICE)
        code, text = smtp.rcpt(OUT)
        expected = (530, b"5.7.0") if port == "submission" else (550, b"5.7.1")
        assert (code, text[:5]) == expected


# What is added, and what is kept to ourselves.


@pytest.mark.parametrize(
    ("header", "added"),
    [
        (b"", {b"Date", b"Message-ID"}),
        (DATE, {b"Message-ID"}),
        (MESSAGE_ID, {b"Date"}),
        (DATE.lower() + MESSAGE_ID.upper(), set()),
    ],
    ids=["neither", "date", "id", "both"],
)
def test_date_and_message_id_are_added_where_they_are_missing(
    sink: Misbehaving, desk: Desk, header: bytes, added: set[bytes]
) -> None:
    subject = f"{len(added)} added, {len(header)} there"
    Smtplib().send(desk, ALICE, OUT, message(subject, header))
    whole = body(left(sink, subject))
    assert whole.endswith(message(subject, header))
    fields = whole.removesuffix(message(subject, header)).split(b"\n")[:-1]
    assert {field.partition(b":")[0] for field in fields} == added and len(fields) == len(added)
    assert len(re.findall(rb"(?im)^message-id: <[^@<>\s]+@[^@<>\s]+>$", whole)) == 1


def test_a_message_from_another_host_gets_nothing_added(running: Server) -> None:
    with smtplib.SMTP(running.host, running.smtp_port, "client.test", CLIENT_SECONDS) as smtp:
        smtp.sendmail("a@sender.test", BOB, b"Subject: as it came\r\n\r\nx\r\n")
    (stored,) = running.wait_for("bob", lambda one: b"Subject: as it came\n" in one)
    assert b"Date:" not in stored and b"Message-ID:" not in stored
    assert b"Received: from client.test (" in stored and b"127.0.0.1" in stored


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("recipient", [OUT, BOB])
def test_the_received_field_hides_the_client_unless_told_not_to(
    sink: Misbehaving, tmp_path: Path, hidden: bool, recipient: str
) -> None:
    config = {
        "submission": {"hide_client": hidden},
        "policy": {"trusted": TRUSTED},
        "delivery": {"routes": {"elsewhere.test": sink.route}},
    }
    source, subject = "127.0.0.3", f"hidden {hidden}"
    with server(accounts=SECRETS, config=config) as running:
        desk = Desk(running, tmp_path, source, mechanism="CRAM-MD5", submission=True)
        Smtplib().send(desk, ALICE, recipient, message(subject))
        if recipient == BOB:
            (whole,) = running.wait_for("bob")
        else:
            whole = left(sink, subject).wire
        received = whole.partition(b"Received: ")[2].partition(b" for <")[0]
        assert (source.encode() in received) == (b"client.test" in received) == (not hidden)
        assert f"rip={source}" in running.log(), "the log knows"
