"""What an SMTP conversation asks of its caller, and the states that it goes through."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..terms import Envelope


class State(Enum):
    """Where the conversation is (RFC 5321 section 4.1.4)."""

    START = "START"  # before EHLO or HELO
    READY = "READY"
    MAIL = "MAIL"  # a sender is known, recipients follow
    DATA = "DATA"  # content comes, dot-stuffed
    CHUNK = "CHUNK"  # so many octets of content come (BDAT)
    BETWEEN = "BETWEEN"  # between two BDAT chunks
    DRAINING = "DRAINING"  # refused; what still comes is thrown away
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Will this recipient be served? Answer with recipient_accepted() or refuse()."""

    address: bytes
    octets: int  # as declared with SIZE, 0 if not


@dataclass(frozen=True, slots=True)
class BeginMessage:
    """Make room for a message: answer with message_begun() or refuse()."""

    envelope: Envelope
    protocol: bytes  # for the Received field
    helo: bytes


@dataclass(frozen=True, slots=True)
class MessageData:
    """Stored octets to append; no answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndMessage:
    """Make it durable: answer with message_accepted() or refuse()."""


@dataclass(frozen=True, slots=True)
class AbortMessage:
    """Throw away what was begun; no answer."""


Event = Recipient | BeginMessage | MessageData | EndMessage | AbortMessage
