"""SMTP reception as a conversation (RFC 5321, 1870, 2034, 2920, 3030, 6152, 6531). Bytes in, events and bytes out.

COMMANDS, at the end, says what is understood. What the session cannot know by itself leaves it as an event; it reads no
further until the caller has answered (MessageData and AbortMessage need no answer).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from ..terms import Envelope
from . import lines
from .lines import LineBuffer, LineTooLong
from .smtp_data import BareNewline, ChunkDecoder, Content, DataDecoder, Reply
from .smtp_events import AbortMessage, BeginMessage, EndMessage, Event, MessageData, Recipient, State
from .smtp_path import MAIL_PARAMETERS, path_argument

LINE_LIMIT = 2048  # octets: RFC 5321's 512, and room for the parameters of its extensions
HIGH_WATER = 64 << 10  # octets of output; above it no further command is obeyed until some has been taken
DRAIN_LIMIT = 64 << 10  # octets read after a smuggling attempt, so that the client sees why
HELO_LIMIT = 255

_NUMBER = re.compile(rb"[0-9]{1,10}")
_UNPRINTABLE = re.compile(rb"[^!-~]")
_HTTP = {b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"}  # a browser was tricked into talking to us


OK = "2.0.0"
Answered = TypeVar("Answered", Recipient, BeginMessage, EndMessage)


class SmtpSession:
    """One connection's worth of SMTP, seen from the server."""

    def __init__(
        self,
        host: bytes,
        *,
        octets_limit: int,
        recipients_limit: int = 100,
        normalise: bool = False,
        bad_limit: int = 20,
    ) -> None:
        """Limits: octets of a message, recipients of a message, bad commands. `normalise`: mend bare CR and LF."""
        self.state = State.START
        self.helo = b""
        self.messages = 0  # accepted
        self.quit = False
        self._host = host
        self._octets_limit = octets_limit
        self._recipients_limit = recipients_limit
        self._normalise = normalise
        self._bad = bad_limit
        self._extended = False
        self._input = LineBuffer(LINE_LIMIT, crlf_only=True)
        self._output: list[bytes] = []
        self._size = 0
        self._pending: Event | None = None  # waits for its answer
        self._events: list[Event] = []  # wait to be taken by the caller
        self._begun = False  # the caller holds a slot for us
        self._left = self._drained = 0
        self._last = False
        self._content: Content | None = None
        self._forget()
        self._reply(220, "", host.decode("ascii") + " ESMTP Pillarbox")

    # The verbs of the caller.

    def receive(self, data: bytes) -> None:
        """Octets from the client."""
        if self.state is not State.CLOSED:
            self._input.feed(data)

    def next_event(self) -> Event | None:
        """Obey until something needs the caller. None: send the output; then, if `held_back`, call again, else read."""
        while True:
            if self._events:
                event = self._events.pop(0)
                if not isinstance(event, MessageData | AbortMessage):
                    self._pending = event
                return event
            if self._pending is not None or self.state is State.CLOSED or self.held_back or not self._step():
                return None

    def take_output(self) -> bytes:
        """Octets for the client."""
        output, self._output, self._size = b"".join(self._output), [], 0
        return output

    @property
    def held_back(self) -> bool:
        """So much output waits to be taken that no further command is obeyed before."""
        return self._size > HIGH_WATER

    @property
    def pending(self) -> int:
        """Octets received and not yet obeyed."""
        return self._input.pending

    @property
    def recipients(self) -> int:
        """How many the message under way has so far."""
        return len(self._recipients)

    @property
    def in_content(self) -> bool:
        """The client is sending a message."""
        return self.state in (State.DATA, State.CHUNK, State.DRAINING)

    # The answers.

    def recipient_accepted(self) -> None:
        """Yes to Recipient."""
        self._recipients.append(self._answered(Recipient).address)
        self._reply(250, "2.1.5", "recipient ok")

    def message_begun(self) -> None:
        """Yes to BeginMessage: the caller takes MessageData from now on."""
        self._answered(BeginMessage)
        self._begun = True
        if isinstance(self._content, DataDecoder):
            self.state = State.DATA
            self._reply(354, "", "send the message, end it with a dot alone")
        else:
            self._begin_chunk()

    def message_accepted(self, text: str) -> None:
        """Yes to EndMessage: the message is durable."""
        self._answered(EndMessage)
        self._begun = False
        self.messages += 1
        self._forget()
        self._reply(250, OK, text)

    def refuse(self, code: int, enhanced: str, text: str) -> None:
        """No to the event that waits; the caller has thrown away what was begun."""
        event, self._pending = self._pending, None
        self._begun = self._begun and isinstance(event, Recipient)
        if isinstance(event, BeginMessage) and isinstance(self._content, ChunkDecoder):
            self._content.fault = Reply(code, enhanced, text)  # said behind the octets of the chunk
            self._begin_chunk()
            return
        if not isinstance(event, Recipient):
            self._forget()
        self._reply(code, enhanced, text)

    def fail(self, code: int, enhanced: str, text: str) -> None:
        """End the conversation from our side. The caller throws away what was begun."""
        if self.state is not State.CLOSED:
            self._pending = None
            self._events.clear()
            self._input.take_rest()
            self._reply(code, enhanced, text)
            self.state = State.CLOSED

    # Obeying.

    def _step(self) -> bool:
        """Obey one line or some content. False: more input is needed."""
        if self.in_content and not self._input:
            return False
        try:
            if self.state is State.DATA:
                self._data()
            elif self.state is State.CHUNK:
                self._chunk()
            elif self.state is State.DRAINING:
                self._drain()
            else:
                return self._command()
        except BareNewline:
            self._smuggled()
        return True

    def _command(self) -> bool:
        try:
            line = self._input.next_line()
            if line is None:
                return False
            self._obey(line)
        except LineTooLong:
            self.fail(500, "5.5.2", f"a command line is longer than {LINE_LIMIT} octets, goodbye")
        except lines.BareNewline:
            self._bad_command(500, "5.5.2", "a command line ends with CRLF")
        except Reply as reply:
            self._reply(reply.code, reply.enhanced, reply.text)
        return True

    def _obey(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        command = COMMANDS.get(verb)
        if command is None and verb in _HTTP:
            self.fail(500, "5.5.1", "this is no web server")
        elif command is None:
            self._bad_command(500, "5.5.1", "unknown command")
        elif self.state is State.BETWEEN and verb not in BETWEEN_CHUNKS:
            raise Reply(503, "5.5.1", "BDAT or RSET must come now")
        else:
            command(self, argument)

    def _bad_command(self, code: int, enhanced: str, text: str) -> None:
        self._bad -= 1
        if self._bad > 0:
            self._reply(code, enhanced, text)
        else:
            self.fail(421, "4.7.0", "too many bad commands, goodbye")

    # Greeting.

    def _ehlo(self, argument: bytes) -> None:
        self._hello(argument)
        self._extended = True
        words = (self._host, b"SIZE %d" % self._octets_limit, *EXTENSIONS)
        self._say(b"".join(b"250-%b\r\n" % word for word in words[:-1]) + b"250 %b\r\n" % words[-1])

    def _helo(self, argument: bytes) -> None:
        self._hello(argument)
        self._extended = False
        self._reply(250, "", self._host.decode("ascii"))

    def _hello(self, argument: bytes) -> None:
        if not argument or len(argument) > HELO_LIMIT:
            raise Reply(501, "5.5.4", f"say who you are, in at most {HELO_LIMIT} octets")
        self.helo = _UNPRINTABLE.sub(b"?", argument)
        self._forget()

    # The envelope.

    def _mail(self, argument: bytes) -> None:
        if self.state is not State.READY:
            raise Reply(
                503, "5.5.1", "EHLO first" if self.state is State.START else "a sender has been given; RSET first"
            )
        sender, options = path_argument(b"FROM:", argument, MAIL_PARAMETERS if self._extended else {})
        self._utf8 = b"SMTPUTF8" in options
        self._declared = int(options.get(b"SIZE", b"0"))
        if self._declared > self._octets_limit:
            raise Reply(552, "5.3.4", f"the message is longer than {self._octets_limit} octets")
        self._check_characters(sender)
        self._sender, self.state = sender, State.MAIL
        self._reply(250, "2.1.0", "sender ok")

    def _rcpt(self, argument: bytes) -> None:
        if self.state is not State.MAIL:
            raise Reply(503, "5.5.1", "MAIL first")
        recipient, _ = path_argument(b"TO:", argument, {})
        if not recipient:
            raise Reply(501, "5.1.3", "a recipient can't be empty")
        self._check_characters(recipient)
        if len(self._recipients) >= self._recipients_limit:
            raise Reply(452, "4.5.3", f"at most {self._recipients_limit} recipients a message")
        self._events.append(Recipient(recipient, self._declared))

    def _check_characters(self, address: bytes) -> None:
        if address.isascii():
            return
        if not self._utf8:
            raise Reply(553, "5.6.7", "an address outside ASCII needs SMTPUTF8")
        try:
            address.decode("utf-8")
        except UnicodeDecodeError:
            raise Reply(553, "5.1.3", "the address is not UTF-8") from None

    def _out_of_order(self) -> Reply | None:
        if self.state is not State.MAIL:
            return Reply(503, "5.5.1", "MAIL and RCPT first")
        return None if self._recipients else Reply(554, "5.5.1", "no recipient has been accepted")

    def _begin(self, content: Content) -> None:
        self._content = content
        protocol = b"UTF8SMTP" if self._utf8 else b"ESMTP" if self._extended else b"SMTP"
        self._events.append(BeginMessage(Envelope(self._sender, tuple(self._recipients)), protocol, self.helo))

    # The content, by DATA.

    def _begin_data(self, argument: bytes) -> None:
        if argument:
            raise Reply(501, "5.5.4", "DATA takes no argument")
        if reply := self._out_of_order():
            raise reply
        self._begin(DataDecoder(self._octets_limit, normalise=self._normalise))

    def _data(self) -> None:
        content = self._content
        assert isinstance(content, DataDecoder)
        self._take(content.feed(self._input.take_rest()))
        if content.ended:
            self._input.feed(content.rest)
            self._content_ended(content)

    def _take(self, stored: bytes) -> None:
        if stored:
            self._events.append(MessageData(stored))

    def _content_ended(self, content: Content) -> None:
        if content.fault is None:
            self._events.append(EndMessage())
            return
        self._abort()
        self._forget()
        self._reply(content.fault.code, content.fault.enhanced, content.fault.text)

    def _abort(self) -> None:
        if self._begun:
            self._begun = False
            self._events.append(AbortMessage())

    # The content, by BDAT (RFC 3030).

    def _bdat(self, argument: bytes) -> None:
        size, _, last = argument.partition(b" ")
        if not _NUMBER.fullmatch(size) or last.upper() not in (b"", b"LAST"):
            self._abort()
            self.fail(501, "5.5.4", "BDAT needs a number of octets, then LAST or nothing, goodbye")
            return
        self._left, self._last = int(size), bool(last)
        if self.state is State.BETWEEN:
            self._begin_chunk()
            return
        content = ChunkDecoder(self._octets_limit, normalise=self._normalise)
        content.fault = self._out_of_order()
        if content.fault is None:
            self._begin(content)
        else:
            self._content = content  # the octets of the chunk come all the same
            self._begin_chunk()

    def _begin_chunk(self) -> None:
        self.state = State.CHUNK
        if not self._left:
            self._chunk_ended()

    def _chunk(self) -> None:
        content = self._content
        assert isinstance(content, ChunkDecoder)
        data = self._input.take_rest()
        chunk = data[: self._left]
        self._input.feed(data[self._left :])
        self._left -= len(chunk)
        self._take(content.feed(chunk))
        if not self._left:
            self._chunk_ended()

    def _chunk_ended(self) -> None:
        content = self._content
        assert isinstance(content, ChunkDecoder)
        if self._last:
            self._take(content.finish())
            self._content_ended(content)
        elif content.fault is not None:
            self.state = State.BETWEEN
            self._reply(content.fault.code, content.fault.enhanced, content.fault.text)
        else:
            self.state = State.BETWEEN
            self._reply(250, OK, "chunk ok")

    # What ends badly, and other commands.

    def _smuggled(self) -> None:
        """A bare CR or LF: say so at once, throw away a little more so that the client can read it, and close."""
        self._reply(550, "5.6.0", "a bare CR or LF in a message is refused; lines end with CRLF")
        self._events = []
        self._abort()
        self._drained, self.state = 0, State.DRAINING

    def _drain(self) -> None:
        self._drained += len(self._input.take_rest())
        if self._drained >= DRAIN_LIMIT:
            self.state = State.CLOSED

    def _rset(self, argument: bytes) -> None:
        self._abort()
        self._forget()
        self._reply(250, OK, "forgotten")

    def _forget(self) -> None:
        """Back to where MAIL may come; before a greeting, to where that may come."""
        self._sender = b""
        self._recipients: list[bytes] = []
        self._declared = 0
        self._utf8 = False
        self._content = None
        self.state = State.READY if self.helo else State.START

    def _noop(self, argument: bytes) -> None:
        self._reply(250, OK, "ok")

    def _vrfy(self, argument: bytes) -> None:
        self._reply(252, "2.5.2", "send some mail, and see")

    def _help(self, argument: bytes) -> None:
        self._reply(214, OK, "RFC 5321; commands: " + b" ".join(COMMANDS).decode("ascii"))

    def _quit(self, argument: bytes) -> None:
        self._abort()
        self.quit = True
        self._input.take_rest()
        self.state = State.CLOSED
        self._reply(221, OK, "goodbye")

    def _reply(self, code: int, enhanced: str, text: str) -> None:
        words = text.encode("ascii", "backslashreplace").replace(b"\r", b" ").replace(b"\n", b" ")
        extended = enhanced.encode("ascii") + b" " if enhanced and self._extended else b""
        self._say(b"%d %b%b\r\n" % (code, extended, words))

    def _say(self, data: bytes) -> None:
        self._output.append(data)
        self._size += len(data)

    def _answered(self, kind: type[Answered]) -> Answered:
        event, self._pending = self._pending, None
        if not isinstance(event, kind):
            raise RuntimeError(f"{type(event).__name__} is waiting, not {kind.__name__}")
        return event


EXTENSIONS = (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES", b"CHUNKING")
BETWEEN_CHUNKS = (b"BDAT", b"RSET", b"QUIT", b"NOOP")

COMMANDS: dict[bytes, Callable[[SmtpSession, bytes], None]] = {
    b"HELO": SmtpSession._helo,
    b"EHLO": SmtpSession._ehlo,
    b"MAIL": SmtpSession._mail,
    b"RCPT": SmtpSession._rcpt,
    b"DATA": SmtpSession._begin_data,
    b"BDAT": SmtpSession._bdat,
    b"RSET": SmtpSession._rset,
    b"NOOP": SmtpSession._noop,
    b"VRFY": SmtpSession._vrfy,
    b"HELP": SmtpSession._help,
    b"QUIT": SmtpSession._quit,
}
