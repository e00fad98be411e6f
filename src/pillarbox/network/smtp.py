"""An SMTP connection: pumps an SmtpSession between its socket, the broker, and the slot that a message is written to."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from typing import TYPE_CHECKING

from .. import log, messages
from ..channel import close_all
from ..link import Descriptors, Link
from ..messages import Committed, Message, Resolved, SlotOpened, SlotRefused
from ..policy.relaying import may_send
from ..protocol.smtp import SmtpSession
from ..protocol.smtp_events import AbortMessage, BeginMessage, EndMessage, MessageData, Recipient, State
from ..protocol.trace import received_field, return_path_field
from .connection import BODY_READ_SIZE, READ_SIZE, Connection
from .neighbours import Answer

if TYPE_CHECKING:
    from .process import NetworkProcess

ID_OCTETS = 8  # of the id in a Received field; our own numbers are nobody's business
REFUSALS_LIMIT = 20  # recipients refused on one connection; more are somebody guessing addresses
GATHER = 256 << 10  # octets of a message gathered before they are written: a small one is one write
INPUT_LIMIT = 64 << 10  # octets taken in while a neighbour is asked; the rest stays in the kernel
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

LATE = {
    "login": "idle for too long, goodbye",
    "command": "idle for too long, goodbye",
    "idle": "idle for too long, goodbye",
    "stalled": "no progress for too long, goodbye",
    "slow": "too slow, goodbye",
    "full": "too many connections, try again later",
    "internal": "temporary internal trouble, try again later",
}
TROUBLE = "temporary internal trouble, try again later"


class SmtpConnection(Connection):
    """One client. While a neighbour is asked, the session obeys no command."""

    __slots__ = (
        "_accounts",
        "_begin",
        "_failure",
        "_gathered",
        "_gathered_size",
        "_keeper",
        "_question",
        "_queued",
        "_recipient",
        "_slot",
        "_slot_number",
        "session",
    )

    def __init__(self, process: NetworkProcess, sock: socket.socket, peer: str, number: int) -> None:
        super().__init__(process, sock, peer, number)
        config = process.config
        self.session = SmtpSession(
            config.hostname.encode(),
            octets_limit=config.limits.message_octets,
            recipients_limit=config.limits.recipients,
            normalise=config.smtp.bare_newline == "normalise",
            bad_limit=config.limits.retries_after_login,
        )
        self.logged_in = True  # there is nothing to log in to: only the time between commands counts
        self._accounts: list[str] = []  # whose mailboxes the accepted recipients are
        self._recipient = b""
        self._question = 0  # names what we ask about it
        self._begin: BeginMessage | None = None
        self._keeper: Link | None = None  # who holds our slot
        self._queued = False  # the slot is in the queue, not in a Maildir
        self._slot = -1
        self._slot_number = 0  # names our slot to its keeper; each slot has another
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._failure: OSError | None = None

    # Pumping.

    def received(self, data: bytes) -> None:
        if self.session.in_content:
            self.moved(len(data))
        self.session.receive(data)
        self.pump()
        if self.session.pending > INPUT_LIMIT:
            self.pause()

    def pump(self) -> None:
        """Obey commands and take content, until a neighbour or the client must be waited for."""
        while not (self.closed or self.blocked or self.waiting_since is not None) and self._obey():
            pass
        if self.process.draining:
            self.drain()
        if not self.closed:
            self.flush()
            if self.session.in_content and self.read_size == READ_SIZE:
                self.start_pace()
            self.read_size = BODY_READ_SIZE if self.session.in_content else READ_SIZE
            if not self.blocked and self.session.pending <= INPUT_LIMIT:
                self.resume()

    def _obey(self) -> bool:
        """Obey up to the next event. False: there is nothing more to do for now."""
        session = self.session
        before = session.pending
        event, held_back = session.next_event(), session.held_back
        self.write(session.take_output())
        if session.pending < before:  # a whole line or some content, not a drip of a command
            self.line_time = self.process.now()
        if event is not None:
            self._handle(event)
            return True
        if session.state is State.CLOSED:
            self.close_when_sent("quit" if session.quit else "refused")
            return False
        return held_back and self.flush()

    def _handle(self, event: Recipient | BeginMessage | MessageData | EndMessage | AbortMessage) -> None:
        match event:
            case MessageData(data):
                self._gather(data)
            case Recipient():
                self._resolve(event)
            case BeginMessage():
                self._want_slot(event)
            case EndMessage():
                self._commit()
            case AbortMessage():
                self._forget_message()

    def _ask(self, neighbour: Link | None, message: Message) -> None:
        """Send and wait; where there is nobody to ask, the event is refused."""
        if neighbour is None or neighbour.closed:
            self._nobody_answers()
        else:
            self.waiting_since = self.process.now()
            self.asked = neighbour
            neighbour.send(message)

    def _nobody_answers(self) -> None:
        if self._begin is not None:
            self._forget_message()
        self.session.refuse(451, "4.3.0", TROUBLE)

    def answered(self, answer: Answer, descriptors: Descriptors, source: Link) -> None:
        """A neighbour's answer; one that nobody waits for is dropped."""
        if self.waiting_since is None:
            close_all(descriptors)
            return
        self.waiting_since = None
        self.process.release(self._question)
        match answer:
            case Resolved():
                self.guarded(self._resolved, answer)
            case SlotOpened():
                self._keeper, self._slot = source, descriptors[0]
                self.guarded(self._slot_opened)
            case SlotRefused():
                self.guarded(self._slot_refused, answer)
            case Committed(_, name):
                self.guarded(self._committed, name)
            case _:
                close_all(descriptors)
                self.session.refuse(451, "4.3.0", TROUBLE)
        self.guarded(self.pump)

    # Recipients.

    def _resolve(self, event: Recipient) -> None:
        self._recipient = event.address
        self._question = self.process.enlist(self)
        question = messages.Resolve(self._question, event.address, self.peer, event.octets)
        self._ask(self.process.neighbours.broker, question)

    def _resolved(self, answer: Resolved) -> None:
        refusal = may_send(
            local=answer.local, account=answer.account, granted=answer.granted, code=answer.code, text=answer.text
        )
        if not self.session.recipients:
            self._accounts.clear()
        if refusal is None:
            self._accounts.append(answer.account)
            self.session.recipient_accepted()
            return
        log.line(
            "recipient-refused",
            rip=self.peer,
            proto="smtp",
            to=self._recipient.decode("utf-8", "replace"),
            code=refusal.enhanced,
        )
        self.session.refuse(refusal.code, refusal.enhanced, refusal.text)
        if self.session.refusals > REFUSALS_LIMIT:
            self.session.fail(421, "4.7.0", "too many refused recipients, goodbye")

    # The message.

    def _want_slot(self, event: BeginMessage) -> None:
        """One recipient: straight into the Maildir. Several: into the queue, which can retry some of them."""
        self._begin = event
        self._queued = len(event.envelope.recipients) > 1
        if self._queued:
            self._want_queue_slot()
        else:
            self._slot_number = self.process.enlist(self)
            self._ask(self.process.neighbours.broker, messages.WantSlot(self._slot_number, self._accounts[0]))

    def _want_queue_slot(self) -> None:
        self._queued = True
        self.process.release(self._slot_number)
        self._slot_number = self.process.enlist(self)
        self._ask(self.process.neighbours.delivery, messages.WantQueueSlot(self._slot_number))

    def _slot_refused(self, answer: SlotRefused) -> None:
        """A Maildir that takes none: the queue does, and tries again. A queue that takes none: the client tries again."""
        if self._slot < 0 and not self._queued:
            self._want_queue_slot()
            return
        self._forget_message()
        code = 452 if answer.code in ("4.3.1", "4.2.2") else 451
        self.session.refuse(code, answer.code, answer.text)

    def _slot_opened(self) -> None:
        assert self._begin is not None
        if not stat.S_ISREG(os.fstat(self._slot).st_mode):
            raise OSError("a slot is no file")
        begin, envelope = self._begin, self._begin.envelope
        self.session.message_begun()
        self.start_pace()
        trace = received_field(
            helo=begin.helo,
            peer=self.peer,
            host=self.process.config.hostname.encode(),
            protocol=begin.protocol,
            identity=os.urandom(ID_OCTETS).hex(),
            now=time.time(),
            recipient=envelope.recipients[0] if len(envelope.recipients) == 1 else b"",
        )
        self._gather(trace if self._queued else return_path_field(envelope.sender) + trace)

    def _gather(self, data: bytes) -> None:
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size >= GATHER:
            self._write_out()

    def _write_out(self) -> None:
        """Into the page cache; what the disk says shows at the fsync, or here when it is full."""
        view = memoryview(b"".join(self._gathered))
        self._gathered, self._gathered_size = [], 0
        try:
            while view and self._failure is None:
                view = view[os.write(self._slot, view) :]
        except OSError as error:
            self._failure = error

    def _commit(self) -> None:
        self._write_out()
        failure, self._failure = self._failure, None
        if failure is not None:
            self._forget_message()
            log.line("write-failed", rip=self.peer, proto="smtp", why=failure.strerror)
            full = failure.errno in FULL
            self.session.refuse(
                452 if full else 451, "4.3.1" if full else "4.3.0", "the message can't be stored just now"
            )
            return
        os.close(self._slot)
        self._slot = -1
        assert self._begin is not None
        envelope = self._begin.envelope
        if self._queued:
            question: Message = messages.CommitQueue(self._slot_number, envelope.sender, envelope.recipients, self.peer)
        else:
            question = messages.Commit(self._slot_number)
        self._queued = True  # a refusal from now on is final: the client tries again
        self._ask(self._keeper, question)

    def _committed(self, name: str) -> None:
        assert self._begin is not None
        envelope = self._begin.envelope
        self._keeper = None
        self._forget_message()
        log.line(
            "message",
            rip=self.peer,
            proto="smtp",
            id=name,
            sender=f"<{envelope.sender.decode('utf-8', 'replace')}>",
            to=",".join(recipient.decode("utf-8", "replace") for recipient in envelope.recipients),
        )
        self.session.message_accepted(f"ok {name}")

    def _forget_message(self) -> None:
        """Forget the message; where a keeper still holds its slot, it shall throw that away."""
        self._close_slot()
        if self._keeper is not None:
            self._keeper.send(messages.Abort(self._slot_number))
            self._keeper = None
        self.process.release(self._slot_number)
        self._slot_number = 0
        self._begin = self._failure = None
        self._accounts.clear()

    def _close_slot(self) -> None:
        self._gathered, self._gathered_size = [], 0
        if self._slot >= 0:
            os.close(self._slot)
            self._slot = -1

    # Ending.

    def time_is_up(self, now: float, *, busy: bool) -> str | None:
        limits = self.process.config.limits
        if self.session.in_content and self.waiting_since is None:
            return self.slow(now, limits.smtp_stall_seconds)
        return self.overdue(now, limits.smtp_command_seconds, limits.smtp_stall_seconds, busy=False)

    def expired(self, why: str) -> None:
        self._say_goodbye(LATE.get(why, TROUBLE), "4.3.2" if why == "full" else "4.4.2")
        self.close(why)

    def drain(self) -> None:
        """Stop: who is between commands is told so; a message under way is finished first."""
        if self._begin is None and self.waiting_since is None:
            self._say_goodbye("the server is shutting down, try again later", "4.3.2")
            self.close_when_sent("shutdown")

    def _say_goodbye(self, text: str, code: str) -> None:
        self.session.fail(421, code, text)
        self.write(self.session.take_output())
        self.flush()

    def probe(self) -> None:
        """Nobody waits for what we hold."""

    def neighbour_lost(self, source: Link) -> None:
        if source is self._keeper:
            self._keeper = None
            self.expired("internal")
        elif self.waiting_since is not None and source is self.asked:
            self.waiting_since = None
            self.process.release(self._question)
            self._nobody_answers()
            self.guarded(self.pump)

    def ended(self, why: str) -> None:
        self.process.release(self._question)
        self._forget_message()
        log.line(
            "session",
            rip=self.peer,
            proto="smtp",
            helo=self.session.helo.decode("ascii") or None,
            messages=self.session.messages,
            octets=self.octets_in,
            seconds=f"{self.process.now() - self.started:.3f}",
            end=why,
        )
