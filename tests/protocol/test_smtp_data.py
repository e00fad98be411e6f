"""Message content: what was encoded comes out again however it is cut, and each limit is held to the octet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol.lines import LineBuffer
from pillarbox.protocol.smtp_data import (
    FIELDS_LIMIT,
    HEADER_LIMIT,
    HOPS_LIMIT,
    LINE_LIMIT,
    BareNewline,
    ChunkDecoder,
    Content,
    DataDecoder,
)
from pillarbox.protocol.smtp_reply import Reply

LIMIT = 8 << 20
BIG = 1 << 16

LINE = st.binary(max_size=12).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")) | st.sampled_from(
    [b"", b".", b"..", b".x", b"Received: x", b" folded", b"\0\xff"]
)
SIZES = st.lists(st.integers(1, 9), min_size=1)


def stuffed(stored: bytes) -> bytes:
    """The reference: RFC 5321 section 4.5.2, line by line."""
    lines = stored.split(b"\n")[:-1]
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    while start < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[start : start + size])
        start += size
    return pieces


def data(wire: bytes, sizes: list[int], *, normalise: bool = False, limit: int = LIMIT) -> tuple[bytes, bytes, Content]:
    """Stored octets, what stands behind the final dot, and the decoder."""
    decoder, stored = DataDecoder(limit, normalise=normalise), b""
    pieces = cut(wire, sizes)
    while pieces and not decoder.ended:
        stored += decoder.feed(pieces.pop(0))
    return stored, decoder.rest + b"".join(pieces), decoder


def chunks(wire: bytes, sizes: list[int], *, normalise: bool = False, limit: int = LIMIT) -> tuple[bytes, Content]:
    """Each piece is a BDAT chunk of its own."""
    decoder, source, stored = ChunkDecoder(limit, normalise=normalise), LineBuffer(10), b""
    for piece in cut(wire, sizes):
        decoder.expect(len(piece), last=False)
        source.feed(piece)
        stored += decoder.read(source)
    decoder.expect(0, last=True)
    stored += decoder.read(source)
    assert decoder.ended
    return stored, decoder


@settings(deadline=None)
@given(st.lists(LINE, max_size=20), SIZES, st.binary(max_size=9), st.booleans())
def test_data_is_what_was_sent_however_it_is_cut(lines: list[bytes], sizes: list[int], rest: bytes, mend: bool) -> None:
    stored = b"".join(line + b"\n" for line in lines)
    came, behind, decoder = data(stuffed(stored) + rest, sizes, normalise=mend)
    assert (came, behind) == (stored, rest)
    assert decoder.ended and decoder.fault is None
    assert decoder.octets == len(stored) + len(lines)


@settings(deadline=None)
@given(st.lists(LINE, max_size=20), SIZES, st.booleans(), st.booleans())
def test_chunks_are_what_was_sent_however_they_are_cut(
    lines: list[bytes], sizes: list[int], mend: bool, ended: bool
) -> None:
    wire = b"\r\n".join(lines) + (b"\r\n" if ended else b"")
    came, decoder = chunks(wire, sizes, normalise=mend)
    stored = wire.replace(b"\r\n", b"\n")
    assert came == stored + (b"" if not stored or stored.endswith(b"\n") else b"\n")
    assert decoder.fault is None and decoder.octets == len(wire)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a"]), max_size=12), SIZES)
def test_a_chunk_is_refused_if_and_only_if_a_newline_is_bare(words: list[bytes], sizes: list[int]) -> None:
    wire = b"".join(words)
    bare = wire.replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare:
        with pytest.raises(BareNewline):
            chunks(wire, sizes)
    else:
        chunks(wire, sizes)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a"]), max_size=12), SIZES)
def test_mended_each_bare_newline_is_a_line_end(words: list[bytes], sizes: list[int]) -> None:
    wire = b"".join(words)
    stored = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert chunks(wire, sizes, normalise=True)[0] == stored + (b"" if not stored or stored.endswith(b"\n") else b"\n")


@pytest.mark.parametrize(
    ("wire", "stored"),
    [
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\nb\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\n\nb\n"),  # a stuffed line that holds a bare LF
        (b"a\n..b\r\n.\r\n", b"a\n..b\n"),  # no stuffing behind a bare LF
        (b"a\r.\r\r\n.\r\n", b"a\n.\n\n"),
        (b"\n\r\n.\r\n", b"\n\n"),
    ],
)
def test_mended_a_dot_behind_a_bare_newline_is_an_ordinary_one(wire: bytes, stored: bytes) -> None:
    for size in (1, 2, 3, 99):
        came, rest, decoder = data(wire, [size], normalise=True)
        assert (came, rest, decoder.ended) == (stored, b"", True)


@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_where_the_data_ends_is_known_when_a_bare_newline_has_been_found(size: int) -> None:
    decoder, found = DataDecoder(LIMIT), 0
    for piece in cut(b"a\nb\r\n.\r\nNOOP\r\n", [size]):
        try:
            decoder.feed(piece)
        except BareNewline:
            found += 1
        if decoder.ended:
            break
    assert found and decoder.ended


def fault(stored: bytes, size: int, *, limit: int = LIMIT) -> str:
    """The enhanced code of the fault, the same for DATA and BDAT; empty: none."""
    wire = stuffed(stored)
    by_data = data(wire, [size], limit=limit)[2].fault
    by_chunk = chunks(stored.replace(b"\n", b"\r\n"), [size], limit=limit)[1].fault
    found = {"" if reply is None else f"{reply.code} {reply.enhanced}" for reply in (by_data, by_chunk)}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize("size", [999, BIG, 3 * BIG])
@pytest.mark.parametrize("before", [b"\n", b"\n" + b"short\n" * 20_000])
def test_the_longest_line(size: int, before: bytes) -> None:
    line = b"x" * LINE_LIMIT
    assert fault(before + line + b"\n" + line + b"\n", size) == ""
    assert fault(before + line + b"x\n", size) == "554 5.6.0"
    assert fault(before + line + b"xx" + b"\ny" * 9, size) == "554 5.6.0"


@pytest.mark.parametrize("size", [1, 7, BIG])
def test_the_biggest_message(size: int) -> None:
    text = b"a: b\n\n.12345\n"
    octets = len(text) + 3
    assert fault(text, size, limit=octets) == ""
    assert fault(text, size, limit=octets - 1) == "552 5.3.4"


@pytest.mark.parametrize("size", [500, BIG])
def test_the_biggest_header(size: int) -> None:
    line = b"a: " + b"x" * 1020 + b"\n"
    header = line * (HEADER_LIMIT // 1024)
    assert len(header) == HEADER_LIMIT
    assert fault(header + b"\n" + line * 10, size) == ""
    assert fault(header + b"y\n\n", size) == "552 5.3.4"


@pytest.mark.parametrize("size", [7, BIG])
def test_the_most_fields(size: int) -> None:
    fields = b"a: b\n c\n" * FIELDS_LIMIT
    assert fault(fields + b"\n" + fields, size) == ""
    assert fault(fields + b"a: b\n\n", size) == "552 5.3.4"


@pytest.mark.parametrize("size", [1, 7, BIG])
def test_a_loop_shows_in_the_header_and_only_there(size: int) -> None:
    hop = b"rEceived \t: from a\n by b\n"
    hops = hop * HOPS_LIMIT
    assert fault(hops + b"X-Received: x\n Received: x\nReceivedx: x\n\n" + hops, size) == ""
    assert fault(hops + hop + b"\n", size) == "554 5.4.6"


@pytest.mark.parametrize("size", [1, 7, BIG])
def test_an_empty_header_ends_at_once(size: int) -> None:
    assert fault(b"\n" + b"Received: x\n" * (HOPS_LIMIT + 1), size) == ""


def test_after_a_fault_nothing_more_is_stored() -> None:
    decoder = DataDecoder(10)
    assert decoder.feed(b"12345\r\n") == b"12345" and decoder.fault is None
    assert decoder.feed(b"67890\r\n") == b""
    assert isinstance(decoder.fault, Reply)
    with pytest.raises(BareNewline):
        decoder.feed(b"a bare\n one is")
    assert decoder.feed(b" no\n news now\r\n.\r\n") == b""
    assert decoder.ended
