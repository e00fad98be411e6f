"""What an eavesdropper learns from a login, and whether a password may be sent at all."""

from __future__ import annotations

from ..terms import Attempt, Exposure, Mechanism

DIGESTS = frozenset(
    (
        Mechanism.APOP,
        Mechanism.CRAM_MD5,
        Mechanism.SCRAM_SHA_1,
        Mechanism.SCRAM_SHA_256,
        Mechanism.SCRAM_SHA_256_PLUS,
    )
)


def of(attempt: Attempt) -> Exposure:
    """What an eavesdropper learnt from this attempt. A failed one counts too: a typo is nearly the password."""
    if attempt.secured:
        return Exposure.NOTHING
    return Exposure.DIGEST if attempt.mechanism in DIGESTS else Exposure.PASSWORD


def plaintext_allowed(policy: str, *, trusted: bool, secured: bool) -> bool:
    """May a password be sent here? `policy`: "refuse", "trusted" or "allow" (config.Policy.plaintext)."""
    return secured or policy == "allow" or (policy == "trusted" and trusted)
