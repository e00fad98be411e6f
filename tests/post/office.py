"""A whole server with a name server of its own, mail handed in to it, and what is told of that mail."""

from __future__ import annotations

import contextlib
import email.policy
import io
import itertools
import os
import smtplib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import EmailMessage, Message
from email.parser import BytesParser
from typing import Any

from pillarbox.cli import run
from pillarbox.store.queue_message import QueuedMessage
from pillarbox.store.queue_summary import Summary, summaries
from pillarbox.testing import Server, server
from pillarbox.tether import ServerProcess

from ..peers.dns import NameServer, name_server
from ..peers.misbehaving import Misbehaving, misbehaving
from ..peers.ports import free_port, refusing

NAMES = ("alice", "bob", "carol", "dave", "erin", "fred", "gina", "hank", "ivan", "jane")
SECRETS = {name: f"secret of {name}" for name in NAMES}
REFUSING = "127.0.1.1"  # no mail server is at home there, and the port is held, so that no other test gets it
STRANGER = "127.0.0.9"
WAIT_SECONDS = 30.0
LOOK_SECONDS = 0.01
REPLY_SECONDS = 60.0


def mail(subject: str = "hello", body: str = "body\r\n") -> bytes:
    """A message, as it is handed in."""
    return (
        f"From: Alice <alice@example.test>\r\nTo: somebody\r\nSubject: {subject}\r\n"
        f"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{subject.replace(' ', '-')}@example.test>\r\n\r\n{body}"
    ).encode()


@dataclass(frozen=True)
class Report:
    """A delivery report as Python's email package reads it."""

    whole: EmailMessage
    fields: Message  # of the message
    recipients: list[Message]  # a block of fields for each

    @property
    def returned(self) -> str:
        """The original, or its header."""
        content = list(self.whole.iter_parts())[2]
        if content.get_content_type() == "message/rfc822":
            (inner,) = content.iter_parts()
            return inner.as_string()
        text: str = content.get_payload(decode=True).decode()  # type: ignore[union-attr]
        return text

    @property
    def words(self) -> str:
        text: str = next(iter(self.whole.iter_parts())).get_content()
        return text

    def of(self, address: str) -> Message:
        """The fields of that recipient."""
        (found,) = [each for each in self.recipients if each["Final-Recipient"].endswith(f"; {address}")]
        return found


def parsed(text: bytes) -> Report:
    """Fails for what is no report, or is malformed."""
    whole = BytesParser(_class=EmailMessage, policy=email.policy.default).parsebytes(text)
    assert whole.get_content_type() == "multipart/report" and whole.get_param("report-type") == "delivery-status"
    assert not whole.defects and all(not part.defects for part in whole.walk())
    status = list(whole.iter_parts())[1]
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    first, *others = blocks
    return Report(whole, first, others)  # type: ignore[arg-type]


@dataclass
class Office:
    """`port`: where all its exchangers listen, each on an address of its own."""

    mail: Server
    names: NameServer
    port: int
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def domain(self) -> str:
        """A domain that no other test has."""
        return f"d{next(self._numbers)}.test"

    def address(self) -> str:
        """An address of this machine that no other test has."""
        return f"127.0.2.{next(self._numbers)}"

    @contextlib.contextmanager
    def exchanger(self, *domains: str, **options: Any) -> Iterator[Misbehaving]:
        """The exchanger of these domains, which does what it is told to."""
        with misbehaving(host=self.address(), port=self.port, **options) as peer:
            for domain in domains:
                self.names.exchanger(domain, peer.host)
            yield peer

    # Handing in.

    def send(
        self,
        *recipients: str,
        message: bytes | None = None,
        sender: str = "alice@example.test",
        options: Sequence[str] = (),
        wishes: Sequence[str] = (),
    ) -> None:
        """With alice's login. `options`: of MAIL; `wishes`: of each RCPT."""
        with self.login() as client:
            hand_in(client, recipients, message or mail(), sender, options, wishes)

    @contextlib.contextmanager
    def login(self, name: str = "alice") -> Iterator[smtplib.SMTP]:
        with smtplib.SMTP(self.mail.host, self.mail.submission_port, "client.test", REPLY_SECONDS) as client:
            client.login(name, SECRETS[name])
            yield client

    def receive(
        self, *recipients: str, message: bytes | None = None, sender: str = "stranger@sender.test",
        options: Sequence[str] = (), wishes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """From another host."""
        with smtplib.SMTP(
            self.mail.host, self.mail.smtp_port, "client.test", REPLY_SECONDS, source_address=(STRANGER, 0)
        ) as client:
            client.ehlo()
            hand_in(client, recipients, message or mail(), sender, options, wishes)

    # What becomes of it.

    def report(self, about: str, action: str = "failed", to: str = "alice") -> Report:
        """The report on that recipient with that action, once it lies in the mailbox."""
        wanted = f"Action: {action}".encode(), f"; {about}\n".encode()
        return parsed(self.mail.wait_for(to, lambda text: all(each in text for each in wanted))[0])

    def reports(self, about: str, to: str = "alice") -> list[Report]:
        """All those on that recipient that lie there by now."""
        texts = self.mail.messages(to)
        return [parsed(text) for text in texts if f"Final-Recipient: rfc822; {about}\n".encode() in text]

    def queue(self) -> list[Summary]:
        return list(summaries(str(self.mail.home / "queue")))

    def queued(self, recipient: str) -> QueuedMessage | None:
        """The message that waits for that recipient."""
        for summary in self.queue():
            if summary.message and recipient.encode() in [each.address for each in summary.message.pending()]:
                return summary.message
        return None

    def wait_until(self, wanted: Callable[[], object]) -> None:
        """Raises TimeoutError, with the end of the log."""
        until = time.monotonic() + WAIT_SECONDS
        while not wanted():
            if time.monotonic() > until:
                raise TimeoutError(f"it did not come to that; the log:\n{self.mail.log()[-4000:]}")
            time.sleep(LOOK_SECONDS)

    def deferred(self, recipient: str, tries: int = 1) -> QueuedMessage:
        """The message to that recipient, once it has been tried so often in vain."""
        found: list[QueuedMessage] = []

        def waits() -> bool:
            message = self.queued(recipient)
            if message and message.tries >= tries and message.next_try > time.time():
                found.append(message)
            return bool(found)

        self.wait_until(waits)
        return found[0]

    def wait_empty(self) -> None:
        """Everything is settled, and all reports are delivered."""
        self.wait_until(lambda: not self.queue())

    def command(self, *words: str) -> str:
        """What `pillarbox` printed; it must succeed."""
        status, said = self.attempt(*words)
        assert status == 0, (words, said)
        return said

    def attempt(self, *words: str) -> tuple[int, str]:
        """The exit status of `pillarbox`, and what it printed."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = run([*words, "--home", str(self.mail.home)])
        return status, said.getvalue()

    def remove(self, identity: str) -> None:
        """From the queue; as long as its try has not ended, that is refused."""
        self.wait_until(lambda: self.attempt("queue", "remove", identity)[0] == 0)

    def flush(self) -> None:
        self.command("queue", "flush")


def hand_in(
    client: smtplib.SMTP,
    recipients: Sequence[str],
    message: bytes,
    sender: str,
    options: Sequence[str],
    wishes: Sequence[str],
) -> None:
    """Raises AssertionError where any of it is refused."""
    client.command_encoding = "utf-8" if "SMTPUTF8" in options else "ascii"
    replies = [client.mail(sender, options), *(client.rcpt(recipient, wishes) for recipient in recipients)]
    assert all(code == 250 for code, _ in replies), replies
    reply = client.data(message)
    assert reply[0] == 250, reply


@contextlib.contextmanager
def places() -> Iterator[tuple[NameServer, int]]:
    """A name server, and a port that all exchangers of one office may share."""
    port = free_port("127.0.0.1", REFUSING)
    with name_server() as names, refusing(REFUSING, port):
        yield names, port


@contextlib.contextmanager
def opened(names: NameServer, port: int, config: Mapping[str, Any] | None = None, **delivery: Any) -> Iterator[Office]:
    """A server with that configuration. `delivery`: keys of that table."""
    ours = {"resolvers": [names.address], "port": port, **delivery}
    with server(accounts=SECRETS, config={"delivery": ours, **(config or {})}) as running:
        yield Office(running, names, port)


@contextlib.contextmanager
def restarted(office: Office) -> Iterator[Office]:
    """Start the server of that home, which was stopped, again; it ends with the block. Its ports are new."""
    log = os.open(office.mail.home.parent / "log", os.O_WRONLY | os.O_APPEND)
    try:
        process = ServerProcess(str(office.mail.home), log)
    finally:
        os.close(log)
    try:
        listen = process.wait_until_ready()["listen"]
        pop3, smtp, submission = (int(listen[name][0].rpartition(":")[2]) for name in ("pop3", "smtp", "submission"))
        mail = replace(office.mail, pop3_port=pop3, smtp_port=smtp, submission_port=submission)
        yield replace(office, mail=mail)
    finally:
        process.end()
