"""The words of the house: plain values that every room may hold. Nothing here touches the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Mechanism(Enum):
    """How a client proves who it is. The value is the word that the protocol uses."""

    USER_PASS = "USER"
    APOP = "APOP"
    PLAIN = "PLAIN"
    LOGIN = "LOGIN"
    CRAM_MD5 = "CRAM-MD5"
    SCRAM_SHA_1 = "SCRAM-SHA-1"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_256_PLUS = "SCRAM-SHA-256-PLUS"


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

    @property
    def home(self) -> str:
        """The folder that the Maildir lies in: a system user's home."""
        return self.maildir.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a sender wants to hear about one recipient (RFC 3461 section 4)."""

    notify: tuple[str, ...] = ()  # of NEVER, SUCCESS, FAILURE, DELAY; empty: not said, which is FAILURE and DELAY
    orcpt: bytes = b""  # the original recipient as it came: address type, semicolon, xtext; empty: not said


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sent a message and who shall get it (RFC 5321 section 2.3.1)."""

    sender: bytes  # reverse-path without angle brackets; empty: the null sender
    recipients: tuple[bytes, ...]
    wishes: tuple[Wish, ...] = ()  # one for each recipient, in their order; empty: none was said
    ret: str = ""  # RFC 3461: FULL or HDRS, what of the message a report shall hold; empty: not said
    envid: bytes = b""  # RFC 3461: the sender's name for this envelope, xtext as it came; empty: not said
    utf8: bool = False  # needs SMTPUTF8 (RFC 6531)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of one recipient in one try."""

    action: str  # RFC 3464 section 2.3.3: "delivered", "relayed", "expanded", "delayed" (deferred) or "failed"
    status: str = ""  # RFC 3463, such as 5.1.1
    text: str = ""  # why, in our words, for a person
    mta: str = ""  # the exchanger that said so; empty: we did
    reply: str = ""  # its SMTP reply, such as "550 5.1.1 no such user"
    tried: bool = True  # False: we put it off ourselves, and asked nobody


@dataclass(frozen=True, slots=True)
class Grant:
    """An account that logged in from an address may send from there for a while (POP before SMTP)."""

    address: str
    account: str
    created: float  # Unix time, seconds
    expires: float
    mechanism: str = ""
    messages: int = 0  # that may still be sent
    recipients: int = 0


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
