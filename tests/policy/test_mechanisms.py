"""Which ways to log in are offered: the matrix of docs/config.md, row by row."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pillarbox.policy.mechanisms import PROFILES, Offer, offered, plaintext
from pillarbox.terms import Mechanism

PASSWORDS = {Mechanism.USER_PASS, Mechanism.PLAIN, Mechanism.LOGIN}
DIGESTS = {Mechanism.APOP, Mechanism.CRAM_MD5}
SCRAM = {Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_1}
PLUS = {Mechanism.SCRAM_SHA_256_PLUS}
NETWORKS: dict[str, dict[str, Any]] = {
    "internet": {"trusted": False, "secured": False},
    "trusted": {"trusted": True, "secured": False},
    "tls": {"trusted": False, "secured": True, "bound": True},
    "no end point": {"trusted": False, "secured": True, "bound": False},
}


def held(offer: Offer) -> set[Mechanism]:
    return {mechanism for mechanism in Mechanism if offer.holds(mechanism)}


@pytest.mark.parametrize(
    ("profile", "where", "expected"),
    [
        ("balanced", "internet", DIGESTS | SCRAM),
        ("balanced", "trusted", PASSWORDS | DIGESTS | SCRAM),
        ("balanced", "tls", PASSWORDS | DIGESTS | SCRAM | PLUS),
        ("balanced", "no end point", PASSWORDS | DIGESTS | SCRAM),
        ("strict", "internet", set()),
        ("strict", "trusted", set()),
        ("strict", "tls", PASSWORDS | SCRAM | PLUS),
        ("classic", "internet", PASSWORDS | DIGESTS | SCRAM),
        ("classic", "trusted", PASSWORDS | DIGESTS | SCRAM),
        ("classic", "tls", PASSWORDS | DIGESTS | SCRAM | PLUS),
    ],
)
def test_the_matrix(profile: str, where: str, expected: set[Mechanism]) -> None:
    assert held(offered(profile, "profile", **NETWORKS[where])) == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_an_explicit_setting_wins(profile: str) -> None:
    assert not held(offered(profile, "refuse", **NETWORKS["trusted"])) & PASSWORDS
    assert not held(offered(profile, "trusted", **NETWORKS["internet"])) & PASSWORDS
    for explicit, where in (("trusted", "trusted"), ("allow", "internet")):
        assert held(offered(profile, explicit, **NETWORKS[where])) == PASSWORDS | DIGESTS | SCRAM
    assert [plaintext(profile, word) for word in ("refuse", "trusted", "allow")] == ["refuse", "trusted", "allow"]


@pytest.mark.parametrize("profile", PROFILES)
def test_where_mail_is_handed_in_neither_user_nor_apop_is_there(profile: str) -> None:
    """And without TLS only trusted networks may log in (RFC 8314)."""
    for where, explicit in itertools.product(NETWORKS, ("profile", "allow")):
        offer = offered(profile, explicit, **NETWORKS[where], submission=True)
        assert not offer.plaintext and not offer.apop
        usual = offered(profile, explicit, **NETWORKS[where])
        assert offer.sasl == (() if where == "internet" else usual.sasl)


def test_the_strongest_is_named_first() -> None:
    names = [mechanism.value for mechanism in offered("balanced", "profile", **NETWORKS["tls"]).sasl]
    assert names == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]
