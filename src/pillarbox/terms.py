"""The words of the house: plain values that every room may hold. Nothing here touches the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Mechanism(Enum):
    """How a client proves who it is. The value is the word that the protocol uses."""

    USER_PASS = "USER"
    APOP = "APOP"


class Exposure(Enum):
    """What an eavesdropper learnt from an attempt."""

    NOTHING = "nothing"
    DIGEST = "digest"  # can be guessed offline, as strong as the secret is random
    PASSWORD = "password"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at logging in, exactly as the client made it."""

    name: bytes
    proof: bytes = field(repr=False)  # the password itself, or the digest of challenge and secret
    mechanism: Mechanism
    challenge: bytes = b""  # with its angle brackets; what the digest was made with
    secured: bool = False  # did TLS cover the proof on its way here?


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a login leads to, and where the mail lies."""

    name: str  # local@domain in lower case
    maildir: str  # absolute path of the Maildir
    uid: int | None = None  # None: the uid that keeps all virtual accounts' mail
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sent a message and who shall get it (RFC 5321 section 2.3.1)."""

    sender: bytes  # reverse-path without angle brackets; empty: the null sender
    recipients: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """An address may relay until `expires`, on behalf of the account that logged in from it."""

    address: str
    account: str
    created: float  # Unix time, seconds
    expires: float


class Refused(Exception):
    """The client's doing: -ERR, 5xx, exit 1. The text is for the client; `code`: of RFC 3206 or 3463, or empty."""

    def __init__(self, why: str, code: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.code = code


class TryLater(Exception):
    """Ours, and passing: -ERR [SYS/TEMP], 4xx, exit 111 (exit 75 in `pillarbox`)."""

    def __init__(self, why: str, code: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.code = code


class Misuse(Exception):
    """A program was called wrongly: exit 2."""
