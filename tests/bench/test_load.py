"""The load generator itself: it counts what happened, and notices what is wrong."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
from bench.generator import Generator

from .peers import Pop3Peer, SmtpPeer, serving

BODIES = (
    b"",
    b"\r\n",
    b".\r\n",
    b"..\r\n.\r\n",
    b"Subject: one\r\n\r\nline\r\n.dot\r\nend. \r\n",
    b"a.\r\n" * 5000,
    (b"." * 70 + b"\r\n") * 9000,  # longer than one read, with a dot at every place where a read can end
)


@pytest.mark.parametrize("auth", ["apop", "pass"])
def test_logins_are_counted_and_every_account_has_its_turn(generator: Generator, auth: str) -> None:
    with serving(Pop3Peer()) as peer:
        load = generator.run("login", peer.port, connections=4, sessions=40, accounts=20, first=5, auth=auth)
    assert (load.sessions, load.errors, load.first_error) == (40, 0, "")
    assert peer.seen.sessions == 40
    assert len(peer.seen.logins) == 40
    assert set(Counter(peer.seen.logins)) <= {b"user%d@example.test" % number for number in range(5, 25)}
    assert load.ms["session"]["count"] == load.ms["login"]["count"] == 40
    assert load.ms["session"]["p50"] <= load.ms["session"]["p99"] <= load.ms["session"]["max"]


@pytest.mark.parametrize("length", [1, 20, 21, 22, 29, 30, 31, 93, 94])
def test_digests_of_all_lengths_around_a_block(generator: Generator, length: int) -> None:
    with serving(Pop3Peer(secret=b"s" * length)) as peer:
        load = generator.run("login", peer.port, sessions=1, secret="s" * length)
    assert (load.sessions, load.errors) == (1, 0)


def test_refused_logins_are_errors(generator: Generator) -> None:
    with serving(Pop3Peer()) as peer:
        load = generator.run("login", peer.port, sessions=3, secret="wrong%d")
    assert (load.sessions, load.errors, load.first_error) == (0, 3, "refused: -ERR wrong")


def test_a_server_that_is_not_there_is_an_error(generator: Generator) -> None:
    peer = Pop3Peer()
    peer.server_close()
    load = generator.run("login", peer.port, sessions=3)
    assert (load.sessions, load.errors) == (0, 3)
    assert "refused" in load.first_error


@pytest.mark.parametrize("pipelined", [0, 1])
@pytest.mark.parametrize("piece", [1 << 16, 1000, 7])
def test_downloads_are_counted_to_the_octet(generator: Generator, pipelined: int, piece: int) -> None:
    bodies = BODIES if piece > 7 else BODIES[:5]
    with serving(Pop3Peer(bodies, piece)) as peer:
        load = generator.run(
            "retr",
            peer.port,
            connections=2,
            accounts=2,
            sessions=4,
            messages=len(bodies),
            octets=peer.octets,
            pipelined=pipelined,
        )
    assert (load.sessions, load.errors, load.first_error) == (4, 0, "")
    assert (load.messages, load.octets) == (4 * len(bodies), 4 * peer.octets)


def test_a_wrong_number_of_octets_is_an_error(generator: Generator) -> None:
    with serving(Pop3Peer(BODIES)) as peer:
        load = generator.run("retr", peer.port, sessions=1, messages=len(BODIES), octets=peer.octets + 1)
    assert (load.sessions, load.errors) == (0, 1)
    assert "octets" in load.first_error


def test_each_step_of_a_listing_is_timed(generator: Generator) -> None:
    with serving(Pop3Peer(BODIES)) as peer:
        load = generator.run("big", peer.port, sessions=2)
    assert (load.sessions, load.errors) == (2, 0)
    assert {key: load.ms[key]["count"] for key in ("login", "stat", "list", "uidl", "update")} == {
        "login": 2,
        "stat": 2,
        "list": 2,
        "uidl": 2,
        "update": 2,
    }


def test_idle_connections_are_held_until_the_end(generator: Generator) -> None:
    with serving(Pop3Peer()) as peer, generator.holding(peer.port, connections=100, accounts=100) as holding:
        assert (holding.load.held, holding.load.errors) == (100, 0)
        assert len(set(peer.seen.logins)) == 100
        assert holding.still_held() == 100


def test_logins_go_on_beside_downloads_until_these_end(generator: Generator) -> None:
    with serving(Pop3Peer(BODIES)) as peer:
        load = generator.run(
            "mixed",
            peer.port,
            connections=2,
            accounts=2,
            messages=len(BODIES),
            octets=peer.octets,
            beside=1,
            beside_name="user%d@beside.test",
            beside_accounts=1,
        )
    assert (load.sessions, load.octets, load.errors) == (2, 2 * peer.octets, 0)
    assert load.ms["session"]["count"] == 2
    assert load.ms["beside"]["count"] >= 1


def test_messages_are_sent_to_each_account_in_turn(generator: Generator) -> None:
    with serving(SmtpPeer()) as peer:
        load = generator.run(
            "smtp", peer.port, connections=3, sessions=6, messages=5, accounts=10, size=4096, sender="a@sender.test"
        )
    assert (load.sessions, load.messages, load.errors) == (6, 30, 0)
    assert Counter(peer.seen.recipients) == {b"user%d@example.test" % number: 3 for number in range(10)}
    assert set(peer.seen.senders) == {b"a@sender.test"}
    assert {len(message) for message in peer.seen.messages} == {load.octets // 30}
    assert 4096 <= load.octets // 30 < 4096 + 80


def test_a_refused_recipient_is_an_error(generator: Generator) -> None:
    with serving(SmtpPeer()) as peer:
        load = generator.run("smtp", peer.port, sessions=1, name="user%d@nowhere.test")
    assert (load.messages, load.errors, load.first_error) == (0, 1, "refused: 550 5.1.1 no")


def test_a_wrong_option_is_named(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="what is colour"):
        generator.run("login", 1, colour="red")
    done = subprocess.run(generator.command("dance", 1, {}), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
