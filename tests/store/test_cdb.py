"""Constant databases, against tinycdb's and against hostile files."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import cdb

TINYCDB = Path("/usr/bin/cdb")
RECORDS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=40)


@contextmanager
def opened(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("cdb")
    try:
        os.write(descriptor, content)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def tinycdb() -> Path:
    if not TINYCDB.exists():
        reason = "tinycdb is not installed (apt-get install tinycdb)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return TINYCDB


def dumped(records: list[tuple[bytes, bytes]]) -> bytes:
    """As `cdb -d` writes them, and `cdb -c` reads them."""
    lines = (b"+%d,%d:%b->%b\n" % (len(key), len(data), key, data) for key, data in records)
    return b"".join(lines) + b"\n"


def test_a_search_goes_on_at_the_table_s_start() -> None:
    """Four keys of one table, all of whose own slot is the last of eight."""
    keys = [key for key in (b"%d" % number for number in range(200_000)) if cdb.hash_of(key) & 0x7FF == 0x7AA][:4]
    with opened(cdb.content([(key, key) for key in keys])) as descriptor:
        assert [cdb.Cdb(descriptor).get(key) for key in keys] == keys


@given(RECORDS)
def test_what_was_written_is_found(records: list[tuple[bytes, bytes]]) -> None:
    first: dict[bytes, bytes] = {}
    for key, data in records:
        first.setdefault(key, data)
    with opened(cdb.content(records)) as descriptor:
        database = cdb.Cdb(descriptor)
        assert {key: database.get(key) for key in first} == first
        assert list(database.records()) == records
        assert database.get(b"a key longer than any of these") is None


def test_tinycdb_reads_and_writes_the_same(tinycdb: Path, tmp_path: Path) -> None:
    chance = random.Random(4)
    records = [(chance.randbytes(chance.randrange(9)), chance.randbytes(chance.randrange(99))) for _ in range(3000)]
    path = tmp_path / "ours.cdb"
    path.write_bytes(cdb.content(records))
    assert subprocess.run([tinycdb, "-d", path], capture_output=True, check=True).stdout == dumped(records)
    subprocess.run([tinycdb, "-c", tmp_path / "theirs.cdb"], input=dumped(records), cwd=tmp_path, check=True)
    with (tmp_path / "theirs.cdb").open("rb") as file:
        database = cdb.Cdb(file.fileno())
        for key, data in dict(reversed(records)).items():
            assert database.get(key) == data


def test_the_hash_is_the_one_that_was_observed() -> None:
    assert cdb.hash_of(b"1.2.3.4") == 1011677903


def test_no_records() -> None:
    content = cdb.content([])
    assert content == struct.pack("<II", 2048, 0) * 256
    with opened(content) as descriptor:
        assert cdb.Cdb(descriptor).get(b"") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 2047,
        struct.pack("<II", 0xFFFFFFFF, 1) * 256,
        struct.pack("<II", 2048, 0xFFFFFFFF) * 256,
        struct.pack("<II", 2048, 1) * 256,
        struct.pack("<II", 2048, 1) * 256 + struct.pack("<II", cdb.hash_of(b"key"), 0xFFFFFFF0),
        struct.pack("<II", 2048, 1) * 256 + struct.pack("<IIII", cdb.hash_of(b"key"), 2056, 3, 0xFFFFFFFF),
        cdb.content([(b"key", b"x" * 100)])[:2100],
    ],
)
def test_a_damaged_file_is_an_error(content: bytes) -> None:
    with opened(content) as descriptor, pytest.raises(OSError, match=r"Protocol error|Invalid argument"):
        cdb.Cdb(descriptor).get(b"key")


@given(st.binary(min_size=2048, max_size=4096), st.binary(max_size=9))
def test_any_octets_are_an_answer_or_an_error(content: bytes, key: bytes) -> None:
    with opened(content) as descriptor:
        try:
            cdb.Cdb(descriptor).get(key)
            list(cdb.Cdb(descriptor).records())
        except OSError as error:
            assert error.strerror in ("Protocol error", "Invalid argument")


@given(st.lists(st.tuples(st.integers(0, 2400), st.integers(0, 255)), max_size=6))
def test_any_damage_is_an_answer_or_an_error(damage: list[tuple[int, int]]) -> None:
    content = bytearray(cdb.content([(b"%d" % number, b"x") for number in range(20)]))
    for position, octet in damage:
        content[position % len(content)] = octet
    with opened(bytes(content)) as descriptor:
        for number in range(20):
            try:
                cdb.Cdb(descriptor).get(b"%d" % number)
            except OSError as error:
                assert error.strerror == "Protocol error"


def test_all_records_of_a_file_whose_tables_begin_too_early() -> None:
    content = struct.pack("<II", 2040, 2) + cdb.content([(b"key", b"data")])[8:]
    with opened(content) as descriptor, pytest.raises(OSError, match="Protocol error"):
        list(cdb.Cdb(descriptor).records())


def test_a_table_without_an_end_is_given_up() -> None:
    """All slots are taken by records of another key with the hash of ours, more than any writer leaves in a row."""
    slots = cdb.PROBE_LIMIT + 100
    entry = struct.pack("<II", cdb.hash_of(b"key"), 2048)
    record = struct.pack("<II", 3, 0) + b"yek"
    content = struct.pack("<II", 2048 + len(record), slots) * 256 + record + entry * slots
    with opened(content) as descriptor, pytest.raises(OSError, match="Protocol error"):
        cdb.Cdb(descriptor).get(b"key")


def test_data_beyond_the_limit_is_an_error() -> None:
    content = cdb.content([(b"key", bytes(cdb.DATA_LIMIT + 1))])
    with opened(content) as descriptor, pytest.raises(OSError, match="Protocol error"):
        cdb.Cdb(descriptor).get(b"key")


def test_a_file_takes_its_place_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pillarbox.store import files

    done: list[str] = []
    for name in ("fsync", "rename", "sync_directory"):
        monkeypatch.setattr(files, name, lambda *_, name=name: done.append(name))
    descriptor = os.open(tmp_path / "t", os.O_WRONLY | os.O_CREAT)
    cdb.finish(descriptor, b"t", b"rules.cdb")
    assert done == ["fsync", "rename", "sync_directory"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
