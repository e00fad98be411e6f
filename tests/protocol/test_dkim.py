"""DKIM: canonical forms against the RFC and an obvious reference, signed fields, whom a message is from, linear work."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol import dkim
from pillarbox.protocol.dkim import BodyHash, author, author_domain, body_hash, canonical_header, signed_names, split

MESSAGE = b"From: a@example.org\nSubject: hello\n\nbody\n"
EMPTY = hashlib.sha256(b"").digest()

# RFC 8463 appendix A.
FOOTBALL = b"""From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
"""
FOOTBALL_FIELD = b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b="""
FOOTBALL_SIGNATURE = "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
FOOTBALL_PUBLIC = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


# The standards' own examples.


def test_the_example_of_rfc_6376_section_3_4_5() -> None:
    message = b"A: X\nB : Y\t\n\tZ  \n\n C \nD \t E\n\n\n"
    fields, start = split(message)
    assert canonical_header(fields, [b"a", b"b"]) == b"a:X\r\nb:Y Z\r\n"
    assert body_hash(message, start) == hashlib.sha256(b" C\r\nD E\r\n").digest()


def test_an_empty_body_has_the_hash_of_rfc_6376_section_3_4_4() -> None:
    assert base64.b64encode(BodyHash().digest()) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_the_signature_of_rfc_8463_appendix_a_is_right() -> None:
    fields, start = split(FOOTBALL)
    assert base64.b64encode(body_hash(FOOTBALL, start)) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    names = b"from to subject date message-id from subject date".split(b" ")
    signed = dkim.digest(canonical_header(fields, names), FOOTBALL_FIELD)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(FOOTBALL_PUBLIC))
    public.verify(base64.b64decode(FOOTBALL_SIGNATURE), signed)


# Bodies, against a reference that goes line by line.


def reference(body: bytes) -> bytes:
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines = [b" ".join(re.split(rb"[ \t]+", line)).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def hashed(*chunks: bytes) -> bytes:
    body = BodyHash()
    for chunk in chunks:
        body.feed(chunk)
    return body.digest()


BODY = st.lists(st.sampled_from([b" ", b"\t", b"\n", b"\r", b"x", b"\xe4", b"\x00", b"\x0b", b"."])).map(b"".join)


@given(st.lists(BODY, max_size=8))
def test_a_body_hashes_as_the_reference_does_however_it_is_cut(chunks: list[bytes]) -> None:
    body = b"".join(chunks)
    expected = hashlib.sha256(reference(body)).digest()
    assert hashed(*chunks) == expected
    assert hashed(*(body[place : place + 1] for place in range(len(body)))) == expected
    assert hashed(body) == expected


@pytest.mark.parametrize("body", [b"", b"\n", b"\n\n\n", b" ", b" \n\t\n", b"\r", b"\r\n\r\n", b" \r"])
def test_a_body_of_nothing_but_blanks_is_empty(body: bytes) -> None:
    assert hashed(body) == EMPTY


def test_a_body_is_read_to_its_end_over_many_chunks() -> None:
    body = b"line of text \t with blanks\n\n" * 20_000 + b"end"
    assert len(body) > 5 * dkim.CHUNK
    assert body_hash(b"A: b\n\n" + body, 6) == hashlib.sha256(reference(body)).digest()


# Work: whoever is quadratic does not end within the test's time.


SIZE = 5_000_000


@pytest.mark.parametrize(
    ("piece", "canonical", "joint"),
    [
        (b" ", b"", b" "),
        (b"\t", b"", b" "),
        (b" \t", b"", b" "),
        (b"\n", b"\r\n", b""),
        (b"\r", b"\r\n", b""),
        (b" \n", b"\r\n", b""),
        (b"\n ", b"\r\n", b" "),
        (b"\r\r\n", b"\r\n\r\n", b""),
        (b"a ", b"a ", b""),
        (b" \ta", b" a", b""),
        (b"a\n", b"a\r\n", b""),
    ],
)
def test_bodies_of_one_thing_take_linear_work(piece: bytes, canonical: bytes, joint: bytes) -> None:
    count = SIZE // len(piece)
    assert hashed(piece * count + b"x") == hashlib.sha256(canonical * count + joint + b"x\r\n").digest()
    if not piece.strip():
        assert hashed(piece * count) == EMPTY


class Counted(BodyHash):
    """Counts the octets that each chunk makes it look at."""

    __slots__ = ("seen",)

    def _take(self, text: bytes) -> None:
        self.seen = max(getattr(self, "seen", 0), len(text))
        super()._take(text)


@pytest.mark.parametrize("piece", [b" ", b"\n", b" \n"])
def test_what_waits_for_the_next_chunk_does_not_grow(piece: bytes) -> None:
    body = Counted()
    for _ in range(1000):
        body.feed(piece * 50)
        assert body.seen <= len(piece) * 50 + 1


@pytest.mark.parametrize(
    "header",
    [
        b"Subject:" + b" " * 1_000_000,
        b"Subject: x" + b"\n " * 500_000,
        b"Subject" + b" " * 1_000_000 + b": x",
        b"Subject: " + b"a \t" * 300_000,
        b" " * 1_000_000,
        b"x" * 1_000_000,
        b'From: "' + b'\\"' * 500_000,
        b"From: " + b"(" * 1_000_000,
        b"From: " + b"<" * 1_000_000,
    ],
    ids=range(9),
)
def test_headers_of_one_thing_take_linear_work(header: bytes) -> None:
    fields, start = split(header + b"\n\nbody\n")
    assert start == len(header) + 2
    assert author_domain(fields) is None
    assert len(canonical_header(fields, signed_names(fields))) <= len(header) + len(b"\r\n")


@pytest.mark.parametrize("author", [b"(" * 8000, b'"' * 7999, b'\\"' * 4000, b"<>," * 2500, b"a@" * 4000, b"@" * 8000])
def test_an_author_that_fills_its_limit_is_nobody(author: bytes) -> None:
    assert author_domain([(b"from", author)]) is None


# Headers.


FIELD_VALUE = st.lists(st.sampled_from([b" ", b"\t", b"\n ", b"\n\t", b"x", b":", b"\xe4"])).map(b"".join)


@given(FIELD_VALUE)
def test_a_field_is_unfolded_and_its_blanks_are_one(value: bytes) -> None:
    fields, _ = split(b"SubJect : " + value + b"\n\n")
    unfolded = re.sub(rb"[ \t]+", b" ", value.replace(b"\n", b"")).strip(b" ")
    assert canonical_header(fields, [b"subject"]) == b"subject:" + unfolded + b"\r\n"


@given(st.lists(st.sampled_from([b"A: 1\n", b"B: 2\r\n", b"\n", b"\r\n", b"\r", b" x\n", b"y"])).map(b"".join))
def test_a_header_ends_at_the_first_empty_line_whatever_the_line_ends_are(message: bytes) -> None:
    mended = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    header, _, body = mended.partition(b"\n\n") if not mended.startswith(b"\n") else (b"", b"", mended[1:])
    fields, start = split(message)
    rest = message[start:].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert rest == body
    assert len(fields) == len([line for line in header.split(b"\n") if b":" in line and line[:1] != b" "])


def test_lines_that_are_no_field_are_left_out() -> None:
    fields, _ = split(b"From someone Mon Jan  1 00:00:00 2026\n folded\nno colon\n: nameless\nA: b\n\n")
    assert fields == [(b"a", b" b")]


def test_repeated_fields_are_taken_from_the_bottom() -> None:
    fields, _ = split(b"To: first\nFrom: a\nTo: second\n\n")
    assert canonical_header(fields, [b"to", b"from", b"to", b"to", b"cc"]) == b"to:second\r\nfrom:a\r\nto:first\r\n"


def test_what_could_be_added_to_deceive_is_signed_once_more() -> None:
    fields, _ = split(b"From: a\nTo: b\nTo: c\nDate: d\nList-Id: l\nReceived: r\nReturn-Path: p\nDelivered-To: t\n\n")
    names = signed_names(fields)
    expected = {b"from": 2, b"to": 3, b"subject": 1, b"reply-to": 1, b"cc": 1, b"content-type": 1, b"date": 2}
    assert {name: names.count(name) for name in expected} == expected
    assert names.count(b"list-id") == 1 and names.count(b"message-id") == 0
    assert not {b"received", b"return-path", b"delivered-to"} & set(names)


@pytest.mark.parametrize("header", [b"x" * dkim.HEADER_LIMIT + b"xx: y", b"To: x\n" * (dkim.FIELDS_LIMIT + 1)])
def test_a_header_without_bounds_is_not_signed(header: bytes) -> None:
    with pytest.raises(dkim.Unsignable, match=r"longer than|more than"):
        split(header + b"\n\nbody\n")


# The field.


def field(domain: str = "example.org", algorithm: str = "ed25519", times: int = 1) -> bytes:
    message = b"To: x\n" * times + MESSAGE
    fields, start = split(message)
    return dkim.unsigned_field(
        algorithm=algorithm,
        domain=domain,
        selector="s202611-ed",
        names=signed_names(fields),
        body_hash=body_hash(message, start),
        now=1_800_000_000.9,
    )


def test_the_field_says_what_was_done() -> None:
    tags = dict(tag.split(b"=", 1) for tag in re.sub(rb"\s", b"", field().partition(b":")[2]).split(b";"))
    assert tags[b"v"] == b"1" and tags[b"a"] == b"ed25519-sha256" and tags[b"c"] == b"relaxed/relaxed"
    assert tags[b"d"] == b"example.org" and tags[b"s"] == b"s202611-ed" and tags[b"t"] == b"1800000000"
    assert tags[b"h"].split(b":") == signed_names(split(b"To: x\n" + MESSAGE)[0])
    assert b"l" not in tags and b"x" not in tags and tags[b"b"] == b""


@pytest.mark.parametrize("domain", ["a.test", "a" * 40 + ".test", ".".join(["a" * 60] * 4)])
@pytest.mark.parametrize("times", [0, 1, 200])
def test_its_lines_are_short_and_never_blank(domain: str, times: int) -> None:
    whole = dkim.signed_field(field(domain, "rsa", times), bytes(256))
    assert whole.endswith(b"=\n") and not whole.endswith(b"\n\n")
    lines = whole[:-1].split(b"\n")
    assert all(line.startswith(b"\t") and line.strip(b" \t") for line in lines[1:])
    assert all(len(line) <= dkim.LINE or domain.encode() in line for line in lines)


def test_a_domain_is_what_dns_takes() -> None:
    good = ["example.org", "a", "x-1.example.org", "_x.test", "a" * 63 + ".test", "xn--bcher-kva.example"]
    bad = [
        "",
        ".",
        "..",
        "a..b",
        "-a",
        "a-",
        "A.test",
        "a/b",
        "a.test.",
        "a" * 64,
        "a b",
        "a\n",
        ".".join(["a" * 60] * 5),
    ]
    assert [name for name in good + bad if dkim.is_domain(name)] == good


# Whom a message is from.


@pytest.mark.parametrize(
    ("author", "domain"),
    [
        (b"a@example.org", "example.org"),
        (b" Alice <a@Example.ORG> ", "example.org"),
        (b'"Bob, <b@evil.test>" <b@example.org>', "example.org"),
        (b'"q\\"uote <x@evil.test>" <b@example.org>', "example.org"),
        (b"Bob (b@evil.test) <b@example.org>", "example.org"),
        (b"b@example.org (Bob (nested \\) <x@evil.test>))", "example.org"),
        (b'(a " b) <b@example.org> (c " d)', "example.org"),
        (b'"b c"@example.org', "example.org"),
        (b"Alice\n <a@example.org>", "example.org"),
        (b"a @ example.org", "example.org"),
        (b"a@example.org, Bob <b@example.org>,", "example.org"),
        (b"b@evil.test <b@example.org>", "example.org"),
        ("Bücher <a@bücher.example>".encode(), "xn--bcher-kva.example"),
        (b"a@one.test, b@two.test", None),
        (b"a@example.org <b@evil.test", None),
        (b"<a@example.org> <b@evil.test>", None),
        (b"<a@example.org", None),
        (b'"a@example.org', None),
        (b"(a@example.org", None),
        (b"a@example.org)", None),
        (b"a@b@example.org", None),
        (b"@example.org", None),
        (b"a@[192.0.2.1]", None),
        (b"a@../../etc", None),
        (b"a@..", None),
        (b"a@example.org.", None),
        (b"a@\xff.test", None),
        (b"friends: a@example.org;", None),
        (b"", None),
        (b"<>", None),
        (b"a@" + b"x" * 300, None),
        (b" " * dkim.AUTHOR_LIMIT + b"a@example.org", None),
    ],
)
def test_the_author_of_a_message(author: bytes, domain: str | None) -> None:
    fields, _ = split(b"From: " + author + b"\n\n")
    assert author_domain(fields) == domain


def test_two_from_fields_are_from_nobody() -> None:
    for second in (b"From: a@example.org", b"FROM : a@example.org", b"from:"):
        assert author_domain(split(b"From: a@example.org\nTo: x\n" + second + b"\n\n")[0]) is None


@given(st.lists(st.sampled_from(list(b'ab@<>(),"\\ \n.;:\xc3\xbc'))).map(bytes))
def test_whatever_a_from_field_holds_the_answer_is_a_domain_or_none(author: bytes) -> None:
    domain = author_domain([(b"from", author)])
    assert domain is None or dkim.is_domain(domain)


def test_a_domain_or_its_parents_may_sign() -> None:
    assert list(dkim.signing_domains("a.b.test")) == ["a.b.test", "b.test", "test"]
    assert list(dkim.signing_domains("")) == []


# What is published.


def test_a_record_is_written_in_strings_that_fit() -> None:
    text = dkim.record("rsa", bytes(294))
    line = dkim.zone_line(dkim.record_name("example.org", "s1"), text)
    assert line.startswith('s1._domainkey.example.org. IN TXT "v=DKIM1; k=rsa; p=AAAA')
    strings = re.findall(r'"([^"]*)"', line)
    assert len(strings) == 2 and max(map(len, strings)) == dkim.STRING
    assert "".join(strings) == text


def test_the_record_of_rfc_8463_appendix_a() -> None:
    assert dkim.record("ed25519", base64.b64decode(FOOTBALL_PUBLIC)) == f"v=DKIM1; k=ed25519; p={FOOTBALL_PUBLIC}"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b" alice@example.org\n", b"alice@example.org"),
        (b' "A. Lice, (x)" <alice@example.org>\n', b"alice@example.org"),
        (b" Alice (Bob <bob@example.org>) <alice@example.org>\n", b"alice@example.org"),
        (b" alice@example.org,\n\n", b"alice@example.org"),
        (b" alice@example.org, bob@example.org\n", None),
        (b' "alice"@example.org\n', None),
        (b' <"q"\n @example.org>\n', None),
        (b" group: alice@example.org;\n", None),
        (b" alice\n", None),
        (b"\n", None),
    ],
)
def test_the_author_is_one_address(value: bytes, address: bytes | None) -> None:
    assert author([(b"from", value)]) == address


def test_two_authors_fields_have_no_author() -> None:
    assert author([(b"from", b" a@b.test\n"), (b"from", b" a@b.test\n")]) is None
    assert author([]) is None
