"""SMTP reception as a conversation (RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 6152, 6531), and submission (RFC
4954, 6409). Bytes in, events and bytes out.

COMMANDS, at the end, says what is understood. What the session cannot know by itself leaves it as an event (see
smtp_events); it obeys no further until the caller has answered (MessageData and AbortMessage need no answer).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..terms import Attempt, Mechanism
from . import sasl
from .smtp_auth import Authentication
from .smtp_conversation import DRAIN_LIMIT, HIGH_WATER, LINE_LIMIT, Conversation, Transaction
from .smtp_data import ChunkDecoder, DataDecoder
from .smtp_events import AbortMessage, BeginMessage, EndMessage, Event, Login, MessageData, Recipient, StartTls, State
from .smtp_path import mail_argument, rcpt_argument
from .smtp_reply import Reply
from .trace import address_literal

__all__ = [
    "DRAIN_LIMIT",
    "HIGH_WATER",
    "LINE_LIMIT",
    "AbortMessage",
    "BeginMessage",
    "EndMessage",
    "Event",
    "Login",
    "MessageData",
    "Recipient",
    "SmtpSession",
    "StartTls",
    "State",
]

HELO_LIMIT = 255  # octets, of a domain (RFC 5321 section 4.5.3.1.2)

_CHUNK = re.compile(rb"([0-9]{1,10})(?: +(LAST))?", re.IGNORECASE)
_UNPRINTABLE = re.compile(rb"[^!-~]")


class SmtpSession(Conversation):
    """One connection's worth of SMTP, seen from the server."""

    __slots__ = (
        "_authentication",
        "_challenge",
        "_extended",
        "_host",
        "_normalise",
        "_octets_limit",
        "_peer",
        "_recipients_limit",
        "_secured",
        "_starttls",
        "_submission",
    )

    def __init__(
        self,
        host: bytes,
        peer: str = "",
        *,
        octets_limit: int,
        recipients_limit: int = 100,
        normalise: bool = False,
        bad_limit: int = 20,
        submission: bool = False,
        challenge: bytes = b"",
        mechanisms: tuple[Mechanism, ...] = (),
        secured: bool = False,
        starttls: bool = False,
    ) -> None:
        """`host`: our name. `peer`: the client's address, said back to it in the answer to EHLO; empty: not said.

        Limits: octets of a message, recipients of a message, bad commands. `normalise`: mend bare CR and LF in messages.
        `submission`: AUTH is offered, with `mechanisms`; of these CRAM-MD5 needs the `challenge`, with its angle brackets.
        Whether a client may send without AUTH the caller says to each Recipient. `secured`: TLS covers the connection
        from its first octet. `starttls`: where it does not, it can be begun.
        """
        super().__init__(bad_limit)
        self._host, self._peer = host, peer
        self._extended = False  # the client said EHLO
        self._octets_limit = octets_limit
        self._recipients_limit = recipients_limit
        self._normalise = normalise
        self._submission, self._challenge = submission, challenge
        self._secured, self._starttls = secured, starttls
        self.offer(mechanisms)
        self._output.reply(220, "", host.decode("ascii") + " ESMTP Pillarbox")

    def offer(self, mechanisms: tuple[Mechanism, ...]) -> None:
        """From now on AUTH takes these."""
        offered = mechanisms if self._submission else ()
        self._authentication = Authentication(offered, self._challenge, secured=self._secured)

    def tls_established(self, mechanisms: tuple[Mechanism, ...]) -> None:
        """Yes to StartTls: what the client said before is forgotten (RFC 3207 section 4.2). `mechanisms`: from now on."""
        self._answered(StartTls)
        if self._input.pending:  # they came in the clear, so nobody knows from whom
            self._injected()
            return
        self._secured, self._extended, self.helo = True, False, b""
        self._forget()
        self.offer(mechanisms)

    def _injected(self) -> None:
        """To obey under TLS what came before it is CVE-2011-0411; to drop it silently would hide the attack."""
        self._end(503, "5.5.1", "octets behind STARTTLS came in the clear, goodbye")

    def _command(self, line: bytes) -> None:
        if self.state is State.AUTH:
            self._await_commands()
            self._go_on(self._authentication.respond(line))
            return
        verb, _, argument = line.partition(b" ")
        verb, argument = verb.upper(), argument.rstrip(b" \t")  # RFC 5321 section 4.1.1: trailing space is tolerated
        command = COMMANDS.get(verb)
        if command is not None:
            if argument and verb in WITHOUT_ARGUMENT:
                raise Reply(501, "5.5.4", f"{verb.decode('ascii')} takes no argument")
            command(self, argument)
        elif verb in HTTP:
            self._end(500, "5.5.1", "this is no web server, goodbye")
        elif verb in NOT_HERE:
            raise Reply(502, "5.5.1", f"{verb.decode('ascii')} is not offered here")
        else:
            self._bad_command(500, "5.5.1", "unknown command")

    # Greeting. Neither answer has an enhanced code (RFC 2034 section 3).

    def _ehlo(self, argument: bytes) -> None:
        self._hello(argument)
        self._extended = True
        greeting = self._host + (b" greets " + address_literal(self._peer) if self._peer else b"")
        offers = tuple(filter(None, (self._authentication.keyword, b"STARTTLS" * self._may_start_tls)))
        words = (greeting, b"SIZE %d" % self._octets_limit, *offers, *EXTENSIONS)
        self._output.say(b"".join(b"250-%b\r\n" % word for word in words[:-1]) + b"250 %b\r\n" % words[-1])

    def _helo(self, argument: bytes) -> None:
        self._hello(argument)
        self._extended = False
        self._output.reply(250, "", self._host.decode("ascii"))

    def _hello(self, argument: bytes) -> None:
        if not argument or len(argument) > HELO_LIMIT:
            raise Reply(501, "", f"say who you are, in at most {HELO_LIMIT} octets")
        self._abort()
        self.helo = _UNPRINTABLE.sub(b"?", argument)
        self._forget()

    @property
    def _may_start_tls(self) -> bool:
        """Not behind a login: that would have to be forgotten, and its challenge serves no second one."""
        return self._starttls and not self._secured and not self.authenticated

    def _start_tls(self, argument: bytes) -> None:
        if not self._may_start_tls:
            why = "TLS is active already" if self._secured else "STARTTLS is not offered here"
            raise Reply(502 if not self._secured else 503, "5.5.1", why)
        if not self._extended:
            raise Reply(503, "5.5.1", "EHLO first")
        if self._input.pending:
            self._injected()
            return
        self._abort()
        self._output.reply(220, "2.0.0", "begin TLS")
        self._events.append(StartTls())

    def _auth(self, argument: bytes) -> None:
        if not self._authentication.keyword:
            raise Reply(502, "5.5.1", "AUTH is not offered here")
        if not self._extended:
            raise Reply(503, "5.5.1", "EHLO first")
        if self.authenticated:
            raise Reply(503, "5.5.1", "you have logged in already")
        if self.state is not State.READY:
            raise Reply(503, "5.5.1", "not while a message is under way; RSET first")
        self._go_on(self._authentication.begin(argument))

    def _go_on(self, result: bytes | Attempt | tuple[Attempt, bytes]) -> None:
        """Challenge the client, or have it judged."""
        if isinstance(result, bytes):
            self._output.say(b"334 %b\r\n" % result)
            self._await_response()
        else:
            self._events.append(Login(*result) if isinstance(result, tuple) else Login(result))

    def login_challenged(self, challenge: bytes) -> None:
        """Go on with Login: challenge the client, whose answer comes as the `response` of another Login."""
        self._answered(Login)
        self._go_on(sasl.encode(challenge))

    # The envelope.

    def _mail(self, argument: bytes) -> None:
        if self.state is State.START:
            raise Reply(503, "5.5.1", "EHLO first")
        if self.state is not State.READY:
            raise Reply(503, "5.5.1", "a message is under way; RSET first")
        mail = mail_argument(argument, extended=self._extended, auth=bool(self._authentication.keyword))
        if mail.octets > self._octets_limit:
            raise Reply(552, "5.3.4", f"the message is longer than {self._octets_limit} octets")
        self._transaction = Transaction(mail)
        self.state = State.MAIL
        self._output.reply(250, "2.1.0", "sender ok")

    def _rcpt(self, argument: bytes) -> None:
        transaction = self._transaction
        if transaction is None or self.state is not State.MAIL:
            raise Reply(503, "5.5.1", "MAIL first")
        mail = transaction.mail
        recipient, wish = rcpt_argument(argument, extended=self._extended, utf8=mail.utf8)
        if transaction.accepted >= self._recipients_limit:
            raise Reply(452, "4.5.3", f"at most {self._recipients_limit} recipients a message")
        if recipient in transaction.recipients:  # the first time counts, and what was wished then
            self._welcome_recipient(transaction)
            return
        self._events.append(Recipient(recipient, mail.octets, mail.sender, wish))

    def _ready_to_send(self) -> Transaction:
        """Raises Reply where no content may come."""
        transaction = self._transaction
        if transaction is None or self.state is not State.MAIL:
            raise Reply(503, "5.5.1", "MAIL and RCPT first")
        if not transaction.recipients:
            raise Reply(554, "5.5.1", "no recipient has been accepted")
        return transaction

    # The content.

    def _data(self, argument: bytes) -> None:
        transaction = self._ready_to_send()
        self._content = DataDecoder(self._octets_limit, normalise=self._normalise)
        self._begin(transaction)

    def _bdat(self, argument: bytes) -> None:
        """RFC 3030 section 2. The octets of the chunk come whatever we think of it."""
        match = _CHUNK.fullmatch(argument)
        if match is None:
            # How many octets follow is unknown: to read on would be to take a message for commands.
            self._end(501, "5.5.4", "BDAT needs a number of octets, then LAST or nothing, goodbye")
            return
        if self.state is State.BETWEEN and isinstance(self._content, ChunkDecoder):
            self._content.expect(int(match[1]), last=match[2] is not None)
            self._begin_chunk(State.BETWEEN)
            return
        self._content = content = ChunkDecoder(self._octets_limit, normalise=self._normalise)
        content.expect(int(match[1]), last=match[2] is not None)
        try:
            transaction = self._ready_to_send()
        except Reply as reply:
            content.fault = reply
            self._begin_chunk(self.state)
            return
        if content.fault is None:
            self._begin(transaction)
        else:
            self._begin_chunk(State.BETWEEN)

    def _begin(self, transaction: Transaction) -> None:
        protocol = b"SMTP"
        if self._extended:
            protocol = b"UTF8SMTP" if transaction.mail.utf8 else b"ESMTP"
            protocol += b"S" * self._secured + b"A" * bool(self.authenticated)
        self._events.append(BeginMessage(transaction.envelope(), protocol, self.helo))

    # Other commands.

    def _rset(self, argument: bytes) -> None:
        self._abort()
        self._forget()
        self._output.reply(250, "2.0.0", "forgotten")

    def _noop(self, argument: bytes) -> None:
        self._output.reply(250, "2.0.0", "ok")

    def _vrfy(self, argument: bytes) -> None:
        if not argument:
            raise Reply(501, "5.5.4", "VRFY needs an address")
        self._output.reply(252, "2.0.0", "not told; send mail, and RCPT will say")

    def _help(self, argument: bytes) -> None:
        self._output.reply(214, "2.0.0", "RFC 5321; " + b" ".join(self._offered()).decode("ascii"))

    def _offered(self) -> list[bytes]:
        hidden = {
            *(() if self._authentication.keyword else (b"AUTH",)),
            *(() if self._may_start_tls else (b"STARTTLS",)),
        }
        return [verb for verb in COMMANDS if verb not in hidden]

    def _quit(self, argument: bytes) -> None:
        self.quit = True
        self._end(221, "2.0.0", "goodbye")


EXTENSIONS = (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"ENHANCEDSTATUSCODES", b"DSN", b"CHUNKING")
HTTP = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT"))  # a browser was tricked into talking to us
NOT_HERE = frozenset((b"EXPN", b"ETRN", b"TURN"))
WITHOUT_ARGUMENT = frozenset((b"DATA", b"RSET", b"QUIT", b"STARTTLS"))  # RFC 5321 section 4.1.1, RFC 3207 section 4

COMMANDS: dict[bytes, Callable[[SmtpSession, bytes], None]] = {
    b"HELO": SmtpSession._helo,
    b"EHLO": SmtpSession._ehlo,
    b"STARTTLS": SmtpSession._start_tls,
    b"AUTH": SmtpSession._auth,
    b"MAIL": SmtpSession._mail,
    b"RCPT": SmtpSession._rcpt,
    b"DATA": SmtpSession._data,
    b"BDAT": SmtpSession._bdat,
    b"RSET": SmtpSession._rset,
    b"NOOP": SmtpSession._noop,
    b"VRFY": SmtpSession._vrfy,
    b"HELP": SmtpSession._help,
    b"QUIT": SmtpSession._quit,
}
