"""Recipients of ours: each mailbox is served once, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pillarbox.delivery.local import NOBODY, UNKNOWN, Local, Place
from pillarbox.messages import Deliver, DeliveryDone, Message
from pillarbox.messages_delivery import ResolveAll, ResolvedAll
from pillarbox.store.queue import DiskQueue
from pillarbox.terms import Envelope, Outcome

Leads = dict[bytes, tuple[tuple[str, ...], tuple[bytes, ...]]]


class Neighbour:
    """A broker that knows where addresses lead, and counts what workers get."""

    def __init__(self, leads: Leads, *, stuck: tuple[str, ...] = ()) -> None:
        self.leads = leads
        self.stuck = stuck
        self.local = True
        self.got: Counter[str] = Counter()

    async def ask(self, question: Callable[[int], Message], descriptors: tuple[int, ...] = ()) -> Any:
        for descriptor in descriptors:
            os.close(descriptor)
        message = question(1)
        if isinstance(message, ResolveAll):
            found = [self.leads.get(address, ((), ())) for address in message.recipients]
            return ResolvedAll(
                1,
                (self.local,) * len(found),
                tuple(accounts for accounts, _ in found),
                tuple(forwards for _, forwards in found),
            )
        assert isinstance(message, Deliver)
        if message.account in self.stuck:
            return DeliveryDone(1, "deferred", "the disk is full")
        self.got[message.account] += 1
        return DeliveryDone(1, "delivered", "")


@pytest.fixture
def queue(tmp_path: Path) -> DiskQueue:
    return DiskQueue(str(tmp_path / "queue"))


def accept(queue: DiskQueue, *recipients: bytes, content: bytes = b"Subject: x\n\nx\n") -> str:
    identity, descriptor = queue.open_slot()
    os.write(descriptor, content)
    os.close(descriptor)
    queue.commit(identity, Envelope(b"a@sender.test", recipients))
    return identity


def attempt(queue: DiskQueue, broker: Neighbour, identity: str) -> dict[bytes, str]:
    """Follow, deliver, settle; the states afterwards."""

    async def main() -> None:
        local = Local(queue, lambda address: address.lower().endswith(b"@ours.test"))
        asked: Any = broker
        message, places = await local.follow(asked, queue.load(identity))
        outcomes = {address: place for address, place in places.items() if isinstance(place, Outcome)}
        mailboxes = {address: place for address, place in places.items() if isinstance(place, Place)}
        outcomes |= await local.deliver(asked, message, mailboxes)
        queue.settle(identity, outcomes)

    asyncio.run(main())
    return {each.address: each.state for each in queue.load(identity).recipients}


TEAM: Leads = {
    b"team@ours.test": (("alice@ours.test", "bob@ours.test"), ()),
    b"alice@ours.test": (("alice@ours.test",), ()),
    b"bob@ours.test": (("bob@ours.test",), ()),
}


def test_one_stuck_mailbox_of_a_list_costs_the_others_no_second_copy(queue: DiskQueue) -> None:
    broker = Neighbour(TEAM, stuck=("bob@ours.test",))
    identity = accept(queue, b"team@ours.test")
    for _ in range(3):
        states = attempt(queue, broker, identity)
    assert states == {b"team@ours.test": "expanded", b"alice@ours.test": "delivered", b"bob@ours.test": "pending"}
    broker.stuck = ()
    assert attempt(queue, broker, identity)[b"bob@ours.test"] == "delivered"
    assert broker.got == {"alice@ours.test": 1, "bob@ours.test": 1}


def test_who_is_on_the_list_and_named_too_gets_one_copy(queue: DiskQueue) -> None:
    broker = Neighbour(TEAM)
    attempt(queue, broker, accept(queue, b"Alice@Ours.Test".lower(), b"team@ours.test"))
    assert broker.got == {"alice@ours.test": 1, "bob@ours.test": 1}


def test_an_account_that_is_a_list_keeps_its_own_copy_first(queue: DiskQueue) -> None:
    leads = {**TEAM, b"alice@ours.test": (("alice@ours.test", "bob@ours.test"), ())}
    broker = Neighbour(leads, stuck=("alice@ours.test",))
    identity = accept(queue, b"alice@ours.test")
    assert attempt(queue, broker, identity) == {b"alice@ours.test": "pending"}
    broker.stuck = ()
    assert attempt(queue, broker, identity) == {b"alice@ours.test": "expanded", b"bob@ours.test": "delivered"}
    assert broker.got == {"alice@ours.test": 1, "bob@ours.test": 1}


def test_a_forward_in_a_circle_keeps_nobody_waiting(queue: DiskQueue) -> None:
    broker = Neighbour({b"a@ours.test": ((), (b"b@ours.test",)), b"b@ours.test": ((), (b"A@ours.test",))})
    states = attempt(queue, broker, accept(queue, b"a@ours.test"))
    assert states == {b"a@ours.test": "expanded", b"b@ours.test": "failed"}


def test_at_another_host_capitals_may_make_another_mailbox(queue: DiskQueue) -> None:
    """RFC 5321 section 2.4; its domain is read without them, and so is an address of ours."""
    forwards = (b"Bob@far.test", b"bob@far.test", b"carol@FAR.test", b"Alice@ours.test")
    broker = Neighbour({**TEAM, b"team@ours.test": ((), forwards)})
    identity = accept(queue, b"team@ours.test", b"bob@far.test", b"carol@far.test", b"alice@ours.test")
    attempt(queue, broker, identity)
    addresses = [each.address for each in queue.load(identity).recipients]
    assert addresses == [b"team@ours.test", b"bob@far.test", b"carol@far.test", b"alice@ours.test", b"Bob@far.test"]


def test_a_domain_that_the_broker_does_not_know_yet_is_no_reason_to_bounce(queue: DiskQueue) -> None:
    broker = Neighbour(TEAM)
    broker.local = False
    identity = accept(queue, b"team@ours.test")
    assert attempt(queue, broker, identity) == {b"team@ours.test": "pending"}
    (recipient,) = queue.load(identity).recipients
    assert recipient.outcome == UNKNOWN


def test_who_is_nobody_fails(queue: DiskQueue) -> None:
    identity = accept(queue, b"nobody@ours.test")
    assert attempt(queue, Neighbour(TEAM), identity) == {b"nobody@ours.test": "failed"}
    (recipient,) = queue.load(identity).recipients
    assert recipient.outcome == NOBODY


def test_a_list_of_thousands_reaches_everybody_once(queue: DiskQueue) -> None:
    names = [f"m{number}@ours.test" for number in range(3000)]
    leads: Leads = {name.encode(): ((name,), ()) for name in names}
    leads[b"all@ours.test"] = tuple(names), ()
    broker = Neighbour(leads)
    states = attempt(queue, broker, accept(queue, b"all@ours.test"))
    assert set(broker.got.values()) == {1} and len(broker.got) == 3000
    assert Counter(states.values()) == {"delivered": 3000, "expanded": 1}
