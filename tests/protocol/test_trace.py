"""The fields that we add to a message: right, and closed to injection."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.trace import date, received_field, return_path_field


def received(
    helo: bytes = b"client.test",
    peer: str = "192.0.2.1",
    recipient: bytes = b"",
    identity: str = "7.a",
    *,
    hidden: bool = False,
) -> bytes:
    return received_field(
        helo=helo,
        peer=peer,
        host=b"foo.com",
        protocol=b"ESMTP",
        identity=identity,
        now=0.9,
        recipient=recipient,
        hidden=hidden,
    )


def test_received() -> None:
    assert received(recipient=b"b@foo.com") == (
        b"Received: from client.test ([192.0.2.1])\n"
        b"        by foo.com with ESMTP id 7.a\n"
        b"        for <b@foo.com>;\n"
        b"        Thu, 01 Jan 1970 00:00:00 +0000\n"
    )
    assert b"for" not in received()


@pytest.mark.parametrize(
    ("peer", "literal"),
    [
        ("2001:db8::1", b"([IPv6:2001:db8::1])"),
        ("fe80::1%eth0", b"([IPv6:fe80::1])"),
        ("10.0.0.1", b"([10.0.0.1])"),
        ("a\nb", b"([a?b])"),
    ],
)
def test_the_peer_is_written_as_an_address_literal(peer: str, literal: bytes) -> None:
    assert literal in received(peer=peer)


@given(st.binary(max_size=40), st.text(max_size=20), st.text(max_size=10), st.binary(min_size=1, max_size=40))
def test_nothing_sent_makes_a_line_or_a_comment_of_its_own(helo: bytes, peer: str, identity: str, to: bytes) -> None:
    field = received(helo, peer, to, identity)
    assert field.count(b"\n") == 4 and b"\r" not in field and b"\0" not in field
    assert [line[:8] for line in field.split(b"\n")[1:-1]] == [b" " * 8] * 3
    assert field.split(b"\n")[0].count(b"(") == 1
    sender = return_path_field(helo)
    assert sender.count(b"\n") == 1 and sender.endswith(b">\n") and b"\r" not in sender


def test_who_hands_mail_in_betrays_neither_address_nor_name() -> None:
    field = received(b"alices-laptop", "2001:db8::1", b"b@foo.com", hidden=True)
    assert field == (
        b"Received: from foo.com\n"
        b"        by foo.com with ESMTP id 7.a\n"
        b"        for <b@foo.com>;\n"
        b"        Thu, 01 Jan 1970 00:00:00 +0000\n"
    )


# RFC 5321 section 4.4, as far as we use it.
DOMAIN, LITERAL = rb"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", rb"\[(?:IPv6:)?[0-9A-Fa-f.:]+\]"
FWS = rb"(?:\n?[ ]+)"
STAMP = re.compile(
    rb"Received: from %b(?: \(%b\))?%bby %b with [A-Z0-9]+ id [!-~]+(?:%bfor <[!-~]+@%b>)?;%b"
    rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000\n"
    % (DOMAIN, LITERAL, FWS, DOMAIN, FWS, DOMAIN, FWS)
)


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("recipient", [b"", b"b@foo.com"])
def test_both_forms_follow_the_grammar(hidden: bool, recipient: bytes) -> None:
    assert STAMP.fullmatch(received(recipient=recipient, hidden=hidden))


def test_return_path() -> None:
    assert return_path_field(b"") == b"Return-Path: <>\n"
    assert return_path_field(b"a@b.c") == b"Return-Path: <a@b.c>\n"


@given(st.integers(0, 4_000_000_000))
def test_the_date_is_that_of_rfc_5322(now: int) -> None:
    assert date(now + 0.5).decode() == format_datetime(datetime.fromtimestamp(now, UTC))
