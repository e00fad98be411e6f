"""An SMTP connection: pumps an SmtpSession between its socket, the broker, and the slot that a message is written to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from .. import log, messages
from ..channel import close_all
from ..link import Descriptors, Link
from ..messages import (
    Authenticated,
    Committed,
    LoginChallenge,
    LoginRefused,
    Message,
    Resolved,
    SlotOpened,
    SlotRefused,
)
from ..policy.relaying import BAD_SENDER, Refusal, is_refused, may_send
from ..protocol.smtp import SmtpSession
from ..protocol.smtp_events import (
    AbortMessage,
    BeginMessage,
    EndMessage,
    Event,
    Login,
    MessageData,
    Recipient,
    StartTls,
    State,
)
from . import login
from .connection import BODY_READ_SIZE, READ_SIZE, Connection
from .incoming import Incoming, trouble
from .neighbours import Answer

if TYPE_CHECKING:
    from .process import NetworkProcess

REFUSALS_LIMIT = 20  # recipients refused on one connection; more are somebody guessing addresses
INPUT_LIMIT = 64 << 10  # octets taken in while a neighbour is asked; the rest stays in the kernel

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
        "_account",
        "_challenge",
        "_incoming",
        "_judge",
        "_mailbox",
        "_mechanism",
        "_question",
        "_recipient",
        "_secured",
        "_submission",
        "_submitted",
        "proto",
        "session",
    )

    def __init__(
        self,
        process: NetworkProcess,
        sock: socket.socket,
        peer: str,
        number: int,
        challenge: bytes = b"",
        *,
        submission: bool = False,
        secured: bool = False,
    ) -> None:
        """`challenge`: where mail is handed in, what a digest is made with, and our name to the broker.

        `secured`: the caller begins with `start_tls`, not with `pump`.
        """
        super().__init__(process, sock, peer, number)
        config = process.config
        self._submission = submission
        self.session = SmtpSession(
            config.hostname.encode(),
            octets_limit=config.limits.message_octets,
            recipients_limit=config.limits.recipients,
            normalise=config.smtp.bare_newline == "normalise",
            bad_limit=config.limits.retries_after_login,
            submission=submission,
            challenge=challenge,
            mechanisms=login.offer(self, secured=secured, submission=True).sasl,
            secured=secured,
            starttls=bool(process.contexts),
        )
        self._secured = secured
        self.logged_in = True  # no stranger makes room for another here: only the time between commands counts
        self.proto = "submission" if submission else "smtp"
        self._challenge = challenge
        self._account = ""  # that logged in
        self._judge: object = None  # the link to the broker that knows of it
        self._mechanism = ""
        self._mailbox = ""  # of the accepted recipient, where it is one mailbox alone
        self._submitted = False  # what comes is handed in by an account of ours, not brought by another host
        self._recipient: Recipient | None = None
        self._question = 0  # names what we ask about it
        self._incoming: Incoming | None = None

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

    def _handle(self, event: Event) -> None:
        match event:
            case MessageData(data):
                assert self._incoming is not None
                self._incoming.add(data)
            case Recipient():
                self._resolve(event)
            case Login():
                self._log_in(event)
            case BeginMessage():
                self._want_slot(event)
            case EndMessage():
                self._commit()
            case AbortMessage():
                self._forget_message()
            case StartTls():
                self.start_tls(self.process.contexts["smtp"])

    def tls_established(self) -> None:
        mechanisms = login.offer(self, secured=True, submission=True).sasl
        if self._secured:
            self.session.offer(mechanisms)
        else:
            self._secured = True
            self.session.tls_established(mechanisms)
        self.pump()

    def ask(self, neighbour: Link | None, message: Message) -> None:
        """Send and wait; where there is nobody to ask, the event is refused."""
        if neighbour is None or neighbour.closed:
            self._nobody_answers()
        else:
            self.waiting_since = self.process.now()
            self.asked = neighbour
            neighbour.send(message)

    def _nobody_answers(self) -> None:
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
                self.guarded(self._slot_opened, source, descriptors[0])
            case SlotRefused():
                self.guarded(self._slot_refused, answer)
            case Committed(_, name):
                self.guarded(self._committed, name)
            case Authenticated(_, account):
                self.guarded(self._authenticated, account)
            case LoginChallenge(_, challenge):
                self.guarded(self.session.login_challenged, challenge)
            case LoginRefused():
                self.guarded(self._login_refused, answer)
            case _:
                close_all(descriptors)
                self.session.refuse(451, "4.3.0", TROUBLE)
        self.guarded(self.pump)

    # Login.

    def _log_in(self, event: Login) -> None:
        self._mechanism = event.attempt.mechanism.value
        question = login.question(self, event.attempt, event.response, self._challenge, submission=True)
        self.ask(self.process.neighbours.broker, question)

    def _authenticated(self, account: str) -> None:
        self._account, self._judge = account, self.asked
        self.session.login_accepted()

    def _login_refused(self, answer: LoginRefused) -> None:
        passing = answer.code == "SYS/TEMP"
        self.session.refuse(454 if passing else 535, "4.7.0" if passing else "5.7.8", answer.text)
        if answer.final:
            self.session.fail(421, "4.7.0", "no further attempts on this connection, goodbye")

    # Recipients.

    def _resolve(self, event: Recipient) -> None:
        self._recipient = event
        if not self._submission and is_refused(event.sender, self.process.config.smtp.refused_senders):
            self._refuse(BAD_SENDER, "smtp.refused_senders")
            return
        self._question = self.process.enlist(self)
        login = self.number if self._account else 0
        question = messages.Resolve(
            self._question, event.address, self.peer, event.octets, event.sender, login, self._submission
        )
        self.ask(self.process.neighbours.broker, question)

    def _resolved(self, answer: Resolved) -> None:
        assert self._recipient is not None
        refusal = may_send(
            local=answer.local,
            deliverable=answer.deliverable,
            standing=answer.standing,
            owned=answer.owned,
            left=answer.left,
            submission=self._submission,
            sender=self._recipient.sender,
            code=answer.code,
            text=answer.text,
        )
        if refusal is None:
            self._accept(answer)
        else:
            self._refuse(refusal, answer.why if ".7." in refusal.enhanced else "")

    def _refuse(self, refusal: Refusal, why: str) -> None:
        assert self._recipient is not None
        log.line(
            "recipient-refused",
            rip=self.peer,
            proto=self.proto,
            user=self._account or None,
            sender=f"<{self._recipient.sender.decode('utf-8', 'replace')}>",
            to=self._recipient.address.decode("utf-8", "replace"),
            code=refusal.enhanced,
            why=why or None,
        )
        self.session.refuse(refusal.code, refusal.enhanced, refusal.text)
        if self.session.refusals > REFUSALS_LIMIT:
            self.session.fail(421, "4.7.0", "too many refused recipients, goodbye")

    def _accept(self, answer: Resolved) -> None:
        if not self.session.recipients:
            self._submitted = self._submission
        assert self._recipient is not None
        told = "SUCCESS" in self._recipient.wish.notify  # then the delivery process reports it
        self._mailbox = "" if told else answer.account
        self._submitted = self._submitted or not answer.local
        self.session.recipient_accepted()

    # The message.

    def _want_slot(self, event: BeginMessage) -> None:
        self._incoming = Incoming(self, event, submitted=self._submitted)
        self._incoming.want_slot(self._mailbox)

    def _slot_refused(self, answer: SlotRefused) -> None:
        if self._incoming is None or self._incoming.refused(answer):
            self._forget_message()
            code = answer.reply or (452 if answer.code in ("4.3.1", "4.2.2") else 451)
            self.session.refuse(code, answer.code, answer.text)

    def _slot_opened(self, keeper: Link, descriptor: int) -> None:
        if self._incoming is None:
            raise OSError("a slot that nobody asked for")
        self._incoming.opened(keeper, descriptor)
        self.session.message_begun()
        self.start_pace()

    def _commit(self) -> None:
        assert self._incoming is not None
        failure = self._incoming.finish()
        if failure is not None:
            self._forget_message()
            log.line("write-failed", rip=self.peer, proto=self.proto, why=failure.strerror)
            self.session.refuse(*trouble(failure))
            return
        self._incoming.commit(self.number if self._account else 0, submission=self._submission)

    def _committed(self, name: str) -> None:
        assert self._incoming is not None
        self._incoming.committed(name, self._account)
        self._forget_message()
        self.session.message_accepted(f"ok {name}")

    def _forget_message(self) -> None:
        if self._incoming is not None:
            self._incoming.forget()
            self._incoming = None

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
        if self._incoming is None and self.waiting_since is None:
            self._say_goodbye("the server is shutting down, try again later", "4.3.2")
            self.close_when_sent("shutdown")

    def _say_goodbye(self, text: str, code: str) -> None:
        self.session.fail(421, code, text)
        self.write(self.session.take_output())
        self.flush()

    def probe(self) -> None:
        """Nobody waits for what we hold."""

    def neighbour_lost(self, source: Link) -> None:
        if self._incoming is not None and source is self._incoming.keeper:
            self._incoming.keeper = None
            self.expired("internal")
        elif self._account and source is self._judge:
            self.expired("internal")  # the next broker does not know who has logged in here
        elif self.waiting_since is not None and source is self.asked:
            self.waiting_since = None
            self.process.release(self._question)
            self._nobody_answers()
            self.guarded(self.pump)

    def ended(self, why: str) -> None:
        self.process.release(self._question)
        self._forget_message()
        if self._mechanism and self.process.neighbours.broker is not None:
            gone = messages.LoggedOut(self.number) if self._account else messages.GiveUp(self.number)
            self.process.neighbours.broker.send(gone)
        log.line(
            "session",
            rip=self.peer,
            proto=self.proto,
            tls=self.tls[0] or None,
            cipher=self.tls[1] or None,
            user=self._account or None,
            mech=self._mechanism or None,
            helo=self.session.helo.decode("ascii") or None,
            messages=self.session.messages,
            octets=self.octets_in,
            seconds=f"{self.process.now() - self.started:.3f}",
            end=why,
        )
