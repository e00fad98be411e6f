"""The turns of an SMTP conversation: commands and content come in, events and replies go out. What a command means is
said in smtp.py; how a message is received, and how it is given up, is said here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from ..terms import Envelope, Wish
from . import lines
from .lines import LineBuffer, LineTooLong
from .sasl import LINE_LIMIT as RESPONSE_LIMIT
from .smtp_data import BareNewline, ChunkDecoder, DataDecoder
from .smtp_events import AbortMessage, BeginMessage, EndMessage, Event, Login, MessageData, Recipient, StartTls, State
from .smtp_path import MailArgument
from .smtp_reply import Output, Reply

LINE_LIMIT = 2048  # octets: RFC 5321's 512, and room for the parameters of its extensions, known to us or not
HIGH_WATER = 64 << 10  # octets of output; above it no further command is obeyed until some has been taken
DRAIN_LIMIT = 64 << 10  # octets read after a smuggling attempt, so that the client sees why

_CONTENT = (State.DATA, State.CHUNK, State.DRAINING)
_UNANSWERED = (MessageData, AbortMessage)

Answered = TypeVar("Answered", Login, Recipient, BeginMessage, EndMessage, StartTls)


@dataclass(slots=True)
class Transaction:
    """What MAIL and RCPT have said (RFC 5321 section 3.3)."""

    mail: MailArgument
    recipients: dict[bytes, Wish] = field(default_factory=dict)  # accepted, in their order
    accepted: int = 0  # recipients, each repetition too

    def envelope(self) -> Envelope:
        mail, wishes = self.mail, tuple(self.recipients.values())
        return Envelope(
            mail.sender,
            tuple(self.recipients),
            wishes if any(wish != Wish() for wish in wishes) else (),
            mail.ret,
            mail.envid,
            mail.utf8,
        )


class Conversation:
    """Verbs and answers of the caller, and the content of messages. A subclass obeys commands."""

    __slots__ = (
        "_bad",
        "_begun",
        "_content",
        "_drained",
        "_events",
        "_input",
        "_output",
        "_pending",
        "_resumes",
        "_transaction",
        "authenticated",
        "helo",
        "messages",
        "octets",
        "quit",
        "state",
    )

    def __init__(self, bad_limit: int) -> None:
        """`bad_limit`: so many bad commands end the conversation."""
        self.state = State.START
        self.helo = b""  # what the client calls itself, printable
        self.authenticated = b""  # the name that a login was accepted with, as sent; empty before
        self.messages = 0  # accepted
        self.octets = 0  # of the accepted messages, as sent
        self.quit = False  # the client said QUIT
        self._input = LineBuffer(LINE_LIMIT, crlf_only=True)
        self._output = Output()
        self._events: list[Event] = []  # wait to be taken by the caller
        self._bad = bad_limit
        self._pending: Event | None = None  # waits for its answer
        self._begun = False  # the caller holds a message for us
        self._transaction: Transaction | None = None
        self._content: DataDecoder | ChunkDecoder | None = None
        self._resumes = State.START  # the state after the chunk that comes
        self._drained = 0  # octets

    def _command(self, line: bytes) -> None:
        """Obey a command line."""
        raise NotImplementedError

    # The verbs of the caller.

    def receive(self, data: bytes) -> None:
        """Octets from the client."""
        if self.state is not State.CLOSED:
            self._input.feed(data)

    def next_event(self) -> Event | None:
        """Obey until something needs the caller. None: send the output; then, if `held_back`, call again, else read."""
        while not self._events:
            if self._pending is not None or self.state is State.CLOSED or self.held_back or not self._step():
                break
        if not self._events:
            return None
        event = self._events.pop(0)
        if not isinstance(event, _UNANSWERED):
            self._pending = event
        return event

    def take_output(self) -> bytes:
        """Octets for the client."""
        return self._output.take()

    @property
    def output_size(self) -> int:
        """Octets that wait for take_output()."""
        return self._output.size

    @property
    def held_back(self) -> bool:
        """So much output waits to be taken that no further command is obeyed before."""
        return self._output.size > HIGH_WATER

    @property
    def pending(self) -> int:
        """Octets received and not yet obeyed."""
        return self._input.pending

    @property
    def in_content(self) -> bool:
        """The client is sending a message: octets, not commands, are awaited."""
        return self.state in _CONTENT

    @property
    def recipients(self) -> int:
        """How many have been accepted for the message under way."""
        return len(self._transaction.recipients) if self._transaction else 0

    @property
    def refusals(self) -> int:
        """4xx and 5xx replies so far."""
        return self._output.refusals

    # The answers.

    def login_accepted(self) -> None:
        """Yes to Login."""
        self.authenticated = self._answered(Login).attempt.name
        self._output.reply(235, "2.7.0", "welcome")

    def recipient_accepted(self) -> None:
        """Yes to Recipient."""
        recipient = self._answered(Recipient)
        assert self._transaction is not None
        self._transaction.recipients[recipient.address] = recipient.wish
        self._welcome_recipient(self._transaction)

    def _welcome_recipient(self, transaction: Transaction) -> None:
        transaction.accepted += 1
        self._output.reply(250, "2.1.5", "recipient ok")

    def message_begun(self) -> None:
        """Yes to BeginMessage: the caller takes MessageData from now on."""
        self._answered(BeginMessage)
        self._begun = True
        if isinstance(self._content, DataDecoder):
            self.state = State.DATA
            self._output.reply(354, "", "send the message, end it with a dot alone")
        else:
            self._begin_chunk(State.BETWEEN)

    def message_accepted(self, text: str) -> None:
        """Yes to EndMessage: the message is durable."""
        self._answered(EndMessage)
        assert self._content is not None
        self.messages += 1
        self.octets += self._content.octets
        self._forget()
        self._output.reply(250, "2.0.0", text)

    def refuse(self, code: int, enhanced: str, text: str) -> None:
        """No to the event that waits; 421 ends the conversation. The caller has thrown away what was begun.

        After BeginMessage or EndMessage the transaction is over; of a refused BDAT the octets are still swallowed.
        """
        event, self._pending = self._pending, None
        if event is None:
            raise RuntimeError("nothing waits for an answer")
        if code == 421:
            self.fail(code, enhanced, text)
        elif isinstance(event, BeginMessage) and isinstance(self._content, ChunkDecoder):
            self._content.fault = Reply(code, enhanced, text)
            self._begin_chunk(State.BETWEEN)
        else:
            if not isinstance(event, Recipient):
                self._forget()
            self._output.reply(code, enhanced, text)

    def fail(self, code: int, enhanced: str, text: str) -> None:
        """End the conversation from the caller's side. The caller throws away what was begun."""
        if self.state is not State.CLOSED:
            self._pending, self._begun = None, False
            self._events.clear()
            self._end(code, enhanced, text)

    def _answered(self, kind: type[Answered]) -> Answered:
        event, self._pending = self._pending, None
        if not isinstance(event, kind):
            raise RuntimeError(f"{type(event).__name__} is waiting, not {kind.__name__}")
        return event

    # Obeying.

    def _step(self) -> bool:
        """Obey one line or some content. False: more input is needed."""
        if not self._input:
            return False
        try:
            if self.in_content:
                self._receive_content()
                return True
            return self._obey()
        except BareNewline:
            self._smuggled()
        return True

    def _obey(self) -> bool:
        try:
            line = self._input.next_line()
            if line is None:
                return False
            self._command(line)
        except LineTooLong:
            code = "5.5.6" if self.state is State.AUTH else "5.5.2"  # RFC 4954 section 4
            self._end(500, code, f"a line is longer than {self._input.limit} octets, goodbye")
        except lines.BareNewline:
            self._await_commands()
            self._bad_command(500, "5.5.2", "a bare CR or LF within a line; a line ends with CRLF")
        except Reply as reply:
            # A wrong sequence does not count: after one refusal a client that pipelines is out of step many times.
            if reply.code in (501, 502, 504, 535, 555):
                self._bad_command(reply.code, reply.enhanced, reply.text)
            else:
                self._say(reply)
        return True

    def _bad_command(self, code: int, enhanced: str, text: str) -> None:
        self._bad -= 1
        if self._bad > 0:
            self._output.reply(code, enhanced, text)
        else:
            self._end(421, "4.7.0", "too many bad commands, goodbye")

    def _say(self, reply: Reply) -> None:
        self._output.reply(reply.code, reply.enhanced, reply.text)

    def _end(self, code: int, enhanced: str, text: str) -> None:
        """Say the last word."""
        self._abort()
        self._input.take_rest()
        self._output.reply(code, enhanced, text)
        self.state = State.CLOSED

    def _await_response(self) -> None:
        """The next line answers a challenge of AUTH."""
        self.state, self._input.limit = State.AUTH, RESPONSE_LIMIT

    def _await_commands(self) -> None:
        """The next line is a command again, whatever came of AUTH."""
        if self.state is State.AUTH:
            self.state, self._input.limit = State.READY, LINE_LIMIT

    def _forget(self) -> None:
        """Back to where MAIL may come; before a greeting, to where that may come."""
        self._transaction = None
        self._content = None
        self.state = State.READY if self.helo else State.START

    # The content of a message.

    def _begin_chunk(self, resumes: State) -> None:
        """Octets of a chunk come, if there are any."""
        self.state, self._resumes = State.CHUNK, resumes
        assert isinstance(self._content, ChunkDecoder)
        if not self._content.left:
            self._receive_content()

    def _receive_content(self) -> None:
        content = self._content
        assert content is not None
        waiting = self._input.pending
        stored = content.read(self._input)
        if self.state is State.DRAINING:
            self._drained += waiting - self._input.pending
            self._drained_enough()
            return
        if stored:
            self._events.append(MessageData(stored))
        if content.fault is not None:
            self._abort()
        if isinstance(content, ChunkDecoder):
            if not content.left:
                self._chunk_ended(content)
        elif content.ended:
            self._content_ended(content.fault)

    def _chunk_ended(self, content: ChunkDecoder) -> None:
        if content.ended and self._resumes is State.BETWEEN:
            self._content_ended(content.fault)
            return
        self.state = self._resumes
        if content.fault is None:
            self._output.reply(250, "2.0.0", "chunk ok")
        else:
            self._say(content.fault)

    def _content_ended(self, fault: Reply | None) -> None:
        if fault is None:
            self._begun = False  # the caller's alone, from EndMessage on
            self._events.append(EndMessage())
        else:
            self._forget()
            self._say(fault)

    def _abort(self) -> None:
        if self._begun:
            self._begun = False
            self._events.append(AbortMessage())

    def _smuggled(self) -> None:
        """A bare CR or LF: say so at once, read the rest of the message as far as is decent, and close.

        Where the message ends is just what the client and we may not agree on, so nothing behind it is obeyed.
        """
        assert self._content is not None
        self._content.fault = fault = Reply(
            550, "5.6.0", "a bare CR or LF in a message is refused; a line ends with CRLF"
        )
        self._events.clear()
        self._abort()
        self._say(fault)
        self.state = State.DRAINING
        self._drained_enough()

    def _drained_enough(self) -> None:
        content = self._content
        over = not content.left if isinstance(content, ChunkDecoder) else content is None or content.ended
        if over or self._drained >= DRAIN_LIMIT:
            self._input.take_rest()
            self.state = State.CLOSED
