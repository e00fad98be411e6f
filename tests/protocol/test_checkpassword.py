"""The record on descriptor 3: what checkpw and checkapoppw take, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol import checkpassword
from pillarbox.protocol.checkpassword import LIMIT
from pillarbox.terms import Attempt, Mechanism, Misuse, Refused

CHALLENGE = b"<1896.697170952@dbc.mtview.ca.us>"
FIELD = st.binary(max_size=150).map(lambda field: field.replace(b"\0", b"0"))


def test_apop_has_the_digest_for_a_password_and_the_challenge_with_its_brackets() -> None:
    digest = b"c4c9334bac560ecc979e58001b3e22fb"
    attempt = checkpassword.parse(b"mrose\0" + digest + b"\0" + CHALLENGE + b"\0", Mechanism.APOP)
    assert attempt == Attempt(b"mrose", digest, Mechanism.APOP, CHALLENGE)


def test_a_password_needs_no_timestamp() -> None:
    assert checkpassword.parse(b"mrose\0tan staaf\0", Mechanism.USER_PASS).proof == b"tan staaf"


def test_what_follows_the_timestamp_is_ignored() -> None:
    assert checkpassword.parse(b"a\0b\0c\0Ymore\0and", Mechanism.APOP).challenge == b"c"


@pytest.mark.parametrize("record", [b"", b"\0", b"mrose", b"mrose\0", b"mrose\0tanstaaf"])
@pytest.mark.parametrize("mechanism", Mechanism)
def test_a_record_without_its_fields_is_misuse(record: bytes, mechanism: Mechanism) -> None:
    with pytest.raises(Misuse):
        checkpassword.parse(record, mechanism)


@pytest.mark.parametrize("record", [b"mrose\0digest\0", b"mrose\0digest\0<unended>"])
def test_a_digest_without_its_challenge_is_misuse(record: bytes) -> None:
    with pytest.raises(Misuse):
        checkpassword.parse(record, Mechanism.APOP)


def test_the_limit_is_512_octets() -> None:
    record = b"mrose\0" + b"x" * (LIMIT - 8) + b"\0\0"
    assert len(record) == LIMIT == 512
    assert len(checkpassword.parse(record, Mechanism.USER_PASS).proof) == LIMIT - 8
    with pytest.raises(Refused):
        checkpassword.parse(record + b"x", Mechanism.USER_PASS)
    attempt = Attempt(b"mrose", b"x" * (LIMIT - 8), Mechanism.USER_PASS)
    assert checkpassword.render(attempt) == record
    with pytest.raises(Refused):
        checkpassword.render(Attempt(b"mrose", b"x" * (LIMIT - 7), Mechanism.USER_PASS))


@pytest.mark.parametrize(("name", "proof"), [(b"a\0root", b"x"), (b"a", b"x\0y")])
def test_a_nul_moves_no_field(name: bytes, proof: bytes) -> None:
    with pytest.raises(Refused):
        checkpassword.render(Attempt(name, proof, Mechanism.USER_PASS))


@given(FIELD, FIELD, FIELD, st.sampled_from(Mechanism))
def test_an_attempt_comes_back(name: bytes, proof: bytes, challenge: bytes, mechanism: Mechanism) -> None:
    attempt = Attempt(name, proof, mechanism, challenge)
    assert checkpassword.parse(checkpassword.render(attempt), mechanism) == attempt


@given(st.binary(max_size=600), st.sampled_from(Mechanism))
def test_any_octets_give_an_attempt_or_one_of_two_errors(record: bytes, mechanism: Mechanism) -> None:
    try:
        attempt = checkpassword.parse(record, mechanism)
    except (Misuse, Refused):
        return
    assert record.startswith(attempt.name + b"\0" + attempt.proof + b"\0" + attempt.challenge)


def test_errors_and_reprs_keep_the_proof() -> None:
    attempt = checkpassword.parse(b"mrose\0tanstaaf\0\0", Mechanism.USER_PASS)
    with pytest.raises(Refused) as too_long:
        checkpassword.render(Attempt(b"mrose", b"tanstaaf" * 100, Mechanism.USER_PASS))
    assert "tanstaaf" not in repr(attempt) + str(too_long.value) + repr(too_long.value)
