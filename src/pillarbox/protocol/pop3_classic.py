"""POP3 as qmail-popup and qmail-pop3d speak it, word for word, where that is no fault.

They differ from the daemon in their words; in LAST, which is understood; in RETR and TOP, which are one command with one
or two numbers; and in blanks before an argument, which are skipped. What they did against RFC 1939 is not done here:
STAT counts no deleted message, a number is 1 to 10 digits and nothing behind them, QUIT is answered once.
"""

from __future__ import annotations

from ..terms import Refused
from .pop3 import COMMANDS, Pop3Session
from .pop3_dialect import Dialect
from .pop3_events import State

LINE_LIMIT = 1024  # octets; more than what descriptor 3 takes of a name and a password together, 512
UNBOUNDED = 1 << 62  # bad commands that end no session; each costs its client more than us

_BEFORE, _AFTER = State.AUTHORIZATION, State.TRANSACTION
_SYNTAX = "syntax error"


def _greeting(host: bytes, challenge: bytes) -> bytes:
    return challenge


def _argument(argument: bytes) -> bytes:
    if not argument:
        raise Refused(_SYNTAX)
    return argument


def _name_and_digest(argument: bytes) -> tuple[bytes, bytes]:
    """The digest is what follows the first blank; it may be empty, and is then a wrong one."""
    name, blank, digest = argument.partition(b" ")
    if not blank:
        raise Refused(_SYNTAX)
    return name, digest


CLASSIC = Dialect(
    commands={
        _BEFORE: {verb: COMMANDS[_BEFORE][verb] for verb in (b"APOP", b"PASS", b"QUIT", b"USER")}
        | {b"NOOP": Pop3Session._noop},
        _AFTER: {
            verb: COMMANDS[_AFTER][verb] for verb in (b"DELE", b"LIST", b"NOOP", b"QUIT", b"RSET", b"STAT", b"UIDL")
        }
        | {b"LAST": Pop3Session._last, b"RETR": Pop3Session._retr_or_top, b"TOP": Pop3Session._retr_or_top},
    },
    known=frozenset(),
    capabilities=(
        b"TOP",
        b"UIDL",
        b"PIPELINING",
        b"EXPIRE NEVER",
        b"IMPLEMENTATION Pillarbox",
    ),  # its -ERR have no codes
    line_limit=LINE_LIMIT,
    greeting=_greeting,
    courtesy=False,
    leading_blanks=False,
    name=_argument,
    password=_argument,
    name_and_digest=_name_and_digest,
    unknown={_BEFORE: "authorization first", _AFTER: "unimplemented"},
    no_number=_SYNTAX,
    too_low="messages are counted from 1",
    too_high="not that many messages",
    deleted="already deleted",
    not_removed="unable to unlink all deleted messages",
    not_removed_code="",
)

# For clients that ask what the server can do, RFC 2449; qmail's programs knew no CAPA.
CLASSIC_WITH_CAPA = CLASSIC._replace(
    commands={state: {**commands, b"CAPA": Pop3Session._capa} for state, commands in CLASSIC.commands.items()}
)
