"""qmail-smtpd: receive mail by SMTP over descriptors 0 and 1, and hand it to qmail-queue.

    qmail-smtpd [--faithful] [--local] [--qmail DIR]

Environment: TCPREMOTEIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPLOCALIP, TCPLOCALHOST (for the Received field); RELAYCLIENT
(every recipient is let in, with its value appended), DATABYTES (in place of control/databytes), QMAILQUEUE (the program
that takes the message; else DIR/bin/qmail-queue; else ours).
Control files in DIR/control, DIR being /var/qmail: me smtpgreeting localiphost timeoutsmtpd databytes rcpthosts
morercpthosts.cdb (else morercpthosts) badmailfrom percenthack envnoathost.
Exit status: 0 after QUIT, 1 else.

--local (`sendmail -bs`): the client is the user who started it, who may write to everybody, as himself; none of the
above counts, the queue is ours, and HOSTNAME is our name.

It departs from the original: without control/rcpthosts it lets in nobody rather than everybody, and a recipient without
a domain only where envnoathost (else me) is in rcpthosts, or it is postmaster; `a%b@c` counts as `a@b` too where c is in
percenthack; where the queue is ours, a recipient here that leads to nobody is refused (--faithful: all as the
original). A recipient is not empty; an address has no control characters, a command line
4096 octets at most, a message 100 recipients (452, so the client sends the others in a message of their own), and
Received-SPF is no hop. `[IP]` is localiphost only for the address that the client connected to.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import NamedTuple

from ..policy.rcpthosts import Lookup, Recipients, RefusedSenders
from ..protocol.qmail_smtp import (
    BAD_SENDER,
    NO_MAILBOX,
    NO_QUEUE,
    NOT_ALLOWED,
    SYNTAX,
    TIMEOUT,
    UNREADABLE,
    BeginMessage,
    EndMessage,
    Event,
    QmailSmtpSession,
    Recipient,
)
from ..protocol.smtp_events import AbortMessage, MessageData
from ..store.control import FOLDER, Controls
from ..terms import TryLater
from .chain import MISUSED, Environment, die, write_all
from .client import Client, Gone, Silent, drain
from .queue_pipe import QueuePipe, other_queue

QMAIL = b"/var/qmail"
NOWHERE = b"/nonexistent"  # no control files, and no qmail-queue but ours
OF_A_SERVER = (b"RELAYCLIENT", b"QMAILQUEUE", b"DATABYTES", b"TCPREMOTEIP", b"TCPREMOTEINFO", b"TCPLOCALIP")
TIMEOUT_SECONDS = 1200
TIMEOUT_LIMIT = (1 << 31) - 1  # seconds: a C int
RECIPIENTS_LIMIT = 100  # RFC 5321 section 4.5.3.1.8; our queue takes no more by default


class Options(NamedTuple):
    """How it was called."""

    faithful: bool = False
    qmail: bytes = QMAIL
    local: bool = False


def main(arguments: list[bytes], environment: Environment) -> int:
    options = _options(arguments, environment)
    try:
        reception = Reception(options, environment)
    except TryLater:
        with suppress(OSError):
            write_all(1, UNREADABLE + b"\r\n")
        return 1
    return reception.serve()


def _options(arguments: list[bytes], environment: Environment) -> Options:
    """The original heeds no argument; what begins otherwise is left alone."""
    options, words = Options(), list(arguments)
    while words and words[0].startswith(b"--"):
        word = words.pop(0)
        if word == b"--faithful":
            options = options._replace(faithful=True)
        elif word == b"--local":
            options = options._replace(local=True, qmail=NOWHERE)
            for name in OF_A_SERVER:
                environment.pop(name, None)
            environment[b"TCPREMOTEHOST"] = environment[b"TCPLOCALHOST"] = b"localhost"
        elif word == b"--qmail" and words:
            options = options._replace(qmail=os.path.abspath(words.pop(0)))
        else:
            die(MISUSED, "qmail-smtpd: usage: qmail-smtpd [--faithful] [--local] [--qmail DIR]")
    return options


class Reception:
    """What one connection is served with: the session, the lists, and the message under way."""

    def __init__(self, options: Options, environment: Environment) -> None:
        """Raises TryLater where the control files can't be read, or say no name."""
        controls = Controls(os.path.join(os.fsdecode(options.qmail), FOLDER))
        me = os.uname().nodename.encode() if options.local else controls.me()
        host = controls.line("smtpgreeting", me)
        if host is None:
            raise TryLater("control/me is missing")
        self._environment, self._home, self._faithful = environment, options.qmail, options.faithful
        self._seconds = min(max(1, controls.number("timeoutsmtpd", TIMEOUT_SECONDS)), TIMEOUT_LIMIT)
        self._relay = b"" if options.local else environment.get(b"RELAYCLIENT")
        self._refused = RefusedSenders(controls.lines("badmailfrom") or ())
        self._recipients = Recipients(
            controls.lines("rcpthosts"),
            more=_more(controls, os.path.join(options.qmail, FOLDER.encode(), b"morercpthosts.cdb")),
            percenthack=controls.lines("percenthack") or (),
            default_domain=controls.line("envnoathost", me) or b"",
            faithful=options.faithful,
        )
        self._session = QmailSmtpSession(
            host,
            data_limit=_number(environment.get(b"DATABYTES"), controls.number("databytes", 0)),
            recipients_limit=RECIPIENTS_LIMIT,
            literals=_literals(environment.get(b"TCPLOCALIP", b"")),
            local_host=controls.line("localiphost", me) or b"",
        )
        self._queue: QueuePipe | None = None

    def serve(self) -> int:
        """To the end of the conversation; exit status."""
        client, session = Client(by_line=False, seconds=self._seconds), self._session
        try:
            self._converse(client)
        except Silent:
            session.end(TIMEOUT)
        except Gone:
            session.end()
        self._obey()
        with suppress(Gone):
            client.write(session.take_output())
            client.flush()
        drain()
        return session.status or 0

    def _converse(self, client: Client) -> None:
        """Until the session is over. Raises Gone."""
        session = self._session
        while True:
            self._obey()
            if session.status is not None:
                return
            client.write(session.take_output())
            session.receive(client.read())

    def _obey(self) -> None:
        while event := self._session.next_event():
            self._answer(event)

    # What the session asks.

    def _answer(self, event: Event) -> None:
        match event:
            case Recipient(address, sender):
                self._judge(address, sender)
            case BeginMessage(helo):
                self._begin(helo)
            case MessageData(data) if self._queue:
                self._queue.put(data)
            case EndMessage(sender, recipients, fault) if self._queue:
                self._end(self._queue, sender, recipients, fault)
            case AbortMessage() if self._queue:
                self._queue.give_up()

    def _judge(self, address: bytes, sender: bytes) -> None:
        try:
            self._let_in(address, sender)
        except OSError:  # the list of more domains
            self._session.end(UNREADABLE)

    def _let_in(self, address: bytes, sender: bytes) -> None:
        session = self._session
        if self._refused.refuses(sender):
            session.refuse(BAD_SENDER)
        elif not address and not self._faithful:
            session.refuse(SYNTAX)
        elif self._relay is None and not self._recipients.lets_in(address):
            session.refuse(NOT_ALLOWED)
        elif self._leads_nowhere(full := address + (self._relay or b""), sender):
            session.refuse(NO_MAILBOX)
        else:
            session.recipient_accepted(full)

    def _leads_nowhere(self, address: bytes, sender: bytes) -> bool:
        """Our own queue can tell; so nobody is written to later who never wrote (backscatter)."""
        if self._faithful or other_queue(self._home, self._environment):
            return False
        from .qmail_queue import leads_nowhere

        return leads_nowhere(self._environment, sender, address)

    def _begin(self, helo: bytes | None) -> None:
        from ..protocol.trace import qmail_received_field

        environment = self._environment
        try:
            self._queue = queue = QueuePipe(self._home, environment)
        except OSError:
            self._session.refuse(NO_QUEUE)
            return
        host = environment.get(b"TCPREMOTEHOST", b"unknown")
        field = qmail_received_field(
            host=host,
            helo=None if helo is None or helo.lower() == host.lower() else helo,
            info=environment.get(b"TCPREMOTEINFO", b""),
            address=environment.get(b"TCPREMOTEIP", b"unknown"),
            local=environment.get(b"TCPLOCALHOST") or environment.get(b"TCPLOCALIP") or b"unknown",
            now=time.time(),
        )
        queue.put(field)
        self._session.message_begun()

    def _end(self, queue: QueuePipe, sender: bytes, recipients: tuple[bytes, ...], fault: bytes) -> None:
        if fault:
            queue.give_up()
        refusal = fault or queue.commit(sender, recipients)
        if refusal:
            self._session.refuse(refusal)
        else:
            self._session.message_accepted(b"ok %d qp %d" % (int(time.time()), queue.pid))


def _more(controls: Controls, path: bytes) -> Lookup:
    """The second list: compiled, else as text. Raises TryLater; the lookup raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return frozenset(name.lower() for name in controls.lines("morercpthosts") or ()).__contains__
    except OSError as error:
        raise TryLater(str(error.strerror)) from None
    from ..store.cdb import Cdb

    try:
        found = Cdb(descriptor)
    except OSError as error:
        raise TryLater(str(error.strerror)) from None
    return lambda domain: found.get(domain) is not None


def _number(text: bytes | None, fallback: int) -> int:
    """The digits at its start, as qmail reads a number; 0 where there is none."""
    if text is None:
        return fallback
    digits = text[: len(text) - len(text.lstrip(b"0123456789"))][:20]
    return int(digits or b"0")


def _literals(address: bytes) -> frozenset[bytes]:
    """How the address that the client connected to is written in place of a domain."""
    address = address.lower().removeprefix(b"::ffff:")
    return frozenset((b"[ipv6:%b]" % address if b":" in address else b"[%b]" % address,) if address else ())
