"""The queue in a person's hands: hold, release, retry, remove, flush; damage; and a new start."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..peers.dns import NameServer
from ..peers.faults import Hold, Say
from ..peers.misbehaving import Misbehaving, Stage, misbehaving
from .office import Office, mail, opened, restarted

BUSY = Say(b"450 4.2.1 busy\r\n")


@contextlib.contextmanager
def waiting(office: Office, count: int = 1) -> Iterator[tuple[Misbehaving, list[str]]]:
    """A peer that was too busy for these messages, and is no more; their ids."""
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, BUSY)
        for number in range(count):
            office.send(f"x{number}@{domain}", message=mail(f"waiting {number}"))
        found = [office.deferred(f"x{number}@{domain}").identity for number in range(count)]
        peer.behave()
        yield peer, found


def test_the_list_tells_why_it_waits(office: Office) -> None:
    with waiting(office) as (_, (identity,)):
        line = next(line for line in office.command("queue", "list").split("\n") if line.startswith(identity))
        assert "450 4.2.1 busy" in line and "alice@example.test" in line
        (found,) = [
            one for one in json.loads(office.command("queue", "list", "--json"))["messages"] if one["id"] == identity
        ]
        assert found["tries"] == 1 and found["account"] == "alice@example.test"
        assert "Subject: waiting 0" in office.command("queue", "show", identity)
        office.remove(identity)


def test_what_is_held_waits_until_it_is_released(office: Office) -> None:
    with waiting(office, 2) as (peer, (held, free)):
        office.command("queue", "hold", held)
        office.flush()
        peer.wait_for(1)
        office.wait_until(lambda: free not in [one.identity for one in office.queue()])
        assert office.attempt("queue", "retry", held)[0] == 1
        assert len(peer.taken) == 1 and b"Subject: waiting 1" in peer.taken[0].message
        office.command("queue", "release", held)
        assert b"Subject: waiting 0" in peer.wait_for(2)[1].message
        office.wait_empty()


def test_one_message_is_retried(office: Office) -> None:
    with waiting(office, 2) as (peer, (first, second)):
        office.command("queue", "retry", first)
        peer.wait_for(1)
        office.wait_until(lambda: [one.identity for one in office.queue()] == [second])
        assert len(peer.taken) == 1
        office.command("queue", "retry")
        peer.wait_for(2)
        office.wait_empty()


@pytest.mark.parametrize("words", [["retry", "ID"], ["retry"], ["flush"]])
def test_who_is_asked_to_try_asks_a_dead_exchanger_again(office: Office, words: list[str]) -> None:
    domain, address = office.domain(), office.address()
    office.names.exchanger(domain, address)
    office.send(f"x@{domain}")
    identity = office.deferred(f"x@{domain}").identity
    with misbehaving(host=address, port=office.port) as peer:
        office.command("queue", *(identity if word == "ID" else word for word in words))
        peer.wait_for(1)
        office.wait_empty()


def test_what_is_removed_is_not_delivered_and_nobody_is_told(office: Office) -> None:
    with waiting(office) as (peer, (identity,)):
        office.remove(identity)
        assert not office.queue()
        office.flush()
        office.send(f"later@{peer_domain(office, peer)}")
        peer.wait_for(1)
        assert [b"waiting" in each.message for each in peer.taken] == [False]
        assert not list(Path(office.mail.home, "queue").glob(f"*/{identity}*"))


def peer_domain(office: Office, peer: Misbehaving) -> str:
    """Another domain with that exchanger."""
    domain = office.domain()
    office.names.exchanger(domain, peer.host)
    return domain


def test_what_is_being_tried_can_not_be_removed(office: Office) -> None:
    domain = office.domain()
    hold = Hold()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.DOT, hold)
        office.send(f"x@{domain}")
        assert hold.reached.wait(30)
        message = office.queued(f"x@{domain}")
        assert message is not None
        assert office.attempt("queue", "remove", message.identity)[0] == 75
        hold.release()
        peer.wait_for(1)
        office.wait_empty()


@pytest.mark.parametrize("damage", ["envelope", "message"])
def test_a_damaged_message_is_set_aside_and_the_others_are_delivered(office: Office, damage: str) -> None:
    with waiting(office, 2) as (peer, (damaged, _)):
        path = Path(office.mail.home, "queue", damage, damaged)
        if damage == "envelope":
            path.write_bytes(path.read_bytes()[:40])
        else:
            path.unlink()
        office.flush()
        peer.wait_for(1)
        office.wait_empty()
        assert b"Subject: waiting 1" in peer.taken[0].message and len(peer.taken) == 1
        assert any("queue-damaged" in line and damaged in line for line in office.mail.log().split("\n"))
        assert Path(office.mail.home, "queue", "damaged", damaged).exists()


def test_damage_that_is_found_at_the_start_stops_nothing(world: tuple[NameServer, int]) -> None:
    with opened(*world) as office, waiting(office, 2) as (peer, (damaged, _)):
        office.command("stop")
        Path(office.mail.home, "queue", "envelope", damaged).write_bytes(b"\x00" * 100)
        with restarted(office):
            office.flush()
            peer.wait_for(1)
            office.wait_empty()
        assert any("queue-damaged" in line and damaged in line for line in office.mail.log().split("\n"))


def test_a_new_start_hammers_nobody(world: tuple[NameServer, int]) -> None:
    with opened(*world) as office, waiting(office, 5) as (peer, identities):
        before = {one.identity: one.message for one in office.queue()}
        sessions = len(peer.sessions)
        office.command("stop")
        fresh = office.domain()
        with restarted(office) as again, again.exchanger(fresh) as other:
            again.send(f"x@{fresh}")
            other.wait_for(1)
            again.wait_until(lambda: len(again.queue()) == len(identities))
            assert {one.identity: one.message for one in again.queue()} == before
            assert all(message and message.next_try > time.time() for message in before.values())
            assert len(peer.sessions) == sessions
            again.flush()
            peer.wait_for(len(identities))
            again.wait_empty()


def test_the_end_of_the_server_waits_for_no_stalled_peer(world: tuple[NameServer, int]) -> None:
    domain = "stalled.test"
    hold = Hold()
    with opened(*world, {"processes": {"grace": 0.5}}) as office, office.exchanger(domain) as peer:
        peer.plan(Stage.DATA, hold)
        office.send(f"x@{domain}")
        assert hold.reached.wait(30)
        began = time.monotonic()
        office.command("stop")
        assert time.monotonic() - began < 30
        peer.behave()
        with restarted(office):
            office.flush()
            peer.wait_for(1)
            office.wait_empty()
        assert len(peer.taken) == 1
