"""AUTH in SMTP (RFC 4954): its line of EHLO, and its refusals."""

from __future__ import annotations

from ..terms import Attempt, Refused
from . import authentication, sasl
from .smtp_reply import Reply

_CODES = {sasl.INVALID: (535, sasl.INVALID), authentication.NOT_OFFERED: (504, "5.5.4")}  # any other: 501


class Authentication(authentication.Authentication):
    """The AUTH commands of one conversation; methods raise Reply."""

    __slots__ = ()

    @property
    def keyword(self) -> bytes:
        """The line of EHLO; empty: nothing is offered."""
        return b" ".join((b"AUTH", *self.offered)) if self.offered else b""

    def begin(self, argument: bytes) -> bytes | Attempt:
        try:
            return super().begin(argument)
        except Refused as error:
            raise _reply(error) from None

    def respond(self, line: bytes) -> bytes | Attempt | tuple[Attempt, bytes]:
        try:
            return super().respond(line)
        except Refused as error:
            raise _reply(error) from None


def _reply(error: Refused) -> Reply:
    code, enhanced = _CODES.get(error.code, (501, error.code))
    return Reply(code, enhanced, error.why)
