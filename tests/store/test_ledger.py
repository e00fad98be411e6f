"""The ledger: its chain shows every change, its files are bounded, and a crash costs a line, not the chain."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import ledger as writing
from pillarbox.store.ledger import Ledger, ledger_key
from pillarbox.store.ledger_line import Entry
from pillarbox.store.ledger_reading import RECENT_FILES, Verdict, entries, file_numbers, last_logins, verify

SMALL = 700  # octets of a file: three or four entries


class Books:
    """A ledger in a folder, with small files."""

    def __init__(self, folder: Path, kept: int = 100) -> None:
        self.folder, self.key = folder / "ledger", folder / "ledger.key"
        self.folder.mkdir()
        self.kept = kept
        self.begin()

    def begin(self) -> None:
        self.ledger = Ledger(str(self.folder), str(self.key), self.kept)

    def again(self) -> None:
        """The process has died; the next one opens it."""
        self.ledger.close()
        self.begin()
        self.ledger.open()

    def write(self, count: int, start: int = 0) -> None:
        for number in range(start, start + count):
            self.ledger.append(entry(time=1000.0 + number))

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def verdict(self) -> Verdict:
        return verify(str(self.folder), self.key.read_bytes())


def entry(**more: object) -> Entry:
    words = {"account": "alice@example.test", "address": "192.0.2.1", "protocol": "pop3", "mechanism": "APOP"}
    return Entry(**{"seq": 0, "time": 1000.0, **words, "exposure": "digest", **more})  # type: ignore[arg-type]


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    monkeypatch.setattr(writing, "FILE_OCTETS", SMALL)
    monkeypatch.setattr(writing, "RETRY_SECONDS", 0.0)
    made = Books(tmp_path)
    yield made
    made.ledger.close()


def test_what_is_written_is_read(books: Books) -> None:
    books.write(20)
    books.again()
    books.write(5, start=20)
    found = [one for one in entries(str(books.folder)) if one]
    assert [one.seq for one in found] == list(range(1, 26))
    assert [one.time for one in found] == [1000.0 + number for number in range(25)]
    verdict = books.verdict()
    assert (verdict.entries, verdict.broken, verdict.torn, verdict.lost) == (25, None, [], 0)
    assert verdict.files == len(books.files) > 3


def test_a_line_is_json_with_an_hmac_over_itself_and_the_one_before(books: Books) -> None:
    books.write(2)
    head, first, second = books.files[0].read_bytes().splitlines()
    assert json.loads(first)["account"] == "alice@example.test"
    before = json.loads(first)["mac"].encode()
    body, mac = second[: second.index(b',"mac"')], json.loads(second)["mac"]
    assert hmac.new(books.key.read_bytes(), before + body, hashlib.sha256).hexdigest()[:32] == mac
    assert json.loads(head)["prev"] == "0" * 32


def test_only_its_owner_reads_it(books: Books) -> None:
    books.write(1)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*books.files, books.key)} == {0o600}


def test_old_files_go_and_the_chain_still_holds(books: Books) -> None:
    books.ledger.files_kept = 3
    books.write(60)
    assert len(books.files) == 3
    verdict = books.verdict()
    assert verdict.broken is None and 0 < verdict.entries < 20
    books.files[0].unlink()
    assert books.verdict().broken


def test_every_file_is_bounded(books: Books) -> None:
    books.write(100)
    assert max(path.stat().st_size for path in books.files) < SMALL + 400


# Changes are seen.


@pytest.fixture(scope="module")
def written() -> Iterator[tuple[bytes, dict[str, list[bytes]]]]:
    """A key, and the lines of each file of a ledger."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "FILE_OCTETS", SMALL)
        books = Books(Path(folder))
        books.write(14)
        books.ledger.close()
        yield books.key.read_bytes(), {path.name: path.read_bytes().splitlines(True) for path in books.files}


def judged(key: bytes, files: dict[str, list[bytes]]) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in files.items():
            Path(folder, name).write_bytes(b"".join(lines))
        return verify(folder, key)


def places(files: dict[str, list[bytes]]) -> list[tuple[str, int]]:
    """All lines but the last."""
    return [(name, number) for name, lines in files.items() for number in range(len(lines))][:-1]


def test_as_it_was_written_it_is_whole(written: tuple[bytes, dict[str, list[bytes]]]) -> None:
    key, files = written
    verdict = judged(key, files)
    assert verdict.broken is None and verdict.entries == 14 and len(files) > 3


def test_another_key_vouches_for_nothing(written: tuple[bytes, dict[str, list[bytes]]]) -> None:
    assert judged(b"x" * 32, written[1]).broken


@given(data=st.data())
def test_an_octet_changed_anywhere_before_the_last_line_is_seen(
    written: tuple[bytes, dict[str, list[bytes]]], data: st.DataObject
) -> None:
    key, files = written
    changed = {name: list(lines) for name, lines in files.items()}
    name, number = data.draw(st.sampled_from(places(files)))
    line = bytearray(changed[name][number])
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    changed[name][number] = bytes(line)
    broken = judged(key, changed).broken
    assert broken is not None and (broken.file, broken.line) <= (name, number + 1)


@given(data=st.data())
def test_lines_removed_repeated_or_exchanged_are_seen(
    written: tuple[bytes, dict[str, list[bytes]]], data: st.DataObject
) -> None:
    key, files = written
    changed = {name: list(lines) for name, lines in files.items()}
    every = places(files)
    (name, number), (other, second) = (data.draw(st.sampled_from(every)) for _ in range(2))
    match data.draw(st.sampled_from(["remove", "repeat", "exchange"])):
        case "remove":
            del changed[name][number]
        case "repeat":
            changed[other].insert(second, changed[name][number])
        case "exchange" if (name, number) != (other, second):
            changed[name][number], changed[other][second] = changed[other][second], changed[name][number]
        case "exchange":
            return
    assert judged(key, changed).broken


@given(data=st.data())
def test_a_file_that_is_cut_short_or_gone_is_seen(
    written: tuple[bytes, dict[str, list[bytes]]], data: st.DataObject
) -> None:
    key, files = written
    changed = {name: list(lines) for name, lines in files.items()}
    name = data.draw(st.sampled_from(sorted(files)[:-1]))
    octets = b"".join(files[name])
    cut = data.draw(st.integers(-1, len(octets) - 1))
    if cut < 0:
        del changed[name]
    else:
        changed[name] = [octets[:cut]]
    assert judged(key, changed).broken


def test_a_cut_at_the_very_end_is_seen_with_a_tip_that_was_noted(books: Books) -> None:
    books.write(2)
    tip = books.verdict().tip
    octets = books.files[0].read_bytes()
    books.files[0].write_bytes(b"".join(octets.splitlines(True)[:-1]))
    assert books.verdict().broken is None
    assert not verify(str(books.folder), books.key.read_bytes(), noted=tip).noted
    books.files[0].write_bytes(octets)
    assert verify(str(books.folder), books.key.read_bytes(), noted=tip).noted


# Crashes.


@pytest.mark.parametrize("left", [1, 40, 150])
@pytest.mark.parametrize("junk", [b"", bytes(100)], ids=["cut", "NULs"])
def test_the_chain_goes_on_behind_a_torn_line(books: Books, left: int, junk: bytes) -> None:
    books.write(3)
    octets = books.files[-1].read_bytes()
    last = octets.splitlines(True)[-1]
    books.files[-1].write_bytes(octets[: len(octets) - len(last) + left] + junk)
    assert books.verdict().broken is None
    books.again()
    assert books.ledger.torn == left + len(junk)
    books.write(2)
    verdict = books.verdict()
    assert verdict.broken is None and verdict.entries == 4
    assert verdict.torn == [("00000001.jsonl", left + len(junk))]
    assert [one.seq for one in entries(str(books.folder)) if one] == [1, 2, 3, 4]


@pytest.mark.parametrize("head", [b"", b'{"kind":"file","se'], ids=["empty", "torn"])
def test_a_file_whose_head_was_not_written_is_passed_over(books: Books, head: bytes) -> None:
    books.write(1)
    (books.folder / "00000002.jsonl").write_bytes(head)
    books.again()
    books.write(1)
    verdict = books.verdict()
    assert verdict.broken is None and verdict.entries == 2
    assert file_numbers(str(books.folder)) == [1, 2, 3]


def test_a_changed_line_is_not_taken_for_a_torn_one_after_a_new_start(books: Books) -> None:
    """Whoever changes a line of the last file can't hide that by having the server started again."""
    books.write(3)
    changed = books.files[0].read_bytes().replace(b'"seq":2,', b'"seq":9,')
    books.files[0].write_bytes(changed)
    books.again()
    books.write(2)
    broken = books.verdict().broken
    assert broken is not None and (broken.file, broken.line) == ("00000001.jsonl", 3)


def test_two_writers_are_refused(books: Books) -> None:
    books.write(1)
    other = Ledger(str(books.folder), str(books.key), 10)
    with pytest.raises(OSError) as caught:
        other.append(entry())
    assert caught.value.errno in (errno.EAGAIN, errno.EWOULDBLOCK)
    books.ledger.close()
    other.append(entry())
    other.close()
    assert [one.lost for one in entries(str(books.folder)) if one] == [0, 1]


def test_a_full_disk_costs_entries_which_are_counted_and_no_more(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    books.write(2)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if real(descriptor, data[:7]) and len(data) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 7

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(5):
            with pytest.raises(OSError, match="No space"):
                books.ledger.append(entry())
    assert len(books.files) == 1  # no file for each try
    books.write(1)
    verdict = books.verdict()
    assert (verdict.broken, verdict.entries, verdict.lost) == (None, 3, 5)


def test_descriptors_to_sync_are_those_of_what_was_written(books: Books) -> None:
    books.write(9)
    found = books.ledger.unsynced()
    synced = {os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in found}
    for descriptor in found:
        os.close(descriptor)
    assert synced == {str(books.folder), *map(str, books.files)}
    assert books.ledger.unsynced() == []


def test_a_key_that_others_can_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    key = ledger_key(str(path), create=True)
    assert ledger_key(str(path), create=False) == key and len(key) == 32
    path.chmod(0o640)
    with pytest.raises(PermissionError):
        ledger_key(str(path), create=False)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(OSError, match="32 octets"):
        ledger_key(str(path), create=False)


def test_files_that_ended_before_are_not_read(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000, 2000, 10))
    monkeypatch.setattr(writing.time, "time", lambda: next(clock))
    for number in range(20):
        books.ledger.append(entry(time=1000.0 + number))
    books.files[0].write_bytes(books.files[0].read_bytes().replace(b"login", b"lxgin"))
    assert None in list(entries(str(books.folder)))
    found = list(entries(str(books.folder), since=1015.0))
    assert None not in found and [one.time for one in found if one] == [1015.0, 1016.0, 1017.0, 1018.0, 1019.0]


def test_the_last_good_logins_by_account_and_address(books: Books) -> None:
    far, bob = {"address": "192.0.2.2"}, {"account": "bob@example.test"}
    for more in (
        {"time": 1.0, "address": "192.0.2.3"},
        {"time": 5.0},
        {"time": 6.0, **far},
        {"time": 7.0, **far, "reason": "badcred"},
        {"time": 8.0, **bob, "reason": "deferred"},
        {"time": 9.0, "account": ""},
        {"time": 10.0},
    ):
        books.ledger.append(entry(**more))
    alice = "alice@example.test"
    assert list(last_logins(str(books.folder), 2.0).items()) == [
        ((alice, "192.0.2.2"), 6.0),
        ((alice, "192.0.2.1"), 10.0),
    ]


def test_they_are_read_from_few_files(books: Books) -> None:
    books.ledger.append(entry(address="192.0.2.9"))
    books.write(40)
    assert len(books.files) > RECENT_FILES
    assert [address for _, address in last_logins(str(books.folder), 0.0)] == ["192.0.2.1"]
    assert last_logins(str(books.folder / "missing"), 0.0) == {}
