"""AUTH in POP3: the examples of RFC 5034 and 7677, how an exchange is cancelled, and what is refused."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from pillarbox.protocol.pop3 import LINE_LIMIT, Event, Login, State
from pillarbox.protocol.sasl import LINE_LIMIT as RESPONSE_LIMIT
from pillarbox.protocol.scram import MESSAGE_LIMIT
from pillarbox.terms import Attempt, Mechanism

from .pop3_talk import CHALLENGE, Answer, More, No, Talk, fail_login, talk, yes

PLAIN, LOGIN, CRAM_MD5, SCRAM = Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.CRAM_MD5, Mechanism.SCRAM_SHA_256
ALL = (SCRAM, CRAM_MD5, PLAIN, LOGIN)
PASSED = Attempt(b"test", b"test", PLAIN, CHALLENGE)


def auth(data: bytes, answer: Answer = yes, **options: Any) -> Talk:
    return talk(data, answer, **{"mechanisms": ALL, **options})


def test_the_example_of_rfc_5034_with_an_initial_response() -> None:
    came = auth(b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\nSTAT\r\n")
    assert came.events == [Login(PASSED)]
    assert came.lines == [b"+OK 2 messages, 53 octets", b"+OK 2 53"]


def test_the_example_of_rfc_5034_where_the_server_sends_an_empty_challenge() -> None:
    came = auth(b"auth plain\r\ndGVzdAB0ZXN0AHRlc3Q=\r\n")
    assert came.lines[0] == b"+ " and came.events == [Login(PASSED)]


def test_cram_md5_is_made_with_the_challenge_of_the_greeting() -> None:
    came = auth(b"AUTH CRAM-MD5\r\n" + b64encode(b"tim " + b"a" * 32) + b"\r\n")
    assert came.lines[0] == b"+ " + b64encode(CHALLENGE)
    assert came.events == [Login(Attempt(b"tim", b"a" * 32, CRAM_MD5, CHALLENGE))]


def test_login() -> None:
    came = auth(b"AUTH LOGIN\r\ndGVzdA==\r\nMTIzNA==\r\n")
    assert came.lines[:2] == [b"+ VXNlcm5hbWU6", b"+ UGFzc3dvcmQ6"]
    assert came.events == [Login(Attempt(b"test", b"1234", LOGIN, CHALLENGE))]


FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
MIDDLE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
ANSWERS = {None: More(MIDDLE), FINAL: More(SIGNATURE), b"": None}


def go_on(event: Event) -> More | No | None:
    return ANSWERS.get(event.response, No("no", "AUTH")) if isinstance(event, Login) else None


@pytest.mark.parametrize("initial", [True, False])
def test_the_example_of_rfc_7677(initial: bool) -> None:
    begin = b"AUTH SCRAM-SHA-256 " + b64encode(FIRST) if initial else b"AUTH SCRAM-SHA-256\r\n" + b64encode(FIRST)
    came = auth(begin + b"\r\n" + b64encode(FINAL) + b"\r\n\r\nSTAT\r\n", go_on)
    assert came.lines[-4:] == [
        b"+ " + b64encode(MIDDLE),
        b"+ " + b64encode(SIGNATURE),
        b"+OK 2 messages, 53 octets",
        b"+OK 2 53",
    ]
    attempt = Attempt(b"user", FIRST, SCRAM, CHALLENGE)
    assert came.events == [Login(attempt), Login(attempt, FINAL), Login(attempt, b"")]


def test_a_refused_exchange_of_several_steps_leaves_commands_to_come() -> None:
    began = b"AUTH SCRAM-SHA-256 " + b64encode(FIRST) + b"\r\n"
    came = auth(
        began + b64encode(b"wrong") + b"\r\nCAPA\r\n" + began + b"*\r\nAUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n", go_on
    )
    assert came.lines[1] == b"-ERR [AUTH] no" and came.lines[2] == b"+OK capabilities"
    assert came.lines[-2] == b"-ERR authentication cancelled"
    assert isinstance(came.events[-1], Login) and came.events[-1].attempt == PASSED


def test_capa_names_the_mechanisms_where_there_are_any() -> None:
    assert b"SASL SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN" in auth(b"CAPA\r\n").lines
    assert b"SASL SCRAM-SHA-256 PLAIN LOGIN" in auth(b"CAPA\r\n", apop=False).lines
    assert not [line for line in talk(b"CAPA\r\n").lines if line.startswith(b"SASL")]
    assert talk(b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n").lines == [b"-ERR AUTH is not offered here"]


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"AUTH", b"-ERR AUTH needs a mechanism"),
        (b"AUTH DIGEST-MD5", b"-ERR that mechanism is not offered here"),
        (b"AUTH APOP", b"-ERR that mechanism is not offered here"),
        (b"AUTH SCRAM-SHA-256-PLUS biws", b"-ERR that mechanism is not offered here"),
        (b"AUTH CRAM-MD5 =", b"-ERR CRAM-MD5 takes no initial response"),
        (b"AUTH PLAIN\r\n*", b"-ERR authentication cancelled"),
        (b"AUTH LOGIN\r\ndGVzdA==\r\n*", b"-ERR authentication cancelled"),
        (b"AUTH PLAIN b3RoZXIAdGVzdAAxMjM0", b"-ERR [AUTH] nobody may act for somebody else"),
        (b"AUTH SCRAM-SHA-256 " + b64encode(b"n,a=bob,n=alice,r=abc"), b"-ERR [AUTH] nobody may act"),
    ],
)
def test_what_is_refused_leaves_commands_to_come_and_is_no_bad_command(sent: bytes, reply: bytes) -> None:
    came = auth((sent + b"\r\n") * 4 + b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n")
    assert came.lines[-2].startswith(reply)
    assert came.state is State.TRANSACTION and came.events == [Login(PASSED)]


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"AUTH PLAIN =", b"-ERR PLAIN is an identity"),
        (b"AUTH PLAIN *", b"-ERR that is not base64"),
        (b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q", b"-ERR that is not base64"),
        (b"AUTH PLAIN\r\nQUIT", b"-ERR PLAIN is an identity"),
        (b"AUTH LOGIN\r\n" + b64encode(b"a b"), b"-ERR a name is 1 to 255 octets"),
        (b"AUTH SCRAM-SHA-256 =", b"-ERR that is no first message of SCRAM"),
        (b"AUTH SCRAM-SHA-256\r\n" + b64encode(b"n,,n=" + b"x" * 256 + b",r=abc"), b"-ERR a name has at most 255"),
    ],
)
def test_what_says_nothing_leaves_commands_to_come_and_is_a_bad_command(sent: bytes, reply: bytes) -> None:
    came = auth((sent + b"\r\n") * 2 + b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n")
    assert came.lines[-2].startswith(reply)
    assert came.state is State.TRANSACTION and came.events == [Login(PASSED)]
    came = auth((sent + b"\r\n") * 3 + b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n")
    assert came.lines[-1] == b"-ERR too many bad commands, goodbye"
    assert came.state is State.CLOSED and not came.events


def test_a_wrong_secret_is_told_as_with_pass() -> None:
    assert auth(b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n", fail_login).lines == [b"-ERR [AUTH] wrong name or password"]


def test_a_response_may_be_longer_than_a_command() -> None:
    line = b64encode(b"\0name\0" + b"p" * 255)
    assert len(line) > LINE_LIMIT
    assert isinstance(auth(b"AUTH PLAIN\r\n" + line + b"\r\n").events[0], Login)
    assert auth(b"AUTH PLAIN " + line + b"\r\n").lines == [b"-ERR line too long"]  # RFC 5034 section 4
    assert auth(b"AUTH PLAIN\r\n" + line + b"\r\nNOOP " + line + b"\r\n").lines[-1] == b"-ERR line too long"


def test_responses_are_bounded() -> None:
    assert auth(b"AUTH PLAIN\r\n" + b"A" * RESPONSE_LIMIT + b"\r\n").lines[-1] == b"-ERR line too long"
    long = b"AUTH SCRAM-SHA-256 " + b64encode(FIRST) + b"\r\n" + b64encode(b"x" * (MESSAGE_LIMIT + 1)) + b"\r\n"
    assert auth(long, go_on).lines[-1].startswith(b"-ERR that is no message of SCRAM")


def test_after_the_login_there_is_no_auth() -> None:
    assert auth(b"AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\nAUTH PLAIN\r\n").lines[-1] == b"-ERR not offered here"


def test_no_secret_in_a_repr() -> None:
    assert "canary" not in repr(Login(PASSED, b"canary"))
