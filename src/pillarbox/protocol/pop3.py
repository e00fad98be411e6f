"""POP3 as a conversation (RFC 1939, 2449, 2595, 3206). Bytes in, events and bytes out; no socket, no clock, no file.

COMMANDS, at the end, says what each state understands. What the session cannot know by itself leaves it as an event
(see pop3_events); it reads no further until the caller has answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import compress
from typing import TypeVar

from ..listing import EMPTY, Listing
from ..terms import Attempt, Mechanism, Refused
from .lines import LineBuffer, LineTooLong
from .pop3_events import Event, Login, Retrieve, StartTls, State, Update

__all__ = ["Event", "Login", "Pop3Session", "Retrieve", "StartTls", "State", "Update"]

LINE_LIMIT = 255  # RFC 2449 section 4, CRLF included
HIGH_WATER = 64 << 10  # octets of output; above it no further command is obeyed until some has been taken
NAME_LIMIT = 128  # octets; local@domain, generously (RFC 1939 allows an argument 40)
ERROR_LIMIT = 500  # octets; with -ERR and CRLF within the 512 of a response (RFC 2449 section 4)

_NUMBER = re.compile(rb"[0-9]{1,10}")
_TWO_NUMBERS = re.compile(rb"([0-9]{1,10}) +([0-9]{1,10})")
_NO_NAME = re.compile(rb"[\x00-\x20\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

CAPABILITIES = (
    b"TOP",
    b"UIDL",
    b"PIPELINING",
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"EXPIRE NEVER",
    b"IMPLEMENTATION Pillarbox",
)


Answered = TypeVar("Answered", Login, Retrieve, Update, StartTls)


class Pop3Session:
    """One connection's worth of POP3, seen from the server."""

    __slots__ = (
        "_bad",
        "_bad_after",
        "_deleted",
        "_deleted_count",
        "_deleted_octets",
        "_input",
        "_output",
        "_pending",
        "_plaintext",
        "_size",
        "_stls",
        "_user",
        "challenge",
        "listing",
        "quit",
        "removed",
        "secured",
        "state",
    )

    def __init__(
        self,
        host: bytes,
        challenge: bytes,
        *,
        plaintext: bool,
        secured: bool = False,
        stls: bool = False,
        bad_before: int = 3,
        bad_after: int = 20,
    ) -> None:
        """`challenge`: with its angle brackets, or empty where APOP is not offered. `plaintext`: USER/PASS is allowed.

        `secured`: TLS covers the connection from its first octet. `stls`: where it does not, it can be begun.
        `bad_before`, `bad_after`: how many bad commands before and after login end the conversation.
        """
        self.state = State.AUTHORIZATION
        self.challenge = challenge
        self.secured = secured
        self.listing = EMPTY
        self.quit = False  # the client said QUIT
        self.removed = 0  # messages removed at the end
        self._plaintext = plaintext
        self._stls = stls and not secured
        self._bad, self._bad_after = bad_before, bad_after
        self._user: bytes | None = None
        self._deleted: bytes | bytearray = b""  # octet n-1 is 1 when message n is deleted; empty before the first DELE
        self._deleted_count = self._deleted_octets = 0
        self._pending: Event | None = None
        self._input = LineBuffer(LINE_LIMIT)
        self._output: list[bytes] = []
        self._size = 0
        self._ok(host + b" Pillarbox" + (b" " + challenge if challenge else b""))

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

    def take_output(self) -> bytes:
        """Octets for the client."""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output = []
        self._size = 0
        return output

    @property
    def held_back(self) -> bool:
        """So much output waits to be taken that no further command is obeyed before."""
        return self._size > HIGH_WATER

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
        self.state, self.listing = State.TRANSACTION, listing
        self._bad = self._bad_after
        self._ok(b"%d messages, %d octets" % (listing.count, listing.octets))

    def tls_established(self, *, plaintext: bool) -> None:
        """Yes to StartTls: what the client said before is forgotten (RFC 2595 section 4). `plaintext`: see __init__."""
        self._answered(StartTls)
        if self._input.pending:  # they came in the clear, so nobody knows from whom
            self._injected()
            return
        self.secured, self._stls, self._plaintext = True, False, plaintext
        self._user = None

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
            self._error(f"{failed} of the deleted messages could not be removed", "SYS/TEMP")
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
        verb, _, argument = line.partition(b" ")
        command = COMMANDS[self.state].get(verb.upper())
        if command is not None:
            return command(self, argument)
        if verb.upper() in KNOWN:
            before = ", or not before login" if self.state is State.AUTHORIZATION else ""
            raise Refused("not offered here" + before)
        self._bad -= 1
        if self._bad <= 0:
            self.fail("too many bad commands, goodbye")
            return None
        raise Refused("unknown command" if self.state is State.TRANSACTION else "unknown command; log in first")

    def _capa(self, argument: bytes) -> None:
        user = (b"USER",) if self._plaintext else ()
        stls = (b"STLS",) if self._stls and self.state is State.AUTHORIZATION else ()
        self._multiline(b"capabilities", (b"\r\n".join(CAPABILITIES + user + stls) + b"\r\n",))

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

    def _user_name(self, argument: bytes) -> None:
        self._user = None
        if not self._plaintext:
            remedy = "STLS, or APOP" if self._stls else "APOP"
            raise Refused(f"a password would be readable on its way here: use {remedy}", "AUTH")
        self._user = _name(argument)
        self._ok(b"now PASS")

    def _pass(self, argument: bytes) -> Login:
        if self._user is None:
            raise Refused("USER first")
        user, self._user = self._user, None
        return Login(Attempt(user, argument, Mechanism.USER_PASS, self.challenge, self.secured))

    def _apop(self, argument: bytes) -> Login:
        name, _, digest = argument.rpartition(b" ")
        if not self.challenge:
            raise Refused("APOP is not offered here", "AUTH")
        return Login(Attempt(_name(name), digest, Mechanism.APOP, self.challenge, self.secured))

    # TRANSACTION

    def _stat(self, argument: bytes) -> None:
        self._ok(b"%d %d" % (self.listing.count - self._deleted_count, self.listing.octets - self._deleted_octets))

    def _list(self, argument: bytes) -> None:
        if argument:
            number = self._number(argument)
            self._ok(b"%d %d" % (number, self.listing.size(number)))
        else:
            self._multiline(b"sizes follow", self.listing.list_lines(self._deleted))

    def _uidl(self, argument: bytes) -> None:
        if argument:
            number = self._number(argument)
            self._ok(b"%d %b" % (number, self.listing.uidl(number)))
        else:
            self._multiline(b"unique ids follow", self.listing.uidl_lines(self._deleted))

    def _retr(self, argument: bytes) -> Retrieve:
        return Retrieve(self._number(argument))

    def _top(self, argument: bytes) -> Retrieve:
        numbers = _TWO_NUMBERS.fullmatch(argument)
        if numbers is None:
            raise Refused("TOP needs a message number and a number of lines")
        return Retrieve(self._number(numbers[1]), int(numbers[2]))

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
            raise Refused("a message number is 1 to 10 digits")
        number = int(argument)
        if not 1 <= number <= self.listing.count:
            raise Refused(f"no such message, there are {self.listing.count}")
        if self.is_deleted(number):
            raise Refused("that message is deleted")
        return number

    def _ok(self, text: bytes = b"") -> None:
        self._say(b"+OK %b\r\n" % text if text else b"+OK\r\n")

    def _error(self, text: str, code: str = "") -> None:
        words = _CONTROL.sub(" ", f"[{code}] {text}" if code else text)[:ERROR_LIMIT]
        self._say(b"-ERR %b\r\n" % words.encode("ascii", "replace"))

    def _multiline(self, title: bytes, pieces: Iterable[bytes]) -> None:
        self._ok(title)
        for piece in pieces:
            self._say(piece)
        self._say(b".\r\n")

    def _say(self, data: bytes) -> None:
        self._output.append(data)
        self._size += len(data)

    def _answered(self, kind: type[Answered]) -> Answered:
        event = self._pending
        if not isinstance(event, kind):
            raise RuntimeError(f"{type(event).__name__} is waiting, not {kind.__name__}")
        self._pending = None
        return event


def _name(argument: bytes) -> bytes:
    if not argument or len(argument) > NAME_LIMIT or _NO_NAME.search(argument):
        raise Refused("a name is needed, without blanks or control characters")
    return argument


Command = Callable[[Pop3Session, bytes], Event | None]

COMMANDS: dict[State, dict[bytes, Command]] = {
    State.AUTHORIZATION: {
        b"APOP": Pop3Session._apop,
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
KNOWN = {verb for commands in COMMANDS.values() for verb in commands} | {
    b"AUTH",
    b"LANG",
    b"LAST",
    b"UTF8",
    b"XTND",
}
