"""POP3 as a conversation (RFC 1939, 2449, 2595, 3206, 5034). Bytes in, events and bytes out; no socket, no clock, no file.

COMMANDS, at the end, says what each state understands, and the Dialect in which words. What the session cannot know by
itself leaves it as an event (see pop3_events); it reads no further until the caller has answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import compress
from typing import TypeVar

from ..listing import EMPTY, Listing
from ..terms import Mechanism, Refused
from . import pop3_dialect, sasl
from .lines import LineTooLong
from .pop3_authorization import Authorization
from .pop3_dialect import Command, Dialect
from .pop3_events import Event, Login, Retrieve, StartTls, State, Update
from .pop3_reply import ERROR_LIMIT, HIGH_WATER

__all__ = [
    "COMMANDS",
    "ERROR_LIMIT",
    "HIGH_WATER",
    "Event",
    "Login",
    "Pop3Session",
    "Retrieve",
    "StartTls",
    "State",
    "Update",
]

LINE_LIMIT = 255  # RFC 2449 section 4, CRLF included

_NUMBER = re.compile(rb"[0-9]{1,10}")
_TWO_NUMBERS = re.compile(rb"([0-9]{1,10}) +([0-9]{1,10})")

CAPABILITIES = (
    b"TOP", b"UIDL", b"PIPELINING", b"RESP-CODES", b"AUTH-RESP-CODE", b"EXPIRE NEVER", b"IMPLEMENTATION Pillarbox",
)  # fmt: skip
Answered = TypeVar("Answered", Login, Retrieve, Update, StartTls)


class Pop3Session(Authorization):
    """One connection's worth of POP3, seen from the server."""

    __slots__ = (
        "_bad",
        "_bad_after",
        "_commands",
        "_deleted",
        "_deleted_count",
        "_deleted_octets",
        "_pending",
        "listing",
        "quit",
        "removed",
        "state",
    )

    def __init__(
        self,
        host: bytes,
        challenge: bytes,
        *,
        plaintext: bool,
        mechanisms: tuple[Mechanism, ...] = (),
        secured: bool = False,
        stls: bool = False,
        bad_before: int = 3,
        bad_after: int = 20,
        dialect: Dialect | None = None,
    ) -> None:
        """`challenge`: with its angle brackets, or empty where APOP is not offered. `plaintext`: USER/PASS is allowed.

        `mechanisms`: AUTH is offered with these (RFC 5034); of these CRAM-MD5 needs the `challenge`. `secured`: TLS covers
        the connection from its first octet. `stls`: where it does not, it can be begun. `bad_before`, `bad_after`: how
        many bad commands before and after login end the conversation. `dialect`: the daemon's, unless told otherwise.
        """
        dialect = dialect or DAEMON
        super().__init__(dialect, challenge, secured=secured)
        self._commands = dialect.commands[State.AUTHORIZATION]
        self.state = State.AUTHORIZATION
        self.listing = EMPTY
        self.quit = False  # the client said QUIT
        self.removed = 0  # messages removed at the end
        self._stls = stls and not secured
        self.offer(mechanisms, plaintext=plaintext)
        self._bad, self._bad_after = bad_before, bad_after
        self._deleted: bytes | bytearray = b""  # octet n-1 is 1 when message n is deleted; empty before the first DELE
        self._deleted_count = self._deleted_octets = 0
        self._pending: Event | None = None
        self._data(dialect.greeting(host, challenge))

    @classmethod
    def logged_in(cls, listing: Listing, dialect: Dialect, bad_after: int) -> Pop3Session:
        """A session that somebody else has begun: it stands behind a good login, and says so first."""
        session = cls(b"", b"", plaintext=True, bad_after=bad_after, dialect=dialect)
        session.take_output()
        session._enter(listing)
        return session

    # The verbs of the caller.

    def receive(self, data: bytes) -> None:
        """Octets from the client."""
        if self.state is not State.CLOSED:
            self._input.feed(data)

    def next_event(self) -> Event | None:
        """Obey commands until one needs the caller. None: send the output, then read; if `held_back`, call again."""
        while self._pending is None and self.state is not State.CLOSED:
            if self.held_back:
                return None
            try:
                line = self._input.next_line()
                if line is None:
                    return None
                self._pending = self._obey(line)
            except LineTooLong:
                self.fail("line too long")
            except Refused as error:
                self._error(error.why, error.code)
            if self._pending is not None:
                return self._pending
        return None

    @property
    def pending(self) -> int:
        """Octets received and not yet obeyed."""
        return self._input.pending

    def is_deleted(self, number: int) -> bool:
        """Has message `number`, 1 to listing.count, been marked by DELE?"""
        return bool(self._deleted) and self._deleted[number - 1] == 1

    # The answers.

    def login_accepted(self, listing: Listing) -> None:
        """Yes to Login."""
        self._answered(Login)
        self._enter(listing)

    def _enter(self, listing: Listing) -> None:
        self.state, self.listing = State.TRANSACTION, listing
        self._commands = self._dialect.commands[State.TRANSACTION]
        self._bad = self._bad_after
        self._ok(b"%d messages, %d octets" % (listing.count, listing.octets))

    def login_challenged(self, challenge: bytes) -> None:
        """Go on with Login: challenge the client, whose answer comes as the `response` of another Login."""
        self._answered(Login)
        self._challenge(sasl.encode(challenge))

    def tls_established(self, mechanisms: tuple[Mechanism, ...] = (), *, plaintext: bool) -> None:
        """Yes to StartTls: what the client said before is forgotten (RFC 2595 section 4). Arguments: see __init__."""
        self._answered(StartTls)
        if self._input.pending:  # they came in the clear, so nobody knows from whom
            self._injected()
            return
        self.secured, self._stls, self._user = True, False, None
        self.offer(mechanisms, plaintext=plaintext)

    def message_opened(self) -> None:
        """Yes to Retrieve. The caller sends the message before it asks for the next event."""
        event = self._answered(Retrieve)
        if event.body_lines is None:
            self._ok(b"%d octets" % self.listing.size(event.number))
        else:
            self._ok()

    def updated(self, failed: int) -> None:
        """Update is done; `failed` messages could not be removed."""
        event = self._answered(Update)
        self.state = State.CLOSED
        self.removed = len(event.numbers) - failed
        if failed:
            self._error(self._dialect.not_removed.format(failed=failed), self._dialect.not_removed_code)
        else:
            self._ok(b"goodbye, %d removed" % self.removed)

    def refuse(self, why: str, code: str = "", *, final: bool = False) -> None:
        """No to the event that waits; `final` ends the conversation, as a refused Update always does."""
        if self._pending is None:
            raise RuntimeError("no event is waiting")
        if final or isinstance(self._pending, Update):
            self.state = State.CLOSED
        self._pending = None
        self._error(why, code)

    def fail(self, why: str, code: str = "") -> None:
        """End the conversation from our side: one -ERR, whatever the state. Not in the middle of a body."""
        if self.state is not State.CLOSED:
            self.state, self._pending = State.CLOSED, None
            self._input.take_rest()
            self._error(why, code)

    def _injected(self) -> None:
        """To obey under TLS what came before it is CVE-2011-0411; to drop it silently would hide the attack."""
        self.fail("octets behind STLS came in the clear, goodbye")

    # Obeying one line.

    def _obey(self, line: bytes) -> Event | None:
        if self._responding:
            return self._respond(line)
        verb, _, argument = line.partition(b" ")
        dialect = self._dialect
        command = self._commands.get(verb.upper())
        if command is not None:
            return command(self, argument if dialect.leading_blanks else argument.lstrip(b" "))
        if verb.upper() in dialect.known:
            before = ", or not before login" if self.state is State.AUTHORIZATION else ""
            raise Refused("not offered here" + before)
        if self._count_bad():
            return None
        raise Refused(dialect.unknown[self.state])

    def _count_bad(self) -> bool:
        self._bad -= 1
        if self._bad <= 0:
            self.fail("too many bad commands, goodbye")
        return self._bad <= 0

    def _capa(self, argument: bytes) -> None:
        stls = self._stls and self.state is State.AUTHORIZATION
        more = filter(None, (b"USER" * self._plaintext, self._sasl, b"STLS" * stls))
        self._multiline(b"capabilities", (b"\r\n".join((*self._dialect.capabilities, *more)) + b"\r\n",))

    def _noop(self, argument: bytes) -> None:
        self._ok()

    def _quit(self, argument: bytes) -> Update | None:
        self.quit = True
        if self._deleted_count:
            return Update(tuple(compress(range(1, self.listing.count + 1), self._deleted)))
        self.state = State.CLOSED
        self._ok(b"goodbye")
        return None

    # AUTHORIZATION

    def _start_tls(self, argument: bytes) -> StartTls | None:
        if not self._stls:
            raise Refused("TLS is active already" if self.secured else "STLS is not offered here")
        if argument:
            raise Refused("STLS takes no argument")
        if self._input.pending:
            self._injected()
            return None
        self._ok(b"begin TLS")
        return StartTls()

    # TRANSACTION

    def _stat(self, argument: bytes) -> None:
        self._data(b"%d %d" % (self.listing.count - self._deleted_count, self.listing.octets - self._deleted_octets))

    def _list(self, argument: bytes) -> None:
        if argument:
            number = self._number(argument)
            self._data(b"%d %d" % (number, self.listing.size(number)))
        else:
            self._multiline(b"sizes follow", self.listing.list_lines(self._deleted))

    def _uidl(self, argument: bytes) -> None:
        if argument:
            number = self._number(argument)
            self._data(b"%d %b" % (number, self.listing.uidl(number)))
        else:
            self._multiline(b"unique ids follow", self.listing.uidl_lines(self._deleted))

    def _retr(self, argument: bytes) -> Retrieve:
        return Retrieve(self._number(argument))

    def _top(self, argument: bytes) -> Retrieve:
        numbers = _TWO_NUMBERS.fullmatch(argument)
        if numbers is None:
            raise Refused("TOP needs a message number and a number of lines")
        return Retrieve(self._number(numbers[1]), int(numbers[2]))

    def _retr_or_top(self, argument: bytes) -> Retrieve:
        """Of the classic dialect: without a second number, or lines of a body, it is the whole message."""
        number, _, lines = argument.partition(b" ")
        wanted, lines = self._number(number), lines.strip(b" ")
        if lines and not _NUMBER.fullmatch(lines):
            raise Refused(self._dialect.no_number)
        return Retrieve(wanted, int(lines) if lines else None)

    def _last(self, argument: bytes) -> None:
        """RFC 1460 has it; qmail-pop3d answers with the highest number that has been deleted."""
        self._data(b"%d" % (self._deleted.rfind(1) + 1))

    def _dele(self, argument: bytes) -> None:
        number = self._number(argument)
        if not isinstance(self._deleted, bytearray):
            self._deleted = bytearray(self.listing.count)
        self._deleted[number - 1] = 1
        self._deleted_count += 1
        self._deleted_octets += self.listing.size(number)
        self._ok(b"deleted")

    def _rset(self, argument: bytes) -> None:
        self._deleted, self._deleted_count, self._deleted_octets = b"", 0, 0
        self._ok(b"%d messages, %d octets" % (self.listing.count, self.listing.octets))

    # Words and numbers.

    def _number(self, argument: bytes) -> int:
        if not _NUMBER.fullmatch(argument):
            raise Refused(self._dialect.no_number)
        number, count = int(argument), self.listing.count
        if not 1 <= number <= count:
            raise Refused((self._dialect.too_high if number else self._dialect.too_low).format(count=count))
        if self.is_deleted(number):
            raise Refused(self._dialect.deleted)
        return number

    def _answered(self, kind: type[Answered]) -> Answered:
        event = self._pending
        if not isinstance(event, kind):
            raise RuntimeError(f"{type(event).__name__} is waiting, not {kind.__name__}")
        self._pending = None
        return event


COMMANDS: Mapping[State, Mapping[bytes, Command]] = {
    State.AUTHORIZATION: {
        b"APOP": Pop3Session._apop,
        b"AUTH": Pop3Session._auth,
        b"CAPA": Pop3Session._capa,
        b"PASS": Pop3Session._pass,
        b"QUIT": Pop3Session._quit,
        b"STLS": Pop3Session._start_tls,
        b"USER": Pop3Session._user_name,
    },
    State.TRANSACTION: {
        b"CAPA": Pop3Session._capa,
        b"DELE": Pop3Session._dele,
        b"LIST": Pop3Session._list,
        b"NOOP": Pop3Session._noop,
        b"QUIT": Pop3Session._quit,
        b"RETR": Pop3Session._retr,
        b"RSET": Pop3Session._rset,
        b"STAT": Pop3Session._stat,
        b"TOP": Pop3Session._top,
        b"UIDL": Pop3Session._uidl,
    },
}

# What clients ask for in good faith: refused where it can't be, but no sign of a client that speaks no POP3.
KNOWN = frozenset(verb for commands in COMMANDS.values() for verb in commands) | frozenset(
    b"LANG LAST UTF8 XTND".split()
)

DAEMON = Dialect(
    commands=COMMANDS,
    known=KNOWN,
    capabilities=CAPABILITIES,
    line_limit=LINE_LIMIT,
    greeting=pop3_dialect.greeting,
    courtesy=True,
    leading_blanks=True,
    name=pop3_dialect.name,
    password=pop3_dialect.password,
    name_and_digest=pop3_dialect.name_and_digest,
    unknown={State.AUTHORIZATION: "unknown command; log in first", State.TRANSACTION: "unknown command"},
    no_number="a message number is 1 to 10 digits",
    too_low="no such message, there are {count}",
    too_high="no such message, there are {count}",
    deleted="that message is deleted",
    not_removed="{failed} of the deleted messages could not be removed",
    not_removed_code="SYS/TEMP",
)
