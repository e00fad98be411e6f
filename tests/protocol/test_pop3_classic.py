"""The words of qmail's programs; whole, octet by octet, and in pieces the session says the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.pop3 import COMMANDS, Login, Pop3Session, State
from pillarbox.protocol.pop3_classic import CLASSIC, CLASSIC_WITH_CAPA, LINE_LIMIT, UNBOUNDED
from pillarbox.terms import Attempt, Mechanism

from .pop3_talk import CHALLENGE, TWO, Answer, Caller, Event, No, Talk, maildrop, yes

WORDS = [
    *(verb for commands in COMMANDS.values() for verb in commands), b"LAST", b"retr", b"", b"QUIT", b"x",
    b" ", b"  ", b"\t", b"0", b"1", b"2", b"3", b"1x", b"01", b"12345678901", b"-1", b"\r\n", b"\n", b"\r", b"\0", b"\xff",
    b"y" * LINE_LIMIT,
]  # fmt: skip
CONVERSATIONS = st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join)


def before() -> Pop3Session:
    return Pop3Session(b"h", CHALLENGE, plaintext=True, bad_before=UNBOUNDED, dialect=CLASSIC)


def after() -> Pop3Session:
    return Pop3Session.logged_in(maildrop(TWO), CLASSIC, UNBOUNDED)


def in_pieces(session: Pop3Session, data: bytes, size: int, answer: Answer = yes) -> Talk:
    caller = Caller(session, TWO, answer)
    caller.feed(b"")
    for start in range(0, len(data), size):
        caller.feed(data[start : start + size])
    return caller.talk


def whole(session: Pop3Session, data: bytes, answer: Answer = yes) -> bytes:
    return in_pieces(session, data, max(1, len(data)), answer).output


@given(CONVERSATIONS)
def test_pieces_change_nothing(data: bytes) -> None:
    for session in (before, after):
        found = in_pieces(session(), data, max(1, len(data)))
        for size in (1, 7):
            assert in_pieces(session(), data, size) == found


@given(CONVERSATIONS)
def test_every_reply_is_of_its_kind(data: bytes) -> None:
    """No word of the daemon's gets through: after a login +OK is followed by a blank, and -ERR by no code."""
    for line in whole(after(), data).split(b"\r\n"):
        assert not line.startswith(b"+OK") or line.startswith(b"+OK ")
        assert not line.startswith(b"-ERR [")


def test_the_greeting_is_the_challenge_alone() -> None:
    assert whole(before(), b"") == b"+OK " + CHALLENGE + b"\r\n"


def test_a_session_that_somebody_else_began() -> None:
    assert whole(after(), b"QUIT\r\n") == b"+OK \r\n+OK \r\n"


def test_a_login_here_ends_in_the_same_words() -> None:
    said = whole(before(), b"USER a\r\nPASS  b \r\nSTAT\r\nCAPA\r\n")
    assert said.endswith(b"\r\n+OK \r\n+OK \r\n+OK 2 53\r\n-ERR unimplemented\r\n")


def test_the_attempt() -> None:
    session = before()
    session.receive(b"USER  a b \r\nPASS  c d \r\n")
    assert session.next_event() == Login(Attempt(b"a b ", b"c d ", Mechanism.USER_PASS, CHALLENGE))
    session = before()
    session.receive(b"APOP  a b c\r\n")
    assert session.next_event() == Login(Attempt(b"a", b"b c", Mechanism.APOP, CHALLENGE))


def test_what_cannot_be_removed_is_told_once() -> None:
    def one_left(event: Event) -> No | int | None:
        return 1

    said = whole(after(), b"DELE 1\r\nDELE 2\r\nQUIT\r\n", one_left)
    assert said == b"+OK \r\n" * 3 + b"-ERR unable to unlink all deleted messages\r\n"


@pytest.mark.parametrize(
    ("commands", "last"), [(b"", 0), (b"DELE 2\n", 2), (b"DELE 2\nDELE 1\n", 2), (b"DELE 1\nRSET\n", 0)]
)
def test_last(commands: bytes, last: int) -> None:
    assert whole(after(), commands + b"LAST\n").endswith(b"+OK %d\r\n" % last)


def test_capa_where_it_is_asked_for() -> None:
    session = Pop3Session.logged_in(maildrop(TWO), CLASSIC_WITH_CAPA, UNBOUNDED)
    said = whole(session, b"CAPA\r\n")
    assert said.startswith(b"+OK \r\n+OK \r\nTOP\r\n")
    assert b"RESP-CODES" not in said  # RFC 2449: its -ERR would have to have codes
    assert session.state is State.TRANSACTION
