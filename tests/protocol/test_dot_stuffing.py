"""What RETR and TOP send: decoding it gives the message back, whatever its line ends and wherever its chunks were cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol.dot_stuffing import Encoder, Head, encode
from pillarbox.wire_form import CRLF_ONLY, LF_ONLY, NO_DOTS, UNKNOWN, survey

CRUMBS = [b"a", b".", b"\n", b"\r\n", b"\r", b"\0", b"\xe4", b"\n.", b"\n\n", b"x" * 70]
MESSAGES = st.lists(st.sampled_from(CRUMBS), max_size=25).map(b"".join)
CUTS = st.lists(st.integers(0, 100), max_size=5)
quick = settings(max_examples=60)


def cut(message: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(message)) for place in cuts), len(message)]
    return [message[start:end] for start, end in pairwise(places)]


def bytewise(message: bytes) -> list[bytes]:
    return [message[place : place + 1] for place in range(len(message))]


def encoded(chunks: list[bytes], form: int = UNKNOWN) -> bytes:
    encoder = Encoder(form)
    return b"".join(map(encoder.feed, chunks)) + encoder.finish()


def head(chunks: list[bytes], body_lines: int) -> bytes:
    """As a caller does it: reading ends once the head is done."""
    taker, taken = Head(body_lines), b""
    for chunk in chunks:
        if taker.done:
            break
        taken += taker.feed(chunk)
    return taken if taker.done else taken + taker.finish()


def normalised(message: bytes) -> bytes:
    """CRLF after every line, the last one too."""
    *lines, last = message.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in lines] + ([last] if last else [])
    return b"".join(line + b"\r\n" for line in lines)


def decoded(wire: bytes) -> bytes:
    """As RFC 1939 section 3 has a client do it; nothing may follow the final dot, and no LF stand alone."""
    assert wire.endswith(b"\r\n")
    message = b""
    lines = wire.split(b"\r\n")[:-1]
    for place, line in enumerate(lines):
        assert b"\n" not in line
        if line == b".":
            assert place == len(lines) - 1
            return message
        message += line.removeprefix(b".") + b"\r\n"
    raise AssertionError("no final dot")


def reference_head(message: bytes, body_lines: int) -> bytes:
    lines = message.split(b"\n")
    lines = [line + b"\n" for line in lines[:-1]] + lines[-1:]
    blanks = [place for place, line in enumerate(lines) if line in (b"\n", b"\r\n")]
    return b"".join(lines[: blanks[0] + 1 + body_lines] if blanks else lines)


@quick
@given(MESSAGES, CUTS)
def test_the_message_comes_back_from_the_wire(message: bytes, cuts: list[int]) -> None:
    wire = encode(message)
    assert decoded(wire) == normalised(message)
    assert encoded([message]) == encoded(bytewise(message)) == encoded(cut(message, cuts)) == wire


@quick
@given(MESSAGES, CUTS)
def test_what_is_known_of_a_message_spares_work_and_changes_nothing(message: bytes, cuts: list[int]) -> None:
    octets, form = survey([message])
    wire = encode(message)
    assert octets == len(decoded(wire))
    assert encode(message, form) == wire
    assert encoded(bytewise(message), form) == encoded(cut(message, cuts), form) == wire


@quick
@given(MESSAGES, CUTS, st.integers(0, 15))
def test_a_wrong_form_breaks_nothing_but_this_message(message: bytes, cuts: list[int], form: int) -> None:
    for wire in (encode(message, form), encoded(cut(message, cuts), form)):
        assert wire.endswith(b"\n.\r\n") or wire == b".\r\n"
        assert len(wire) <= 2 * len(message) + 5


@quick
@given(MESSAGES, CUTS, st.integers(0, 6))
def test_top_counts_body_lines_alone(message: bytes, cuts: list[int], body_lines: int) -> None:
    expected = reference_head(message, body_lines)
    assert head([message], body_lines) == head(bytewise(message), body_lines) == expected
    assert head(cut(message, cuts), body_lines) == expected


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b"\n", b"\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\n", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a\n\n", b"a\r\n\r\n.\r\n"),
        (b"a\nb\r\nc", b"a\r\nb\r\nc\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\n.", b"a\r\n..\r\n.\r\n"),
        (b"\r\n.\r\n", b"\r\n..\r\n.\r\n"),
        (b"..a\n", b"...a\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b"a\r\r\n", b"a\r\r\n.\r\n"),
        (b"a\r.\n", b"a\r.\r\n.\r\n"),
        (b"\0\xff\n", b"\0\xff\r\n.\r\n"),
    ],
)
def test_octets_as_they_travel(message: bytes, wire: bytes) -> None:
    assert encode(message) == encoded([message]) == encoded(bytewise(message)) == wire


@pytest.mark.parametrize(
    ("before", "after"), [(b"a\r", b"\n.b"), (b"a\r\n", b".b"), (b"a\n", b".b"), (b"a\r\n.", b"b")]
)
def test_a_dot_is_doubled_across_a_border(before: bytes, after: bytes) -> None:
    for form in (UNKNOWN, survey([before, after])[1]):
        assert encoded([before, after], form) == b"a\r\n..b\r\n.\r\n"


@pytest.mark.parametrize(("end", "form"), [(b"\n", LF_ONLY), (b"\r\n", CRLF_ONLY)])
def test_a_line_that_is_only_a_dot_never_ends_a_message(end: bytes, form: int) -> None:
    message = end.join([b"Subject: dots", b"", b".", b"DELE 1", b".", b""])
    assert survey([message])[1] & (form | NO_DOTS) == form
    assert decoded(encode(message, form)) == normalised(message)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(("body_lines", "seen"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (9_999_999_999, 3)])
def test_top(end: bytes, body_lines: int, seen: int) -> None:
    header, body = end.join([b"From: a", b"To: b", b"", b""]), [line + end for line in (b"1", b"", b"3")]
    assert head([header + b"".join(body)], body_lines) == header + b"".join(body[:seen])
    assert head(bytewise(header + b"".join(body)), body_lines) == header + b"".join(body[:seen])


def test_top_of_a_message_without_a_body_is_all_of_it() -> None:
    assert head([b"From: a\nTo: b"], 0) == b"From: a\nTo: b"
    assert head([b"From: a\r"], 5) == b"From: a\r"
    assert head([b"From: a\n\r"], 5) == b"From: a\n\r"


@pytest.mark.parametrize("message", [b"a\n\n1\n\r\n3\n", b"a\r\n\r\n1\n\n3\n", b"a\n\r\n1\n\n3\n"])
def test_the_first_blank_line_ends_the_header_whatever_its_end(message: bytes) -> None:
    for body_lines in range(5):
        assert head([message], body_lines) == reference_head(message, body_lines)


def test_top_reads_no_further_than_it_must() -> None:
    taker = Head(1)
    assert taker.feed(b"From: a\n\n1\n") == b"From: a\n\n1\n"
    assert taker.done
    assert taker.feed(b"2\n") == b""
