"""The remote hop as a whole: which exchanger, which connection, how many, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from pillarbox.config import Listen
from pillarbox.delivery import lanes, letter, remote
from pillarbox.delivery.remote import Remote

from ..peers.dns import Fault, NameServer, name_server
from ..peers.faults import HangUp, Hold, Say, Stall
from ..peers.misbehaving import Misbehaving, Stage, misbehaving
from ..peers.ports import free_port, refusing
from .outgoing import LONG, RECIPIENT, SHORT, configured, deliver, deliver_one, outgoing, with_remote

FIRST, SECOND = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def peer() -> Iterator[Misbehaving]:
    with misbehaving() as made:
        yield made


@pytest.fixture
def names() -> Iterator[NameServer]:
    """there.test has two exchangers."""
    with name_server() as made:
        made.mx("there.test", (10, "mx1.there.test"), (20, "mx2.there.test"))
        made.a("mx1.there.test", FIRST)
        made.a("mx2.there.test", SECOND)
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[Misbehaving, Misbehaving]]:
    """Two hosts on one port."""
    port = free_port(FIRST, SECOND)
    with misbehaving(host=FIRST, port=port) as first, misbehaving(host=SECOND, port=port) as second:
        yield first, second


def test_the_most_preferred_exchanger_gets_it(names: NameServer, pair: tuple[Misbehaving, Misbehaving]) -> None:
    outcome = deliver_one(outgoing(), resolvers=[names.address], port=pair[0].port)
    assert (outcome.action, outcome.mta) == ("relayed", "mx1.there.test")
    assert not pair[1].sessions


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.EHLO])
@pytest.mark.parametrize("fault", [Say(b"554 5.7.1 no\r\n"), Say(b"421 4.3.2 busy\r\n"), HangUp()])
def test_the_next_one_stands_in(
    names: NameServer, pair: tuple[Misbehaving, Misbehaving], stage: Stage, fault: Say | HangUp
) -> None:
    pair[0].plan(stage, fault)
    outcome = deliver_one(outgoing(), resolvers=[names.address], port=pair[0].port)
    assert (outcome.action, outcome.mta) == ("relayed", "mx2.there.test")


def test_the_next_one_stands_in_for_one_that_is_not_there(names: NameServer) -> None:
    port = free_port(FIRST, SECOND)
    with refusing(FIRST, port), misbehaving(host=SECOND, port=port):
        outcome = deliver_one(outgoing(), resolvers=[names.address], port=port)
    assert (outcome.action, outcome.mta) == ("relayed", "mx2.there.test")


def test_a_refusal_is_final(names: NameServer, pair: tuple[Misbehaving, Misbehaving]) -> None:
    pair[0].plan(Stage.RCPT, Say(b"550 5.1.1 no such user\r\n"))
    assert deliver_one(outgoing(), resolvers=[names.address], port=pair[0].port).status == "5.1.1"
    assert not pair[1].sessions


def test_nobody_there_at_all(names: NameServer) -> None:
    port = free_port(FIRST, SECOND)
    with refusing(FIRST, port), refusing(SECOND, port):
        outcome = deliver_one(outgoing(), resolvers=[names.address], port=port)
    assert (outcome.action, outcome.status) == ("delayed", "4.4.1")


@pytest.mark.parametrize(
    ("recipient", "status"),
    [(b"a@none.test", "5.1.2"), (b"a@null.test", "5.1.10"), (b"a@lame.test", "4.4.3"), (b"postmaster", "5.1.2")],
)
def test_where_no_way_leads(names: NameServer, recipient: bytes, status: str) -> None:
    names.null_mx("null.test")
    names.fail("lame.test", Fault.SERVFAIL)
    outcome = deliver_one(outgoing(recipients=(recipient,)), resolvers=[names.address])
    assert (outcome.status, outcome.mta) == (status, "")


def test_an_address_literal(peer: Misbehaving) -> None:
    assert deliver_one(outgoing(recipients=(b"a@[127.0.0.1]",)), port=peer.port).action == "relayed"


def test_what_leads_back_here_is_a_loop(names: NameServer) -> None:
    port = free_port()
    names.exchanger("named.test", FIRST)
    names.mx("named.test", (10, "us.test"))
    names.a("us.test", "192.0.2.1")
    config = msgspec.structs.replace(
        configured(resolvers=[names.address], port=port), listen=Listen(smtp=[f"0.0.0.0:{port}"])
    )

    async def run() -> list[str]:
        hop = Remote(config)
        found = []
        for recipient in (b"a@named.test", b"a@there.test", b"a@[127.0.0.1]", b"a@[0.0.0.0]"):
            (outcome,) = (await hop.deliver(outgoing(recipients=(recipient,)))).values()
            found.append(outcome.status)
        await hop.close()
        return found

    assert asyncio.run(run()) == ["5.4.6"] * 4


def test_lanes() -> None:
    hop = Remote(configured(routes={"a.test": "h.test", "b.test": "h.test"}))
    assert hop.lane(b"x@a.test") == hop.lane(b"y@B.test")
    assert hop.lane(b"x@c.test") != hop.lane(b"x@d.test")
    assert hop.lane(b"nobody") == hop.lane(b"x@.")


# Connections.


def test_a_connection_is_used_again(peer: Misbehaving) -> None:
    async def work(hop: Remote) -> None:
        for number in range(5):
            await hop.deliver(outgoing(recipients=(b"%d@there.test" % number,)))

    with_remote(work, to=peer.route)
    assert len(peer.wait_for(5)) == 5
    assert len(peer.sessions) == 1


def test_a_connection_serves_after_a_refusal(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"550 5.1.1 no\r\n"), containing=b"bad@")
    peer.plan(Stage.DOT, Say(b"554 5.7.1 no\r\n"), nth=2)

    async def work(hop: Remote) -> list[str]:
        found = []
        for local in (b"bad", b"good", b"good", b"good"):
            found += [
                outcome.status for outcome in (await hop.deliver(outgoing(recipients=(local + b"@x.test",)))).values()
            ]
        return found

    assert with_remote(work, to=peer.route) == ["5.1.1", "2.0.0", "5.7.1", "2.0.0"]
    assert len(peer.sessions) == 1


@pytest.mark.parametrize(
    "fault",
    [HangUp(), HangUp(reset=True), Say(b"421 4.4.2 idle for too long\r\n"), Say(b"451 4.7.0 too many messages\r\n")],
)
def test_a_kept_connection_that_is_no_use_is_replaced_at_once(peer: Misbehaving, fault: Say | HangUp) -> None:
    peer.plan(Stage.MAIL, fault, nth=2, times=1)

    async def work(hop: Remote) -> list[str]:
        return [(await hop.deliver(outgoing()))[RECIPIENT].action for _ in range(3)]

    assert with_remote(work, to=peer.route) == ["relayed"] * 3
    assert len(peer.sessions) == 2


def test_a_connection_that_ended_while_it_was_kept(peer: Misbehaving) -> None:
    peer.plan(Stage.DOT, Say(b"250 2.0.0 ok\r\n421 4.4.2 good bye\r\n"), times=1)

    async def work(hop: Remote) -> list[str]:
        return [(await hop.deliver(outgoing()))[RECIPIENT].action for _ in range(2)]

    assert with_remote(work, to=peer.route) == ["relayed"] * 2


def test_a_connection_carries_only_so_many(peer: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MESSAGES_LIMIT", 2)

    async def work(hop: Remote) -> None:
        for _ in range(5):
            await hop.deliver(outgoing())

    with_remote(work, to=peer.route)
    assert [len(session.transactions) for session in peer.sessions] == [2, 2, 1]


def test_no_more_connections_than_a_destination_may_have(peer: Misbehaving) -> None:
    hold = Hold()
    peer.plan(Stage.MAIL, hold)

    async def work(hop: Remote) -> None:
        tasks = [asyncio.create_task(hop.deliver(outgoing())) for _ in range(12)]
        await asyncio.to_thread(
            peer.wait_until, lambda: sum(b"MAIL" in session.verbs for session in peer.sessions) == 3
        )
        hold.release()
        peer.behave()
        await asyncio.gather(*tasks)

    with_remote(work, to=peer.route, connections_per_destination=3)
    assert len(peer.wait_for(12)) == 12
    assert peer.most_at_once == 3


def test_a_slow_destination_delays_no_other(pair: tuple[Misbehaving, Misbehaving]) -> None:
    hold = Hold()
    pair[0].plan(Stage.DOT, hold)

    async def work(hop: Remote) -> None:
        slow = [asyncio.create_task(hop.deliver(outgoing(recipients=(b"a@slow.test",)))) for _ in range(50)]
        await asyncio.to_thread(hold.reached.wait, 30)
        (outcome,) = (await hop.deliver(outgoing(recipients=(b"a@fast.test",)))).values()
        assert outcome.action == "relayed"
        hold.release()
        await asyncio.gather(*slow)

    routes = {"slow.test": pair[0].route, "fast.test": pair[1].route}
    with_remote(work, routes=routes, connections=20, connections_per_destination=10)
    assert len(pair[0].wait_for(50)) == 50


def test_a_slow_server_delays_no_other_at_the_same_address(peer: Misbehaving) -> None:
    hold = Hold()
    peer.plan(Stage.DOT, hold)

    async def work(hop: Remote) -> None:
        slow = [asyncio.create_task(hop.deliver(outgoing(recipients=(b"a@slow.test",)))) for _ in range(50)]
        await asyncio.to_thread(peer.wait_until, lambda: len(peer.sessions) == 10)
        async with asyncio.timeout(20):
            (outcome,) = (await hop.deliver(outgoing(recipients=(b"a@fast.test",)))).values()
        assert outcome.action == "relayed"
        hold.release()
        await asyncio.gather(*slow)

    with misbehaving() as other:
        routes = {"slow.test": peer.route, "fast.test": other.route}
        with_remote(work, routes=routes, connections=20, connections_per_destination=10)
    assert len(peer.taken) == 50 and peer.most_at_once == 10


@pytest.mark.parametrize(
    ("stage", "reply"), [(Stage.RCPT, b"452 4.5.3 too many\r\n"), (Stage.MAIL, b"451 4.7.0 no\r\n")]
)
def test_who_waits_for_a_connection_holds_no_memory(names: NameServer, stage: Stage, reply: bytes) -> None:
    """Two domains of one host, and memory for one big message, which is converted: whoever is connected needs it."""
    big = b"Subject: x\n\n" + b"\xc3\xa4\n" * (letter.WHOLE_LIMIT // 2)
    two = (b"a@one.test", b"b@one.test")

    async def work(hop: Remote) -> None:
        hop._memory = letter.Memory(len(big))
        await hop.deliver(outgoing(recipients=(b"x@one.test",)))
        messages = [outgoing(big, recipients) for recipients in (two, (b"c@two.test",))]
        async with asyncio.timeout(30):
            found = await asyncio.gather(*map(hop.deliver, messages))
        assert {outcome.action for outcomes in found for outcome in outcomes.values()} == {"relayed"}

    with misbehaving(keywords=(b"SIZE",)) as peer:
        names.exchanger("one.test", peer.host)
        names.exchanger("two.test", peer.host)
        peer.plan(stage, Say(reply), nth=2, times=1)
        with_remote(work, resolvers=[names.address], port=peer.port, connections_per_destination=1)


def test_a_dead_destination_is_asked_once(peer: Misbehaving) -> None:
    peer.plan(Stage.GREETING, Stall())

    async def work(hop: Remote) -> list[str]:
        found = [(await hop.deliver(outgoing()))[RECIPIENT] for _ in range(50)]
        assert {outcome.action for outcome in found} == {"delayed"}
        peer.behave()
        assert (await hop.deliver(outgoing()))[RECIPIENT].status == "4.4.1"
        hop.forget_trouble()
        return [(await hop.deliver(outgoing()))[RECIPIENT].action, found[-1].text]

    action, text = with_remote(work, to=peer.route, patience=replace(LONG, greeting=0.3))
    assert action == "relayed"
    assert "a little while ago" in text
    assert len(peer.sessions) == 2


def test_what_we_put_off_ourselves_is_no_try(peer: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(hop: Remote) -> list[tuple[str, bool]]:
        found = [(await hop.deliver(outgoing()))[RECIPIENT]]
        await hop.close()
        monkeypatch.setattr(hop._way.hosts, "swamped", lambda endpoint: True)
        found.append((await hop.deliver(outgoing()))[RECIPIENT])
        hop.drain()
        found.append((await hop.deliver(outgoing()))[RECIPIENT])
        return [(outcome.status, outcome.tried) for outcome in found]

    assert with_remote(work, to=peer.route) == [("2.0.0", True), ("4.4.5", False), ("4.3.2", False)]


def test_who_waited_with_a_kept_connection_heeds_the_end(names: NameServer, peer: Misbehaving) -> None:
    hold = Hold()
    names.exchanger("one.test", peer.host)
    names.exchanger("two.test", peer.host)

    async def work(hop: Remote) -> list[str]:
        await hop.deliver(outgoing(recipients=(b"a@one.test",)))
        peer.plan(Stage.DOT, hold)
        first = asyncio.create_task(hop.deliver(outgoing(recipients=(b"b@two.test",))))
        await asyncio.to_thread(hold.reached.wait, 30)
        second = asyncio.create_task(hop.deliver(outgoing(recipients=(b"c@one.test",))))
        while not hop._way.hosts._waiting:
            await asyncio.sleep(0)
        hop.drain()
        hold.release()
        return [outcome.status for task in (first, second) for outcome in (await task).values()]

    found = with_remote(work, resolvers=[names.address], port=peer.port, connections_per_destination=1)
    assert found == ["2.0.0", "4.3.2"]
    peer.wait_until(lambda: all(session.ended for session in peer.sessions))
    assert [session.verbs[-1] for session in peer.sessions] == [b"QUIT"] * 2


def test_one_that_falls_silent_is_dead(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Stall())

    async def work(hop: Remote) -> list[str]:
        return [(await hop.deliver(outgoing()))[RECIPIENT].status for _ in range(2)]

    assert with_remote(work, to=peer.route, patience=SHORT) == ["4.4.2", "4.4.1"]
    assert len(peer.sessions) == 1


def test_a_new_configuration_holds_from_the_next_message_on(pair: tuple[Misbehaving, Misbehaving]) -> None:
    async def work(hop: Remote) -> None:
        await hop.deliver(outgoing())
        hop.reconfigure(configured(to=pair[1].route))
        await hop.deliver(outgoing())

    with_remote(work, to=pair[0].route)
    assert [len(peer.wait_for(1)) for peer in pair] == [1, 1]
    pair[0].wait_until(lambda: pair[0].sessions[0].ended)
    assert pair[0].sessions[0].verbs[-1] == b"QUIT"


def test_a_try_that_is_given_up_leaves_nothing_behind(peer: Misbehaving) -> None:
    hold = Hold()
    peer.plan(Stage.DOT, hold)

    async def work(hop: Remote) -> None:
        task = asyncio.create_task(hop.deliver(outgoing()))
        await asyncio.to_thread(hold.reached.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.release()
        peer.behave()
        assert (await hop.deliver(outgoing()))[RECIPIENT].action == "relayed"

    with_remote(work, to=peer.route, connections=1)
    assert len(peer.sessions) == 2


def test_each_fate_is_a_line_of_the_log(peer: Misbehaving, capfd: pytest.CaptureFixture[str]) -> None:
    peer.plan(Stage.RCPT, Say(b'550 5.1.1 no" id=forged\r\n'), containing=b"bad@")
    deliver(outgoing(recipients=(b"a@x.test", b"bad@x.test", b"c@x.test", b"not an address")), to=peer.route)
    lines = [line.partition("pillarbox: ")[2] for line in capfd.readouterr().err.split("\n") if line]
    assert sorted(lines, reverse=True) == [
        'relayed id=1a to="a@x.test,c@x.test" status=2.0.0 mta=127.0.0.1 tls=none reply="250 2.0.0 taken"',
        'relay-failed id=1a to=bad@x.test status=5.1.1 mta=127.0.0.1 tls=none reply="550 5.1.1 no\\x22 id=forged"',
        'relay-failed id=1a to="not an address" status=5.1.3 why="the address is malformed"',
    ]


def test_recipients_of_batches_that_were_sent_stay_sent(peer: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RECIPIENTS_LIMIT", 1)
    peer.plan(Stage.RCPT, HangUp(), containing=b"two@")
    recipients = (b"one@x.test", b"two@x.test", b"three@x.test")
    outcomes = deliver(outgoing(recipients=recipients), to=peer.route)
    assert [outcomes[recipient].action for recipient in recipients] == ["relayed", "delayed", "relayed"]
