"""Delivery to Postfix and OpenSMTPD, found through MX records: what they take, and what they can't."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator

import pytest

from ..peers.certificates import Authority
from ..peers.dns import NameServer
from ..peers.exchanger import Exchanger
from ..peers.misbehaving import misbehaving
from ..peers.opensmtpd import NAME as OPENSMTPD_NAME
from ..peers.opensmtpd import opensmtpd
from ..peers.postfix import NAME as POSTFIX_NAME
from ..peers.postfix import postfix
from .office import Office, mail, opened

OLD_LIMIT = 20_000  # octets that the old one takes
EIGHT_BIT = (
    "From: alice@example.test\r\nSubject: plain\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "schöne Grüße\r\n.\r\n..\r\n"
).encode()
World = tuple[NameServer, int]


@pytest.fixture(scope="module")
def modern(world: World, authority: Authority) -> Iterator[Exchanger]:
    """Postfix with everything it can, behind an MX record."""
    names, port = world
    with postfix(host="127.0.3.1", port=port, certificate=authority.issue(POSTFIX_NAME)) as running:
        names.exchanger(running.domain, running.host)
        yield running


@pytest.fixture(scope="module")
def old(world: World) -> Iterator[Exchanger]:
    """Postfix with next to nothing; for `old_office` alone."""
    _, port = world
    lacking = ("8BITMIME", "PIPELINING", "DSN")
    with postfix(host="127.0.3.2", port=port, smtputf8=False, without=lacking, message_octets=OLD_LIMIT) as running:
        yield running


@pytest.fixture(scope="module")
def old_office(world: World, old: Exchanger) -> Iterator[Office]:
    with opened(*world, routes={old.domain: old.route}) as running:
        yield running


@pytest.fixture(scope="module")
def other(world: World, authority: Authority) -> Iterator[Exchanger]:
    """OpenSMTPD, which offers STARTTLS; whether that works depends on its version."""
    names, port = world
    with opensmtpd(host="127.0.3.3", port=port, certificate=authority.issue(OPENSMTPD_NAME)) as running:
        names.exchanger(running.domain, running.host)
        yield running


def with_subject(exchanger: Exchanger, local: str, subject: str) -> bytes:
    """The message, once it is there."""
    wanted = f"\nSubject: {subject}\n".encode()
    for count in range(1, 100):
        found = [text for text in exchanger.wait_for(local, count) if wanted in text]
        if found:
            assert len(found) == 1
            return found[0]
    raise AssertionError(f"no {subject}")


def body(text: bytes) -> str:
    content: str = email.message_from_bytes(text, policy=email.policy.default).get_content()
    return content.replace("\r\n", "\n")


def test_postfix_takes_it_encrypted_and_for_several_in_one_transaction(office: Office, modern: Exchanger) -> None:
    office.send(modern.address("alice"), modern.address("bob"), message=mail("both", "one\r\n..two\r\n.\r\nfour\r\n"))
    texts = [with_subject(modern, local, "both") for local in ("alice", "bob")]
    for text in texts:
        assert text.startswith(b"Return-Path: <alice@example.test>\n") and b"using TLS" in text
        assert text.partition(b"\n\n")[2].rstrip(b"\n") == b"one\n..two\n.\nfour"
    first, second = (re.findall(rb"by mx\.postfix\.test .*? id (\w+)", text, re.DOTALL) for text in texts)
    assert first == second, "one transaction"


def test_opensmtpd_takes_it_with_starttls_or_without(office: Office, other: Exchanger) -> None:
    office.send(other.address("alice"), other.address("bob"), message=mail("both", "..two\r\n.\r\n"))
    for local in ("alice", "bob"):
        text = with_subject(other, local, "both")
        assert text.partition(b"\n\n")[2].rstrip(b"\n") == b"..two\n."


def test_one_message_for_two_hosts_and_for_a_mailbox_here(office: Office, modern: Exchanger, other: Exchanger) -> None:
    office.send(modern.address("carol"), other.address("carol"), "bob@example.test", message=mail("everywhere"))
    with_subject(modern, "carol", "everywhere")
    with_subject(other, "carol", "everywhere")
    office.mail.wait_for("bob", lambda text: b"Subject: everywhere\n" in text)


@pytest.mark.parametrize("which", ["modern", "other"])
def test_who_is_unknown_there_bounces_and_the_others_get_it(
    office: Office, which: str, request: pytest.FixtureRequest
) -> None:
    peer: Exchanger = request.getfixturevalue(which)
    subject = f"partly {which}"
    office.send(peer.address("nobody"), peer.address("alice"), message=mail(subject))
    with_subject(peer, "alice", subject)
    report = office.report(peer.address("nobody"))
    fields = report.of(peer.address("nobody"))
    assert fields["Action"] == "failed" and re.fullmatch(r"5\.[0-9]\.[0-9]", fields["Status"])
    assert fields["Remote-MTA"] == f"dns; mx.{peer.domain}" and fields["Diagnostic-Code"].startswith("smtp; 550 ")
    assert f"Subject: {subject}" in report.returned and "\nReceived: " in f"\n{report.returned}"
    assert len(report.recipients) == 1


def test_eight_bit_arrives_as_it_is_where_that_is_known(office: Office, modern: Exchanger) -> None:
    office.send(modern.address("alice"), message=EIGHT_BIT.replace(b"plain\r", b"eight\r"), options=["BODY=8BITMIME"])
    text = with_subject(modern, "alice", "eight")
    assert "\n\nschöne Grüße\n.\n..\n".encode() in text


def test_eight_bit_is_converted_where_it_is_not(old_office: Office, old: Exchanger) -> None:
    old_office.send(old.address("alice"), message=EIGHT_BIT, options=["BODY=8BITMIME"])
    text = with_subject(old, "alice", "plain")
    assert text.isascii() and body(text).rstrip("\n") == "schöne Grüße\n.\n.."


def test_smtputf8_where_it_is_known(office: Office, modern: Exchanger) -> None:
    office.send(modern.address("dörte"), message=mail("Grüße"), options=["SMTPUTF8", "BODY=8BITMIME"])
    with_subject(modern, "dörte", "Grüße")


def test_smtputf8_where_it_is_not(old_office: Office, old: Exchanger) -> None:
    def bounces() -> list[bytes]:
        return [text for text in old_office.mail.messages("alice") if b"Status: 5.6.7\n" in text]

    for local, subject in (("dörte", "ascii"), ("alice", "Grüße")):
        old_office.send(old.address(local), message=mail(subject), options=["SMTPUTF8", "BODY=8BITMIME"])
    old_office.wait_until(lambda: len(bounces()) == 2)


def test_what_is_too_large_for_the_peer_is_not_sent(old_office: Office, old: Exchanger) -> None:
    old_office.send(old.address("bob"), message=mail("large", ("x" * 70 + "\r\n") * (OLD_LIMIT // 60)))
    fields = old_office.report(old.address("bob")).of(old.address("bob"))
    assert fields["Status"] == "5.3.4" and fields["Diagnostic-Code"] is None, "the peer was not asked"
    assert "size limit" not in old.log()


@pytest.fixture
def proof(authority: Authority, world: World, modern: Exchanger) -> Iterator[Office]:
    """TLS and a right certificate are required."""
    with opened(*world, tls_required=["*"], ca_file=str(authority.ca_file)) as running:
        yield running


def test_tls_is_required_and_the_certificate_right(proof: Office, modern: Exchanger) -> None:
    proof.send(modern.address("alice"), message=mail("proven"))
    assert b"using TLS" in with_subject(modern, "alice", "proven")


def test_tls_is_required_and_the_certificate_wrong_or_none_there(proof: Office, authority: Authority) -> None:
    certificates = {
        "expired": authority.issue("mx.expired.test", expired=True),
        "unknown": authority.issue("mx.unknown.test", self_signed=True),
        "misnamed": authority.issue("mx.elsewhere.test"),
        "none": None,
    }
    for name, certificate in certificates.items():
        context = certificate.server_context() if certificate else None
        with misbehaving(host=proof.address(), port=proof.port, context=context) as peer:
            proof.names.exchanger(f"{name}.test", peer.host)
            proof.send(f"x@{name}.test")
            (recipient,) = proof.deferred(f"x@{name}.test").recipients
            assert recipient.outcome is not None
            assert recipient.outcome.status == ("4.7.5" if certificate else "4.7.4")
            assert peer.transactions == []


def test_another_authority_is_not_believed(world: World, modern: Exchanger) -> None:
    names, port = world
    with opened(names, port, tls_required=[modern.domain]) as office:  # the system's own
        office.send(modern.address("alice"), message=mail("unproven"))
        (recipient,) = office.deferred(modern.address("alice")).recipients
        assert recipient.outcome is not None and recipient.outcome.status == "4.7.5"
    assert not any(b"Subject: unproven\n" in text for text in modern.messages("alice"))
