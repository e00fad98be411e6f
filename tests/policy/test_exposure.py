"""What an eavesdropper learns, and when a password may be sent."""

import pytest

from pillarbox.policy import exposure
from pillarbox.terms import Attempt, Exposure, Mechanism


@pytest.mark.parametrize(
    ("mechanism", "secured", "learnt"),
    [
        (Mechanism.USER_PASS, False, Exposure.PASSWORD),
        (Mechanism.APOP, False, Exposure.DIGEST),
        (Mechanism.PLAIN, False, Exposure.PASSWORD),
        (Mechanism.LOGIN, False, Exposure.PASSWORD),
        (Mechanism.CRAM_MD5, False, Exposure.DIGEST),
        (Mechanism.SCRAM_SHA_256, False, Exposure.DIGEST),
        (Mechanism.SCRAM_SHA_1, False, Exposure.DIGEST),
        (Mechanism.SCRAM_SHA_256_PLUS, True, Exposure.NOTHING),
        (Mechanism.PLAIN, True, Exposure.NOTHING),
        (Mechanism.CRAM_MD5, True, Exposure.NOTHING),
        (Mechanism.USER_PASS, True, Exposure.NOTHING),
        (Mechanism.APOP, True, Exposure.NOTHING),
    ],
)
def test_what_is_learnt(mechanism: Mechanism, secured: bool, learnt: Exposure) -> None:
    assert exposure.of(Attempt(b"alice", b"proof", mechanism, secured=secured)) is learnt


@pytest.mark.parametrize(
    ("policy", "allowed_for_strangers", "allowed_for_trusted"),
    [("refuse", False, False), ("trusted", False, True), ("allow", True, True), ("anything else", False, False)],
)
def test_a_password_in_the_clear(policy: str, allowed_for_strangers: bool, allowed_for_trusted: bool) -> None:
    assert exposure.plaintext_allowed(policy, trusted=False, secured=False) is allowed_for_strangers
    assert exposure.plaintext_allowed(policy, trusted=True, secured=False) is allowed_for_trusted


@pytest.mark.parametrize("policy", ["refuse", "trusted", "allow"])
def test_a_password_under_tls_is_always_allowed(policy: str) -> None:
    assert exposure.plaintext_allowed(policy, trusted=False, secured=True)
