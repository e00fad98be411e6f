"""What an SMTP conversation asks of its caller, and the states that it goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ..terms import Attempt, Envelope, Wish


class State(Enum):
    """Where the conversation is (RFC 5321 section 4.1.4, RFC 3030 section 2)."""

    START = "START"  # before EHLO or HELO
    READY = "READY"
    MAIL = "MAIL"  # a sender is known, recipients follow
    DATA = "DATA"  # content comes, dot-stuffed
    CHUNK = "CHUNK"  # so many octets of content come (BDAT)
    AUTH = "AUTH"  # a response to AUTH's challenge comes
    BETWEEN = "BETWEEN"  # between two BDAT chunks
    DRAINING = "DRAINING"  # refused for good; what still comes of the message is thrown away, then CLOSED
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Login:
    """Judge this attempt: answer with login_accepted(), login_challenged(), or refuse() with 535 5.7.8 or 454 4.7.0 (RFC
    4954 section 6). After a refusal the client may try again, as often as the caller likes: 421 ends it.
    """

    attempt: Attempt
    response: bytes | None = field(default=None, repr=False)  # to a challenge of yours; None: the attempt begins


@dataclass(frozen=True, slots=True)
class Recipient:
    """Will this recipient be served? Answer with recipient_accepted() or refuse()."""

    address: bytes
    octets: int  # of the message, as declared with SIZE; 0: not declared
    sender: bytes  # of this transaction; empty: the null sender
    wish: Wish  # RFC 3461


@dataclass(frozen=True, slots=True)
class BeginMessage:
    """Make room for a message: answer with message_begun() or refuse()."""

    envelope: Envelope
    protocol: bytes  # for the Received field: SMTP, ESMTP or UTF8SMTP, then S with TLS, A after AUTH (RFC 3848, 6531)
    helo: bytes  # what the client calls itself, printable


@dataclass(frozen=True, slots=True)
class MessageData:
    """Stored octets to append to the message; no answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndMessage:
    """The message is whole. Make it durable: answer with message_accepted() or refuse()."""


@dataclass(frozen=True, slots=True)
class AbortMessage:
    """Throw away what was begun; no answer. The client is told by the session."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS: send the output, shake hands, feed nothing meanwhile; then answer with tls_established(), or close."""


Event = Login | Recipient | BeginMessage | MessageData | EndMessage | AbortMessage | StartTls
