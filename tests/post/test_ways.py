"""The way to an exchanger: MX records, what stands in for them, and ways that lead nowhere (RFC 5321 section 5)."""

from __future__ import annotations

import socket

import pytest

from ..peers.dns import Fault as Trouble
from ..peers.dns import NameServer
from ..peers.faults import Fault, HangUp, Say
from ..peers.misbehaving import Stage, misbehaving
from ..peers.ports import free_port
from ..peers.smarthost import smarthost
from .office import REFUSING, Office, mail, opened


def test_the_most_preferred_exchanger_takes_the_mail(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(f"a.{domain}") as one, office.exchanger(f"b.{domain}") as two:
        office.names.mx(domain, (20, f"mx.b.{domain}"), (10, f"mx.a.{domain}"))
        office.send(f"x@{domain}", message=mail("preferred"))
        (taken,) = one.wait_for(1)
        assert (taken.sender, taken.recipients) == (b"alice@example.test", [f"x@{domain}".encode()])
        assert b"\r\nSubject: preferred\r\n" in taken.message
        assert not two.sessions and not one.sessions[0].bare_line_ends()


BUSY: dict[str, tuple[Stage, Fault]] = {
    "421": (Stage.GREETING, Say(b"421 4.3.2 going down\r\n")),
    "554": (Stage.GREETING, Say(b"554 5.3.2 no mail here\r\n")),
    "hangs up": (Stage.GREETING, HangUp()),
    "resets": (Stage.GREETING, HangUp(reset=True)),
    "EHLO refused": (Stage.EHLO, Say(b"450 4.3.2 not now\r\n")),
}


@pytest.mark.parametrize("fault", [*BUSY, "nobody at home"])
def test_when_the_best_exchanger_is_down_the_next_is_asked(office: Office, fault: str) -> None:
    domain = office.domain()
    with office.exchanger(f"a.{domain}") as one, office.exchanger(f"b.{domain}") as two:
        if fault in BUSY:
            one.plan(*BUSY[fault])
        else:
            office.names.a(f"mx.a.{domain}", REFUSING)
        office.names.mx(domain, (10, f"mx.a.{domain}"), (20, f"mx.b.{domain}"))
        office.send(f"x@{domain}")
        two.wait_for(1)
        assert one.taken == []


def test_several_addresses_of_one_exchanger_are_tried_one_after_the_other(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.names.a(f"mx.{domain}", REFUSING, peer.host)
        office.send(f"x@{domain}")
        peer.wait_for(1)


def test_a_domain_without_mx_is_its_own_exchanger(office: Office) -> None:
    domain = office.domain()
    with office.exchanger() as peer:
        office.names.a(domain, peer.host)
        office.send(f"x@{domain}")
        peer.wait_for(1)


def test_an_alias_in_the_dns_is_followed(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(f"real.{domain}") as peer:
        office.names.cname(domain, f"real.{domain}")
        office.send(f"x@{domain}")
        assert peer.wait_for(1)[0].recipients == [f"x@{domain}".encode()]


def test_an_answer_that_is_cut_off_is_asked_for_again_by_tcp(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.names.fail(domain, Trouble.TRUNCATED, "MX")
        office.send(f"x@{domain}")
        peer.wait_for(1)


def ipv6_is_here() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6_is_here(), reason="needs ::1: there is no IPv6 on this machine")
def test_an_ipv6_exchanger(office: Office) -> None:
    domain = office.domain()
    office.names.mx(domain, (10, f"mx.{domain}"))
    office.names.aaaa(f"mx.{domain}", "::1")
    with smarthost(host="::1", port=office.port) as peer:
        office.send(f"x@{domain}")
        assert peer.wait_for(1)[0].recipients == [f"x@{domain}"]


def test_an_address_in_brackets_needs_no_dns(office: Office) -> None:
    with office.exchanger() as peer:
        office.send(f"x@[{peer.host}]")
        assert peer.wait_for(1)[0].recipients == [f"x@[{peer.host}]".encode()]


def test_a_name_beyond_ascii_is_looked_up_in_its_ascii_form(office: Office) -> None:
    with office.exchanger("xn--bcher-kva.test") as peer:
        office.send("x@bücher.test", options=["SMTPUTF8"])
        assert peer.wait_for(1)[0].recipients == ["x@bücher.test".encode()]


@pytest.mark.parametrize("case", ["null MX", "no such domain", "no address", "ourselves", "an address as exchanger"])
def test_ways_that_lead_nowhere_bounce_at_once(office: Office, case: str) -> None:
    domain = office.domain()
    statuses = {
        "null MX": "5.1.10",
        "no such domain": "5.1.2",
        "no address": "5.4.4",
        "ourselves": "5.4.6",
        "an address as exchanger": "5.4.4",
    }
    if case == "null MX":
        office.names.null_mx(domain)
    elif case == "no address":
        office.names.mx(domain, (10, f"mx.{domain}"))
        office.names.add(f"mx.{domain}", "TXT", '"nothing else"')
    elif case == "ourselves":
        office.names.mx(domain, (10, "mail.example.test"))
        office.names.a("mail.example.test", "127.0.0.1")
    elif case == "an address as exchanger":
        office.names.mx(domain, (10, "192.0.2.1"))
    office.send(f"x@{domain}", message=mail(f"nowhere {domain}"))
    report = office.report(f"x@{domain}")
    assert report.of(f"x@{domain}")["Status"] == statuses[case]
    assert f"Subject: nowhere {domain}" in report.returned
    assert report.whole["To"] == "alice@example.test"


def test_exchangers_behind_ourselves_are_not_asked(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(f"b.{domain}") as behind:
        office.names.mx(domain, (10, "mail.example.test"), (20, f"mx.b.{domain}"))
        office.names.a("mail.example.test", "127.0.0.1")
        office.send(f"x@{domain}")
        assert office.report(f"x@{domain}").of(f"x@{domain}")["Status"] == "5.4.6"
        assert not behind.sessions


def test_an_exchanger_that_is_us_under_another_name(world: tuple[NameServer, int]) -> None:
    names, _ = world
    port = free_port()
    with opened(names, port, {"listen": {"smtp": [f"127.0.0.1:{port}"]}}) as office:
        names.exchanger("us.test", "127.0.0.1")
        office.send("x@us.test")
        assert office.report("x@us.test").of("x@us.test")["Status"] == "5.4.6"


def test_an_exchanger_that_greets_by_our_name(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.GREETING, Say(b"220 mail.example.test ESMTP\r\n"))
        office.send(f"x@{domain}")
        assert office.report(f"x@{domain}").of(f"x@{domain}")["Status"] == "5.4.6"
        assert peer.transactions == []


@pytest.mark.parametrize("fault", [Trouble.SERVFAIL, Trouble.REFUSED])
def test_while_the_dns_does_not_answer_mail_waits(office: Office, fault: Trouble) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.names.fail(domain, fault)
        office.send(f"x@{domain}")
        waiting = office.deferred(f"x@{domain}")
        (recipient,) = waiting.recipients
        assert recipient.outcome is not None and recipient.outcome.status == "4.4.3"
        office.names.mend(domain)
        office.flush()
        peer.wait_for(1)
        office.wait_empty()
        assert not office.reports(f"x@{domain}")


def test_a_route_goes_before_the_dns(world: tuple[NameServer, int]) -> None:
    names, port = world
    with misbehaving() as peer, misbehaving() as below:
        routes = {"routed.test": peer.route, ".routed.test": below.route}
        with opened(names, port, routes=routes) as office:
            office.send("x@routed.test", "y@deep.routed.test")
            assert peer.wait_for(1)[0].recipients == [b"x@routed.test"]
            assert below.wait_for(1)[0].recipients == [b"y@deep.routed.test"]
        assert not names.count("routed.test")
