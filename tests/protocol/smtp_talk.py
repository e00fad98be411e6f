"""An SMTP session held to its word: every conversation takes place whole and in small pieces, with equal outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pillarbox.protocol.smtp import (
    AbortMessage,
    BeginMessage,
    EndMessage,
    Event,
    Login,
    MessageData,
    Recipient,
    SmtpSession,
    StartTls,
    State,
)
from pillarbox.terms import Envelope, Mechanism

No = tuple[int, str, str]
Answer = Callable[[Event], No | bytes | None]  # None: yes; octets: a challenge to go on with
LIMIT = 1 << 20


def yes(event: Event) -> None:
    """Accept everything."""


@dataclass
class Talk:
    """What came of a conversation."""

    output: bytes = b""
    events: list[Event] = field(default_factory=list)  # MessageData joined; left out of a message that was aborted
    delivered: list[tuple[Envelope, bytes]] = field(default_factory=list)
    state: State = State.START
    messages: int = 0

    @property
    def replies(self) -> list[bytes]:
        return self.output.split(b"\r\n")[:-1]

    @property
    def codes(self) -> list[int]:
        """Of each reply, with the lines of one counted once."""
        return [int(line[:3]) for line in self.replies if line[3:4] != b"-"]


class Caller:
    """Answers a session's events, and keeps the books as a server must."""

    def __init__(self, session: SmtpSession, answer: Answer = yes) -> None:
        self.session, self.answer = session, answer
        self.talk = Talk()
        self._envelope: Envelope | None = None
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> None:
        session, talk = self.session, self.talk
        session.receive(data)
        while True:
            event = session.next_event()
            held_back = session.held_back
            talk.output += session.take_output()
            if event is not None:
                self._handle(event)
            elif not held_back:
                break
        talk.state, talk.messages = session.state, session.messages

    def _handle(self, event: Event) -> None:
        if isinstance(event, MessageData):
            assert self._envelope is not None, "content without a message"
            self._data.append(event.data)
            return
        if isinstance(event, EndMessage) and self._data:
            self.talk.events.append(MessageData(b"".join(self._data)))
        self.talk.events.append(event)
        if isinstance(event, AbortMessage):
            assert self._envelope is not None, "nothing to abort"
            self._envelope, self._data = None, []
            return
        no = self.answer(event)
        if isinstance(event, BeginMessage):
            assert self._envelope is None and not self._data
            self._envelope = None if no else event.envelope
        elif isinstance(event, EndMessage):
            assert self._envelope is not None
            if no is None:
                self.talk.delivered.append((self._envelope, b"".join(self._data)))
            self._envelope, self._data = None, []
        if isinstance(no, bytes):
            self.session.login_challenged(no)
        elif no is not None:
            self.session.refuse(*no)
        elif isinstance(event, Login):
            self.session.login_accepted()
        elif isinstance(event, StartTls):
            self.session.tls_established((Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.CRAM_MD5))
        elif isinstance(event, Recipient):
            self.session.recipient_accepted()
        elif isinstance(event, BeginMessage):
            self.session.message_begun()
        else:
            self.session.message_accepted("queued")


def session(*, octets_limit: int = LIMIT, **options: Any) -> SmtpSession:
    return SmtpSession(b"foo.com", "192.0.2.7", octets_limit=octets_limit, **options)


def in_pieces(data: bytes, size: int, answer: Answer = yes, **options: Any) -> Talk:
    caller = Caller(session(**options), answer)
    caller.feed(b"")
    for start in range(0, len(data), size):
        caller.feed(data[start : start + size])
    return caller.talk


def talk(data: bytes, answer: Answer = yes, **options: Any) -> Talk:
    """The outcome, which is the same whole, byte by byte and in pieces of seven octets."""
    whole = in_pieces(data, max(1, len(data)), answer, **options)
    for size in (1, 7):
        assert in_pieces(data, size, answer, **options) == whole
    return whole


def script(text: str, answer: Answer = yes, **options: Any) -> Talk:
    """Lines `C: ...` are sent, lines `S: ...` say how each line of the output must begin."""
    lines = [line.strip() for line in text.strip().split("\n")]
    sent = b"".join(line[3:].encode() + b"\r\n" for line in lines if line.startswith("C:"))
    came = talk(sent, answer, **options)
    expected = [line[3:].encode() for line in lines if line.startswith("S:")]
    assert len(came.replies) == len(expected), came.replies
    for reply, beginning in zip(came.replies, expected, strict=True):
        assert reply.startswith(beginning), came.replies
    return came
