"""Where mail goes: routes, exchangers in their order, and what is no way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy.routing import (
    Exchanger,
    Route,
    Routes,
    before_us,
    domain_of,
    in_order,
    is_address,
    is_host,
    place,
    usable,
)
from pillarbox.terms import Refused

TABLE = {
    "exact.test": "one.test:2525",
    ".exact.test": "below.test",
    ".test": "far.test",
    "literal.test": "192.0.2.1:26",
    "six.test": "[2001:db8::1]:27",
    "free.test": "",
    ".free.test": "",
}


def code_of(error: pytest.ExceptionInfo[Refused]) -> str:
    return error.value.code


@pytest.mark.parametrize(
    ("address", "route"),
    [
        (b"a@exact.test", Route("one.test", 2525)),
        (b"a@EXACT.Test", Route("one.test", 2525)),
        (b"a@x.exact.test", Route("below.test", 25)),
        (b"a@y.x.exact.test", Route("below.test", 25)),
        (b"a@other.test", Route("far.test", 25)),
        (b"a@literal.test", Route("192.0.2.1", 26)),
        (b"a@six.test", Route("2001:db8::1", 27)),
        (b"a@free.test", Route("free.test", 25, exchangers=True)),
        (b"a@x.free.test", Route("x.free.test", 25, exchangers=True)),
        (b"a@elsewhere.example", Route("elsewhere.example", 25, exchangers=True)),
        (b"a@test", Route("test", 25, exchangers=True)),  # `.test` is what lies below it
        (b"a@[192.0.2.9]", Route("192.0.2.9", 25)),
        (b"a@[IPv6:2001:DB8::9]", Route("2001:db8::9", 25)),
        ("я@пример.example".encode(), Route("xn--e1afmkfd.example", 25, exchangers=True)),
        ("a@straße.example".encode(), Route("strasse.example", 25, exchangers=True)),
    ],
)
def test_a_route_is_the_closest(address: bytes, route: Route) -> None:
    assert Routes(TABLE).of(address) == route


def test_everything_else_goes_where_the_empty_name_says() -> None:
    routes = Routes({"": "all.test:2525", "own.test": ""})
    assert routes.of(b"a@x.example") == Route("all.test", 2525)
    assert routes.of(b"a@[192.0.2.9]") == Route("all.test", 2525)
    assert routes.of(b"a@own.test") == Route("own.test", 25, exchangers=True)


def test_a_route_comes_before_the_smarthost() -> None:
    routes = Routes(TABLE, smarthost="smart.test:587", port=2525)
    assert routes.of(b"a@exact.test") == Route("one.test", 2525)
    assert routes.of(b"a@free.test") == Route("free.test", 2525, exchangers=True)
    for address in (b"a@elsewhere.example", b"a@[192.0.2.9]"):
        assert routes.of(address) == Route("smart.test", 587, secured=True, smarthost=True)
    offered = Routes({}, smarthost="smart.test", smarthost_secured=False)
    assert offered.of(b"a@b.example") == Route("smart.test", 25, smarthost=True)


def test_tls_is_required_for_the_recipients_domain() -> None:
    routes = Routes({"b.test": "other.test"}, secured=["A.test", "b.test"])
    assert routes.of(b"x@a.test").secured
    assert routes.of(b"x@b.test") == Route("other.test", 25, secured=True)
    assert not routes.of(b"x@sub.a.test").secured
    assert Routes({}, secured=["*"]).of(b"x@[192.0.2.1]").secured
    assert Routes({}, smarthost="s.test", smarthost_secured=False, secured=["*"]).of(b"x@a.test").secured


@pytest.mark.parametrize(
    "address",
    [
        b"postmaster",
        b"a@",
        b"a@b c",
        b"a@b\r\nQUIT",
        b"a@.b",
        b"a@b..c",
        b"a@" + b"x" * 64 + b".test",
        b"a@" + b"x." * 127,
        b"a@192.0.2.1",
        b"a@[192.0.2.256]",
        b"a@[fe80::1%eth0]x",
        b"a@[x]",
        b"a@\xff.test",
        "a@.я".encode(),
        "a@я\u202e.test".encode(),
        b"a@" + "я".encode() * 80,
    ],
)
def test_what_can_be_no_domain_is_refused(address: bytes) -> None:
    with pytest.raises(Refused) as error:
        Routes(TABLE, smarthost="smart.test").of(address)
    assert code_of(error) == "5.1.2"


@given(st.binary(max_size=100))
def test_a_domain_is_ascii_that_can_be_asked_of_the_dns_or_refused(text: bytes) -> None:
    try:
        name = domain_of(b"a@" + text)
    except Refused:
        return
    assert is_host(name) or is_address(name[1:-1])


def test_a_place() -> None:
    assert place("h.test", 25) == ("h.test", 25)
    assert place("[::1]", 25) == ("::1", 25)
    with pytest.raises(ValueError, match="no host"):
        place("::1:25", 25)


def test_exchangers_go_by_preference_and_at_random_among_equals() -> None:
    records = [Exchanger(20, "c"), Exchanger(10, "a"), Exchanger(10, "b"), Exchanger(5, "z")]
    orders = {tuple(found.host for found in in_order(records, random.Random(seed).random)) for seed in range(50)}
    assert orders == {("z", "a", "b", "c"), ("z", "b", "a", "c")}


def test_without_records_the_domain_is_its_own_exchanger() -> None:
    assert usable("a.test", []) == [Exchanger(0, "a.test")]


def test_a_null_mx_takes_no_mail() -> None:
    with pytest.raises(Refused) as error:
        usable("a.test", [Exchanger(0, "")])
    assert code_of(error) == "5.1.10"


def test_records_that_name_no_host_are_passed_over() -> None:
    good = Exchanger(30, "mx.test")
    bad = [Exchanger(0, host) for host in ("", "192.0.2.1", "2001:db8::1", "a\\032b.test", "x\ny", "x" * 300)]
    assert usable("a.test", [*bad, good]) == [good]
    with pytest.raises(Refused) as error:
        usable("a.test", bad)
    assert code_of(error) == "5.4.4"


def test_who_is_no_closer_than_we_are_gets_nothing() -> None:
    """RFC 5321 section 5.1: else mail would go round between backup exchangers."""
    records = [Exchanger(10, "first"), Exchanger(20, "us"), Exchanger(20, "equal"), Exchanger(30, "last")]
    assert before_us(records, lambda exchanger: exchanger.host == "us") == records[:1]
    assert before_us(records, lambda exchanger: False) == records
    with pytest.raises(Refused) as error:
        before_us(records, lambda exchanger: exchanger.host in ("first", "us"))
    assert code_of(error) == "5.4.6"
