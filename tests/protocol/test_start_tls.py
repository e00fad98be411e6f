"""STLS and STARTTLS: what came in the clear is never obeyed under TLS, and what was said before is forgotten."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.pop3 import Event as Pop3Event
from pillarbox.protocol.pop3 import Login, StartTls, State
from pillarbox.protocol.smtp import Event as SmtpEvent
from pillarbox.protocol.smtp import State as SmtpState
from pillarbox.terms import Attempt, Mechanism

from . import pop3_talk, smtp_talk
from .pop3_talk import APOP, CHALLENGE, DIGEST

STLS, EHLO, STARTTLS = b"STLS\r\n", b"EHLO client.test\r\n", b"STARTTLS\r\n"
USER_PASS = b"USER mrose\r\nPASS tanstaaf\r\n"
PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0violin") + b"\r\n"
INJECTED = [
    b"\n",
    b"\r\n",
    b"X",
    b"NOOP\r\n",
    USER_PASS,
    APOP,
    b"QUIT\r\n",
    STLS,
    EHLO,
    STARTTLS,
    b"MAIL FROM:<a@b.test>\r\n",
]
SPLITS = 1000
OFFER = {"submission": True, "mechanisms": (Mechanism.CRAM_MD5,), "challenge": CHALLENGE, "starttls": True}


def pieces(data: bytes, seed: int) -> list[bytes]:
    """The octets cut at random places, as the network may."""
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(1, len(data)), chance.randint(0, min(6, len(data) - 1))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


class Pop3:
    """A client whose octets come in pieces, all of them in the clear; the handshake is done once all have come."""

    def __init__(self) -> None:
        self.session = pop3_talk.session(stls=True)
        self.events: list[Pop3Event] = []
        self.said = b""

    def feed(self, data: bytes) -> None:
        self.session.receive(data)
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
        self.said += self.session.take_output()

    def shake_hands(self) -> None:
        if self.session.state is not State.CLOSED:
            self.session.tls_established(plaintext=True)
        self.feed(b"")


class Smtp:
    """The same for SMTP."""

    def __init__(self) -> None:
        self.session = smtp_talk.session(**OFFER)
        self.events: list[SmtpEvent] = []
        self.said = b""

    def feed(self, data: bytes) -> None:
        self.session.receive(data)
        while (event := self.session.next_event()) is not None:
            self.events.append(event)
        self.said += self.session.take_output()

    def shake_hands(self) -> None:
        if self.session.state is not SmtpState.CLOSED:
            self.session.tls_established((Mechanism.PLAIN,))
        self.feed(b"")


def test_one_octet_behind_stls_ends_the_connection_however_it_comes() -> None:
    for seed in range(SPLITS):
        stls_injected(seed)


def stls_injected(seed: int) -> None:
    behind = random.Random(seed).choice(INJECTED)
    for cut in (pieces(STLS + behind, seed), [STLS + behind], [bytes([octet]) for octet in STLS + behind]):
        client = Pop3()
        for piece in cut:
            client.feed(piece)
        client.shake_hands()
        assert client.session.state is State.CLOSED
        assert [event for event in client.events if event != StartTls()] == []
        assert client.said.endswith(b"-ERR octets behind STLS came in the clear, goodbye\r\n")
        assert client.said.count(b"-ERR") == 1 and client.said.count(b"\r\n") <= 3


def test_one_octet_behind_starttls_ends_the_connection_however_it_comes() -> None:
    for seed in range(SPLITS):
        starttls_injected(seed)


def starttls_injected(seed: int) -> None:
    behind = random.Random(seed).choice(INJECTED)
    for cut in (pieces(STARTTLS + behind, seed), [STARTTLS + behind], [bytes([octet]) for octet in STARTTLS + behind]):
        client = Smtp()
        client.feed(EHLO)
        for piece in cut:
            client.feed(piece)
        client.shake_hands()
        assert client.session.state is SmtpState.CLOSED
        assert [type(event).__name__ for event in client.events] in ([], ["StartTls"])
        assert client.said.endswith(b"503 5.5.1 octets behind STARTTLS came in the clear, goodbye\r\n")


def test_octets_that_come_along_are_refused_before_tls_is_begun() -> None:
    pop3, smtp = Pop3(), Smtp()
    pop3.feed(STLS + b"X")
    smtp.feed(EHLO + STARTTLS + b"X")
    assert pop3.events == [] and smtp.events == []
    assert b"begin TLS" not in pop3.said + smtp.said


@given(st.binary(min_size=1, max_size=64), st.randoms())
def test_whatever_comes_behind_stls_is_not_obeyed(behind: bytes, chance: random.Random) -> None:
    client = Pop3()
    for piece in pieces(STLS + behind, chance.randrange(1 << 30)):
        client.feed(piece)
    client.shake_hands()
    assert client.session.state is State.CLOSED
    assert not any(isinstance(event, Login) for event in client.events)


# POP3.


def capabilities(lines: list[bytes]) -> list[bytes]:
    return lines[lines.index(b"+OK capabilities") + 1 : lines.index(b".")]


def test_capa_shows_stls_where_it_can_be_begun() -> None:
    assert b"STLS" in capabilities(pop3_talk.talk(b"CAPA\r\n", stls=True).lines)
    for options in ({}, {"secured": True, "stls": True}):
        came = pop3_talk.talk(b"CAPA\r\nSTLS\r\n", **options)
        assert b"STLS" not in capabilities(came.lines) and came.lines[-1].startswith(b"-ERR ") and not came.events
    assert b"STLS" not in capabilities(pop3_talk.talk(APOP + b"CAPA\r\n", stls=True).lines)


def under_tls(clear: bytes, secured: bytes, **options: bool) -> pop3_talk.Caller:
    """What comes of this in the clear, STLS, and that behind it."""
    caller = pop3_talk.Caller(pop3_talk.session(**{"stls": True, **options}))
    for part in (clear, STLS, secured):
        caller.feed(part)
    return caller


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_behind_stls_a_password_may_be_sent(size: int) -> None:
    caller = under_tls(b"", b"", plaintext=False)
    said = b"CAPA\r\n" + USER_PASS
    for start in range(0, len(said), size):
        caller.feed(said[start : start + size])
    expected = Attempt(b"mrose", b"tanstaaf", Mechanism.USER_PASS, CHALLENGE, True)
    assert caller.talk.events == [StartTls(), Login(expected)]
    shown = capabilities(caller.talk.lines)
    assert b"USER" in shown and b"STLS" not in shown


def test_the_challenge_of_the_greeting_serves_behind_stls() -> None:
    expected = Attempt(b"mrose", DIGEST, Mechanism.APOP, CHALLENGE, True)
    assert under_tls(b"", APOP).talk.events == [StartTls(), Login(expected)]


def test_a_name_said_in_the_clear_is_forgotten() -> None:
    talk = under_tls(b"USER mrose\r\n", b"PASS tanstaaf\r\n").talk
    assert talk.events == [StartTls()] and talk.lines[-1] == b"-ERR USER first"


def test_bad_commands_in_the_clear_still_count() -> None:
    talk = under_tls(b"X\r\nX\r\n", b"X\r\n").talk
    assert talk.state is State.CLOSED


@pytest.mark.parametrize("line", [b"STLS now\r\n", b"STLS x y\r\n"])
def test_stls_takes_no_argument(line: bytes) -> None:
    came = pop3_talk.talk(line + b"QUIT\r\n", stls=True)
    assert came.lines == [b"-ERR STLS takes no argument", b"+OK goodbye"] and not came.events


def test_after_the_login_there_is_no_stls() -> None:
    came = pop3_talk.talk(APOP + STLS + b"NOOP\r\n", stls=True)
    assert came.lines[1:] == [b"-ERR not offered here", b"+OK"]


def test_a_refused_password_names_the_way_that_is_there() -> None:
    user = b"USER mrose\r\n"
    assert pop3_talk.talk(user, plaintext=False, stls=True).lines == [
        b"-ERR [AUTH] a password would be readable on its way here: use STLS, or APOP"
    ]
    assert pop3_talk.talk(user, plaintext=False).lines[0].endswith(b"use APOP")


# SMTP.


def offers(replies: list[bytes]) -> set[bytes]:
    return {reply[4:].partition(b" ")[0] for reply in replies if reply.startswith(b"250")}


def smtp_under_tls(clear: bytes, secured: bytes, **options: object) -> smtp_talk.Caller:
    caller = smtp_talk.Caller(smtp_talk.session(**{**OFFER, **options}))
    for part in (EHLO + clear, STARTTLS, secured):
        caller.feed(part)
    return caller


def test_ehlo_shows_starttls_where_it_can_be_begun() -> None:
    assert b"STARTTLS" in offers(smtp_talk.talk(EHLO, starttls=True).replies)
    for options in ({}, {"secured": True, "starttls": True}):
        came = smtp_talk.talk(EHLO + STARTTLS + b"HELP\r\n", **options)
        assert b"STARTTLS" not in offers(came.replies) and b"STARTTLS" not in came.replies[-1]
        assert came.codes[2] in (502, 503) and not came.events
    assert b"STARTTLS" in smtp_talk.talk(EHLO + b"HELP\r\n", starttls=True).replies[-1]


def test_who_has_logged_in_is_not_offered_starttls_any_more() -> None:
    plain = {**OFFER, "mechanisms": (Mechanism.PLAIN,)}
    came = smtp_talk.talk(EHLO + PLAIN + EHLO + STARTTLS, **plain)
    assert b"STARTTLS" not in offers(came.output.split(b"235 ")[1].split(b"\r\n"))
    assert came.codes[-1] == 502 and [type(event).__name__ for event in came.events] == ["Login"]


def test_all_is_forgotten_at_starttls() -> None:
    mail = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
    caller = smtp_under_tls(mail, b"RCPT TO:<c@d.test>\r\nMAIL FROM:<a@b.test>\r\n" + EHLO + b"DATA\r\n")
    assert caller.talk.codes[-4:] == [503, 503, 250, 503]
    assert caller.talk.replies[-1].startswith(b"503 5.5.1 MAIL and RCPT first")


def test_a_message_under_way_is_thrown_away_at_starttls() -> None:
    mail = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2\r\nhi"
    caller = smtp_under_tls(mail, EHLO + b"BDAT 0 LAST\r\n")
    names = [type(event).__name__ for event in caller.talk.events]
    assert names == ["Recipient", "BeginMessage", "AbortMessage", "StartTls"] and not caller.talk.delivered


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_behind_starttls_other_mechanisms_are_offered(size: int) -> None:
    caller = smtp_under_tls(b"", b"")
    said = EHLO + PLAIN
    for start in range(0, len(said), size):
        caller.feed(said[start : start + size])
    assert caller.talk.events[-1].attempt == Attempt(b"alice", b"violin", Mechanism.PLAIN, CHALLENGE, True)  # type: ignore[union-attr]
    assert b"250-AUTH PLAIN LOGIN CRAM-MD5" in caller.talk.replies and caller.talk.codes[-1] == 235


def test_starttls_needs_ehlo_and_takes_no_argument() -> None:
    came = smtp_talk.talk(b"HELO client.test\r\nSTARTTLS\r\n" + EHLO + b"STARTTLS now\r\n", starttls=True)
    assert [code for code in came.codes if code != 250] == [220, 503, 501] and not came.events


@pytest.mark.parametrize(("submission", "protocol"), [(True, b"ESMTPSA"), (False, b"ESMTPS")])
def test_the_trace_says_that_tls_covered_it(submission: bool, protocol: bytes) -> None:
    mail = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"
    caller = smtp_under_tls(b"", EHLO + PLAIN * submission + mail, submission=submission)
    assert caller.talk.events[-1].protocol == protocol  # type: ignore[union-attr]
