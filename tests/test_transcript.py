"""The transcript: what is hidden in it, and what a server that does not play along leads to."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pillarbox import transcript
from pillarbox.terms import TryLater

SECRET = b"violin case 55"
CHALLENGE = b"<1.2@mail.example.test>"
DIGEST = hashlib.md5(CHALLENGE + SECRET).hexdigest().encode()


@contextmanager
def scripted(*replies: bytes) -> Iterator[str]:
    """A server that greets with the first of these, answers each line with the next, and then hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            for number, reply in enumerate(replies, 1):
                connection.sendall(reply)
                if number < len(replies):
                    lines.readline()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join()
        listener.close()


def test_a_server_that_repeats_the_proof_does_not_get_it_written_down() -> None:
    lines: list[str] = []
    tells = b"+OK your secret is " + SECRET + b" and your digest " + DIGEST + b"\r\n"
    with scripted(
        b"+OK hello " + CHALLENGE + b"\r\n", tells, b"+OK 1 5\r\n", b"+OK\r\na\r\n..b\r\n.\r\n", b"+OK\r\n"
    ) as address:
        fetched = transcript.look(address, "alice", SECRET, lines.append, fetch=True)
    assert fetched == [b"a", b".b"]
    assert lines[1:3] == ["C: APOP alice ***", "S: +OK your secret is *** and your digest ***"]
    assert SECRET.decode() not in "".join(lines) and DIGEST.decode() not in "".join(lines)


def test_control_characters_of_a_server_do_not_reach_the_terminal() -> None:
    lines: list[str] = []
    with scripted(b"-ERR \x1b[2J\x07 no\r\n") as address, pytest.raises(TryLater, match="replied: -ERR"):
        transcript.look(address, "alice", SECRET, lines.append, fetch=False)
    assert lines == ["S: -ERR ?[2J? no"]


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ((b"+OK no challenge here\r\n",), "no APOP challenge"),
        ((), "closed the connection"),
        ((b"+OK half a line",), "closed"),
    ],
)
def test_a_server_that_does_not_play_along(replies: tuple[bytes, ...], why: str) -> None:
    with scripted(*replies) as address, pytest.raises(TryLater, match=why):
        transcript.look(address, "alice", SECRET, lambda _: None, fetch=False)


def test_a_refused_recipient_is_told() -> None:
    replies = [b"220 hi\r\n", b"250 hi\r\n", b"250 ok\r\n", b"550 5.1.1 nobody\r\n"]
    with scripted(*replies) as address, pytest.raises(TryLater, match=r"550 5\.1\.1 nobody"):
        transcript.send(address, "a@b.test", "c@d.test", b"x\r\n", lambda _: None)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        address = f"127.0.0.1:{once.getsockname()[1]}"
    with pytest.raises(TryLater, match="can't be reached"):
        transcript.look(address, "alice", SECRET, lambda _: None, fetch=False)


@pytest.mark.parametrize(
    ("listens", "client"),
    [("0.0.0.0:110", ("127.0.0.1", 110)), ("[::]:110", ("::1", 110)), ("192.0.2.1:110", ("192.0.2.1", 110))],
)
def test_where_a_client_of_this_machine_finds_it(listens: str, client: tuple[str, int]) -> None:
    assert transcript.reachable(listens) == client
