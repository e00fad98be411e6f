"""checkapoppw: let a system user in by an APOP digest (RFC 1939 section 7), and become that user.

    checkapoppw [--faithful] PROGRAM [ARG ...]

All as with `checkpw`, but that descriptor 3 has the digest instead of a password, and the timestamp, with its angle
brackets, is what it was made with: MD5 of timestamp and secret, in lower-case hex.

Unlike the original it lets nobody in by an empty secret, nor by a digest made with an empty timestamp; `--faithful`
changes nothing about that. Its other departures are those of `checkpw`.
"""

from __future__ import annotations

from ..terms import Mechanism
from . import checkpw
from .chain import Environment


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs, or returns why not."""
    return checkpw.check(Mechanism.APOP, arguments, environment)
