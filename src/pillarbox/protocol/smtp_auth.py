"""AUTH in SMTP (RFC 4954): what is offered, and the exchange that is under way."""

from __future__ import annotations

from ..terms import Attempt, Mechanism, Refused
from . import sasl
from .smtp_reply import Reply

CANCEL = b"*"


class Authentication:
    """The AUTH commands of one conversation. Nothing that it says holds a word of the client's."""

    __slots__ = ("_challenge", "_exchange", "_mechanism", "_offered", "_secured")

    def __init__(self, mechanisms: tuple[Mechanism, ...], challenge: bytes, *, secured: bool) -> None:
        """`challenge`: with its angle brackets; without one CRAM-MD5 is not offered. `secured`: TLS covers all."""
        self._offered = {
            mechanism.value.encode(): mechanism
            for mechanism in mechanisms
            if challenge or mechanism is not Mechanism.CRAM_MD5
        }
        self._challenge, self._secured = challenge, secured
        self._mechanism = Mechanism.PLAIN
        self._exchange: sasl.Exchange | None = None

    @property
    def keyword(self) -> bytes:
        """The line of EHLO; empty: nothing is offered."""
        return b" ".join((b"AUTH", *self._offered)) if self._offered else b""

    def begin(self, argument: bytes) -> bytes | Attempt:
        """The argument of AUTH -> the line to challenge the client with, or what to judge. Raises Reply."""
        word, _, initial = argument.partition(b" ")
        mechanism = self._offered.get(word.upper())
        if not word:
            raise Reply(501, "5.5.4", "AUTH needs a mechanism")
        if mechanism is None:
            raise Reply(504, "5.5.4", "that mechanism is not offered here")
        self._mechanism = mechanism
        self._exchange = exchange = sasl.begin(mechanism, self._challenge)
        if not initial:
            return sasl.encode(exchange.opening)
        if not exchange.initial:
            raise Reply(501, "5.7.0", f"{mechanism.value} takes no initial response")
        return self._step(initial, first=True)

    def respond(self, line: bytes) -> bytes | Attempt:
        """The client's answer to a challenge -> the same. Raises Reply, and then the exchange is over."""
        if line == CANCEL:
            raise Reply(501, "5.7.0", "authentication cancelled")
        return self._step(line, first=False)

    def _step(self, line: bytes, *, first: bool) -> bytes | Attempt:
        assert self._exchange is not None
        try:
            result = self._exchange.step(sasl.decode_initial(line) if first else sasl.decode(line))
        except Refused as error:
            raise Reply(535 if error.code == sasl.INVALID else 501, error.code, error.why) from None
        if isinstance(result, bytes):
            return sasl.encode(result)
        self._exchange = None
        return Attempt(result.name, result.proof, self._mechanism, self._challenge, self._secured)
