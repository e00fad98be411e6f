"""The conversation of qmail-smtpd, reply for reply. Bytes in, events and bytes out, as with smtp.SmtpSession.

What the session cannot know by itself leaves it as an event; it obeys no further until the caller has answered
(MessageData and AbortMessage need no answer). COMMANDS, at the end, says what is understood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .lines import LineBuffer, LineTooLong
from .qmail_address import BadArgument, argument_address
from .qmail_data import QmailData
from .smtp_data import BareNewline
from .smtp_events import AbortMessage, MessageData

LINE_LIMIT = 4096  # octets: a path of qmail's 900, and room for parameters; the original knows no limit

SYNTAX = b"555 syntax error (#5.5.4)"
UNIMPLEMENTED = b"502 unimplemented (#5.5.1)"
NOT_ALLOWED = b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
NO_MAILBOX = b"550 sorry, no mailbox here by that name. (#5.1.1)"
BAD_SENDER = b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)"
UNREADABLE = b"421 unable to read controls (#4.3.0)"
TIMEOUT = b"451 timeout (#4.4.2)"
BARE_NEWLINE = b"451 See http://pobox.com/~djb/docs/smtplf.html."
NO_QUEUE = b"451 qqt failure (#4.3.0)"
LOOPING = b"554 too many hops, this message is looping (#5.4.6)"
TOO_LONG = b"552 sorry, that message size exceeds my databytes limit (#5.3.4)"
LONG_LINE = b"500 line too long (#5.5.2)"
MANY_RECIPIENTS = b"452 too many recipients (#4.5.3)"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Will this recipient be served? Answer with recipient_accepted() or refuse()."""

    address: bytes  # may be empty, and without a domain
    sender: bytes


@dataclass(frozen=True, slots=True)
class BeginMessage:
    """Make room for a message: answer with message_begun() or refuse()."""

    helo: bytes | None  # what the client calls itself, as sent; None: it has not said


@dataclass(frozen=True, slots=True)
class EndMessage:
    """The message has come to its end. Answer with message_accepted(), or refuse()."""

    sender: bytes
    recipients: tuple[bytes, ...]
    fault: bytes  # the refusal that it gets whatever the caller says: it must not be queued; else empty


Event = Recipient | BeginMessage | MessageData | EndMessage | AbortMessage


class QmailSmtpSession:
    """One connection's worth of SMTP, as qmail speaks it."""

    __slots__ = (
        "_content",
        "_data_limit",
        "_events",
        "_host",
        "_input",
        "_literals",
        "_local_host",
        "_output",
        "_pending",
        "_recipients",
        "_recipients_limit",
        "_sender",
        "helo",
        "status",
    )

    def __init__(
        self,
        host: bytes,
        *,
        data_limit: int,
        recipients_limit: int,
        literals: frozenset[bytes] = frozenset(),
        local_host: bytes = b"",
    ) -> None:
        """`host`: our name in greetings. `data_limit`: octets of a message as stored; 0: none. `literals`, `local_host`:
        see argument_address."""
        self.status: int | None = None  # the exit status, once the conversation is over
        self.helo: bytes | None = None
        self._host, self._literals, self._local_host = host, literals, local_host
        self._data_limit, self._recipients_limit = data_limit, recipients_limit
        self._input = LineBuffer(LINE_LIMIT)
        self._output: list[bytes] = []
        self._events: list[Event] = []
        self._pending: Event | None = None  # waits for its answer
        self._sender: bytes | None = None  # None: no MAIL
        self._recipients: list[bytes] = []
        self._content: QmailData | None = None
        self._say(b"220 %b ESMTP" % host)

    # The verbs of the caller.

    def receive(self, data: bytes) -> None:
        """Octets from the client."""
        if self.status is None:
            self._input.feed(data)

    def next_event(self) -> Event | None:
        """Obey until something needs the caller. None: send the output; then read, unless `status` is there."""
        while not self._events and self._pending is None and self.status is None:
            if not self._step():
                break
        if not self._events:
            return None
        event = self._events.pop(0)
        if not isinstance(event, MessageData | AbortMessage):
            self._pending = event
        return event

    def take_output(self) -> bytes:
        """Octets for the client."""
        output, self._output = b"".join(self._output), []
        return output

    def end(self, reply: bytes = b"") -> None:
        """From the caller's side: the client has gone, or has been silent for too long, or we are in trouble."""
        if self._content is not None:
            self._events.append(AbortMessage())
        if reply:
            self._say(reply)
        self._content = self._pending = None
        self._input.take_rest()
        self.status = 1

    # The answers.

    def recipient_accepted(self, address: bytes) -> None:
        """Yes to Recipient; that address is used."""
        self._answered(Recipient)
        self._recipients.append(address)
        self._say(b"250 ok")

    def message_begun(self) -> None:
        """Yes to BeginMessage: the caller takes MessageData from now on."""
        self._answered(BeginMessage)
        self._content = QmailData(self._data_limit)
        self._say(b"354 go ahead")

    def message_accepted(self, text: bytes) -> None:
        """Yes to EndMessage: the message is durable."""
        self._answered(EndMessage)
        self._say(b"250 " + text)

    def refuse(self, reply: bytes) -> None:
        """No to the event that waits."""
        self._answered(Recipient | BeginMessage | EndMessage)
        self._say(reply)

    def _answered(self, kind: object) -> None:
        event, self._pending = self._pending, None
        if event is None or not isinstance(event, kind):  # type: ignore[arg-type]
            raise RuntimeError(f"{type(event).__name__} is waiting, not {kind}")

    # Obeying.

    def _say(self, line: bytes) -> None:
        self._output.append(line + b"\r\n")

    def _step(self) -> bool:
        """Obey one line or some content. False: more input is needed."""
        if not self._input:
            return False
        if self._content is not None:
            self._receive_content(self._content)
            return True
        try:
            line = self._input.next_line()
        except LineTooLong:
            self.end(LONG_LINE)
            return True
        if line is not None:
            verb, _, argument = line.partition(b" ")
            COMMANDS.get(verb.upper(), QmailSmtpSession._unknown)(self, argument.lstrip(b" "))
        return line is not None

    def _receive_content(self, content: QmailData) -> None:
        try:
            stored = content.read(self._input)
        except BareNewline:
            self.end(BARE_NEWLINE)
            return
        if stored:
            self._events.append(MessageData(stored))
        if content.ended:
            self._content = None
            fault = LOOPING if content.looping else TOO_LONG if content.too_long else b""
            self._events.append(EndMessage(self._sender or b"", tuple(self._recipients), fault))
            self._sender = None

    def _address(self, argument: bytes) -> bytes | None:
        """None: the client has been told that it is none."""
        try:
            return argument_address(argument, self._literals, self._local_host)
        except BadArgument:
            self._say(SYNTAX)
            return None

    # The commands.

    def _helo(self, argument: bytes) -> None:
        self._say(b"250 " + self._host)
        self.helo, self._sender = argument, None

    def _ehlo(self, argument: bytes) -> None:
        for line in (b"250-" + self._host, b"250-PIPELINING", b"250 8BITMIME"):
            self._say(line)
        self.helo, self._sender = argument, None

    def _mail(self, argument: bytes) -> None:
        sender = self._address(argument)
        if sender is not None:
            self._sender, self._recipients = sender, []
            self._say(b"250 ok")

    def _rcpt(self, argument: bytes) -> None:
        if self._sender is None:
            self._say(b"503 MAIL first (#5.5.1)")
        elif (address := self._address(argument)) is None:
            return
        elif len(self._recipients) >= self._recipients_limit:
            self._say(MANY_RECIPIENTS)
        else:
            self._events.append(Recipient(address, self._sender))

    def _data(self, argument: bytes) -> None:
        if self._sender is None:
            self._say(b"503 MAIL first (#5.5.1)")
        elif not self._recipients:
            self._say(b"503 RCPT first (#5.5.1)")
        else:
            self._events.append(BeginMessage(self.helo))

    def _rset(self, argument: bytes) -> None:
        self._sender = None
        self._say(b"250 flushed")

    def _noop(self, argument: bytes) -> None:
        self._say(b"250 ok")

    def _vrfy(self, argument: bytes) -> None:
        self._say(b"252 send some mail, i'll try my best")

    def _help(self, argument: bytes) -> None:
        self._say(b"214 qmail home page: http://pobox.com/~djb/qmail.html")

    def _quit(self, argument: bytes) -> None:
        self._say(b"221 " + self._host)
        self._input.take_rest()
        self.status = 0

    def _unknown(self, argument: bytes) -> None:
        self._say(UNIMPLEMENTED)


COMMANDS: dict[bytes, Callable[[QmailSmtpSession, bytes], None]] = {
    b"HELO": QmailSmtpSession._helo,
    b"EHLO": QmailSmtpSession._ehlo,
    b"MAIL": QmailSmtpSession._mail,
    b"RCPT": QmailSmtpSession._rcpt,
    b"DATA": QmailSmtpSession._data,
    b"RSET": QmailSmtpSession._rset,
    b"NOOP": QmailSmtpSession._noop,
    b"VRFY": QmailSmtpSession._vrfy,
    b"HELP": QmailSmtpSession._help,
    b"QUIT": QmailSmtpSession._quit,
}
