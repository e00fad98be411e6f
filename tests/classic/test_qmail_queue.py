"""qmail-queue: descriptors, exit statuses, and what a running server takes from whom."""

from __future__ import annotations

import os
import smtplib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from .test_qmail_smtpd import controls, tcpserver

SMTPD, STRANGER = 64_251, 64_252  # uids that nobody has; the first one is configured
MESSAGE = b"Subject: %b\n\nhello\n"
FROM_OUTSIDE = {"TCPREMOTEIP": "192.0.2.9"}
RELAYED = {**FROM_OUTSIDE, "RELAYCLIENT": ""}


def envelope(sender: bytes, *recipients: bytes) -> bytes:
    return b"\0".join((b"F" + sender, *(b"T" + one for one in recipients), b"", b""))


class Queue:
    """The program, with a server behind it or without."""

    def __init__(self, program: Path, home: Path) -> None:
        self.program, self.home = program, home
        self.err = b""

    def __call__(
        self,
        order: bytes | None,
        message: bytes | None = MESSAGE % b"x",
        *,
        uid: int | None = None,
        **environment: str,
    ) -> int:
        """Its exit status. None: the descriptor is closed."""
        reader, writer = os.pipe()
        os.write(writer, order or b"")
        os.close(writer)

        def descriptors() -> None:
            os.dup2(reader, 1)
            for number, content in enumerate((message, order)):
                if content is None:
                    os.close(number)
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)

        done = subprocess.run(
            [self.program],
            input=message or b"",
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "PILLARBOX_HOME": str(self.home), **environment},
            preexec_fn=descriptors,
            timeout=60,
            cwd="/",
        )
        os.close(reader)
        self.err = done.stderr
        return done.returncode


@pytest.fixture(scope="module")
def mail() -> Iterator[Server]:
    config = {"queue": {"smtpd_users": [SMTPD]}, "limits": {"message_octets": 4 << 20}}
    with server(accounts={"alice": "secret of alice", "bob": "secret of bob"}, config=config) as running:
        yield running


@pytest.fixture
def queue(mail: Server, ours: Path) -> Queue:
    return Queue(ours / "qmail-queue", mail.home)


@pytest.fixture
def alone(ours: Path, tmp_path: Path) -> Queue:
    """Without a server."""
    return Queue(ours / "qmail-queue", tmp_path / "none")


def subject(text: str) -> Callable[[bytes], bool]:
    return lambda message: f"Subject: {text}\n".encode() in message


# The contract.


@dataclass(frozen=True)
class Order:
    """A row of the table: an envelope and a message, and the exit status."""

    title: str
    envelope: bytes
    status: int
    message: bytes = MESSAGE
    why: bytes = b"qmail-queue: "  # that the line on descriptor 2 holds
    mended: str = ""


NOBODY = "A message that is accepted for nobody is lost without a word"
BARE = "No line of our queue holds a bare CR, for it is how one message smuggles another past a neighbour"
UNKNOWN = "A bounce for a mailbox that was never there goes to whoever the sender claimed to be"
LIMIT = "The queue has limits, and every way into it the same ones"
VERP = "Our queue has one sender for a message, and a list that gets no bounces apart should know"

CASES = (
    Order("no envelope at all", b"", 54),
    Order("an envelope that ends within an address", b"Fa@b\0Tal", 54),
    Order("an envelope without its last NUL", b"Fa@b\0Talice@example.test\0", 54),
    Order("a sender without its letter", b"a@b\0Tx@y\0\0", 91),
    Order("a recipient without its letter", b"Fa@b\0x@y\0\0", 91),
    Order("an end where the sender should be", b"\0\0", 91),
    Order("a sender of 1003 octets", b"F" + b"a" * 1003 + b"\0Tx@y\0\0", 11),
    Order("a recipient of 1003 octets", b"F\0T" + b"a" * 1003 + b"\0\0", 11),
    Order("a recipient without end", b"F\0T" + b"a" * 4000, 11),
    Order("a message from the null sender", envelope(b"", b"alice"), 0, why=b""),
    Order("a double bounce", envelope(b"#@[]", b"alice"), 0, why=b""),
    Order("octets behind the envelope", envelope(b"a@b.test", b"alice") + b"Tx@y", 0, why=b""),
    Order("an empty message", envelope(b"a@b.test", b"alice"), 0, b"", why=b""),
    Order("no recipient", b"Fa@b\0\0", 31, why=b"no recipient", mended=NOBODY),
    Order("a recipient who is not here", envelope(b"", b"alice", b"nobody"), 31,
          why=b"no mailbox nobody@example.test", mended=UNKNOWN),
    Order("a CR alone", envelope(b"", b"alice"), 31, b"a\rb\n", b"no CR", BARE),
    Order("a CR at the very end", envelope(b"", b"alice"), 31, b"a\r", b"no CR", BARE),
    Order("a message that is too long", envelope(b"", b"alice"), 31, b"x\n" * (2 << 20), b"longer than", LIMIT),
    Order("101 hops", envelope(b"", b"alice"), 31, b"Received: x\n" * 101, b"looping", LIMIT),
    Order("an address that is none", envelope(b"", b"a@no domain"), 31, why=b"no mailbox address", mended=LIMIT),
    Order("a sender for each recipient (VERP)", envelope(b"list-@example.test-@[]", b"alice"), 31, why=b"VERP",
          mended=VERP),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Order, queue: Queue) -> None:
    assert queue(case.envelope, case.message) == case.status
    assert case.why in queue.err and (queue.err == b"") is (case.status == 0)


def test_closed_descriptors(alone: Queue) -> None:
    assert alone(envelope(b"", b"alice"), None) == 54
    assert alone(None) == 54


def test_no_server_runs(alone: Queue) -> None:
    assert alone(envelope(b"", b"alice")) == 73
    assert b"no server runs on" in alone.err


def test_a_message_is_queued(queue: Queue, mail: Server) -> None:
    order = envelope(b"a@sender.test", b"alice@example.test", b"bob")
    assert queue(order + b"what comes behind is nobody's", MESSAGE % b"two") == 0 and not queue.err
    for name in ("alice", "bob"):
        (message,) = mail.wait_for(name, subject("two"))
        head, _, body = message.partition(b"\n\n")
        assert body == b"hello\n"
        assert head.startswith(b"Return-Path: <a@sender.test>\n")
        assert head.count(b"Received:") == 1


def test_line_ends_become_ours_and_nothing_else_changes(queue: Queue, mail: Server) -> None:
    content = b"Subject: ends\r\n\r\n.\r\n\x00\xff\n" + b"x" * 65_535 + b"\r\nno end"
    assert queue(envelope(b"", b"alice"), content) == 0
    (message,) = mail.wait_for("alice", subject("ends"))
    assert message.partition(b"\n\n")[2] == b".\n\x00\xff\n" + b"x" * 65_535 + b"\nno end\n"


def test_a_long_message_waits_in_a_file(queue: Queue, mail: Server) -> None:
    lines = b"".join(b"%d\r\n" % number for number in range(300_000))
    assert queue(envelope(b"", b"alice"), b"Subject: long\r\n\r\n" + lines) == 0
    (message,) = mail.wait_for("alice", subject("long"))
    assert message.partition(b"\n\n")[2] == lines.replace(b"\r\n", b"\n")
    assert queue(envelope(b"", b"alice"), lines, TMPDIR="/proc") == 53


def test_an_address_gets_the_quotes_that_qmail_takes_off(queue: Queue, mail: Server) -> None:
    assert queue(envelope(b'a b"c@sender.test', b"alice"), MESSAGE % b"quoted") == 0
    (message,) = mail.wait_for("alice", subject("quoted"))
    assert message.startswith(b'Return-Path: <"a b\\"c"@sender.test>\n')


def test_a_double_bounce_has_no_sender(queue: Queue, mail: Server) -> None:
    assert queue(envelope(b"#@[]", b"alice"), MESSAGE % b"double") == 0
    mail.wait_for("alice", subject("double"))
    assert "sender=<> to=alice@example.test" in mail.log()


# Whose word counts.

VERDICTS = [
    # uid, environment, sender, recipient -> status
    (SMTPD, FROM_OUTSIDE, b"a@sender.test", b"alice@example.test", 0),
    (SMTPD, FROM_OUTSIDE, b"a@sender.test", b"x@other.invalid", 31),
    (SMTPD, RELAYED, b"a@sender.test", b"x@other.invalid", 0),
    (SMTPD, FROM_OUTSIDE, b"a@sender.test", b"nobody@example.test", 31),
    (SMTPD, {}, b"a@sender.test", b"alice@example.test", 31),
    (STRANGER, FROM_OUTSIDE, b"a@sender.test", b"alice@example.test", 71),
    (STRANGER, RELAYED, b"a@sender.test", b"x@other.invalid", 71),
    (STRANGER, {}, b"a@sender.test", b"x@other.invalid", 31),
    (STRANGER, RELAYED, b"uid%d@example.test" % STRANGER, b"alice@example.test", 0),
    (None, FROM_OUTSIDE, b"a@sender.test", b"x@other.invalid", 31),
    (None, {}, b"a@sender.test", b"x@other.invalid", 0),
]


@pytest.mark.root
@pytest.mark.parametrize(("uid", "environment", "sender", "recipient", "status"), VERDICTS)
def test_the_verdict_of_smtpd_counts_where_it_is_configured(
    uid: int | None,
    environment: dict[str, str],
    sender: bytes,
    recipient: bytes,
    status: int,
    queue: Queue,
    mail: Server,
) -> None:
    before = mail.log().count("came=")
    assert queue(envelope(sender, recipient), uid=uid, **environment) == status
    believed = status == 0 and uid != STRANGER and bool(environment)
    assert mail.log().count("came=") - before == believed
    if status == 71:
        assert b"queue.smtpd_users" in queue.err


# The chain: the real tcpserver, our qmail-smtpd, and our queue.


@dataclass(frozen=True)
class Chain:
    """What is to be known of a chain that runs."""

    port: int
    allow: Callable[[str], None]  # has somebody at this address fetched mail


@pytest.fixture
def chain(originals: Path, ours: Path, mail: Server) -> Iterator[Chain]:
    """The how-to's line for SMTP: qmail-smtpd runs as the configured uid, and has no other qmail-queue."""
    with tempfile.TemporaryDirectory(prefix="pillarbox-qmail-") as folder:  # that uid can't enter a folder of pytest
        os.chmod(folder, 0o711)
        place = Path(folder)
        controls(queue=False)(place)
        (place / "allow").mkdir()
        (place / "allow").chmod(0o777)
        variables = {"PATH": f"{ours}:/usr/bin:/bin", "RELAY_CTRL_DIR": f"{folder}/allow"}

        def allow(address: str) -> None:
            fetched = [ours / "relay-ctrl-chdir", ours / "relay-ctrl-allow", "true"]
            subprocess.run(fetched, check=True, env={**variables, "TCPREMOTEIP": address}, timeout=60)

        smtpd = (ours / "relay-ctrl-check", ours / "qmail-smtpd", "--qmail", f"{folder}/q")
        who = ("-u", SMTPD, "-g", SMTPD)
        environment = {**variables, "PILLARBOX_HOME": str(mail.home)}
        before = (ours / "relay-ctrl-chdir",)
        with tcpserver(originals, *smtpd, before=before, options=who, environment=environment) as port:
            yield Chain(port, allow)


@pytest.mark.root
def test_a_stranger_writes_to_us_and_to_nobody_else(chain: Chain, mail: Server) -> None:
    with smtplib.SMTP("127.0.0.1", chain.port, timeout=30) as client:
        text = "Subject: chain\n\nhello\n"
        refused = client.sendmail("a@b.test", ["alice@example.test", "nobody@example.test", "x@other.test"], text)
    assert {name: code for name, (code, _) in refused.items()} == {"nobody@example.test": 550, "x@other.test": 553}
    (message,) = mail.wait_for("alice", subject("chain"))
    assert message.count(b"\nReceived: ") == 2 and b"(127.0.0.1)\n" in message
    assert f"uid={SMTPD} " in mail.log() and "came=smtp" in mail.log()


@pytest.mark.root
def test_swaks_and_msmtp_send_through_the_chain(chain: Chain, mail: Server) -> None:
    place = ("--server", "127.0.0.1", "--port", str(chain.port))
    swaks = ["swaks", *place, "--from", "a@b.test", "--to", "alice@example.test", "--header", "Subject: by swaks"]
    subprocess.run(swaks, check=True, capture_output=True, timeout=60)
    msmtp = [
        "msmtp",
        "--host=127.0.0.1",
        f"--port={chain.port}",
        "--from=a@b.test",
        "--tls=off",
        "--auth=off",
        "bob@example.test",
    ]
    subprocess.run(msmtp, input=MESSAGE % b"by msmtp", check=True, capture_output=True, timeout=60)
    mail.wait_for("alice", subject("by swaks"))
    mail.wait_for("bob", subject("by msmtp"))


@pytest.mark.root
def test_who_has_fetched_mail_may_send_elsewhere(chain: Chain, mail: Server) -> None:
    def send() -> int:
        with smtplib.SMTP("127.0.0.1", chain.port, timeout=30) as client:
            client.helo("c.test")
            client.mail("a@sender.test")
            code, _ = client.rcpt("x@other.invalid")
            return client.data(b"Subject: out\r\n\r\nx\r\n")[0] if code == 250 else code

    assert send() == 553
    chain.allow("127.0.0.1")
    assert send() == 250
    assert f"uid={SMTPD} " in mail.log() and "came=relay" in mail.log()
