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
from pillarbox.messages import Deliver, DeliveryDone, Instruct, Instructed, Message
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
        self.said: dict[bytes, Instructed] = {}  # by .qmail files
        self.read: Counter[bytes] = Counter()  # of these

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
                instructed=tuple(address in self.said for address in message.recipients),
            )
        if isinstance(message, Instruct):
            self.read[message.recipient] += 1
            return self.said[message.recipient]
        assert isinstance(message, Deliver)
        place = f"{message.account} {message.maildir}".strip()
        if place in self.stuck:
            return DeliveryDone(1, "deferred", "the disk is full")
        self.got[place] += 1
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


# .qmail files.

ALICE = b"alice@ours.test"
SYSTEM: Leads = {ALICE: (("alice@ours.test",), ()), b"bob@ours.test": (("bob@ours.test",), ())}


def owner(**says: Any) -> Neighbour:
    """alice's .qmail file says this."""
    broker = Neighbour(SYSTEM)
    broker.said[ALICE] = Instructed(1, "alice@ours.test", **says)
    return broker


def test_each_of_several_maildirs_gets_one_copy_whatever_becomes_of_the_others(queue: DiskQueue) -> None:
    broker = owner(maildirs=("", "lists", "old"), forwards=(b"bob@ours.test",))
    broker.stuck = ("alice@ours.test lists",)
    identity = accept(queue, ALICE)
    for _ in range(3):
        assert attempt(queue, broker, identity) == {ALICE: "pending"}
    broker.stuck = ()
    assert attempt(queue, broker, identity) == {ALICE: "expanded", b"bob@ours.test": "delivered"}
    assert set(broker.got.values()) == {1} and len(broker.got) == 4
    assert queue.load(identity).recipients[0].kept == ("", "old", "lists")


def test_a_maildir_that_is_named_anew_between_two_tries_gets_its_copy(queue: DiskQueue) -> None:
    broker = owner(maildirs=("a", "b"))
    broker.stuck = ("alice@ours.test b",)
    identity = accept(queue, ALICE)
    attempt(queue, broker, identity)
    broker.said[ALICE] = Instructed(1, "alice@ours.test", maildirs=("a", "c"))
    assert attempt(queue, broker, identity) == {ALICE: "delivered"}
    assert broker.got == {"alice@ours.test a": 1, "alice@ours.test c": 1}


def test_a_file_that_only_forwards_keeps_nothing(queue: DiskQueue) -> None:
    broker = owner(forwards=(b"bob@ours.test", b"x@elsewhere.test"))
    identity = accept(queue, ALICE)
    states = attempt(queue, broker, identity)
    assert states == {ALICE: "expanded", b"bob@ours.test": "delivered", b"x@elsewhere.test": "pending"}
    assert broker.got == {"bob@ours.test": 1} and broker.read == {ALICE: 1}
    assert {each.via for each in queue.load(identity).recipients} == {b"", ALICE}


def test_a_file_of_comments_discards_the_mail_and_says_so(queue: DiskQueue, capfd: pytest.CaptureFixture[str]) -> None:
    broker = owner()
    assert attempt(queue, broker, accept(queue, ALICE)) == {ALICE: "delivered"}
    assert not broker.got and "discarded" in capfd.readouterr().err


@pytest.mark.parametrize(("code", "state"), [("4.3.5", "pending"), ("4.7.0", "pending"), ("5.1.1", "failed")])
def test_a_file_that_can_not_be_obeyed_defers_and_one_that_is_not_there_bounces(
    queue: DiskQueue, code: str, state: str
) -> None:
    broker = owner(code=code, text="line 2 of /home/alice/.qmail")
    identity = accept(queue, ALICE, b"bob@ours.test")
    assert attempt(queue, broker, identity) == {ALICE: state, b"bob@ours.test": "delivered"}
    outcome = queue.load(identity).recipients[0].outcome
    assert outcome is not None and outcome.status == code and "/home" not in outcome.text


@pytest.mark.parametrize("forward", [b"a@b.test\r\nDATA", b"a b@c.test", b"nobody", b"", b"\xff@b.test"])
def test_what_no_file_can_say_is_not_believed(queue: DiskQueue, forward: bytes) -> None:
    broker = owner(maildirs=("",), forwards=(forward,))
    identity = accept(queue, ALICE)
    assert attempt(queue, broker, identity) == {ALICE: "pending"} and not broker.got
    assert len(queue.load(identity).recipients) == 1


def test_a_file_that_forwards_to_its_own_address_alone_is_a_circle(queue: DiskQueue) -> None:
    assert attempt(queue, owner(forwards=(b"Alice@ours.test",)), accept(queue, ALICE)) == {ALICE: "failed"}


def test_a_message_that_has_been_there_before_is_not_forwarded_again(queue: DiskQueue) -> None:
    broker = owner(maildirs=("",), forwards=(b"x@elsewhere.test",))
    identity = accept(queue, ALICE, content=b"Delivered-To: alice@ours.test\n\nx\n")
    assert attempt(queue, broker, identity) == {ALICE: "failed"} and not broker.got


def test_two_addresses_with_the_same_places_share_one_copy(queue: DiskQueue) -> None:
    broker = owner(maildirs=("lists",))
    broker.leads = {**SYSTEM, b"alice-x@ours.test": (("alice@ours.test",), ())}
    broker.said[b"alice-x@ours.test"] = Instructed(1, "alice@ours.test", maildirs=("lists",))
    states = attempt(queue, broker, accept(queue, ALICE, b"alice-x@ours.test"))
    assert set(states.values()) == {"delivered"} and broker.got == {"alice@ours.test lists": 1}
