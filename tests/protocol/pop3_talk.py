"""A POP3 session held to its word: every conversation takes place whole and in small pieces, with equal outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pillarbox.listing import Entry, Listing
from pillarbox.protocol.dot_stuffing import Encoder, Head
from pillarbox.protocol.pop3 import Event, Login, Pop3Session, Retrieve, StartTls, State
from pillarbox.terms import Mechanism
from pillarbox.wire_form import survey

CHALLENGE = b"<1896.697170952@dbc.mtview.ca.us>"
DIGEST = b"c4c9334bac560ecc979e58001b3e22fb"
APOP = b"APOP mrose " + DIGEST + b"\r\n"
TWO = (b"Subject: one\n\nfirst\n", b"Subject: two\n\n.dot\nsecond")
TWO_SIZES = (23, 30)


class More(NamedTuple):
    """How a caller goes on with a login."""

    challenge: bytes


class No(NamedTuple):
    """How a caller refuses."""

    why: str
    code: str = ""
    final: bool = False


Answer = Callable[[Event], No | More | int | None]  # None: yes; a number: so many could not be removed


def yes(event: Event) -> None:
    """Accept everything."""


@dataclass
class Talk:
    """What came of a conversation."""

    output: bytes = b""
    events: list[Event] = field(default_factory=list)
    state: State = State.AUTHORIZATION
    removed: int = 0

    @property
    def greeting(self) -> bytes:
        return self.output.partition(b"\r\n")[0]

    @property
    def lines(self) -> list[bytes]:
        """All that follows the greeting."""
        assert self.output.endswith(b"\r\n")
        return self.output.split(b"\r\n")[1:-1]


class Caller:
    """Answers a session's events as a server does, and sends the messages."""

    def __init__(self, session: Pop3Session, messages: Sequence[bytes] = TWO, answer: Answer = yes) -> None:
        self.session, self.messages, self.answer = session, messages, answer
        self.talk = Talk()

    def feed(self, data: bytes) -> None:
        session, talk = self.session, self.talk
        session.receive(data)
        while True:
            event, held_back = session.next_event(), session.held_back
            talk.output += session.take_output()
            if event is not None:
                talk.events.append(event)
                self._handle(event)
            elif not held_back:
                break
        talk.state, talk.removed = session.state, session.removed

    def _handle(self, event: Event) -> None:
        no, body = self.answer(event), b""
        if isinstance(no, No):
            self.session.refuse(no.why, no.code, final=no.final)
        elif isinstance(no, More):
            self.session.login_challenged(no.challenge)
        elif isinstance(event, Login):
            self.session.login_accepted(maildrop(self.messages))
        elif isinstance(event, StartTls):
            self.session.tls_established(plaintext=True)
        elif isinstance(event, Retrieve):
            self.session.message_opened()
            body = sent(self.messages[event.number - 1], event.body_lines)
        else:
            self.session.updated(no or 0)
        self.talk.output += self.session.take_output() + body


def maildrop(messages: Sequence[bytes]) -> Listing:
    return Listing.render([Entry(b"u%d" % number, *survey([message])) for number, message in enumerate(messages, 1)])


def sent(message: bytes, body_lines: int | None) -> bytes:
    """RETR or TOP as the caller sends it, with the final dot."""
    encoder, head = Encoder(), Head(1 << 40 if body_lines is None else body_lines)
    return encoder.feed(head.feed(message) + head.finish()) + encoder.finish()


def session(
    *,
    apop: bool = True,
    plaintext: bool = True,
    secured: bool = False,
    stls: bool = False,
    bad_before: int = 3,
    bad_after: int = 20,
    mechanisms: tuple[Mechanism, ...] = (),
) -> Pop3Session:
    return Pop3Session(
        b"dbc.mtview.ca.us",
        CHALLENGE if apop else b"",
        plaintext=plaintext,
        secured=secured,
        stls=stls,
        bad_before=bad_before,
        bad_after=bad_after,
        mechanisms=mechanisms,
    )


def in_pieces(data: bytes, size: int, answer: Answer, messages: Sequence[bytes], **options: int) -> Talk:
    caller = Caller(session(**options), messages, answer)  # type: ignore[arg-type]
    caller.feed(b"")
    for start in range(0, len(data), size):
        caller.feed(data[start : start + size])
    return caller.talk


def talk(data: bytes, answer: Answer = yes, messages: Sequence[bytes] = TWO, **options: int) -> Talk:
    """The outcome, which is the same whole, byte by byte and in pieces of seven octets."""
    whole = in_pieces(data, max(1, len(data)), answer, messages, **options)
    for size in (1, 7):
        assert in_pieces(data, size, answer, messages, **options) == whole
    return whole


def inside(data: bytes, answer: Answer = yes, messages: Sequence[bytes] = TWO, **options: int) -> list[bytes]:
    """The lines that answer these commands after login."""
    return talk(APOP + data, answer, messages, **options).lines[1:]


def fail_login(event: Event) -> No | None:
    return No("wrong name or password", "AUTH") if isinstance(event, Login) else None


def logged_in(messages: tuple[bytes, ...] = TWO) -> Pop3Session:
    server = session()
    server.receive(APOP)
    assert isinstance(server.next_event(), Login)
    server.login_accepted(maildrop(messages))
    server.take_output()
    return server
