"""A listing says what it was rendered from, can be continued and cut, and survives whatever a neighbour sends."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.listing import EMPTY, MESSAGES_LIMIT, Entry, Listing

UIDLS = st.binary(min_size=1, max_size=8).map(lambda octets: octets.hex().encode())
ENTRIES = st.lists(st.builds(Entry, UIDLS, st.integers(0, 2**33), st.integers(0, 15)), max_size=12)
quick = settings(max_examples=40)


def list_text(entries: list[Entry], without: bytes = b"") -> bytes:
    return b"".join(
        b"%d %d\r\n" % (number, entry.octets)
        for number, entry in enumerate(entries, 1)
        if not without or not without[number - 1]
    )


def uidl_text(entries: list[Entry], without: bytes = b"") -> bytes:
    return b"".join(
        b"%d %b\r\n" % (number, entry.uidl)
        for number, entry in enumerate(entries, 1)
        if not without or not without[number - 1]
    )


@quick
@given(ENTRIES, st.data())
def test_it_says_what_it_was_rendered_from(entries: list[Entry], data: st.DataObject) -> None:
    rendered = Listing.render(entries)
    assert Listing(rendered.blob).blob == rendered.blob
    for listing in (rendered, Listing(memoryview(rendered.blob))):
        assert (listing.count, listing.octets) == (len(entries), sum(entry.octets for entry in entries))
        for number, entry in enumerate(entries, 1):
            assert Entry(listing.uidl(number), listing.size(number), listing.form(number)) == entry
            assert entry.uidl in listing
        assert listing.columns() == ([entry.octets for entry in entries], bytes(entry.form for entry in entries))
        without = bytes(data.draw(st.lists(st.integers(0, 1), min_size=len(entries), max_size=len(entries))))
        for marked in (b"", without, bytearray(without)):
            assert b"".join(listing.list_lines(marked)) == list_text(entries, bytes(marked))
            assert b"".join(listing.uidl_lines(marked)) == uidl_text(entries, bytes(marked))


@quick
@given(ENTRIES, ENTRIES, st.data())
def test_a_continued_listing_is_the_one_rendered_at_once(
    old: list[Entry], new: list[Entry], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, len(old)))
    continued = Listing.render(old).continued(
        kept, [entry.uidl for entry in new], [entry.octets for entry in new], bytes(entry.form for entry in new)
    )
    assert continued.blob == Listing.render([*old[:kept], *new]).blob


def test_an_empty_one() -> None:
    assert (EMPTY.count, EMPTY.octets, EMPTY.list_lines(), EMPTY.uidl_lines()) == (0, 0, [], [])
    assert Listing.render([]).blob == EMPTY.blob
    assert b"x" not in EMPTY


def test_a_unique_id_is_found_only_whole() -> None:
    listing = Listing.render([Entry(b"abc", 1, 0), Entry(b"2", 1, 0)])
    assert b"abc" in listing and b"2" in listing
    assert not any(part in listing for part in (b"ab", b"bc", b"1", b"", b"abc\r\n2"))


def test_runs_that_stay_are_one_piece_each() -> None:
    listing = Listing.render([Entry(b"%x" % number, number, 0) for number in range(1_000)])
    assert len(listing.list_lines()) == 1
    assert listing.list_lines(b"\1" * 1_000) == []
    assert listing.list_lines(b"\1" * 999 + b"\0") == [b"1000 999\r\n"]
    assert len(listing.uidl_lines(b"\1" + b"\0" * 400 + b"\1" + b"\0" * 598)) == 2


BLOB = bytes(Listing.render([Entry(b"one", 1, 3), Entry(b"two", 20, 5)]).blob)


@pytest.mark.parametrize("length", range(len(BLOB)))
def test_a_listing_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ValueError):
        Listing(BLOB[:length])


@pytest.mark.parametrize("count", [0, 1, 3, MESSAGES_LIMIT, MESSAGES_LIMIT + 1, 2**32 - 1])
def test_a_wrong_count_is_refused(count: int) -> None:
    with pytest.raises(ValueError):
        Listing(BLOB[:4] + struct.pack("=I", count) + BLOB[8:])


@quick
@given(st.binary(max_size=120), st.lists(st.tuples(st.integers(0, len(BLOB) - 1), st.integers(0, 255)), max_size=4))
def test_what_a_neighbour_made_up_is_a_listing_or_a_value_error(noise: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(BLOB)
    for place, octet in changes:
        changed[place] = octet
    for blob in (noise, BLOB[:4] + noise, bytes(changed)):
        try:
            listing = Listing(blob)
        except ValueError:
            continue
        text = listing.list_lines() + listing.uidl_lines() + listing.list_lines(b"\1" + b"\0" * listing.count)
        assert all(len(piece) <= len(blob) for piece in text)
        for number in range(1, listing.count + 1):
            assert listing.size(number) >= 0 and 0 <= listing.form(number) <= 255
            try:
                listing.uidl(number)
            except ValueError:
                continue


def test_lines_that_overlap_take_no_more_room_than_the_listing() -> None:
    listing = Listing.render([Entry(b"%030d" % number, number, 0) for number in range(100)])
    uidl_text = b"".join(listing.uidl_lines())
    blob = bytearray(listing.blob)
    offsets = blob.rindex(struct.pack("=I", len(uidl_text))) - 4 * 100
    blob[offsets : offsets + 4 * 101] = struct.pack("=101I", *(len(uidl_text) * (number % 2) for number in range(101)))
    with pytest.raises(ValueError, match="overlap"):
        Listing(bytes(blob)).uidl_lines(b"\0\1" * 50)


def test_no_more_messages_than_the_limit() -> None:
    def hollow(count: int) -> bytes:
        return struct.pack("=4sIQII", b"PBL1", count, 0, 0, 0) + bytes(17 * count + 8)

    assert Listing(hollow(MESSAGES_LIMIT)).count == MESSAGES_LIMIT
    with pytest.raises(ValueError):
        Listing(hollow(MESSAGES_LIMIT + 1))
