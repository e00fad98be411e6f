"""The fields that we add to a message: right, and closed to injection."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.trace import date, received_field, return_path_field


def received(
    helo: bytes = b"client.test", peer: str = "192.0.2.1", recipient: bytes = b"", identity: str = "7.a"
) -> bytes:
    return received_field(
        helo=helo, peer=peer, host=b"foo.com", protocol=b"ESMTP", identity=identity, now=0.9, recipient=recipient
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


def test_return_path() -> None:
    assert return_path_field(b"") == b"Return-Path: <>\n"
    assert return_path_field(b"a@b.c") == b"Return-Path: <a@b.c>\n"


@given(st.integers(0, 4_000_000_000))
def test_the_date_is_that_of_rfc_5322(now: int) -> None:
    assert date(now + 0.5).decode() == format_datetime(datetime.fromtimestamp(now, UTC))
