"""What bounds a POP3 session: its limits, what its caller may do in each state, and that no secret leaves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pillarbox.listing import Entry, Listing
from pillarbox.protocol.pop3 import HIGH_WATER, LINE_LIMIT, Login, Pop3Session, State

from .pop3_talk import APOP, TWO, No, fail_login, logged_in, maildrop, session, talk

SECRET = b"tanstaaf"


# Limits.


@pytest.mark.parametrize(("before", "limit"), [(b"", 3), (APOP, 20)])
def test_so_many_bad_commands_end_the_conversation(before: bytes, limit: int) -> None:
    came = talk(before + b"BAD\r\n" * (limit - 1))
    assert came.state is not State.CLOSED
    came = talk(before + b"BAD\r\n" * (limit - 1) + b"CAPA\r\n" + b"BAD\r\n" * 5)
    assert came.lines[-1] == b"-ERR too many bad commands, goodbye"
    assert sum(line.startswith(b"-ERR") for line in came.lines) == limit
    assert came.state is State.CLOSED


def test_the_limits_on_bad_commands_can_be_set() -> None:
    assert len(talk(b"BAD\r\n" * 9, bad_before=5).lines) == 5
    assert len(talk(APOP + b"BAD\r\n" * 9, bad_after=1).lines) == 2


@pytest.mark.parametrize("before", [b"", APOP])
def test_a_line_that_is_too_long_ends_the_conversation(before: bytes) -> None:
    assert LINE_LIMIT == 255  # RFC 2449 section 4
    longest = b"CAPA " + b"x" * (LINE_LIMIT - len(b"CAPA \r\n")) + b"\r\n"
    assert talk(before + longest).state is not State.CLOSED
    for line in (b"CAPA x" + longest[5:], b"x" * 100_000):
        came = talk(before + line[: 2 * LINE_LIMIT] + b"NOOP\r\n")
        assert came.lines[-1] == b"-ERR line too long" and came.state is State.CLOSED


def test_an_answer_fits_a_response_line_whatever_the_reason() -> None:
    for why in ("x" * 10_000, "a\r\n+OK b\nc\0", "\u00e4\U0001f600" * 400):
        server = session()
        server.take_output()
        server.fail(why, "SYS/TEMP")
        output = server.take_output()
        assert output.startswith(b"-ERR [SYS/TEMP] ") and output.endswith(b"\r\n") and len(output) <= 512
        assert output.isascii() and not any(octet < 32 for octet in output[:-2])


def test_output_is_bounded_however_much_is_pipelined() -> None:
    listing = Listing.render([Entry(b"id", number, 0) for number in range(1_000)])
    one_answer = len(b"+OK sizes follow\r\n.\r\n") + sum(map(len, listing.list_lines()))
    server, answers, largest = session(), 0, 0
    server.receive(APOP + b"LIST\r\n" * 100_000)
    assert isinstance(server.next_event(), Login)
    server.login_accepted(listing)
    while server.pending > 6 * 95_000:  # every later round is like these
        assert server.next_event() is None and server.held_back
        assert server.next_event() is None  # and obeys nothing more
        taken = server.take_output()
        largest = max(largest, len(taken))
        answers += taken.count(b"sizes follow")
    assert HIGH_WATER < largest <= HIGH_WATER + one_answer
    assert answers == 100_000 - server.pending // 6


class Counted(bytes):
    """Octets that count how many of them are copied by slices."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        Counted.copied += len(part)
        return part


def test_pipelined_commands_cost_linear_time() -> None:
    data = Counted(b"NOOP\r\n" * (HIGH_WATER // 6))
    server, output = logged_in(), b""
    server.receive(data)
    while server.next_event() is None and (taken := server.take_output()):
        output += taken
    assert output == b"+OK\r\n" * (HIGH_WATER // 6)
    assert Counted.copied <= 2 * len(data)


# The caller.


@pytest.mark.parametrize("sent", [APOP, b"USER a\r\nPASS b\r\n"])
def test_a_final_refusal_ends_the_conversation(sent: bytes) -> None:
    no = No("too many failures, goodbye", "AUTH", final=True)
    came = talk(sent + b"CAPA\r\n" + APOP, lambda event: no)
    assert came.lines[-1] == b"-ERR [AUTH] too many failures, goodbye"
    assert (len(came.events), came.state) == (1, State.CLOSED)


def waiting_for_login() -> Pop3Session:
    server = session()
    server.receive(APOP + b"NOOP\r\n")
    server.next_event()
    return server


def waiting_for(line: bytes) -> Pop3Session:
    server = logged_in()
    server.receive(b"DELE 2\r\n" + line + b"NOOP\r\n")
    server.next_event()
    return server


STATES: dict[str, Callable[[], Pop3Session]] = {
    "AUTHORIZATION": session,
    "Login": waiting_for_login,
    "TRANSACTION": logged_in,
    "Retrieve": lambda: waiting_for(b"RETR 1\r\n"),
    "Update": lambda: waiting_for(b"QUIT\r\n"),
}


@pytest.mark.parametrize("state", STATES)
def test_fail_ends_the_conversation_with_one_line_in_every_state(state: str) -> None:
    server = STATES[state]()
    server.take_output()
    server.fail("idle for too long", "SYS/TEMP")
    assert server.take_output() == b"-ERR [SYS/TEMP] idle for too long\r\n"
    assert server.state is State.CLOSED and server.pending == 0
    server.fail("again")
    server.receive(b"NOOP\r\n")
    assert server.next_event() is None
    assert server.take_output() == b"" and server.pending == 0


ANSWERS: dict[str, Callable[[Pop3Session], None]] = {
    "Login": lambda server: server.login_accepted(maildrop(TWO)),
    "Retrieve": lambda server: server.message_opened(),
    "Update": lambda server: server.updated(0),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_only_the_event_that_waits_can_be_answered(state: str, answer: str) -> None:
    server = STATES[state]()
    server.take_output()
    if answer == state:
        ANSWERS[answer](server)
        assert server.take_output().startswith(b"+OK")
    else:
        with pytest.raises(RuntimeError):
            ANSWERS[answer](server)
        assert server.take_output() == b""


def test_nothing_can_be_refused_where_nothing_was_asked() -> None:
    with pytest.raises(RuntimeError):
        session().refuse("no")


@pytest.mark.parametrize("state", ["Login", "Retrieve", "Update"])
def test_no_command_is_obeyed_while_an_event_waits(state: str) -> None:
    server = STATES[state]()
    server.take_output()
    server.receive(b"NOOP\r\n" * 10)
    assert server.next_event() is None and server.take_output() == b""
    assert server.pending == 11 * len(b"NOOP\r\n")


# Secrets.


@pytest.mark.parametrize("sent", [b"USER mrose\r\nPASS tanstaaf\r\n", b"APOP mrose tanstaaf\r\n"])
def test_a_proof_shows_in_no_repr(sent: bytes) -> None:
    server = session()
    server.receive(sent)
    event = server.next_event()
    assert isinstance(event, Login) and event.attempt.proof == SECRET
    assert "tanstaaf" not in repr(event) + repr(server) + str(event)


@pytest.mark.parametrize(
    "sent", [b"tanstaaf\r\n", b"PASS tanstaaf\r\n", b"USER a tanstaaf\r\n", b"APOP tanstaaf\r\n", b"STAT tanstaaf\r\n"]
)
@pytest.mark.parametrize("before", [b"", APOP])
def test_what_a_client_says_is_never_said_back(before: bytes, sent: bytes) -> None:
    assert b"tanstaaf" not in talk(before + sent, fail_login).output
    assert b"tanstaaf" not in talk(before + sent, plaintext=False).output
