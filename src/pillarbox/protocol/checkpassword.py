"""What a front program hands to a checkpassword program on descriptor 3: login, proof and timestamp, each ended by NUL.

The timestamp is the APOP challenge with its angle brackets; the proof is then the digest. No RFC has this interface:
it is that of qmail-popup, as checkpw and checkapoppw read it.
"""

from __future__ import annotations

from ..terms import Attempt, Mechanism, Misuse, Refused

LIMIT = 512  # octets in all; checkpw refuses one more


def parse(record: bytes, mechanism: Mechanism) -> Attempt:
    """The attempt in what was read to the end of the descriptor, or up to LIMIT + 1 octets.

    The timestamp may be missing unless a digest was made with it; what follows it is ignored. Raises Refused for a
    record that is too long, Misuse for one that is none.
    """
    if len(record) > LIMIT:
        raise Refused(f"descriptor 3 holds more than {LIMIT} octets")
    name, *rest = record.split(b"\0")[:-1] or [b""]
    if len(rest) < (2 if mechanism is Mechanism.APOP else 1):
        raise Misuse("descriptor 3 must hold login, password and timestamp, each ended by a NUL")
    return Attempt(name, rest[0], mechanism, b"".join(rest[1:2]))


def render(attempt: Attempt) -> bytes:
    """The record of an attempt; `parse` gives it back. Raises Refused for one that no record can hold."""
    fields = (attempt.name, attempt.proof, attempt.challenge)
    record = b"".join(field + b"\0" for field in fields)
    if record.count(b"\0") > len(fields):
        raise Refused("a login name or password can't have a NUL in it")
    if len(record) > LIMIT:
        raise Refused(f"login name and password are longer than {LIMIT} octets")
    return record
