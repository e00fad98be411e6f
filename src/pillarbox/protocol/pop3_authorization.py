"""How a POP3 client says who it is: USER and PASS, APOP (RFC 1939), AUTH (RFC 5034)."""

from __future__ import annotations

from ..terms import Attempt, Mechanism, Refused
from . import sasl
from .authentication import Authentication
from .lines import LineBuffer
from .pop3_dialect import Dialect
from .pop3_events import Login
from .pop3_reply import Replies


class Authorization(Replies):
    """What is understood before the login, but STLS."""

    __slots__ = (
        "_authentication",
        "_input",
        "_plaintext",
        "_responding",
        "_stls",
        "_user",
        "challenge",
        "name_refused",
        "secured",
    )

    def __init__(self, dialect: Dialect, challenge: bytes, *, secured: bool) -> None:
        super().__init__(dialect)
        self.challenge, self.secured = challenge, secured
        self._input = LineBuffer(dialect.line_limit)
        self._responding = False  # the next line answers a challenge of AUTH
        self._stls = False
        self._user: bytes | None = None
        self.name_refused = False  # USER was tried where no password may travel

    def _count_bad(self) -> bool:
        """A bad command more. True: that was one too many, and ends the conversation."""
        raise NotImplementedError

    def offer(self, mechanisms: tuple[Mechanism, ...], *, plaintext: bool) -> None:
        """From now on AUTH takes these, and USER and PASS are taken where `plaintext` says so."""
        self._plaintext = plaintext
        self._authentication = Authentication(mechanisms, self.challenge, secured=self.secured)

    @property
    def _sasl(self) -> bytes:
        """The line of CAPA (RFC 5034 section 6); empty: nothing is offered."""
        return b" ".join((b"SASL", *self._authentication.offered)) if self._authentication.offered else b""

    def _auth(self, argument: bytes) -> Login | None:
        if not self._authentication.offered:
            raise Refused("AUTH is not offered here")
        try:
            return self._go_on(self._authentication.begin(argument))
        except Refused as error:
            self._refused(error)
            return None

    def _respond(self, line: bytes) -> Login | None:
        """A line that answers a challenge; whatever comes of it, the next is a command again, unless we ask again."""
        self._responding, self._input.limit = False, self._dialect.line_limit
        try:
            return self._go_on(self._authentication.respond(line))
        except Refused as error:
            self._refused(error)
            return None

    def _refused(self, error: Refused) -> None:
        """Clients try one mechanism after another in good faith, but what says nothing is a bad command like any other."""
        if error.code != sasl.MALFORMED or not self._count_bad():
            raise _told(error) from None

    def _go_on(self, result: bytes | Attempt | tuple[Attempt, bytes]) -> Login | None:
        if isinstance(result, bytes):
            self._challenge(result)
            return None
        return Login(*result) if isinstance(result, tuple) else Login(result)

    def _challenge(self, line: bytes) -> None:
        self._say(b"+ %b\r\n" % line)
        self._responding, self._input.limit = True, sasl.LINE_LIMIT

    def _user_name(self, argument: bytes) -> None:
        self._user = None
        if not self._plaintext:
            self.name_refused = True
            remedies = (("STLS", self._stls), ("APOP", self.challenge), ("a mechanism of CAPA", self._sasl))
            remedy = ", or ".join([word for word, there in remedies if there][:2])
            raise Refused("a password would be readable on its way here" + (f": use {remedy}" * bool(remedy)), "AUTH")
        self._user = self._dialect.name(argument)
        self._ok(b"now PASS")

    def _pass(self, argument: bytes) -> Login:
        if self._user is None:
            raise Refused("USER first")
        password = self._dialect.password(argument)
        user, self._user = self._user, None
        return Login(Attempt(user, password, Mechanism.USER_PASS, self.challenge, self.secured))

    def _apop(self, argument: bytes) -> Login:
        if not self.challenge:
            raise Refused("APOP is not offered here", "AUTH")
        name, digest = self._dialect.name_and_digest(argument)
        return Login(Attempt(name, digest, Mechanism.APOP, self.challenge, self.secured))


def _told(error: Refused) -> Refused:
    """In POP3 there is a code for wrong credentials alone (RFC 3206)."""
    return Refused(error.why, "AUTH" if error.code == sasl.INVALID else "")
