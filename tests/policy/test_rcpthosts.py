"""Whom a classic host lets in."""

from __future__ import annotations

import pytest

from pillarbox.policy.rcpthosts import Recipients, RefusedSenders

LISTED = Recipients(
    [b"Here.test", b".sub.test"], more={b"more.test", b".deep.more.test"}.__contains__, default_domain=b"x"
)
HACKED = Recipients([b"here.test", b"b.test"], percenthack=[b"Here.test", b"b.test"])


@pytest.mark.parametrize(
    ("address", "lets_in"),
    [
        (b"a@here.test", True),
        (b"a@HERE.TEST", True),
        (b"a@x.here.test", False),
        (b"a@sub.test", False),
        (b"a@x.sub.test", True),
        (b"a@y.x.sub.test", True),
        (b"a@more.test", True),
        (b"a@b.deep.more.test", True),
        (b"a@here.test@other.test", False),
        (b"a@other.test@here.test", True),
        (b"a@", False),
        (b"a", False),
        (b"", False),
        (b"POSTMASTER", True),
    ],
)
def test_domains(address: bytes, lets_in: bool) -> None:
    assert LISTED.lets_in(address) is lets_in


@pytest.mark.parametrize(
    ("address", "lets_in"),
    [
        (b"a%b.test@here.test", True),
        (b"a%c.test@here.test", False),
        (b"a%c.test%b.test@here.test", False),  # b.test is hacked too
        (b"a%here.test%b.test@here.test", True),
        (b"a%b.test@b.test", True),
        (b"%@here.test", False),
    ],
)
def test_the_percent_hack_opens_no_relay(address: bytes, lets_in: bool) -> None:
    assert HACKED.lets_in(address) is lets_in
    assert Recipients([b"here.test"], percenthack=[b"here.test"], faithful=True).lets_in(b"a%c.test@here.test")


def test_without_a_list_nobody_is_let_in() -> None:
    assert not Recipients(None, default_domain=b"me.test").lets_in(b"a@me.test")
    assert not Recipients(None, default_domain=b"me.test").lets_in(b"a")
    faithful = Recipients(None, faithful=True)
    assert faithful.lets_in(b"a@anywhere.test") and faithful.lets_in(b"a") and faithful.lets_in(b"")


def test_senders() -> None:
    refused = RefusedSenders([b"Spam@bad.test", b"@worse.test"])
    assert refused.refuses(b"spam@BAD.test") and refused.refuses(b"any@Worse.test")
    assert not refused.refuses(b"ham@bad.test") and not refused.refuses(b"a@x.worse.test")
    assert not refused.refuses(b"") and not refused.refuses(b"worse.test")
