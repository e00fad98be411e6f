"""Exchangers and their addresses, asked of a name server that tells the truth, lies, or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from pillarbox.delivery import exchangers
from pillarbox.delivery.exchangers import Exchangers, Target
from pillarbox.policy.routing import Route
from pillarbox.terms import Refused, TryLater

from ..peers.dns import Fault, NameServer, name_server


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(exchangers, "LOOKUP_SECONDS", 0.5)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def mx(domain: str) -> Route:
    return Route(domain, 25, exchangers=True)


def asked(names: NameServer, route: Route, **options: Any) -> list[Target]:
    return asyncio.run(Exchangers([names.address], **options).targets(route))


def refusal(work: Coroutine[Any, Any, object]) -> str:
    with pytest.raises((Refused, TryLater)) as error:
        asyncio.run(work)
    return error.value.code


def test_all_addresses_of_all_exchangers_in_order(names: NameServer) -> None:
    names.mx("a.test", (20, "second.a.test"), (10, "first.a.test"))
    names.a("first.a.test", "192.0.2.1", "192.0.2.2")
    names.aaaa("first.a.test", "2001:db8::1")
    names.a("second.a.test", "192.0.2.3")
    targets = asked(names, mx("a.test"))
    assert [target.host for target in targets] == ["first.a.test"] * 3 + ["second.a.test"]
    assert sorted(targets, key=lambda target: target.address) == [  # a name server gives equals in any order
        Target("first.a.test", "192.0.2.1", 25),
        Target("first.a.test", "192.0.2.2", 25),
        Target("second.a.test", "192.0.2.3", 25),
        Target("first.a.test", "2001:db8::1", 25),
    ]
    assert targets[2].address == "2001:db8::1"
    assert not [target for target in asked(names, mx("a.test"), ipv6=False) if ":" in target.address]


def test_equals_are_taken_at_random(names: NameServer) -> None:
    names.mx("a.test", (10, "one.a.test"), (10, "two.a.test"))
    names.a("one.a.test", "192.0.2.1")
    names.a("two.a.test", "192.0.2.2")
    finder = Exchangers([names.address])

    async def first_hosts() -> set[str]:
        return {(await finder.targets(mx("a.test")))[0].host for _ in range(100)}

    assert asyncio.run(first_hosts()) == {"one.a.test", "two.a.test"}


def test_a_domain_without_mx_is_its_own_exchanger(names: NameServer) -> None:
    names.a("a.test", "192.0.2.1")
    assert asked(names, mx("a.test")) == [Target("a.test", "192.0.2.1", 25)]


def test_an_alias_is_followed(names: NameServer) -> None:
    names.cname("alias.test", "a.test")
    names.exchanger("a.test", "192.0.2.1")
    assert asked(names, mx("alias.test")) == [Target("mx.a.test", "192.0.2.1", 25)]


def test_aliases_in_a_circle_are_left(names: NameServer) -> None:
    names.cname("a.test", "b.test")
    names.cname("b.test", "a.test")
    assert refusal(Exchangers([names.address]).targets(mx("a.test"))) == "4.4.3"


def test_a_route_names_a_host_and_not_a_domain(names: NameServer) -> None:
    names.exchanger("a.test", "192.0.2.1")
    names.a("a.test", "192.0.2.2")
    assert asked(names, Route("a.test", 26)) == [Target("a.test", "192.0.2.2", 26)]
    assert names.count("a.test", "MX") == 0


def test_an_address_needs_no_name_server(names: NameServer) -> None:
    assert asked(names, Route("2001:db8::1", 26)) == [Target("2001:db8::1", "2001:db8::1", 26)]
    assert asked(names, Route("localhost", 26), ipv6=False) == [Target("localhost", "127.0.0.1", 26)]
    assert not names.questions


def test_no_such_domain(names: NameServer) -> None:
    assert refusal(Exchangers([names.address]).targets(mx("none.test"))) == "5.1.2"


def test_a_domain_that_takes_no_mail(names: NameServer) -> None:
    names.null_mx("a.test")
    names.a("a.test", "192.0.2.1")
    assert refusal(Exchangers([names.address]).targets(mx("a.test"))) == "5.1.10"


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.SILENT, Fault.GARBAGE, Fault.OTHER_ID])
def test_without_an_answer_mail_waits(names: NameServer, fault: Fault) -> None:
    names.fail("a.test", fault)
    assert refusal(Exchangers([names.address]).targets(mx("a.test"))) == "4.4.3"


def test_a_long_answer_comes_by_tcp(names: NameServer) -> None:
    names.exchanger("a.test", "192.0.2.1")
    names.fail("a.test", Fault.TRUNCATED)
    assert asked(names, mx("a.test")) == [Target("mx.a.test", "192.0.2.1", 25)]


def test_an_exchanger_without_address_is_passed_over(names: NameServer) -> None:
    names.mx("a.test", (10, "none.a.test"), (20, "lame.a.test"), (30, "good.a.test"))
    names.fail("lame.a.test", Fault.SERVFAIL)
    names.a("good.a.test", "192.0.2.1")
    assert asked(names, mx("a.test")) == [Target("good.a.test", "192.0.2.1", 25)]


def test_no_exchanger_with_an_address(names: NameServer) -> None:
    names.mx("a.test", (10, "none.a.test"), (20, "nor.a.test"))
    assert refusal(Exchangers([names.address]).targets(mx("a.test"))) == "5.4.4"
    names.fail("nor.a.test", Fault.SERVFAIL)
    assert refusal(Exchangers([names.address]).targets(mx("a.test"))) == "4.4.3"


def test_half_an_answer_is_enough(names: NameServer) -> None:
    names.exchanger("a.test", "192.0.2.1")
    names.fail("mx.a.test", Fault.SERVFAIL, "AAAA")
    assert asked(names, mx("a.test")) == [Target("mx.a.test", "192.0.2.1", 25)]


def test_an_exchanger_that_is_an_address_is_passed_over(names: NameServer) -> None:
    names.mx("a.test", (10, "127.0.0.1"), (20, "mx.a.test"))
    names.a("127.0.0.1", "127.0.0.1")
    names.a("mx.a.test", "192.0.2.1")
    assert asked(names, mx("a.test")) == [Target("mx.a.test", "192.0.2.1", 25)]


def test_a_hostile_zone_is_bounded(names: NameServer) -> None:
    hosts = [f"mx{number}.a.test" for number in range(60)]
    names.mx("a.test", *((number, host) for number, host in enumerate(hosts)))
    for host in hosts:
        names.a(host, *(f"192.0.2.{octet}" for octet in range(1, 40)))
    targets = asked(names, mx("a.test"))
    assert len(targets) == exchangers.TARGETS_LIMIT
    assert targets[0].host == "mx0.a.test"
    assert len({question.name for question in names.questions}) == exchangers.EXCHANGERS_LIMIT + 1


def test_we_are_no_exchanger_for_others(names: NameServer) -> None:
    names.mx("a.test", (10, "mx.a.test"), (20, "us.test"), (20, "backup.a.test"))
    for octet, host in enumerate(("mx.a.test", "us.test", "backup.a.test"), 1):
        names.a(host, f"192.0.2.{octet}")
    by_name = asked(names, mx("a.test"), is_us=lambda host, address, port: host == "us.test")
    by_address = asked(names, mx("a.test"), is_us=lambda host, address, port: (address, port) == ("192.0.2.2", 25))
    assert by_name == by_address == [Target("mx.a.test", "192.0.2.1", 25)]
    us = Exchangers([names.address], is_us=lambda host, address, port: address == "192.0.2.1")
    assert refusal(us.targets(mx("a.test"))) == "5.4.6"


# What is remembered.


def test_an_answer_is_remembered_as_long_as_it_allows(names: NameServer) -> None:
    clock = Clock()
    names.exchanger("a.test", "192.0.2.1", ttl=60)
    finder = Exchangers([names.address], ipv6=False, clock=clock)

    async def look(seconds: float) -> int:
        clock.now += seconds
        await finder.targets(mx("a.test"))
        return names.count("a.test", "MX")

    async def looks() -> list[int]:
        return [await look(0), await look(59), await look(2), await look(59)]

    assert asyncio.run(looks()) == [1, 1, 2, 2]


def test_a_no_is_remembered_as_its_soa_says(names: NameServer) -> None:
    clock = Clock()
    finder = Exchangers([names.address], clock=clock)

    async def look(seconds: float) -> int:
        clock.now += seconds
        with pytest.raises(Refused):
            await finder.targets(mx("none.test"))
        return names.count("none.test")

    async def looks() -> list[int]:
        return [await look(0), await look(299), await look(2)]

    assert asyncio.run(looks()) == [1, 1, 2]


def test_trouble_is_remembered_for_a_moment(names: NameServer) -> None:
    clock = Clock()
    names.fail("a.test", Fault.SERVFAIL)
    finder = Exchangers([names.address], clock=clock)

    async def looks() -> None:
        for _ in range(2):
            with pytest.raises(TryLater):
                await finder.targets(mx("a.test"))
        asked_then = names.count("a.test")
        names.mend("a.test")
        names.exchanger("a.test", "192.0.2.1")
        with pytest.raises(TryLater):
            await finder.targets(mx("a.test"))
        assert names.count("a.test") == asked_then
        clock.now += exchangers.TROUBLE_SECONDS + 1
        assert await finder.targets(mx("a.test"))

    asyncio.run(looks())


def test_one_question_serves_all_who_wait(names: NameServer) -> None:
    names.exchanger("a.test", "192.0.2.1", ttl=0)
    finder = Exchangers([names.address], ipv6=False)

    async def many() -> None:
        found = await asyncio.gather(*(finder.targets(mx("a.test")) for _ in range(50)))
        assert all(targets == found[0] for targets in found)

    asyncio.run(many())
    assert names.count("a.test", "MX") == 1


def test_who_asked_first_may_leave(names: NameServer) -> None:
    names.exchanger("a.test", "192.0.2.1")
    finder = Exchangers([names.address])

    async def leave() -> None:
        first = asyncio.create_task(finder.targets(mx("a.test")))
        second = asyncio.create_task(finder.targets(mx("a.test")))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == [Target("mx.a.test", "192.0.2.1", 25)]

    asyncio.run(leave())


def test_what_is_remembered_has_an_end(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "CACHED", 4)
    finder = Exchangers([names.address], ipv6=False)
    for number in range(5):
        names.exchanger(f"a{number}.test", "192.0.2.1")

    async def look_again() -> None:
        for number in (0, 1, 2, 3, 4, 4, 0):
            await finder.targets(mx(f"a{number}.test"))

    asyncio.run(look_again())
    assert names.count("a4.test", "MX") == 1
    assert names.count("a0.test", "MX") == 2


def test_a_second_resolver_stands_in_for_the_first(names: NameServer) -> None:
    names.exchanger("a.test", "192.0.2.1")
    with name_server() as lame:
        for name in ("a.test", "mx.a.test"):
            lame.fail(name, Fault.SERVFAIL)
        targets = asyncio.run(Exchangers([lame.address, names.address]).targets(mx("a.test")))
    assert targets == [Target("mx.a.test", "192.0.2.1", 25)]
