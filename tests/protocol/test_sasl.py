"""SASL exchanges: the examples of the RFCs, what is refused, and that nothing sent is ever said again."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.sasl import (
    NAME_LIMIT,
    PASSWORD_LIMIT,
    Credentials,
    begin,
    decode,
    decode_initial,
    encode,
)
from pillarbox.terms import Mechanism, Refused

PLAIN, LOGIN, CRAM_MD5 = Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.CRAM_MD5
CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"  # RFC 2195
DIGEST = b"b913a602c7eda7a495b4e6e7334d3890"


def test_the_example_of_rfc_4616() -> None:
    exchange = begin(PLAIN)
    assert exchange.opening == b"" and exchange.initial
    assert exchange.step(b"\0tim\0tanstaaftanstaaf") == Credentials(b"tim", b"tanstaaftanstaaf")


def test_nobody_acts_for_somebody_else_as_in_the_second_example_of_rfc_4616() -> None:
    with pytest.raises(Refused) as error:
        begin(PLAIN).step(b"Ursel\0Kurt\0xipj3plmq")
    assert error.value.code == "5.7.8"
    assert begin(PLAIN).step(b"Kurt\0Kurt\0xipj3plmq") == Credentials(b"Kurt", b"xipj3plmq")


def test_the_example_of_rfc_2195() -> None:
    exchange = begin(CRAM_MD5, CHALLENGE)
    assert encode(exchange.opening) == b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    assert not exchange.initial
    response = decode(b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw")
    assert exchange.step(response) == Credentials(b"tim", DIGEST)


def test_login_asks_for_a_name_and_then_for_a_password() -> None:
    exchange = begin(LOGIN)
    assert encode(exchange.opening) == b"VXNlcm5hbWU6" and exchange.initial
    asked = exchange.step(b"tim")
    assert isinstance(asked, bytes) and encode(asked) == b"UGFzc3dvcmQ6"
    assert exchange.step(b"tanstaaf tanstaaf") == Credentials(b"tim", b"tanstaaf tanstaaf")


@pytest.mark.parametrize("response", [b"\0n\0" + b"p" * PASSWORD_LIMIT, b"\0" + b"n" * NAME_LIMIT + b"\0p", b"\0n\0 "])
def test_the_longest_and_the_blankest_that_are_taken(response: bytes) -> None:
    _, name, password = response.split(b"\0")
    assert begin(PLAIN).step(response) == Credentials(name, password)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"tim",
        b"tim\0secret",
        b"\0tim\0secret\0",
        b"\0\0tim\0secret",
        b"\0tim\0",
        b"\0\0secret",
        b"\0t m\0secret",
        b"\0tim\n\0secret",
        b"\0" + b"n" * (NAME_LIMIT + 1) + b"\0p",
        b"\0n\0" + b"p" * (PASSWORD_LIMIT + 1),
        b"Ursel\0Kurt\0",
    ],
)
def test_what_is_no_plain_response(response: bytes) -> None:
    with pytest.raises(Refused) as error:
        begin(PLAIN).step(response)
    assert error.value.code == "5.5.2"


@pytest.mark.parametrize("name", [b"", b"t m", b"tim\0", b"tim\r\n", b"n" * (NAME_LIMIT + 1)])
def test_what_is_no_name(name: bytes) -> None:
    with pytest.raises(Refused, match="name"):
        begin(LOGIN).step(name)
    with pytest.raises(Refused, match="name"):
        begin(CRAM_MD5, CHALLENGE).step(name + b" " + DIGEST)


@pytest.mark.parametrize("password", [b"", b"se\0cret", b"p" * (PASSWORD_LIMIT + 1)])
def test_what_is_no_password(password: bytes) -> None:
    exchange = begin(LOGIN)
    exchange.step(b"tim")
    with pytest.raises(Refused, match="password"):
        exchange.step(password)


@pytest.mark.parametrize("response", [b"", b"tim", DIGEST, b"tim " + DIGEST[:-1], b"tim " + DIGEST + b"0", b"tim  "])
def test_what_is_no_cram_md5_response(response: bytes) -> None:
    with pytest.raises(Refused):
        begin(CRAM_MD5, CHALLENGE).step(response)


@pytest.mark.parametrize("mechanism", [CRAM_MD5, Mechanism.APOP, Mechanism.USER_PASS])
def test_what_can_not_be_begun(mechanism: Mechanism) -> None:
    """A digest of a fixed challenge, the empty one too, could be replayed."""
    with pytest.raises(ValueError, match=mechanism.value):
        begin(mechanism)


BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?")


@given(st.binary(max_size=200))
def test_what_is_encoded_is_decoded(octets: bytes) -> None:
    assert encode(octets) == base64.b64encode(octets)
    assert decode(encode(octets)) == octets


@given(st.lists(st.sampled_from([b"A", b"Q", b"w", b"4", b"+/", b"=", b" ", b"-", b"\r", b"\0", b"\xff", b"AAAA"])))
def test_only_base64_in_its_one_form_is_decoded(words: list[bytes]) -> None:
    line = b"".join(words)
    if BASE64.fullmatch(line):
        assert decode(line) == base64.b64decode(line)
    else:
        with pytest.raises(Refused, match="base64"):
            decode(line)


def test_an_equals_sign_is_the_empty_initial_response_and_no_other() -> None:
    assert decode_initial(b"=") == decode(b"") == b""
    with pytest.raises(Refused):
        decode(b"=")


@given(st.sampled_from([PLAIN, LOGIN, CRAM_MD5]), st.lists(st.binary(max_size=300) | st.just(b"n"), max_size=3))
def test_hostile_responses_are_refused_in_words_of_our_own(mechanism: Mechanism, responses: list[bytes]) -> None:
    exchange = begin(mechanism, CHALLENGE)
    for response in responses:
        try:
            result = exchange.step(response)
        except Refused as error:
            assert error.why.isascii() and error.why.isprintable() and error.code in ("5.5.2", "5.7.8")
            return
        if isinstance(result, Credentials):
            assert result.name in response or mechanism is LOGIN
            assert result.proof and result.proof in response
            return
        assert result == b"Password:"


@pytest.mark.parametrize("response", [b"Ursel\0Kurt\0canary", b"canary\0canary", b"\0canary \0canary", b"canary"])
def test_no_secret_in_an_error_or_a_repr(response: bytes) -> None:
    assert "canary" not in repr(Credentials(b"Kurt", b"canary"))
    for mechanism in (PLAIN, CRAM_MD5):
        exchange = begin(mechanism, CHALLENGE)
        with pytest.raises(Refused) as error:
            exchange.step(response)
        assert "canary" not in repr(error.value) + error.value.why + repr(exchange)
