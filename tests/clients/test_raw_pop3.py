"""What clients were seen to do on the wire: everything at once, octet by octet, and without a goodbye."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pillarbox.testing import Server, server

from ..corpus.sample import STORED, on_the_wire
from .post import post_all
from .raw import Raw

SECRET = "tulip under 7 stones"
ADDRESS = "alice@example.test"
BODY = b"Subject: x\r\n\r\n.dot\r\nlast\r\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts={"alice": SECRET, "stored": SECRET, "empty": SECRET}) as running:
        post_all(running, ADDRESS, [(f"m{n}", BODY) for n in range(3)])
        yield running


@pytest.fixture
def raw(running: Server) -> Iterator[Raw]:
    with Raw(running.host, running.pop3_port) as raw:
        yield raw


def connect(running: Server) -> Raw:
    return Raw(running.host, running.pop3_port)


def test_the_challenge_is_one_that_strict_clients_accept(raw: Raw) -> None:
    assert re.fullmatch(rb"\+OK [^<>]*<[A-Za-z0-9.]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+>", raw.greeting)


def test_no_two_greetings_share_a_challenge(running: Server) -> None:
    greetings = set()
    for _ in range(50):
        with connect(running) as raw:
            greetings.add(raw.greeting)
    assert len(greetings) == 50


def test_commands_behind_apop_in_one_packet_are_not_lost(raw: Raw) -> None:
    raw.send(raw.apop("alice", SECRET) + b"STAT\r\nLIST\r\nNOOP\r\nQUIT\r\n")
    assert raw.reply().startswith(b"+OK")
    count, octets = raw.reply().removeprefix(b"+OK ").split()
    assert count == b"3"
    assert raw.reply().startswith(b"+OK")
    assert sum(int(line.split()[1]) for line in raw.rest().splitlines()) == int(octets)
    assert raw.reply().startswith(b"+OK")
    assert raw.reply().startswith(b"+OK")
    assert raw.ended()


def test_commands_behind_pass_in_one_packet_are_not_lost(raw: Raw) -> None:
    raw.send(b"CAPA\r\nUSER alice\r\nPASS " + SECRET.encode() + b"\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nQUIT\r\n")
    assert raw.reply().startswith(b"+OK")
    raw.rest()
    assert raw.reply().startswith(b"+OK")
    assert raw.reply().startswith(b"+OK")
    for _ in range(3):
        assert raw.reply().startswith(b"+OK")
        assert raw.rest().endswith(BODY.replace(b"\r\n.", b"\r\n.."))
    assert raw.reply().startswith(b"+OK")
    assert raw.ended()


def test_capa_is_answered_before_login(raw: Raw) -> None:
    assert raw.ask(b"CAPA").startswith(b"+OK")
    words = {line.split()[0] for line in raw.rest().splitlines()}
    assert {b"TOP", b"UIDL", b"PIPELINING", b"RESP-CODES", b"AUTH-RESP-CODE", b"USER", b"EXPIRE"} <= words


def test_a_failed_login_says_auth_and_keeps_the_connection(raw: Raw) -> None:
    assert raw.login("alice", "wrong").startswith(b"-ERR [AUTH]")
    assert raw.ask(b"USER alice").startswith(b"+OK")
    assert raw.ask(b"PASS wrong").startswith(b"-ERR [AUTH]")
    assert raw.login("alice", SECRET).startswith(b"+OK")


def test_three_failed_logins_end_the_connection(raw: Raw) -> None:
    for _ in range(3):
        assert raw.login("alice", "wrong").startswith(b"-ERR [AUTH]")
    assert raw.ended()


def test_an_unknown_account_is_refused_in_the_same_words(running: Server) -> None:
    replies = set()
    for user, secret in (("alice", "wrong"), ("nobody", "wrong"), ("nobody@elsewhere.test", "wrong"), ("alice", "")):
        with connect(running) as raw:
            replies.add(raw.login(user, secret))
    assert len(replies) == 1


def test_a_second_quit_is_not_answered(raw: Raw) -> None:
    raw.login("alice", SECRET)
    raw.send(b"QUIT\r\nQUIT\r\nNOOP\r\n")
    assert raw.reply().startswith(b"+OK")
    assert raw.ended()


def test_bad_commands_before_login_end_the_connection(raw: Raw) -> None:
    raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n")
    for _ in range(3):
        assert raw.reply().startswith(b"-ERR")
    assert raw.ended()


def test_a_session_without_quit_deletes_nothing(running: Server) -> None:
    with connect(running) as raw:
        raw.login("alice", SECRET)
        assert raw.ask(b"DELE 1").startswith(b"+OK")
        assert raw.ask(b"DELE 2").startswith(b"+OK")
    with connect(running) as raw:
        raw.login("alice", SECRET)
        assert raw.ask(b"STAT").startswith(b"+OK 3 ")


def test_a_session_comes_through_octet_by_octet(raw: Raw) -> None:
    session = raw.apop("alice", SECRET) + b"STAT\r\nRETR 1\r\nTOP 1 0\r\nUIDL\r\nDELE 1\r\nRSET\r\nQUIT\r\n"
    for octet in session:
        raw.send(bytes([octet]))
    assert raw.reply().startswith(b"+OK")
    assert raw.reply().startswith(b"+OK 3 ")
    assert raw.reply().startswith(b"+OK")
    assert raw.rest().endswith(BODY.replace(b"\r\n.", b"\r\n.."))
    assert raw.reply().startswith(b"+OK")
    assert raw.rest().endswith(b"Subject: x\r\n\r\n")
    assert raw.reply().startswith(b"+OK")
    assert raw.rest().count(b"\r\n") == 3
    for _ in range(3):
        assert raw.reply().startswith(b"+OK")
    assert raw.ended()


def test_lines_may_end_with_lf_alone(raw: Raw) -> None:
    raw.send(raw.apop("alice", SECRET).replace(b"\r\n", b"\n") + b"STAT\nQUIT\n")
    assert raw.reply().startswith(b"+OK")
    assert raw.reply().startswith(b"+OK 3 ")
    assert raw.reply().startswith(b"+OK")


def test_ten_thousand_commands_at_once_are_all_answered(raw: Raw) -> None:
    raw.login("alice", SECRET)
    raw.send(b"NOOP\r\n" * 10_000 + b"STAT\r\n")
    assert all(raw.reply().startswith(b"+OK") for _ in range(10_000))
    assert raw.reply().startswith(b"+OK 3 ")


def test_last_is_refused_so_that_clients_take_uidl(raw: Raw) -> None:
    raw.login("alice", SECRET)
    assert raw.ask(b"LAST").startswith(b"-ERR")


def test_an_empty_maildrop_is_no_error(raw: Raw) -> None:
    raw.login("empty", SECRET)
    assert raw.ask(b"STAT") == b"+OK 0 0"
    for command in (b"LIST", b"UIDL"):
        assert raw.ask(command).startswith(b"+OK")
        assert raw.rest() == b""
    assert raw.ask(b"RETR 1").startswith(b"-ERR")


def test_files_of_any_line_ends_agree_with_their_sizes(running: Server) -> None:
    for message in STORED:
        running.deliver("stored", message.data)
    with connect(running) as raw:
        raw.login("stored", SECRET)
        assert raw.ask(b"LIST").startswith(b"+OK")
        sizes = [int(line.split()[1]) for line in raw.rest().splitlines()]
        for number, (message, size) in enumerate(zip(STORED, sizes, strict=True), 1):
            assert raw.ask(b"RETR %d" % number).startswith(b"+OK"), message.name
            came = re.sub(rb"(?m)^\.", b"", raw.rest())
            assert came == on_the_wire(message.data), message.name
            assert len(came) == size, message.name


def test_a_dropped_line_does_not_lock_the_maildrop(running: Server) -> None:
    for _ in range(5):
        raw = connect(running)
        raw.login("alice", SECRET)
        raw.send(b"RETR 1\r\n")
        raw.reset()
    with connect(running) as raw:
        assert raw.login("alice", SECRET).startswith(b"+OK")


def test_a_second_session_gets_the_maildrop_when_the_first_ends(running: Server) -> None:
    with connect(running) as first, connect(running) as second:
        first.login("alice", SECRET)
        second.send(second.apop("alice", SECRET))
        assert first.ask(b"NOOP").startswith(b"+OK")
        assert first.ask(b"QUIT").startswith(b"+OK")
        assert second.reply().startswith(b"+OK")


def test_a_second_session_is_told_who_holds_the_maildrop() -> None:
    with server(accounts={"alice": SECRET}, config={"pop3": {"wait": 0.3}}) as running, connect(running) as first:
        assert first.login("alice", SECRET).startswith(b"+OK")
        with connect(running) as second:
            refusal = second.login("alice", SECRET)
            assert refusal.startswith(b"-ERR [IN-USE]")
            assert b"since" in refusal and b"from 127.0.0.1" in refusal
        assert first.ask(b"NOOP").startswith(b"+OK")
        first.ask(b"QUIT")
        with connect(running) as third:
            assert third.login("alice", SECRET).startswith(b"+OK")


def test_sessions_may_share_a_maildrop_where_that_is_configured() -> None:
    with (
        server(accounts={"alice": SECRET}, config={"pop3": {"sessions": "shared"}}) as running,
        connect(running) as first,
        connect(running) as second,
    ):
        assert first.login("alice", SECRET).startswith(b"+OK")
        assert second.login("alice", SECRET).startswith(b"+OK")
