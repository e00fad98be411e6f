"""Passwords that a person chose: kept as argon2id alone. To verify one takes about 50 ms, and 20 MiB."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ..terms import Refused
from .secrets import check_chosen

if TYPE_CHECKING:
    from argon2 import PasswordHasher

STRONG_MINIMUM = 20  # characters of a chosen secret that APOP may use
STRONG_SCORE = 4  # zxcvbn's highest
GUESSES_A_SECOND = 1.6e11  # MD5 on one graphics card (hashcat, RTX 4090)
LOOKED_AT = 72  # characters; zxcvbn's time grows with the square, and it refuses more
PASSES, MEMORY_KIB, LANES = 2, 19_456, 1  # OWASP's Password Storage Cheat Sheet
_NOBODYS = (  # of random octets that were thrown away
    "$argon2id$v=19$m=19456,t=2,p=1$8rNA5UyivZU8a51rx3+3og$UWiTgE2TszxnFVNf/2SzOK086Gx2GEhNuWOu0iDQw6I"
)


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # here: most homes hold no chosen password, and it costs 60 ms

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def load() -> None:
    """Before `verifies` runs in a thread: that one may have a user's uid meanwhile, who can't read our library."""
    _hasher()


def hashed(password: bytes) -> str:
    """The verifier to keep. Raises Refused for what a person may not choose."""
    check_chosen(password)
    return _hasher().hash(password)


def verifies(verifier: str | None, password: bytes) -> bool:
    """Is it that password? None costs the same work, and is never. May run in a thread.

    Raises whatever argon2 does where it can't tell: no memory, a damaged verifier. That is nobody's wrong password.
    """
    from argon2.exceptions import VerifyMismatchError

    try:
        return _hasher().verify(verifier or _NOBODYS, password) and bool(verifier)
    except VerifyMismatchError:
        return False


def check_strong(secret: bytes) -> str:
    """May APOP use this chosen secret? How long it takes to guess from one overheard digest. Raises Refused."""
    from zxcvbn import zxcvbn

    check_chosen(secret)
    if len(secret) < STRONG_MINIMUM:
        raise Refused(
            f"a secret that you choose needs {STRONG_MINIMUM} characters or more, as APOP shows a digest of it; leave"
            " the choice to us, or let --password-stdin keep it for logins under TLS alone"
        )
    found = zxcvbn(secret.decode("utf-8", "replace")[:LOOKED_AT])
    time = _duration(float(found["guesses"]) / GUESSES_A_SECOND)
    if found["score"] < STRONG_SCORE:
        raise Refused(f"this secret can be guessed in {time} once its digest was overheard; leave the choice to us")
    return time


def _duration(seconds: float) -> str:
    """Such as "3 days"; of what is longer than anybody waits, no number."""
    left = seconds
    for name, size in (("second", 60), ("minute", 60), ("hour", 24), ("day", 365), ("year", 1000)):
        if left < size:
            count = int(left)
            return f"less than a {name}" if count < 1 else f"about {count} {name}{'s' * (count != 1)}"
        left /= size
    return "more than 1000 years"
