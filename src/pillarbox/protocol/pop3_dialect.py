"""In which words a POP3 session answers, and how it reads arguments: what the daemon and qmail's programs differ in.

What the commands do is the same in every dialect, and stands in `pop3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..terms import Refused
from .pop3_events import Event, State

NAME_LIMIT = 128  # octets; local@domain, generously (RFC 1939 allows an argument 40)

_NO_NAME = re.compile(rb"[\x00-\x20\x7f]")

Command = Callable[[Any, bytes], Event | None]  # of the session and an argument; raises Refused


class Dialect(NamedTuple):
    """One way to speak. All functions raise Refused with what the client shall hear."""

    commands: Mapping[State, Mapping[bytes, Command]]  # what each state understands
    known: frozenset[bytes]  # refused where not understood, but no sign of a client that speaks no POP3
    capabilities: tuple[bytes, ...]  # for CAPA, but USER
    line_limit: int  # octets, line end included
    greeting: Callable[[bytes, bytes], bytes]  # of host and challenge: what follows +OK
    courtesy: bool  # +OK is followed by words for a person; otherwise by a blank, and by data where there is some
    leading_blanks: bool  # belong to an argument
    name: Callable[[bytes], bytes]  # USER's argument
    password: Callable[[bytes], bytes]  # PASS's
    name_and_digest: Callable[[bytes], tuple[bytes, bytes]]  # APOP's
    unknown: Mapping[State, str]  # the answer to what is not known at all
    no_number: str
    too_low: str
    too_high: str  # with {count}: of messages
    deleted: str
    not_removed: str  # with {failed}: of messages that should have been removed
    not_removed_code: str  # RFC 3206


def greeting(host: bytes, challenge: bytes) -> bytes:
    """Who we are, and the challenge where there is one."""
    return host + b" Pillarbox" + (b" " + challenge if challenge else b"")


def name(argument: bytes) -> bytes:
    """One that an account can have."""
    if not argument or len(argument) > NAME_LIMIT or _NO_NAME.search(argument):
        raise Refused("a name is needed, without blanks or control characters")
    return argument


def password(argument: bytes) -> bytes:
    """None at all is a wrong one."""
    return argument


def name_and_digest(argument: bytes) -> tuple[bytes, bytes]:
    """The digest is what follows the last blank."""
    user, _, digest = argument.rpartition(b" ")
    return name(user), digest
