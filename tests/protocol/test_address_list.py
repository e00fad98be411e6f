"""Address lists in header fields: whom they name, and what they can't."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.address import BadAddress, forward_path
from pillarbox.protocol.address_list import addresses, one_address, qualified

HOME = b"home.test"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", []),
        (b" , ,", []),
        (b"bob", [b"bob@home.test"]),
        (b"bob@x.test", [b"bob@x.test"]),
        (b"Bob <bob@x.test>", [b"bob@x.test"]),
        (b'"Last, First" <a@x.test>, b@x.test', [b"a@x.test", b"b@x.test"]),
        (b'"He said \\"a, <b>\\"" <a@x.test>', [b"a@x.test"]),
        (b"root (Cron Daemon, (really))", [b"root@home.test"]),
        (b"a (one \\) two) @ x . test", [b"a@x.test"]),
        (b"friends: a@x.test, Bob <b@x.test>;, c@x.test", [b"a@x.test", b"b@x.test", b"c@x.test"]),
        (b"undisclosed-recipients:;", []),
        (b"<@relay.test,@other.test:a@x.test>", [b"a@x.test"]),
        (b"a@x.test; b@x.test", [b"a@x.test", b"b@x.test"]),
        (b'"a b"@x.test', [b'"a b"@x.test']),
        (b'"plain"@x.test', [b"plain@x.test"]),
        (b"a@[192.0.2.1]", [b"a@[192.0.2.1]"]),
        (b"a@x.test,\n  b@x.test", [b"a@x.test", b"b@x.test"]),
        ("Jürgen <jürgen@x.test>".encode(), ["jürgen@x.test".encode()]),
        (b"a.b (c) .d@x.test", [b"a.b.d@x.test"]),
    ],
)
def test_whom_a_list_names(value, found):
    assert addresses(value, HOME) == found


@pytest.mark.parametrize(
    "value",
    [
        b"bob smith", b"a@x.test b@x.test", b"Bob <>", b"<a@x.test> <b@x.test>", b"<a@x.test", b"a@x.test>", b"<<a>>",
        b'"open', b"(open", b"a@", b"@x.test", b"a@@x.test", b": a@x.test;", b"f: g: a@x.test;;", b"a@x..test", b"a)b",
        b"a\\b@x.test", b"a@[x", b"a@x.test\x00", b"<bob smith@x.test>", b"\xff@x.test", b"a@x.test> b",
    ],
)  # fmt: skip
def test_what_is_no_list(value):
    with pytest.raises(BadAddress):
        addresses(value, HOME)
    assert qualified(value, HOME) == value


def test_an_error_shows_the_bad_address_and_nothing_that_steers_a_terminal():
    with pytest.raises(BadAddress, match='"bob smith" is no address'):
        addresses(b"ann@x.test, bob smith", HOME)
    with pytest.raises(BadAddress) as caught:
        addresses(b"\x1b[2J@x.test" + b"y" * 500, HOME)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (b" root (Cron Daemon)\n", b" root@home.test (Cron Daemon)\n"),
        (b"a, Bob <b>, c@x.test", b"a@home.test, Bob <b@home.test>, c@x.test"),
        (b"team: a,\n b;", b"team: a@home.test,\n b@home.test;"),
        (b'"a@b" <c>', b'"a@b" <c@home.test>'),
        (b"c@x.test", b"c@x.test"),
    ],
)
def test_addresses_without_a_domain_get_one(value, whole):
    assert qualified(value, HOME) == whole


def test_what_protocol_address_refuses_is_refused():
    for value in (b"a" * 65, b"a@" + b"b" * 64 + b".test"):
        with pytest.raises(BadAddress):
            addresses(value, HOME)


def test_one_address_is_one():
    assert one_address(b"<bob@x.test>", HOME) == b"bob@x.test"
    for text in (b"", b"a,b", b"nobody:;"):
        with pytest.raises(BadAddress):
            one_address(text, HOME)


@given(st.lists(st.sampled_from([*b'"<>()[],;:@.\\ \n\tab\xc3\xa9\x00'])).map(bytes))
def test_whatever_comes_an_address_is_one_or_the_list_is_refused(value):
    try:
        found = addresses(value, HOME)
    except BadAddress:
        return
    for address in found:
        assert forward_path(b"<" + address + b">") == (address, b"")
    again = qualified(value, HOME)
    assert addresses(again, b"other.test") == found, "what has been qualified needs no domain of others"


def test_long_lists_take_linear_time():
    many = b", ".join(b"(c) Name %d <user%d@x.test>" % (n, n) for n in range(5000))
    assert len(addresses(many, HOME)) == 5000
    for hostile in (b"(" * 100_000, b'"' * 100_001, b"\\" * 100_000, b"<" * 100_000, b"[" * 100_000):
        with pytest.raises(BadAddress):
            addresses(hostile, HOME)
