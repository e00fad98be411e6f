"""The tests' name server, asked by dnspython as a stub resolver asks."""

from __future__ import annotations

from collections.abc import Iterator

import dns.exception
import dns.message
import dns.query
import dns.resolver
import pytest

from .dns import Fault, NameServer, Question, name_server


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with name_server() as running:
        yield running


@pytest.fixture
def resolver(server: NameServer) -> dns.resolver.Resolver:
    made = dns.resolver.Resolver(configure=False)
    made.nameservers, made.port = [server.host], server.port
    made.lifetime = 10.0
    return made


def test_records_of_each_kind_with_their_ttl(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.mx("kinds.test", (20, "b.kinds.test"), (10, "a.kinds.test"), ttl=77)
    server.a("a.kinds.test", "127.0.0.2", "127.0.0.3")
    server.aaaa("a.kinds.test", "::1")
    server.add("kinds.test", "TXT", '"v=DKIM1; k=ed25519"')
    exchangers = resolver.resolve("Kinds.Test", "MX")
    assert sorted((record.preference, record.exchange.to_text().lower()) for record in exchangers) == [
        (10, "a.kinds.test."),
        (20, "b.kinds.test."),
    ]
    assert exchangers.rrset is not None
    assert exchangers.rrset.ttl == 77
    assert sorted(map(str, resolver.resolve("a.kinds.test", "A"))) == ["127.0.0.2", "127.0.0.3"]
    assert [str(record) for record in resolver.resolve("a.kinds.test", "AAAA")] == ["::1"]
    assert [record.strings for record in resolver.resolve("kinds.test", "TXT")] == [(b"v=DKIM1; k=ed25519",)]


def test_null_mx_is_the_root(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.null_mx("nomail.test")
    assert [record.to_text() for record in resolver.resolve("nomail.test", "MX")] == ["0 ."]


def test_aliases_are_followed_and_circles_end(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.exchanger("real.test", "127.0.0.4")
    server.cname("alias.test", "real.test")
    answer = resolver.resolve("alias.test", "MX")
    assert answer.canonical_name.to_text() == "real.test."
    assert [str(record.exchange) for record in answer] == ["mx.real.test."]
    server.cname("round.test", "about.test")
    server.cname("about.test", "round.test")
    with pytest.raises(dns.exception.DNSException):
        resolver.resolve("round.test", "A")


def test_no_such_name_and_no_such_record(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.a("below.some.test", "127.0.0.5")
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("nothing.test", "MX")
    for name in ("below.some.test", "some.test"):
        with pytest.raises(dns.resolver.NoAnswer):
            resolver.resolve(name, "MX")


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED])
def test_failures_are_told(server: NameServer, resolver: dns.resolver.Resolver, fault: Fault) -> None:
    server.exchanger("broken.test", "127.0.0.6")
    server.fail("broken.test", fault, "MX")
    with pytest.raises(dns.resolver.NoNameservers, match=fault.name):
        resolver.resolve("broken.test", "MX")
    server.mend("broken.test")
    assert len(resolver.resolve("broken.test", "MX")) == 1


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.OTHER_ID, Fault.GARBAGE])
def test_answers_that_cannot_be_used(server: NameServer, fault: Fault) -> None:
    name = f"{fault.name.lower().replace('_', '-')}.test"
    server.exchanger(name, "127.0.0.7")
    server.fail(name, fault)
    query = dns.message.make_query(name, "MX")
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(query, server.host, 0.2, server.port, ignore_unexpected=True, ignore_errors=True)


def test_a_truncated_answer_is_whole_by_tcp(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.exchanger("long.test", "127.0.0.8")
    server.fail("long.test", Fault.TRUNCATED)
    assert [str(record.exchange) for record in resolver.resolve("long.test", "MX")] == ["mx.long.test."]
    assert [question.tcp for question in server.questions if question.name == "long.test"] == [False, True]
    assert server.count("long.test", "MX") == 2


def test_questions_are_counted(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.exchanger("counted.test", "127.0.0.9")
    for _ in range(3):
        resolver.resolve("Counted.test", "MX")
    resolver.resolve("mx.counted.test", "A")
    assert server.count("COUNTED.test") == server.count("counted.test", "MX") == 3
    assert server.count("counted.test", "A") == 0
    assert Question("mx.counted.test", "A", False) in server.questions


def test_what_was_removed_is_gone(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    server.exchanger("gone.test", "127.0.0.10")
    server.remove("gone.test")
    server.remove("mx.gone.test")
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("gone.test", "MX")
