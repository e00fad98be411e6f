"""The sink: what a client of another's making sends is taken, and counted once."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator

import pytest
from bench.generator import Generator
from bench.servers import free_port
from bench.sink import Sink, sinking

SECONDS = 60.0


@pytest.fixture
def sink(generator: Generator) -> Iterator[Sink]:
    with sinking(generator, free_port(), 1000) as running:
        yield running


def test_the_generators_messages_come_once_each(generator: Generator, sink: Sink) -> None:
    for _ in range(2):
        sink.expect(300)
        load = generator.run(
            "smtp", sink.port, connections=7, sessions=100, messages=3, accounts=300, name="user%d@sink.test"
        )
        sunk = sink.wait(SECONDS)
        assert (load.errors, load.messages) == (0, 300)
        assert (sunk.messages, sunk.distinct, sunk.sessions) == (300, 300, 100)


def test_doubles_and_strange_recipients_are_told_apart(sink: Sink) -> None:
    sink.expect(3)
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=SECONDS) as client:
        for name in ("user5@sink.test", "user5@sink.test", "nobody@sink.test", "user1000@sink.test", "user6@sink.test"):
            client.sendmail("a@sender.test", [name], b"Subject: x\r\n\r\n.\r\n\r\n.\r\n.x\r\n")
        client.sendmail("a@sender.test", ["user7@sink.test", "user8@sink.test"], b"")
    sunk = sink.wait(SECONDS)
    assert (sunk.messages, sunk.distinct) == (6, 3)


def test_a_client_that_asks_before_it_listens(sink: Sink) -> None:
    sink.expect(2)
    pipelined = (
        b"EHLO x\r\n" + b"MAIL FROM:<>\r\nRCPT TO:<user%d@sink.test>\r\nDATA\r\n.\r\n" * 2 % (1, 2) + b"QUIT\r\n"
    )
    for piece in (1, 7, len(pipelined)):
        sink.expect(2)
        with socket.create_connection(("127.0.0.1", sink.port), timeout=SECONDS) as connection:
            for start in range(0, len(pipelined), piece):
                connection.sendall(pipelined[start : start + piece])
            replies = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        codes = [line[:3] for line in replies.split(b"\r\n")]
        assert codes[-10:] == [*(b"250", b"250", b"354", b"250") * 2, b"221", b""]
        assert sink.wait(SECONDS).distinct == 2


def test_what_has_come_is_told_when_the_time_is_up(sink: Sink) -> None:
    sink.expect(2)
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=SECONDS) as client:
        client.sendmail("a@sender.test", ["user1@sink.test"], b"")
        assert client.docmd("DATA")[0] == 554
    sunk = sink.wait(0.0)
    assert (sunk.messages, sunk.distinct) == (1, 1)
