"""The command AUTH as SMTP (RFC 4954) and POP3 (RFC 5034) have it: what is offered, and the exchange under way."""

from __future__ import annotations

from ..terms import Attempt, Mechanism, Refused
from . import sasl, scram

CANCEL = b"*"
SYNTAX = "5.5.4"  # further codes of Refused, beside sasl's: no mechanism is named
NOT_OFFERED = "5.7.4"
ENDED = "5.7.0"  # the exchange is over, and nobody was wrong


class Authentication:
    """The AUTH commands of one conversation. Nothing that it says holds a word of the client's.

    Methods raise Refused, and then the exchange is over.
    """

    __slots__ = ("_attempt", "_challenge", "_exchange", "_mechanism", "_secured", "offered")

    def __init__(self, mechanisms: tuple[Mechanism, ...], challenge: bytes, *, secured: bool) -> None:
        """`challenge`: with its angle brackets; without one CRAM-MD5 is not offered. `secured`: TLS covers all."""
        self.offered = {  # by the word that names each
            mechanism.value.encode(): mechanism
            for mechanism in mechanisms
            if challenge or mechanism is not Mechanism.CRAM_MD5
        }
        self._challenge, self._secured = challenge, secured
        self._mechanism = Mechanism.PLAIN
        self._exchange: sasl.Exchange | None = None
        self._attempt: Attempt | None = None  # of SCRAM: what has begun

    def begin(self, argument: bytes) -> bytes | Attempt:
        """The argument of AUTH -> the line to challenge the client with, or what to judge."""
        word, _, initial = argument.partition(b" ")
        mechanism = self.offered.get(word.upper())
        if not word:
            raise Refused("AUTH needs a mechanism", SYNTAX)
        if mechanism is None:
            raise Refused("that mechanism is not offered here", NOT_OFFERED)
        self._mechanism, self._attempt = mechanism, None
        self._exchange = exchange = sasl.begin(mechanism, self._challenge)
        if not initial:
            return sasl.encode(exchange.opening)
        if not exchange.initial:
            raise Refused(f"{mechanism.value} takes no initial response", ENDED)
        return self._step(sasl.decode_initial(initial))

    def respond(self, line: bytes) -> bytes | Attempt | tuple[Attempt, bytes]:
        """The client's answer to a challenge -> the same; or the attempt that goes on, with what it goes on with."""
        if line == CANCEL:
            raise Refused("authentication cancelled", ENDED)
        response = sasl.decode(line)
        if self._attempt is None:
            return self._step(response)
        if len(response) > scram.MESSAGE_LIMIT:
            raise Refused("that is no message of SCRAM (RFC 5802 section 7)", sasl.MALFORMED)
        return self._attempt, response

    def _step(self, response: bytes) -> bytes | Attempt:
        assert self._exchange is not None
        result = self._exchange.step(response)
        if isinstance(result, bytes):
            return sasl.encode(result)
        self._exchange = None
        attempt = Attempt(result.name, result.proof, self._mechanism, self._challenge, self._secured)
        if self._mechanism in scram.HASHES:
            self._attempt = attempt
        return attempt
