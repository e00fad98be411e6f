"""What a client of SASL proves, and why it is refused before anybody looks at a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..terms import Refused

NAME_LIMIT = 255  # octets; RFC 4616 section 2 wants as many of a name and of a password
PASSWORD_LIMIT = 255

MALFORMED = "5.5.2"  # codes of Refused: what was sent says nothing
INVALID = "5.7.8"  # what was sent can't be right (RFC 4954 section 6)

_NO_NAME = re.compile(rb"[\x00-\x20\x7f]")  # as in POP3, so that a name is one in both or in none


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the client says it is, and its proof: the password, a digest, or the first message where more follow."""

    name: bytes
    proof: bytes = field(repr=False)


def checked_name(name: bytes) -> bytes:
    """The name, where it can be one. Raises Refused."""
    if not 0 < len(name) <= NAME_LIMIT or _NO_NAME.search(name):
        raise Refused(f"a name is 1 to {NAME_LIMIT} octets, without blanks or control characters", MALFORMED)
    return name


def check_identity(identity: bytes, name: bytes) -> None:
    """An authorization identity is empty, or the name again. Raises Refused."""
    if identity not in (b"", name):
        raise Refused("nobody may act for somebody else here; leave the authorization identity empty", INVALID)
