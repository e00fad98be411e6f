"""Where an address leads: aliases, forwards, chains and circles, extensions, and those that are always there."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest

from ..peers.dns import NameServer
from ..peers.misbehaving import Misbehaving, Transaction
from .office import Office, mail, opened

CONFIG = {
    "domains": ["example.test", "second.test"],
    "aliases": {
        "everybody": ["alice", "bob", "friend@away.test"],
        "one": "two",
        "two": "three@second.test",
        "three@second.test": "bob",
        "round": "and-round",
        "and-round": "round",
        "@second.test": "carol",
        "nowhere": "nobody@example.test",
    },
    "forwards": {
        "dave": "erin",
        "erin": "dave",
        "fred": ["fred", "bob"],
        "gina": "gina@away.test",
        "hank": ["fred", "bob", "one"],
        "ivan": ["ivan", "nobody@example.test"],
    },
}


@pytest.fixture(scope="module")
def office(world: tuple[NameServer, int]) -> Iterator[Office]:
    with opened(*world, CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def away(office: Office) -> Iterator[Misbehaving]:
    """The exchanger of a domain that forwards lead to."""
    with office.exchanger("away.test") as peer:
        yield peer


def gone(peer: Misbehaving, subject: str) -> list[Transaction]:
    """What it has taken of that, when there is some."""
    found = f"\r\nSubject: {subject}\r\n".encode()
    peer.wait_until(lambda: any(found in each.message for each in peer.taken))
    return [each for each in peer.taken if found in each.message]


def copies(office: Office, name: str, subject: str) -> list[bytes]:
    return [text for text in office.mail.messages(name) if f"Subject: {subject}\n".encode() in text]


def test_an_alias_of_several(office: Office, away: Misbehaving) -> None:
    office.receive("everybody@example.test", message=mail("to all"))
    office.wait_empty()
    (taken,) = gone(away, "to all")
    assert (taken.sender, taken.recipients) == (b"stranger@sender.test", [b"friend@away.test"])
    for name in ("alice", "bob"):
        (text,) = copies(office, name, "to all")
        assert text.startswith(b"Return-Path: <stranger@sender.test>\n")


@pytest.mark.parametrize(
    "recipients", [["bob", "one"], ["one", "two", "bob-x", "three@second.test"], ["fred", "hank", "bob"]]
)
def test_a_mailbox_gets_a_message_once(office: Office, recipients: list[str]) -> None:
    subject = "once " + "-".join(recipients)
    office.receive(*(name if "@" in name else f"{name}@example.test" for name in recipients), message=mail(subject))
    office.wait_empty()
    assert len(copies(office, "bob", subject)) == 1
    assert len(copies(office, "fred", subject)) == ("fred" in recipients)


def test_a_chain_of_aliases(office: Office) -> None:
    office.receive("one@example.test", message=mail("chain"))
    office.mail.wait_for("bob", lambda text: b"Subject: chain\n" in text)


@pytest.mark.parametrize("address", ["round@example.test", "nobody@example.test", "nowhere@example.test"])
def test_what_leads_to_nobody_is_refused_at_once_or_bounces(office: Office, address: str) -> None:
    with smtplib.SMTP(office.mail.host, office.mail.smtp_port, "client.test", 60) as client:
        client.ehlo()
        client.mail("stranger@sender.test")
        assert client.rcpt(address)[0] == 550


def test_the_catch_all(office: Office) -> None:
    office.receive("whoever@second.test", message=mail("caught"))
    office.mail.wait_for("carol", lambda text: b"Subject: caught\n" in text)


@pytest.mark.parametrize("local", ["alice-lists", "alice+shop.x", "ALICE-Lists", "postmaster", "abuse", "Postmaster"])
def test_addresses_that_need_no_alias(office: Office, local: str) -> None:
    office.receive(f"{local}@example.test", message=mail(f"for {local}"))
    office.mail.wait_for("alice", lambda text: f"Subject: for {local}\n".encode() in text)


def test_postmaster_without_a_domain(office: Office) -> None:
    office.receive("postmaster", message=mail("for the postmaster"))
    office.mail.wait_for("alice", lambda text: b"Subject: for the postmaster\n" in text)


def test_a_forward_with_a_copy(office: Office) -> None:
    office.receive("fred@example.test", message=mail("copied"))
    office.wait_empty()
    assert len(copies(office, "fred", "copied")) == len(copies(office, "bob", "copied")) == 1


def test_a_forward_of_an_address_with_an_extension(office: Office) -> None:
    office.receive("fred-lists@example.test", message=mail("extended"))
    office.wait_empty()
    assert len(copies(office, "fred", "extended")) == len(copies(office, "bob", "extended")) == 1


def test_a_chain_of_forwards(office: Office) -> None:
    office.receive("hank@example.test", message=mail("far"))
    office.wait_empty()
    assert len(copies(office, "fred", "far")) == len(copies(office, "bob", "far")) == 1
    assert copies(office, "hank", "far") == []


def test_accounts_that_forward_to_each_other(office: Office) -> None:
    office.send("dave@example.test", message=mail("dizzy"))
    office.wait_empty()
    (report,) = [report for name in ("dave", "erin") for report in office.reports(f"{name}@example.test")]
    assert report.recipients[0]["Status"] == "5.4.6" and "Subject: dizzy" in report.returned
    assert copies(office, "dave", "dizzy") == copies(office, "erin", "dizzy") == []


def test_a_forward_to_nobody_bounces_and_the_copy_stays(office: Office) -> None:
    office.send("ivan@example.test", message=mail("half"))
    report = office.report("nobody@example.test")
    assert report.of("nobody@example.test")["Status"] == "5.1.1"
    assert len(copies(office, "ivan", "half")) == 1


def test_what_another_host_sends_back_is_not_forwarded_again(office: Office, away: Misbehaving) -> None:
    office.send("gina@example.test", message=mail("boomerang"))
    office.wait_empty()
    (taken,) = gone(away, "boomerang")
    assert taken.sender == b"alice@example.test" and taken.recipients == [b"gina@away.test"]
    assert taken.message.startswith(b"Delivered-To: gina@example.test\r\n")
    office.receive("gina@example.test", message=taken.message, sender="alice@example.test")
    report = office.report("gina@example.test")
    office.wait_empty()
    assert report.of("gina@example.test")["Status"] == "5.4.6"
    assert len(gone(away, "boomerang")) == 1 and copies(office, "gina", "boomerang") == []


def test_two_ways_to_the_same_address_elsewhere_are_one_delivery(office: Office, away: Misbehaving) -> None:
    office.receive("gina@example.test", "gina-x@example.test", message=mail("double"))
    office.wait_empty()
    assert len(gone(away, "double")) == 1
