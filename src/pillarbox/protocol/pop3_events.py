"""What a POP3 conversation asks of its caller, and the states it is in; `Pop3Session` says when."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ..terms import Attempt


class State(Enum):
    """RFC 1939 section 3; UPDATE is what the caller does with the Update event."""

    AUTHORIZATION = "AUTHORIZATION"
    TRANSACTION = "TRANSACTION"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Login:
    """Judge this attempt: answer with login_accepted(), login_challenged() or refuse()."""

    attempt: Attempt
    response: bytes | None = field(default=None, repr=False)  # to a challenge of yours; None: the attempt begins


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Answer with message_opened() and send the message stuffed, or refuse()."""

    number: int
    body_lines: int | None = None  # None: the whole message (RETR); else TOP's second number


@dataclass(frozen=True, slots=True)
class Update:
    """QUIT after DELE: remove these, then answer with updated() or refuse()."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StartTls:
    """STLS: send the output, shake hands, feed nothing meanwhile; then answer with tls_established(), or close."""


Event = Login | Retrieve | Update | StartTls
