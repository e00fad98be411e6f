"""Every command of POP3, in its good and its bad uses, whole and in pieces; test_pop3_bounds.py has what limits them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol.pop3 import (
    CAPABILITIES,
    COMMANDS,
    Login,
    Retrieve,
    State,
    Update,
)
from pillarbox.protocol.pop3_dialect import NAME_LIMIT
from pillarbox.terms import Attempt, Mechanism

from .pop3_talk import (
    APOP,
    CHALLENGE,
    DIGEST,
    TWO_SIZES,
    No,
    Talk,
    fail_login,
    inside,
    logged_in,
    session,
    talk,
)

SECRET = b"tanstaaf"


def attempts(came: Talk) -> list[Attempt]:
    return [event.attempt for event in came.events if isinstance(event, Login)]


# The examples of RFC 1939.


def test_the_session_of_section_10() -> None:
    messages = (b"x" * 118 + b"\n", b"y" * 198 + b"\n")
    sent = b"STAT\r\nLIST\r\nRETR 1\r\nDELE 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n"
    came = talk(APOP + sent, messages=messages)
    assert came.greeting == b"+OK dbc.mtview.ca.us Pillarbox <1896.697170952@dbc.mtview.ca.us>"
    assert came.lines == [
        b"+OK 2 messages, 320 octets",
        b"+OK 2 320",
        b"+OK sizes follow", b"1 120", b"2 200", b".",
        b"+OK 120 octets", b"x" * 118, b".",
        b"+OK deleted",
        b"+OK 200 octets", b"y" * 198, b".",
        b"+OK deleted",
        b"+OK goodbye, 2 removed",
    ]  # fmt: skip
    assert came.events == [
        Login(Attempt(b"mrose", DIGEST, Mechanism.APOP, CHALLENGE)),
        Retrieve(1),
        Retrieve(2),
        Update((1, 2)),
    ]
    assert (came.state, came.removed) == (State.CLOSED, 2)


def test_the_octets_of_a_message_are_those_that_are_sent() -> None:
    messages = (b"", b"\n", b"a\r\nb", b".\n..\n", b"lone\rcr\r", b"\0\xff" * 50)
    lines = inside(b"LIST\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nRETR 4\r\nRETR 5\r\nRETR 6\r\n", messages=messages)
    sizes = [int(line.split()[1]) for line in lines[1:7]]
    replies = b"".join(line + b"\r\n" for line in lines[8:]).split(b"+OK ")[1:]
    for size, reply in zip(sizes, replies, strict=True):
        title, _, rest = reply.partition(b"\r\n")
        assert title == b"%d octets" % size
        stuffed = sum(line.startswith(b".") for line in rest.split(b"\r\n")[:-2])
        assert len(rest) - len(b".\r\n") - stuffed == size


# Greeting and CAPA.


def test_without_a_challenge_apop_is_not_offered() -> None:
    came = talk(APOP, apop=False)
    assert came.greeting == b"+OK dbc.mtview.ca.us Pillarbox"
    assert came.lines[0].startswith(b"-ERR [AUTH]") and came.events == []


@pytest.mark.parametrize("before", [b"", APOP])
@pytest.mark.parametrize(("plaintext", "user"), [(True, [b"USER"]), (False, [])])
def test_capa_offers_user_only_where_it_is_taken(before: bytes, plaintext: bool, user: list[bytes]) -> None:
    lines = talk(before + b"CAPA\r\n", plaintext=plaintext).lines[before.count(b"\n") :]
    assert lines == [b"+OK capabilities", *CAPABILITIES, *user, b"."]


def test_every_capability_is_of_rfc_2449_or_3206() -> None:
    known = {"TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE", "IMPLEMENTATION"}
    assert {word.split()[0].decode() for word in CAPABILITIES} == known


# USER and PASS.


def test_user_and_pass() -> None:
    came = talk(b"USER mrose\r\nPASS tanstaaf\r\nSTAT\r\n", secured=True)
    assert came.lines == [b"+OK now PASS", b"+OK 2 messages, 53 octets", b"+OK 2 53"]
    assert attempts(came) == [Attempt(b"mrose", SECRET, Mechanism.USER_PASS, CHALLENGE, secured=True)]


@pytest.mark.parametrize("password", [b"tan  staaf", b" tanstaaf", b"tanstaaf ", b"tan\tstaaf", b"t\xc3\xa4n", b"t\r"])
def test_a_password_is_taken_as_it_stands(password: bytes) -> None:
    assert attempts(talk(b"USER mrose\r\nPASS " + password + b"\r\n"))[0].proof == password


@pytest.mark.parametrize("line", [b"PASS\r\n", b"PASS \r\n"])
def test_an_empty_password_is_an_attempt_like_any_other(line: bytes) -> None:
    came = talk(b"USER mrose\r\n" + line, fail_login)
    assert attempts(came)[0].proof == b""
    assert came.lines[1] == b"-ERR [AUTH] wrong name or password"


def test_pass_needs_user_each_time() -> None:
    came = talk(b"PASS x\r\nUSER mrose\r\nPASS x\r\nPASS y\r\n", fail_login)
    assert [line[:4] for line in came.lines] == [b"-ERR", b"+OK ", b"-ERR", b"-ERR"]
    assert len(attempts(came)) == 1


def test_the_last_user_counts() -> None:
    assert attempts(talk(b"USER a\r\nUSER b\r\nPASS x\r\n"))[0].name == b"b"
    assert attempts(talk(b"USER a\r\nUSER \r\nPASS x\r\n")) == []


def test_where_plaintext_is_refused_user_is_before_the_password_can_be_sent() -> None:
    replies = {
        tuple(talk(b"USER " + name + b"\r\nPASS tanstaaf\r\n", plaintext=False).lines)
        for name in (b"mrose", b"nobody", b"", b"x" * 200, b"a b", b"\0")
    }
    assert len(replies) == 1  # whatever the name
    user, password = replies.pop()
    assert user.startswith(b"-ERR [AUTH] ") and password.startswith(b"-ERR ")


@pytest.mark.parametrize("name", [b"", b" ", b"a b", b"a\tb", b"a\0", b"a\x7f", b"a\r", b"x" * (NAME_LIMIT + 1)])
def test_what_is_no_name(name: bytes) -> None:
    came = talk(b"USER " + name + b"\r\nAPOP " + name + b" " + DIGEST + b"\r\n")
    assert [line[:5] for line in came.lines] == [b"-ERR ", b"-ERR "] and came.events == []


@pytest.mark.parametrize("name", [b"m", b"mrose@example.test", b"M+x", b"\xc3\xa4@example.test", b"x" * NAME_LIMIT])
def test_what_is_a_name(name: bytes) -> None:
    assert attempts(talk(b"USER " + name + b"\r\nPASS x\r\n"))[0].name == name


def test_a_failed_login_leaves_the_connection_as_it_was() -> None:
    came = talk(b"USER mrose\r\nPASS x\r\nSTAT\r\nCAPA\r\n" + APOP, fail_login)
    assert came.lines[1] == came.lines[-1] == b"-ERR [AUTH] wrong name or password"
    assert came.lines[2] == b"-ERR not offered here, or not before login"
    assert came.state is State.AUTHORIZATION


def test_after_login_nobody_logs_in_again() -> None:
    for line in (b"USER a\r\n", b"PASS b\r\n", APOP):
        came = talk(APOP + line)
        assert came.lines[1].startswith(b"-ERR ") and len(came.events) == 1


# APOP.


@pytest.mark.parametrize(
    "digest", [DIGEST, DIGEST.upper(), DIGEST[:-1], DIGEST + b"0", b"", b"x" * 200, b"\0" * 32, b"\xff", b"-1"]
)
def test_every_digest_is_an_attempt_for_the_broker_to_judge(digest: bytes) -> None:
    came = talk(b"APOP mrose " + digest + b"\r\n", fail_login)
    assert attempts(came) == [Attempt(b"mrose", digest, Mechanism.APOP, CHALLENGE)]
    assert came.lines == [b"-ERR [AUTH] wrong name or password"]


@pytest.mark.parametrize("line", [b"APOP", b"APOP ", b"APOP mrose", b"APOP  " + DIGEST, b"APOP a b " + DIGEST])
def test_apop_needs_a_name_and_a_digest(line: bytes) -> None:
    came = talk(line + b"\r\n")
    assert came.lines[0].startswith(b"-ERR a name is needed") and came.events == []


# Numbers.

NO_NUMBERS = [b"0", b"3", b"00", b"-1", b"+1", b"1.", b"1x", b"x", b"0x1", b"1 ", b" 1", b"\t1", b"1\r", b"1_0", b"1\0",
              b"9999999999", b"00000000001", b"18446744073709551617", b"\xd9\xa1", b"1,2", b"*"]  # fmt: skip


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("line", [b"LIST %b", b"UIDL %b", b"RETR %b", b"DELE %b", b"TOP %b"])
def test_what_is_no_message(line: bytes, number: bytes) -> None:
    replies = inside(line % number + b"\r\nSTAT\r\n")
    assert replies[0].startswith(b"-ERR ") and replies[1:] == [b"+OK 2 53"]


@pytest.mark.parametrize("number", [number for number in NO_NUMBERS if number != b"1 "])
def test_what_is_no_message_for_top(number: bytes) -> None:
    replies = inside(b"TOP %b 0\r\nTOP 1  0\r\n" % number)
    assert replies[0].startswith(b"-ERR ") and replies[1] == b"+OK"


@pytest.mark.parametrize("verb", [b"RETR", b"DELE", b"TOP", b"TOP 1", b"TOP 1 ", b"TOP 1 x", b"TOP 1 -1", b"TOP 1 1 1"])
def test_what_needs_a_number(verb: bytes) -> None:
    assert [line[:5] for line in inside(verb + b"\r\n")] == [b"-ERR "]


def test_leading_zeros_are_digits() -> None:
    assert inside(b"LIST 0000000002\r\n") == [b"+OK 2 30"]


def test_numbers_of_one_message() -> None:
    assert inside(b"LIST 1\r\nLIST 2\r\nUIDL 1\r\nUIDL 2\r\n") == [
        *(b"+OK %d %d" % line for line in enumerate(TWO_SIZES, 1)),
        b"+OK 1 u1",
        b"+OK 2 u2",
    ]


def test_all_numbers() -> None:
    assert inside(b"UIDL\r\n") == [b"+OK unique ids follow", b"1 u1", b"2 u2", b"."]
    assert inside(b"LIST \r\n") == [b"+OK sizes follow", b"1 23", b"2 30", b"."]


def test_an_empty_maildrop() -> None:
    sent = b"STAT\r\nLIST\r\nUIDL\r\nLIST 1\r\nRETR 1\r\nRSET\r\nQUIT\r\n"
    assert inside(sent, messages=()) == [
        b"+OK 0 0",
        b"+OK sizes follow", b".",
        b"+OK unique ids follow", b".",
        b"-ERR no such message, there are 0",
        b"-ERR no such message, there are 0",
        b"+OK 0 messages, 0 octets",
        b"+OK goodbye",
    ]  # fmt: skip


# Messages.


def test_top_shows_header_and_so_many_lines() -> None:
    assert inside(b"TOP 2 0\r\n") == [b"+OK", b"Subject: two", b"", b"."]
    assert inside(b"TOP 2 1\r\n") == [b"+OK", b"Subject: two", b"", b"..dot", b"."]
    assert inside(b"top 2 9999999999\r\n") == [b"+OK", b"Subject: two", b"", b"..dot", b"second", b"."]
    assert talk(APOP + b"TOP 1 7\r\n").events[1] == Retrieve(1, 7)


def test_a_message_that_cannot_be_opened() -> None:
    gone = No("that message is gone", "SYS/TEMP")
    lines = inside(
        b"RETR 1\r\nRETR 2\r\n", lambda event: gone if isinstance(event, Retrieve) and event.number == 1 else None
    )
    assert lines[0] == b"-ERR [SYS/TEMP] that message is gone"
    assert lines[1] == b"+OK 30 octets"


@pytest.mark.parametrize("line", [b"XYZZY\r\n", b"\r\n", b"\n"])
def test_what_is_unknown(line: bytes) -> None:
    assert inside(line) == [b"-ERR unknown command"]


@pytest.mark.parametrize("line", [b"LAST\r\n", b"STLS\r\n", b"AUTH PLAIN\r\n", b"XTND\r\n", b"UTF8\r\n", b"USER a\r\n"])
def test_what_is_known_and_not_offered_is_no_bad_command(line: bytes) -> None:
    assert inside(line * 30 + b"NOOP\r\n") == [b"-ERR not offered here"] * 30 + [b"+OK"]


def test_commands_that_come_before_login_are_no_bad_commands() -> None:
    came = talk(b"STAT\r\nLIST\r\nUIDL\r\nDELE\r\n" + APOP)
    assert came.lines[:4] == [b"-ERR not offered here, or not before login"] * 4
    assert came.lines[4].startswith(b"+OK")


@pytest.mark.parametrize("line", [b"noop\r\n", b"NoOp\n", b"NOOP \r\n", b"NOOP and more\r\n"])
def test_noop(line: bytes) -> None:
    assert inside(line) == [b"+OK"]


@pytest.mark.parametrize("line", [b" NOOP\r\n", b"NOOP\tx\r\n", b"NOOP\r\r\n", b"NO\0OP\r\n", b"\xffNOOP\r\n"])
def test_only_a_blank_ends_the_verb(line: bytes) -> None:
    assert inside(line) == [b"-ERR unknown command"]


# DELE, RSET, QUIT.


def test_what_is_deleted_is_gone_from_everything() -> None:
    sent = b"DELE 1\r\nDELE 1\r\nRETR 1\r\nTOP 1 0\r\nLIST 1\r\nUIDL 1\r\nSTAT\r\nLIST\r\nUIDL\r\n"
    assert inside(sent) == [
        b"+OK deleted",
        *[b"-ERR that message is deleted"] * 5,
        b"+OK 1 30",
        b"+OK sizes follow", b"2 30", b".",
        b"+OK unique ids follow", b"2 u2", b".",
    ]  # fmt: skip


def test_rset_brings_everything_back() -> None:
    came = talk(APOP + b"DELE 1\r\nDELE 2\r\nSTAT\r\nRSET\r\nSTAT\r\nLIST\r\nQUIT\r\n")
    assert came.lines[3:] == [
        b"+OK 0 0",
        b"+OK 2 messages, 53 octets",
        b"+OK 2 53",
        b"+OK sizes follow", b"1 23", b"2 30", b".",
        b"+OK goodbye",
    ]  # fmt: skip
    assert came.events[1:] == [] and came.removed == 0


def test_a_session_tells_what_is_deleted() -> None:
    server = logged_in()
    assert not server.is_deleted(1)
    server.receive(b"DELE 1\r\n")
    assert server.next_event() is None
    assert [server.is_deleted(number) for number in (1, 2)] == [True, False]


@pytest.mark.parametrize("before", [b"", APOP, APOP + b"DELE 1\r\n"])
def test_nothing_is_obeyed_behind_quit(before: bytes) -> None:
    came = talk(before + b"QUIT\r\nNOOP\r\nDELE 2\r\nQUIT\r\n" + APOP)
    assert len(came.lines) == before.count(b"\n") + 1
    assert came.lines[-1].startswith(b"+OK goodbye") and came.state is State.CLOSED


@pytest.mark.parametrize(
    ("answer", "reply", "removed"),
    [
        (0, b"+OK goodbye, 2 removed", 2),
        (1, b"-ERR [SYS/TEMP] 1 of the deleted messages could not be removed", 1),
        (2, b"-ERR [SYS/TEMP] 2 of the deleted messages could not be removed", 0),
        (No("no room", "SYS/TEMP"), b"-ERR [SYS/TEMP] no room", 0),
    ],
)
def test_quit_after_dele_has_exactly_one_reply(answer: No | int, reply: bytes, removed: int) -> None:
    sent = APOP + b"DELE 2\r\nDELE 1\r\nQUIT\r\nNOOP\r\n"
    came = talk(sent, lambda event: answer if isinstance(event, Update) else None)
    assert came.events[1:] == [Update((1, 2))]
    assert came.lines[3:] == [reply]
    assert (came.removed, came.state) == (removed, State.CLOSED)


def test_the_client_has_said_quit() -> None:
    server = session()
    assert not server.quit
    server.receive(b"QUIT\r\n")
    assert server.next_event() is None and server.quit


# Anything.

SOUP = st.lists(
    st.one_of(
        st.sampled_from(sorted({verb for commands in COMMANDS.values() for verb in commands})),
        st.sampled_from([b" ", b"\r\n", b"\n", b"\r", b"1", b"2", b"\0", b"x", APOP, b"USER a\r\nPASS b\r\n"]),
        st.binary(max_size=3),
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=40)
@given(SOUP, st.booleans())
def test_any_octets_in_any_pieces_give_the_same_and_well_formed_lines(soup: bytes, inside_first: bool) -> None:
    came = talk(APOP * inside_first + soup)
    assert came.output.count(b"\n") == came.output.count(b"\r\n") == came.output.count(b"\r")
    assert len(came.lines) >= inside_first


def test_each_state_understands_what_rfc_1939_has_for_it() -> None:
    assert set(COMMANDS[State.AUTHORIZATION]) == {b"APOP", b"AUTH", b"CAPA", b"PASS", b"QUIT", b"STLS", b"USER"}
    assert set(COMMANDS[State.TRANSACTION]) == set(b"CAPA DELE LIST NOOP QUIT RETR RSET STAT TOP UIDL".split())
