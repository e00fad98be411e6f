"""Addresses: what RFC 5321 allows is taken and normalised, all else is refused."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.address import BadAddress, fold, forward_path, parameters, reverse_path, split

LONG_DOMAIN = b".".join([b"d" * 40] * 4)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        (b"<a@b>", b"a@b"),
        (b"<First.Last+tag@Mail.Example.COM>", b"First.Last+tag@Mail.Example.COM"),
        (b"<!#$%&'*+-/=?^_`{|}~@b.c>", b"!#$%&'*+-/=?^_`{|}~@b.c"),
        (b"<a@1-2.b--c.xn--d>", b"a@1-2.b--c.xn--d"),
        (b"<a@under_score.example>", b"a@under_score.example"),
        (b'<"a"@b>', b"a@b"),
        (b'<"\\a.\\b"@c>', b"a.b@c"),
        (b'<"a b"@c>', b'"a b"@c'),
        (b'<"\\a \\" \\\\ \\b"@c>', b'"a \\" \\\\ b"@c'),
        (b'<"a@b>c"@d>', b'"a@b>c"@d'),
        (b'<""@a>', b'""@a'),
        (b'<".a"@b>', b'".a"@b'),
        (b"<@a,@b.c:d@e>", b"d@e"),
        (b'<@a:"x>y"@b>', b'"x>y"@b'),
        (b"<a@[127.0.0.1]>", b"a@[127.0.0.1]"),
        (b"<a@[IPv6:2001:db8::1]>", b"a@[IPv6:2001:db8::1]"),
        (b"<a@[ipv6:::ffff:1.2.3.4]>", b"a@[ipv6:::ffff:1.2.3.4]"),
        ("<дом@пример.рф>".encode(), "дом@пример.рф".encode()),
        (b"<%b@b>" % (b"a" * 64), b"a" * 64 + b"@b"),
        (b"<%b@%b>" % (b"a" * 64, LONG_DOMAIN), b"a" * 64 + b"@" + LONG_DOMAIN),
    ],
)
def test_a_path_is_taken(path: bytes, address: bytes) -> None:
    for parse in (reverse_path, forward_path):
        assert parse(path) == (address, b"")
        assert parse(path + b" SIZE=1") == (address, b" SIZE=1")


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"a@b",
        b"<a@b",
        b"< a@b>",
        b"<a@b >",
        b"<a@>",
        b"<@b>",
        b"<a>",
        b"<a@b@c>",
        b"<a b@c>",
        b"<.a@b>",
        b"<a.@b>",
        b"<a..b@c>",
        b"<a@.b>",
        b"<a@b.>",
        b"<a@b..c>",
        b"<a@-b>",
        b"<a@b->",
        b"<a@b c>",
        b'<"a@b>',
        b'<"a"b@c>',
        b'<"a\\"@b>',
        b"<a(comment)@b>",
        b"<@a:>",
        b"<@a@b:c@d>",
        b"<a@[127.0.0.256]>",
        b"<a@[1.2.3]>",
        b"<a@[01.2.3.4]>",
        b"<a@[IPv6:1::2::3]>",
        b"<a@[IPv6:1.2.3.4]>",
        b"<a@[2001:db8::1]>",
        b"<a@[Tag:x]>",
        b"<a@[]>",
        b"<a\0@b>",
        b"<a\x7f@b>",
        b'<"a\tb"@c>',
        b'<"a\\\nb"@c>',
        b"<a@b\r\n>",
        b"<a\xff@b>",
        b"<a@\xc3>",
        "<a\x85b@c>".encode(),
        "<a\u2028b@c>".encode(),
        b"<%b@b>" % (b"a" * 65),
        b"<a@%b>" % (b"d" * 64),
        b"<a@%b>" % (b".".join([b"d" * 50] * 5 + [b"d" * 2])),
        b"<%b@%b>" % (b"a" * 64, b".".join([b"d" * 47] * 4)),
        b"<@%b:a@b>" % b".".join([b"d" * 50] * 5),
    ],
)
def test_a_path_is_refused(path: bytes) -> None:
    for parse in (reverse_path, forward_path):
        with pytest.raises(BadAddress):
            parse(path)


def test_the_null_path_has_no_mailbox_and_postmaster_needs_no_domain() -> None:
    assert reverse_path(b"<> BODY=7BIT") == (b"", b" BODY=7BIT")
    assert forward_path(b"<PostMaster>") == (b"PostMaster", b"")
    with pytest.raises(BadAddress):
        forward_path(b"<>")
    with pytest.raises(BadAddress):
        reverse_path(b"<postmaster>")


def test_the_parts_and_the_key() -> None:
    assert split(b'"a@b"@C.d') == (b'"a@b"', b"C.d")
    assert split(b"postmaster") == (b"postmaster", b"")
    assert fold("Ärger@B.C".encode()) == "Ärger@b.c".encode()


@given(st.text('ab.@"\\<> [:]IPv61,é\x80\u2028', max_size=24).map(str.encode) | st.binary(max_size=24))
def test_what_is_taken_is_taken_again_and_cannot_do_harm(text: bytes) -> None:
    for path in (text, b"<" + text + b">", b"<" + text + b"@b.c>", b'<"' + text + b'"@b>'):
        try:
            address, rest = forward_path(path)
        except BadAddress:
            continue
        assert path.endswith(rest)
        assert forward_path(b"<" + address + b">") == (address, b"")
        assert all(unicodedata.category(character) not in ("Cc", "Zl", "Zp") for character in address.decode())


def test_hostile_lengths_are_refused_in_no_time() -> None:
    for part in (b"a.", b"a-", b"@a,", b'"\\', b"a@", b"-", b"[1"):
        with pytest.raises(BadAddress):
            forward_path(b"<" + part * 100_000)


def test_parameters() -> None:
    assert parameters(b"") == {}
    assert parameters(b" size=1  BODY=8BITMIME SMTPUTF8") == {b"SIZE": b"1", b"BODY": b"8BITMIME", b"SMTPUTF8": b""}
    for text in (b"SIZE=1", b" SIZE=", b" =1", b" -A=1", b" A=1=2", b" A=1 a=1", b" A=\0", b"\tA=1", b" A=1\tB=2"):
        with pytest.raises(BadAddress):
            parameters(text)
