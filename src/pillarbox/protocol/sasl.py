"""SASL, the server's side (RFC 4422): PLAIN (RFC 4616), LOGIN (never standardised), CRAM-MD5 (RFC 2195), SCRAM (5802).

An exchange is begun, and fed the client's responses one by one, until it has credentials or refuses. Of SCRAM that is
the first message alone: whoever has the secret goes on. How a response travels, base64 in a line of its own or behind
the command AUTH, is alike in SMTP (RFC 4954) and POP3 (RFC 5034): see authentication. Nothing that a client sent
stands in an error, nor in a repr.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from binascii import Error, a2b_base64, b2a_base64

from ..terms import Mechanism, Refused
from . import scram
from .credentials import INVALID as INVALID
from .credentials import MALFORMED as MALFORMED
from .credentials import NAME_LIMIT as NAME_LIMIT
from .credentials import PASSWORD_LIMIT as PASSWORD_LIMIT
from .credentials import Credentials as Credentials
from .credentials import check_identity, checked_name

LINE_LIMIT = 12_288  # octets of a response as sent, CRLF included (RFC 4954 section 4)
_DIGEST_OCTETS = 32  # MD5 in hex


class Exchange(ABC):
    """One authentication. `opening`: what the server says before the first response; empty where the client begins."""

    __slots__ = ()
    opening = b""
    initial = True  # may the first response come along with the command AUTH?

    @abstractmethod
    def step(self, response: bytes) -> bytes | Credentials:
        """A response, decoded -> the next challenge, or the credentials. Raises Refused, and then it is over."""


class _Plain(Exchange):
    """Authorization identity (empty, or the name again), name, password, with NUL between them."""

    __slots__ = ()

    def step(self, response: bytes) -> Credentials:
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise Refused("PLAIN is an identity or nothing, NUL, a name, NUL, a password", MALFORMED)
        identity, name, password = parts
        credentials = _with_password(name, password)
        check_identity(identity, name)
        return credentials


class _Login(Exchange):
    """Asked for a name, then for a password; the name may come with the command."""

    __slots__ = ("_name",)
    opening = b"Username:"

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, response: bytes) -> bytes | Credentials:
        if self._name is not None:
            return _with_password(self._name, response)
        self._name = checked_name(response)
        return b"Password:"


class _CramMd5(Exchange):
    """The name, a blank, and the keyed digest of the challenge, in hex."""

    __slots__ = ("opening",)
    initial = False

    def __init__(self, challenge: bytes) -> None:
        self.opening = challenge

    def step(self, response: bytes) -> Credentials:
        name, _, digest = response.rpartition(b" ")
        if len(digest) != _DIGEST_OCTETS:
            raise Refused(
                f"CRAM-MD5 is a name, a blank, and a digest of {_DIGEST_OCTETS} hexadecimal digits", MALFORMED
            )
        return Credentials(checked_name(name), digest)


class _Scram(Exchange):
    """The first message holds the name; what follows is between the client and whoever has the secret."""

    __slots__ = ()

    def step(self, response: bytes) -> Credentials:
        return Credentials(scram.read_first(response).name, response)


def begin(mechanism: Mechanism, challenge: bytes = b"") -> Exchange:
    """`challenge`: with its angle brackets, which CRAM-MD5 needs. Raises ValueError for what can't be begun."""
    if mechanism is Mechanism.PLAIN:
        return _Plain()
    if mechanism is Mechanism.LOGIN:
        return _Login()
    if mechanism is Mechanism.CRAM_MD5 and challenge:
        return _CramMd5(challenge)
    if mechanism in scram.HASHES:
        return _Scram()
    raise ValueError(f"{mechanism.value} is no SASL mechanism, or needs a challenge")


def encode(challenge: bytes) -> bytes:
    """A challenge as it travels."""
    return b2a_base64(challenge, newline=False)


def decode(line: bytes) -> bytes:
    """A response as it came. Only what encode() would have written is taken (RFC 4954 section 4). Raises Refused."""
    try:
        response = a2b_base64(line)
    except Error:
        response = b""
    if encode(response) != line:  # blanks, wrong padding, other characters, stray bits (RFC 4648 section 3.5)
        raise Refused("that is not base64", MALFORMED)
    return response


def decode_initial(argument: bytes) -> bytes:
    """A response that came behind the command AUTH, where `=` is the empty one. Raises Refused."""
    return b"" if argument == b"=" else decode(argument)


def _with_password(name: bytes, password: bytes) -> Credentials:
    if not 0 < len(password) <= PASSWORD_LIMIT or b"\0" in password:
        raise Refused(f"a password is 1 to {PASSWORD_LIMIT} octets, without NUL", MALFORMED)
    return Credentials(checked_name(name), password)
