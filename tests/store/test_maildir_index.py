"""The index: believed only when whole and current, and never needed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store import files, maildir_index, maildir_scan
from pillarbox.store.maildir import Maildrops
from pillarbox.store.maildir_scan import Scan, scan

from .maildirs import Maildir, content, entries, uidls, watch_listings, watch_looks


@pytest.fixture
def maildir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maildir:
    """Messages of all kinds, at rest, and worth an index."""
    monkeypatch.setattr(maildir_index, "WORTH_MESSAGES", 1)
    made = Maildir(tmp_path / "Maildir")
    made.put("new/1.a", b"one\n")
    made.put("cur/2.b:2,S", b"two\r\nlines\r\n")
    made.put("new/3.c,S=6,W=7")
    made.put("new/no time\nin here", b"four")
    made.settle()
    return made


def kept(maildir: Maildir) -> Scan:
    seen = maildir_index.read(os.fsencode(maildir.path))
    assert seen is not None
    return seen


def index(maildir: Maildir) -> Path:
    return maildir.path / "pillarbox.index"


def same(one: Scan, other: Scan) -> bool:
    return (
        one._replace(files=other.files, listing=other.listing) == other
        and one.files.all() == other.files.all()
        and bytes(one.listing.blob) == bytes(other.listing.blob)
    )


def test_what_was_kept_comes_back_whole(maildir: Maildir) -> None:
    seen = scan(os.fsencode(maildir.path))
    assert seen.safe
    assert list(seen.mtimes) == [b"new/no time\nin here"]
    maildir_index.write(os.fsencode(maildir.path), seen)
    assert same(kept(maildir), seen)
    again = scan(os.fsencode(maildir.path), kept(maildir))
    assert same(again, seen)
    assert index(maildir).stat().st_mode & 0o777 == 0o600
    assert os.listdir(maildir.path / "tmp") == []


def test_an_unchanged_maildir_opens_without_being_listed(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    before = entries(Maildrops().load(str(maildir.path)).listing())
    listed, looked = watch_listings(monkeypatch), watch_looks(monkeypatch)
    maildrops = Maildrops()
    assert maildrops.unchanged(str(maildir.path)) is None
    drop = maildrops.load(str(maildir.path))
    assert entries(drop.listing()) == before
    assert content(drop, 1) == b"one\n"
    assert maildrops.unchanged(str(maildir.path)) is drop
    assert listed == looked == []


def test_the_index_is_not_believed_over_the_directory(maildir: Maildir) -> None:
    Maildrops().load(str(maildir.path))
    maildir.put("new/9.new")
    maildir.remove("new/1.a")
    assert b"9.new" in uidls(Maildrops().load(str(maildir.path)))
    assert b"1.a" not in uidls(Maildrops().load(str(maildir.path)))


def test_after_a_change_the_index_still_spares_reading(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    Maildrops().load(str(maildir.path))
    maildir.put("new/9.new")
    looked = watch_looks(monkeypatch)
    assert len(uidls(Maildrops().load(str(maildir.path)))) == 5
    assert looked == [b"new/9.new"]


def test_a_scan_within_the_tick_is_kept_but_not_trusted(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.fsencode(maildir.path)
    seen = scan(path)
    maildir_index.write(path, seen._replace(safe=False))
    listed, looked = watch_listings(monkeypatch), watch_looks(monkeypatch)
    assert entries(Maildrops().load(str(maildir.path)).listing()) == entries(seen.listing)
    assert len(listed) == 2
    assert looked == []
    assert kept(maildir).safe


def damaged(whole: bytes) -> dict[str, bytes]:
    """Cut at every octet, each octet changed, zeroes from any octet on."""
    made = {f"cut at {place}": whole[:place] for place in range(len(whole))}
    made |= {
        f"octet {place} changed": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        for place in range(len(whole))
    }
    made |= {f"zeroes from {place}": whole[:place] + bytes(len(whole) - place) for place in range(len(whole) - 1)}
    made |= {"something behind": whole + b"\0", "twice": whole * 2, "foreign": b"#!/bin/sh\n" * 100}
    return {name: content for name, content in made.items() if content != whole}


def test_a_torn_damaged_or_foreign_index_is_ignored(maildir: Maildir) -> None:
    path = os.fsencode(maildir.path)
    Maildrops().load(str(maildir.path))
    whole = index(maildir).read_bytes()
    assert len(damaged(whole)) > 2 * len(whole)
    for name, octets in damaged(whole).items():
        index(maildir).write_bytes(octets)
        assert maildir_index.read(path) is None, name


@pytest.mark.parametrize("damage", ["cut at 0", "cut at 60", "octet 100 changed", "zeroes from 8", "foreign"])
def test_a_damaged_index_is_rebuilt(maildir: Maildir, damage: str) -> None:
    before = entries(Maildrops().load(str(maildir.path)).listing())
    whole = index(maildir).read_bytes()
    index(maildir).write_bytes(damaged(whole)[damage])
    assert entries(Maildrops().load(str(maildir.path)).listing()) == before
    assert index(maildir).read_bytes() == whole


def test_an_index_that_lies_about_itself_is_ignored(maildir: Maildir) -> None:
    """The checksum holds; another version, or a program of the user's, has made it."""
    path = os.fsencode(maildir.path)
    seen = scan(path)
    short = maildir_scan.Files.of(seen.files.all()[1:])
    for wrong in (seen._replace(files=short), seen._replace(files=maildir_scan.Files(b"", seen.files.starts))):
        maildir_index.write(path, wrong._replace(mtimes={}))
        assert maildir_index.read(path) is None


def take_away(folder: Path) -> None:
    (folder / "pillarbox.index").unlink()


def put_a_folder(folder: Path) -> None:
    take_away(folder)
    (folder / "pillarbox.index").mkdir()


def put_a_link(folder: Path) -> None:
    (folder / "pillarbox.index").rename(folder / "elsewhere")
    (folder / "pillarbox.index").symlink_to("elsewhere")


def put_a_fifo(folder: Path) -> None:
    take_away(folder)
    os.mkfifo(folder / "pillarbox.index")


@pytest.mark.parametrize("change", [take_away, put_a_folder, put_a_link, put_a_fifo])
def test_the_index_is_not_needed(maildir: Maildir, change: Callable[[Path], None]) -> None:
    before = entries(Maildrops().load(str(maildir.path)).listing())
    change(maildir.path)
    assert maildir_index.read(os.fsencode(maildir.path)) is None
    assert entries(Maildrops().load(str(maildir.path)).listing()) == before


def test_an_index_that_is_too_long_is_not_read(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    Maildrops().load(str(maildir.path))
    monkeypatch.setattr(maildir_index, "INDEX_LIMIT", index(maildir).stat().st_size - 1)
    assert maildir_index.read(os.fsencode(maildir.path)) is None


@pytest.mark.parametrize("operation", ["create", "rename"])
def test_a_full_disk_costs_nothing_but_the_index(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, operation, full)
    assert len(uidls(Maildrops().load(str(maildir.path)))) == 4
    assert not index(maildir).exists()
    assert os.listdir(maildir.path / "tmp") == []


def test_few_small_messages_get_none(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_index, "WORTH_MESSAGES", 5)
    Maildrops().load(str(maildir.path))
    assert not index(maildir).exists()
    maildir.put("new/9.big", bytes(maildir_index.WORTH_OCTETS))
    maildir.settle()
    Maildrops().load(str(maildir.path))
    assert index(maildir).exists()
