"""Lines come out the same however they came in; the buffer is bounded, and empty when idle."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.lines import BareNewline, LineBuffer, LineTooLong

LIMIT = 12
STREAM = st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b".", b"\0", b"x" * 9]), max_size=40).map(
    b"".join
)


def lines(pieces: list[bytes], *, crlf_only: bool) -> list[object]:
    """All that comes out: lines, and the errors by their type; a stream ends with the first line that is too long."""
    buffer, seen = LineBuffer(LIMIT, crlf_only=crlf_only), list[object]()
    for piece in pieces:
        buffer.feed(piece)
        while True:
            try:
                line = buffer.next_line()
            except BareNewline:
                seen.append(BareNewline)
                continue
            except LineTooLong:
                return [*seen, LineTooLong]
            if line is None:
                break
            seen.append(line)
    return [*seen, buffer.take_rest()]


def reference(stream: bytes, *, crlf_only: bool) -> list[object]:
    end = b"\r\n" if crlf_only else b"\n"
    seen: list[object] = []
    *ended, rest = stream.split(end)
    for line in ended:
        if len(line + end) > LIMIT:
            return [*seen, LineTooLong]
        if crlf_only:
            seen.append(BareNewline if b"\n" in line or b"\r" in line else line)
        else:
            seen.append(line.removesuffix(b"\r"))
    return [*seen, LineTooLong if len(rest) >= LIMIT else rest]


@given(STREAM, st.booleans(), st.lists(st.integers(0, 60), max_size=6))
def test_lines_are_those_of_a_plain_split_however_they_come(stream: bytes, crlf_only: bool, cuts: list[int]) -> None:
    expected = reference(stream, crlf_only=crlf_only)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    split = [stream[start:end] for start, end in pairwise(places)]
    assert lines([stream], crlf_only=crlf_only) == expected
    assert lines([stream[place : place + 1] for place in range(len(stream))], crlf_only=crlf_only) == expected
    assert lines(split, crlf_only=crlf_only) == expected


@given(st.lists(st.one_of(st.binary(max_size=6), st.none(), st.just(...)), max_size=30))
def test_no_octet_is_lost_or_doubled_by_any_order_of_calls(calls: list[object]) -> None:
    buffer, fed, taken = LineBuffer(100), b"", b""
    for call in calls:
        if isinstance(call, bytes):
            buffer.feed(call)
            fed += call
        elif call is None:
            before = buffer.pending
            buffer.next_line()
            taken += fed[len(taken) :][: before - buffer.pending]
        else:
            rest = buffer.take_rest()
            assert fed == taken + rest
            taken = fed
        assert buffer.pending == len(fed) - len(taken)
        assert bool(buffer) == (fed != taken)
    assert taken + buffer.take_rest() == fed


def test_pop3_drops_one_cr_before_lf() -> None:
    assert lines([b"a\r\nb\nc\r\r\n\n\r\nd"], crlf_only=False) == [b"a", b"b", b"c\r", b"", b"", b"d"]


def test_smtp_takes_a_line_with_a_bare_newline_and_goes_on() -> None:
    assert lines([b"a\nb\r\nc\rd\r\ne\r\n"], crlf_only=True) == [BareNewline, BareNewline, b"e", b""]


@pytest.mark.parametrize("crlf_only", [False, True])
def test_the_limit_counts_the_line_end(crlf_only: bool) -> None:
    assert lines([b"x" * (LIMIT - 2) + b"\r\n"], crlf_only=crlf_only) == [b"x" * (LIMIT - 2), b""]
    assert lines([b"x" * (LIMIT - 1) + b"\r\n"], crlf_only=crlf_only) == [LineTooLong]
    assert lines([b"x" * (LIMIT - 1)], crlf_only=crlf_only) == [b"x" * (LIMIT - 1)]
    assert lines([b"x" * LIMIT], crlf_only=crlf_only) == [LineTooLong]


def test_the_limit_can_change_between_lines() -> None:
    buffer = LineBuffer(4)
    buffer.feed(b"ab\r\nabcdef\r\n")
    assert buffer.next_line() == b"ab"
    buffer.limit = 8
    assert buffer.next_line() == b"abcdef"


def test_an_unended_line_holds_no_more_than_it_has() -> None:
    buffer = LineBuffer(LIMIT)
    buffer.feed(b"x" * 1_000_000)
    with pytest.raises(LineTooLong):
        buffer.next_line()
    assert not buffer and buffer.take_rest() == b""


class Counted(bytes):
    """Octets that count how many of them are copied by slices."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        Counted.copied += len(part)
        return part


def test_pipelined_lines_are_each_copied_once() -> None:
    data = Counted(b"NOOP\r\n" * 10_000)
    buffer, seen = LineBuffer(255), 0
    buffer.feed(data)
    while buffer.next_line() == b"NOOP":
        seen += 1
    assert seen == 10_000 and Counted.copied <= 2 * len(data)


def test_an_idle_buffer_holds_nothing() -> None:
    buffer = LineBuffer(255)
    for octet in b"NOOP\r\n" * 1_000:
        buffer.feed(bytes([octet]))
    while buffer.next_line() is not None:
        pass
    held = sum(sys.getsizeof(getattr(buffer, name)) for name in ("_data", "_start"))
    assert sys.getsizeof(buffer) + held < 200
