"""Names in a Maildir: unique ids, order, sizes."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pillarbox.store import maildir_names as names

from .maildirs import FOREIGN_NAMES

any_name = st.binary(min_size=1, max_size=80).map(lambda name: re.sub(rb"[/\0]", b"_", name))
any_file = st.tuples(st.sampled_from([b"new/", b"cur/"]), any_name).map(b"".join)


@pytest.mark.parametrize("name", FOREIGN_NAMES)
@pytest.mark.parametrize("flags", ["", ":2,", ":2,S", ":2,FRS"])
def test_the_unique_id_is_the_name_without_its_flags(name: str, flags: str) -> None:
    assert names.uidl((name + flags).encode()) == name.encode()


@pytest.mark.parametrize("name", [b"a" * 71, b"a b", b"a\x7f", b"caf\xc3\xa9", b":2,S", b"a\nb"])
def test_what_pop3_would_not_take_is_shown_as_a_digest(name: bytes) -> None:
    shown = names.uidl(name)
    assert re.fullmatch(rb"[0-9a-f]{40}", shown)
    assert shown == names.uidl(names.base(name) + b":2,FS")


def test_seventy_octets_are_taken() -> None:
    assert names.uidl(b"a" * 70) == b"a" * 70


@given(st.lists(any_file, unique=True, max_size=12))
def test_unique_ids_are_unique_and_fit_pop3(files: list[bytes]) -> None:
    ids = names.uidls(files)
    assert len(set(ids)) == len(files) == len(ids)
    assert all(re.fullmatch(rb"[!-~]{1,70}", uidl) for uidl in ids)


def test_twins_and_whoever_imitates_their_digests_are_kept_apart() -> None:
    twins, imitator = [b"cur/1.a:2,S", b"new/1.a"], b"new/" + names.digest(b"new/1.a")
    for files in ([*twins, imitator], [imitator, *twins]):
        ids = names.uidls(files)
        assert ids[files.index(b"cur/1.a:2,S")] == b"1.a"
        assert len(set(ids)) == 3


@given(st.lists(any_file, unique=True, max_size=12))
def test_one_name_alone_has_the_same_id_as_among_others(files: list[bytes]) -> None:
    bases = [names.base(file[4:]) for file in files]
    for file, plain, uidl in zip(files, bases, names.uidls(files), strict=True):
        if bases.count(plain) == 1:
            assert uidl == names.uidl(file[4:])


def test_order_is_by_the_integer_then_by_the_name() -> None:
    files = [b"new/10.c", b"cur/99999999999999999999999.a", b"new/10.a", b"cur/9.b:2,S", b"cur/0010.b"]
    assert sorted(files, key=lambda file: names.order(file, 0)) == [files[place] for place in (3, 4, 2, 0, 1)]


@given(any_name, any_name, st.integers(-5, 2_000_000_000), st.integers(-5, 2_000_000_000))
def test_order_is_the_one_that_is_written_down(first: bytes, second: bytes, mtime: int, other: int) -> None:
    def plain(name: bytes, mtime: int) -> tuple[int, bytes, bytes]:
        digits = re.match(rb"[0-9]*", name)
        assert digits
        return int(digits[0]) if digits[0] else max(mtime, 0), name.split(b":")[0], b"new/" + name

    fast = names.order(b"new/" + first, mtime) < names.order(b"new/" + second, other)
    assert fast == (plain(first, mtime) < plain(second, other))


@given(st.lists(st.from_regex(rb"\A(new|cur)/[0-2]?[0-9]{9}[0.:_a][0a:.]{0,2}\Z"), unique=True, max_size=12))
@example([b"new/1700000001.b", b"cur/1700000000.a"])
@example([b"new/1700000000.a", b"cur/1700000000.a:2,S"])
@example([b"new/1700000000.a:2,S", b"cur/1700000000.a"])
@example([b"new/1700000000.b", b"new/17000000000"])
@example([b"new/1700000000.b", b"new/0700000000.a", b"new/999999999.a"])
@example([b"new/1700000000.b", b"new/0999999999.a", b"new/1000000000.c"])
@example([b"new/0700000000.a", b"new/00700000000.b"])
@example([b"new/2000000000", b"new/1700000000.b"])
@example([b"new/1700000000.b", b"new/a700000000.0"])
def test_the_quick_way_to_sort_is_the_same_order(files: list[bytes]) -> None:
    mtimes = {file: 1_500_000_000 + place for place, file in enumerate(files) if not names.is_timed(file)}
    assert names.in_order(files, mtimes) == sorted(files, key=lambda file: names.order(file, mtimes.get(file, 0)))


def test_one_name_of_another_kind_is_enough_for_the_slow_way() -> None:
    """Eleven digits, a leading zero, a name without a time, twins: in each the octets alone would mislead."""
    plain = [b"new/1700000000.a", b"cur/2000000000.b:2,S"]
    for odd in (
        b"new/16000000000.c",
        b"new/0.c",
        b"new/1800000000",
        b"new/0000000001.c",
        b"new/a.c",
        b"new/2000000000.b",
    ):
        files = [*plain, odd]
        mtimes = {b"new/a.c": 1_900_000_000}
        expected = sorted(files, key=lambda file: names.order(file, mtimes.get(file, 0)))
        for start in itertools.permutations(files):
            assert names.in_order(start, mtimes if odd in mtimes else {}) == expected


@pytest.mark.parametrize(
    ("name", "stored", "wire"),
    [
        (b"1.a,S=12,W=14", 12, 14),
        (b"1.a,S=12,W=14:2,S", 12, 14),
        (b"1.a,W=14,S=12:2,", 12, 14),
        (b"1.a,S=12", 12, None),
        (b"1.a,W=14:2,", None, 14),
        (b"1.a", None, None),
        (b"1.a,S=,W=x", None, None),
        (b"1.a,S=12x,W=-3", None, None),
        (b"1.a,S=12,W=14\n", 12, None),
        (b"1.a,S=12,W=14,X", 12, 14),
        (b"1.a,S=1234567890123", None, None),
    ],
)
def test_sizes_in_names(name: bytes, stored: int | None, wire: int | None) -> None:
    assert names.sizes(name) == (stored, wire)


def test_names_of_ours_are_unique_ids_even_of_large_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4194304)
    monkeypatch.setattr(names, "HOST", "h" * names.HOST_LIMIT)
    name = names.with_sizes(names.unique(1_795_491_907.999999), 987_654_321, 999_999_999).encode()
    assert names.uidl(name) == name
    assert names.sizes(name) == (987_654_321, 999_999_999)


def test_names_of_ours_sort_by_time_within_a_second_and_differ_at_the_same_instant() -> None:
    times = [1_795_491_907.000009, 1_795_491_907.5, 1_795_491_908.0]
    made = [f"new/{names.unique(now)}".encode() for now in times]
    assert sorted(made, key=lambda file: names.order(file, 0)) == made
    assert names.unique(1.5) != names.unique(1.5)
    assert "/" not in names.unique(1.5)
