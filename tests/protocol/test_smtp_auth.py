"""AUTH in SMTP: the examples of RFC 4954, what is refused, what a login changes, and that no secret is ever said."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol import sasl
from pillarbox.protocol.smtp import LINE_LIMIT, BeginMessage, Event, Login, Recipient, SmtpSession, State
from pillarbox.terms import Attempt, Envelope, Mechanism, Wish

from .smtp_talk import Answer, Caller, No, Talk, in_pieces, script, session, talk, yes

PLAIN, LOGIN, CRAM_MD5 = Mechanism.PLAIN, Mechanism.LOGIN, Mechanism.CRAM_MD5
CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
OFFER: dict[str, Any] = {"submission": True, "mechanisms": (PLAIN, LOGIN, CRAM_MD5), "challenge": CHALLENGE}
EHLO = b"EHLO bar.com\r\n"
RIGHT = b"AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=\r\n"  # RFC 4954: test, test, 1234
MAIL, RCPT = b"MAIL FROM:<a@bar.com>\r\n", b"RCPT TO:<b@foo.com>\r\n"
MESSAGE = MAIL + RCPT + b"DATA\r\n.\r\n"


def wrong(event: Event) -> No | None:
    return (535, "5.7.8", "wrong name or secret") if isinstance(event, Login) else None


def said(came: Talk) -> list[bytes]:
    """The replies that follow the one to EHLO."""
    return came.replies[came.replies.index(b"250 CHUNKING") + 1 :]


def submit(data: bytes, answer: Answer = yes) -> Talk:
    return talk(EHLO + data, answer, **OFFER)


def test_the_first_example_of_rfc_4954() -> None:
    came = script(
        """
        S: 220
        C: EHLO client.example.com
        S: 250-foo.com greets
        S: 250-SIZE 1048576
        S: 250-AUTH PLAIN LOGIN CRAM-MD5
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-ENHANCEDSTATUSCODES
        S: 250-DSN
        S: 250 CHUNKING
        C: AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=
        S: 235 2.7.0
        C: MAIL FROM:<test@foo.com>
        S: 250 2.1.0
        """,
        **OFFER,
    )
    assert came.events == [Login(Attempt(b"test", b"1234", PLAIN, CHALLENGE))]


def test_rfc_4954_without_an_initial_response_a_blank_follows_the_334() -> None:
    came = submit(b"AUTH PLAIN\r\ndGVzdAB0ZXN0ADEyMzQ=\r\n")
    assert said(came) == [b"334 ", b"235 2.7.0 welcome"]
    assert came.events == [Login(Attempt(b"test", b"1234", PLAIN, CHALLENGE))]


def test_the_example_of_rfc_2195() -> None:
    came = submit(b"auth cram-md5\r\ndGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n")
    assert said(came)[0] == b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    assert came.events == [Login(Attempt(b"tim", b"b913a602c7eda7a495b4e6e7334d3890", CRAM_MD5, CHALLENGE))]


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (b"AUTH LOGIN\r\ndGVzdA==\r\nMTIzNA==\r\n", [b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"]),
        (b"AUTH LOGIN dGVzdA==\r\nMTIzNA==\r\n", [b"334 UGFzc3dvcmQ6"]),
    ],
)
def test_login(sent: bytes, asked: list[bytes]) -> None:
    came = submit(sent)
    assert said(came) == [*asked, b"235 2.7.0 welcome"]
    assert came.events == [Login(Attempt(b"test", b"1234", LOGIN, CHALLENGE))]


FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"  # RFC 7677
MIDDLE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def go_on(event: Event) -> No | bytes | None:
    answers = {None: MIDDLE, b"final": SIGNATURE, b"": None}
    return answers.get(event.response, (535, "5.7.8", "no")) if isinstance(event, Login) else None


def test_scram_goes_on_as_long_as_the_caller_challenges() -> None:
    offer = {**OFFER, "mechanisms": (Mechanism.SCRAM_SHA_256,)}
    begin = b"AUTH SCRAM-SHA-256 " + b64encode(FIRST) + b"\r\n"
    came = talk(EHLO + begin + b64encode(b"final") + b"\r\n\r\n" + MAIL, go_on, **offer)
    assert said(came) == [
        b"334 " + b64encode(MIDDLE),
        b"334 " + b64encode(SIGNATURE),
        b"235 2.7.0 welcome",
        b"250 2.1.0 sender ok",
    ]
    attempt = Attempt(b"user", FIRST, Mechanism.SCRAM_SHA_256, CHALLENGE)
    assert came.events == [Login(attempt), Login(attempt, b"final"), Login(attempt, b"")]
    came = talk(EHLO + begin + b64encode(b"wrong") + b"\r\n" + begin + b"*\r\n" + begin, go_on, **offer)
    assert [line[:9] for line in said(came)[1:]] == [b"535 5.7.8", b"334 cj1yT", b"501 5.7.0", b"334 cj1yT"]


@pytest.mark.parametrize("end", [b"QUIT\r\n", b"*\r\n"])
def test_under_tls_the_attempt_says_so(end: bytes) -> None:
    came = talk(EHLO + RIGHT + end, **OFFER, secured=True)
    assert came.events == [Login(Attempt(b"test", b"1234", PLAIN, CHALLENGE, secured=True))]


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"AUTH\r\n", b"501 5.5.4"),
        (b"AUTH FOOBAR\r\n", b"504 5.5.4"),
        (b"AUTH DIGEST-MD5\r\n", b"504 5.5.4"),
        (b"AUTH APOP\r\n", b"504 5.5.4"),
        (b"AUTH PLAIN=\r\n", b"504 5.5.4"),
        (b"AUTH PLAIN =\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN *\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ= x\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN  dGVzdAB0ZXN0ADEyMzQ=\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN b3RoZXIAdGVzdAAxMjM0\r\n", b"535 5.7.8"),
        (b"AUTH CRAM-MD5 dGltIGI5\r\n", b"501 5.7.0"),
        (b"AUTH CRAM-MD5 =\r\n", b"501 5.7.0"),
        (b"AUTH PLAIN\r\n*\r\n", b"501 5.7.0"),
        (b"AUTH LOGIN\r\ndGVzdA==\r\n*\r\n", b"501 5.7.0"),
        (b"AUTH PLAIN\r\n\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN\r\n=\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN\r\nQUIT\r\n", b"501 5.5.2"),
        (b"AUTH PLAIN\r\ndGVz\ndAB0ZXN0ADEyMzQ=\r\n", b"500 5.5.2"),
        (b"AUTH PLAIN\r\ndGVz dAB0ZXN0ADEyMzQ=\r\n", b"501 5.5.2"),
        (MAIL + RIGHT, b"503 5.5.1"),
        (MAIL + RCPT + RIGHT, b"503 5.5.1"),
        (MAIL + RCPT + b"BDAT 0\r\n" + RIGHT, b"503 5.5.1"),
        (b"HELO bar.com\r\n" + RIGHT, b"503 5.5.1"),
        (RIGHT + RIGHT, b"503 5.5.1"),
        (RIGHT + b"RSET\r\nEHLO again.com\r\nAUTH LOGIN\r\n", b"503 5.5.1"),
    ],
)
def test_what_is_refused_leaves_commands_to_come(sent: bytes, reply: bytes) -> None:
    came = submit(sent + b"NOOP\r\n")
    assert came.replies[-2].startswith(reply)
    assert came.replies[-1] == b"250 2.0.0 ok"
    assert sum(isinstance(event, Login) for event in came.events) == sent.startswith(RIGHT)


def test_before_a_greeting_there_is_no_login() -> None:
    assert talk(RIGHT, **OFFER).codes == [220, 503]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mechanisms": (PLAIN,)},
        {"submission": True},
        {"submission": True, "mechanisms": (CRAM_MD5,)},  # there is no challenge
    ],
)
def test_where_it_is_not_offered(options: dict[str, object]) -> None:
    came = talk(EHLO + RIGHT + b"MAIL FROM:<a@b.c> AUTH=<>\r\nHELP\r\n", **options)
    assert came.codes == [220, 250, 502, 555, 214]
    assert b"AUTH " not in came.output.replace(b"AUTH is", b"")


@pytest.mark.parametrize("mechanisms", [(CRAM_MD5,), (PLAIN, CRAM_MD5), (LOGIN,)])
def test_only_what_was_asked_for_is_offered(mechanisms: tuple[Mechanism, ...]) -> None:
    came = talk(EHLO + b"AUTH FOO\r\nHELP\r\n", **{**OFFER, "mechanisms": mechanisms})
    names = b" ".join(mechanism.value.encode() for mechanism in mechanisms)
    assert b"250-AUTH " + names in came.replies and b" AUTH " in came.replies[-1]
    for mechanism in {PLAIN, LOGIN, CRAM_MD5} - set(mechanisms):
        refused = talk(EHLO + b"AUTH " + mechanism.value.encode() + b"\r\n", **{**OFFER, "mechanisms": mechanisms})
        assert refused.codes[-1] == 504


def test_a_refused_login_may_be_tried_again_until_the_caller_has_enough() -> None:
    answers: list[No | None] = [(535, "5.7.8", "no"), (454, "4.7.0", "not now"), None]
    remaining = iter(answers * 3)  # each conversation is held three times

    def answer(event: Event) -> No | None:
        return next(remaining) if isinstance(event, Login) else None

    came = submit(RIGHT * 3, answer)
    assert said(came) == [b"535 5.7.8 no", b"454 4.7.0 not now", b"235 2.7.0 welcome"]
    came = submit(RIGHT * 3, lambda event: (421, "4.7.0", "too many failed attempts"))
    assert said(came) == [b"421 4.7.0 too many failed attempts"] and came.state is State.CLOSED


def test_a_caller_ends_it_after_a_refusal() -> None:
    one = session(**OFFER)
    one.receive(EHLO + RIGHT + RIGHT)
    assert isinstance(one.next_event(), Login)
    assert one.next_event() is None, "nothing is obeyed while a login is judged"
    one.refuse(535, "5.7.8", "no")
    one.fail(421, "4.7.0", "goodbye")
    assert one.next_event() is None and one.take_output().endswith(b"535 5.7.8 no\r\n421 4.7.0 goodbye\r\n")


def test_unknown_mechanisms_and_what_says_nothing_count_as_bad_commands() -> None:
    for sent in (b"AUTH X\r\n", b"AUTH PLAIN\r\n*\r\n", b"AUTH PLAIN b3RoZXIAdGVzdAAxMjM0\r\n", b"AUTH LOGIN !\r\n"):
        came = in_pieces(EHLO + sent * 30, 1000, **OFFER)
        assert came.codes[-1] == 421 and came.state is State.CLOSED
        assert sum(code in (501, 504, 535) for code in came.codes) == 19


# What a login changes.


@pytest.mark.parametrize(
    ("mail", "secured", "protocol"),
    [
        (b"", False, b"ESMTPA"),
        (b" SMTPUTF8", False, b"UTF8SMTPA"),
        (b"", True, b"ESMTPSA"),
        (b" SMTPUTF8", True, b"UTF8SMTPSA"),
    ],
)
@pytest.mark.parametrize("login", [True, False])
def test_the_protocol_says_whether_there_was_a_login(mail: bytes, secured: bool, protocol: bytes, login: bool) -> None:
    data = EHLO + RIGHT * login + MESSAGE.replace(b">", b">" + mail, 1)
    came = talk(data, **OFFER, secured=secured)
    (begin,) = [event for event in came.events if isinstance(event, BeginMessage)]
    assert begin.protocol == (protocol if login else protocol[:-1])


def test_without_a_login_mail_works_too_and_the_caller_decides() -> None:
    came = submit(MESSAGE)
    assert came.events[0] == Recipient(b"b@foo.com", 0, b"a@bar.com", Wish())
    assert came.delivered == [(Envelope(b"a@bar.com", (b"b@foo.com",)), b"")]


def test_the_name_is_known_after_a_login_was_accepted_and_stays() -> None:
    caller = Caller(session(**OFFER), wrong)
    caller.feed(EHLO + RIGHT)
    assert caller.session.authenticated == b""
    caller.answer = yes
    caller.feed(RIGHT + EHLO + b"RSET\r\n" + MESSAGE)
    assert caller.session.authenticated == b"test"


@pytest.mark.parametrize("value", [b"<>", b"e+3Dmc2@example.com", b"x" * 500])
def test_who_handed_it_in_before_may_be_said(value: bytes) -> None:
    assert submit(RIGHT + b"MAIL FROM:<e=mc2@example.com> AUTH=" + value + b"\r\n").codes[-1] == 250


@pytest.mark.parametrize(
    "value", [b"", b"=", b"=+3d", b"=a+", b"=a\x7f", b"=" + b"x" * 501, "=ä".encode(), b"=<> AUTH=<>"]
)
def test_but_not_anyhow(value: bytes) -> None:
    assert submit(RIGHT + b"MAIL FROM:<e@example.com> AUTH" + value + b"\r\n").replies[-1].startswith(b"501 5.5.4")


# Bounds.


def test_a_response_has_more_room_than_a_command_and_no_more_than_that() -> None:
    fits = b"A" * (sasl.LINE_LIMIT - 2)
    came = in_pieces(EHLO + b"AUTH PLAIN\r\n" + fits + b"\r\n", 1000, **OFFER)
    assert came.replies[-1].startswith(b"501 5.5.2") and came.state is State.READY
    came = in_pieces(EHLO + b"AUTH PLAIN\r\n" + fits + b"A\r\n", 1000, **OFFER)
    assert came.replies[-1].startswith(b"500 5.5.6") and came.state is State.CLOSED
    unended = in_pieces(EHLO + b"AUTH PLAIN\r\n" + fits + b"AAA", 1000, **OFFER)
    assert unended.output == came.output
    assert in_pieces(EHLO + b"AUTH PLAIN " + fits, 1000, **OFFER).replies[-1].startswith(b"500 5.5.2")


@pytest.mark.parametrize("end", [b"*\r\n", b"a\nb\r\n", b"!\r\n", RIGHT[11:]])
def test_behind_a_response_a_command_has_its_old_bound_again(end: bytes) -> None:
    came = in_pieces(EHLO + b"AUTH PLAIN\r\n" + end + b"NOOP " + b"x" * LINE_LIMIT + b"\r\n", 1000, **OFFER)
    assert came.replies[-1].startswith(b"500 5.5.2") and came.state is State.CLOSED


@pytest.mark.parametrize("answer", [yes, wrong])
def test_what_is_pipelined_behind_a_login_waits_for_it(answer: Answer) -> None:
    came = submit(b"AUTH LOGIN\r\ndGVzdA==\r\nMTIzNA==\r\n" + MESSAGE + b"QUIT\r\n", answer)
    codes = [int(line[:3]) for line in said(came)]
    assert codes == [334, 334, 235 if answer is yes else 535, 250, 250, 354, 250, 221]
    (begin,) = [event for event in came.events if isinstance(event, BeginMessage)]
    assert begin.protocol == (b"ESMTPA" if answer is yes else b"ESMTP")


def test_what_was_meant_as_a_response_is_no_command_that_is_said_again() -> None:
    came = submit(b"AUTH FOO\r\nc2VjcmV0Y2FuYXJ5\r\nAUTH CRAM-MD5 c2VjcmV0Y2FuYXJ5\r\nc2VjcmV0Y2FuYXJ5\r\n")
    assert b"c2Vj" not in came.output and came.codes[-4:] == [504, 500, 501, 500]


# Hostile clients.

CANARY = b"Qcanary7"
ENCODED = b64encode(b"\0tim\0" + CANARY)
WORDS = st.sampled_from(
    [
        b"AUTH PLAIN\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH CRAM-MD5\r\n",
        b"AUTH PLAIN ",
        b"AUTH LOGIN ",
        ENCODED,
        b64encode(CANARY),
        b64encode(b"\0" + CANARY),
        b64encode(CANARY + b" " + CANARY * 4),
        b64encode(b"x\0tim\0" + CANARY),
        CANARY,
        b"\r\n",
        b"*\r\n",
        b"=\r\n",
        b"\n",
        b" ",
        EHLO,
        MESSAGE,
        b"QUIT\r\n",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS | st.binary(max_size=9), max_size=30), st.integers(1, 50), st.integers(0, 3))
def test_hostile_logins_upset_nothing_and_are_never_repeated(words: list[bytes], size: int, patience: int) -> None:
    def answer(event: Event) -> No | None:
        right = not isinstance(event, Login) or len(event.attempt.proof) % 4 < patience
        return None if right else (535, "5.7.8", "wrong name or secret")

    data = EHLO + b"".join(words)
    came = in_pieces(data, size, answer, **OFFER)
    assert came == in_pieces(data, len(data), answer, **OFFER)
    assert len(came.output) < 400 * len(data)
    logins = [event for event in came.events if isinstance(event, Login)]
    for secret in (CANARY, b64encode(CANARY), ENCODED):
        assert secret not in came.output and secret.decode() not in repr(logins)
    assert all(0 < len(event.attempt.name) <= sasl.NAME_LIMIT and event.attempt.proof for event in logins)


def test_the_session_itself_says_nothing() -> None:
    one = SmtpSession(b"foo.com", octets_limit=1, **OFFER)
    one.receive(EHLO + b"AUTH LOGIN dGVzdA==\r\n" + b64encode(CANARY) + b"\r\n")
    event = one.next_event()
    assert isinstance(event, Login) and event.attempt.proof == CANARY
    assert "canary" not in repr(event) + repr(one)
