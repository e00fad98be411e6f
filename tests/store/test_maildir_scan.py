"""What a scan finds: rules, order, renames, races with other programs, and that nothing is read twice."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store import maildir_scan
from pillarbox.store.maildir import Maildrops
from pillarbox.store.maildir_scan import ABSENT, COARSE_TICK, FINE_TICK, NOTHING, Facts, Scan, Stamp, is_safe, scan
from pillarbox.wire_form import ENDED

from .maildirs import FOREIGN_NAMES, Maildir, entries, uidls, watch_looks


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    return Maildir(tmp_path / "Maildir")


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    return watch_looks(monkeypatch)


def scanned(maildir: Maildir, before: Scan = NOTHING) -> Scan:
    return scan(os.fsencode(maildir.path), before)


def test_other_programs_names_are_read_alike(maildir: Maildir) -> None:
    for place, name in enumerate(FOREIGN_NAMES):
        maildir.put(f"new/{name}" if place % 2 else f"cur/{name}:2,S")
    assert entries(scanned(maildir).listing) == [(name.encode(), 7) for name in FOREIGN_NAMES]


def test_what_is_no_message_is_not_listed(maildir: Maildir) -> None:
    maildir.put("new/1.a")
    maildir.put("new/.hidden")
    (maildir.path / "cur" / "2.folder").mkdir()
    (maildir.path / "cur" / "3.link").symlink_to(maildir.path / "new" / "1.a")
    (maildir.path / "cur" / "4.lost").symlink_to("nowhere")
    os.mkfifo(maildir.path / "new" / "5.fifo,S=0,W=0")
    os.mkfifo(maildir.path / "cur" / "5.plain")
    (maildir.path / ".Sent" / "cur").mkdir(parents=True)
    (maildir.path / ".Sent" / "cur" / "6.sent").write_bytes(b"sent\n")
    first = scanned(maildir)
    assert [uidl for uidl, _ in entries(first.listing)] == [b"1.a"]
    assert scanned(maildir, first).listing is first.listing


def test_a_maildir_that_is_not_there_is_empty(tmp_path: Path) -> None:
    nothing = scan(os.fsencode(tmp_path / "none"))
    assert nothing.listing.count == 0
    assert nothing.stamp == Stamp(ABSENT, ABSENT)


def test_a_message_without_a_time_in_its_name_is_ordered_by_its_mtime(maildir: Maildir) -> None:
    for name, mtime in (("z", 1000), ("a", 3000), ("m", 3000)):
        maildir.put(f"new/{name}")
        os.utime(maildir.path / "new" / name, (mtime, mtime))
    maildir.put("new/2000.x")
    first = scanned(maildir)
    assert [uidl for uidl, _ in entries(first.listing)] == [b"z", b"2000.x", b"a", b"m"]
    maildir.put("new/2500.y")
    assert [uidl for uidl, _ in entries(scanned(maildir, first).listing)] == [b"z", b"2000.x", b"2500.y", b"a", b"m"]


@pytest.mark.parametrize(
    "name", ["1.a,S=99,W=100", "1.a,S=5,W=8", "1.a,W=5", "1.a,W=13", "1.a,S=6,W=999999999999", "1.a,S=6", "1.a,S=6,W=0"]
)
def test_a_name_that_lies_is_not_believed(maildir: Maildir, name: str) -> None:
    maildir.put(f"new/{name}", b"hello\n")
    assert entries(scanned(maildir).listing) == [(name.encode(), 7)]


def test_a_size_that_ends_at_another_line_is_not_believed(maildir: Maildir) -> None:
    maildir.put("new/1.a,S=3,W=4", b"ab\ncd\n")
    assert [size for _, size in entries(scanned(maildir).listing)] == [8]


@pytest.mark.parametrize(
    ("content", "claimed", "octets"),
    [(b"a\nno end", 9, 11), (b"a\nno end", 11, 11), (b"a\nb\r", 5, 7), (b"", 0, 0), (b"", 2, 0), (b"\n", 2, 2)],
)
def test_the_line_end_that_a_last_line_is_given_counts_whatever_a_name_says(
    maildir: Maildir, content: bytes, claimed: int, octets: int
) -> None:
    """Dovecot's W= leaves it out."""
    maildir.put(f"new/1.a,S={len(content)},W={claimed}", content)
    assert [size for _, size in entries(scanned(maildir).listing)] == [octets]


def test_sizes_in_a_name_spare_reading(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    maildir.put("new/1.a,S=6,W=7")
    maildir.put("cur/2.a,W=7,S=7:2,S", b"hello\r\n")
    monkeypatch.setattr(maildir_scan, "survey", lambda chunks: pytest.fail("read"))
    listing = scanned(maildir).listing
    assert [size for _, size in entries(listing)] == [7, 7]
    assert [listing.form(1), listing.form(2)] == [ENDED, ENDED]


@pytest.mark.parametrize("name", ["1.a,S=6,W=7", "a,S=6,W=7", "1.a,W=7"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "socket"])
def test_no_name_makes_a_message_of_what_is_none(maildir: Maildir, name: str, kind: str) -> None:
    place = maildir.path / "new" / name
    maildir.put("tmp/elsewhere")
    with socket.socket(socket.AF_UNIX) as listener:
        make: dict[str, Callable[[], object]] = {
            "folder": place.mkdir,
            "fifo": lambda: os.mkfifo(place),
            "link": lambda: place.symlink_to("../tmp/elsewhere"),
            "socket": lambda: listener.bind(str(place)),
        }
        make[kind]()
        assert entries(scanned(maildir).listing) == []


def test_each_message_is_looked_at_once(maildir: Maildir, looked: list[bytes]) -> None:
    for number in range(30):
        maildir.put(f"new/{number}.a", b"x\n" * number)
    seen = scanned(maildir)
    assert len(looked) == 30
    maildir.put("new/31.a")
    seen = scanned(maildir, seen)
    maildir.remove("new/7.a")
    seen = scanned(maildir, seen)
    for at, to in (("new/9.a", "cur/9.a:2,"), ("cur/9.a:2,", "cur/9.a:2,RS")):
        maildir.move(at, to)
        seen = scanned(maildir, seen)
    maildir.put("new/3.between")
    seen = scanned(maildir, seen)
    assert looked[30:] == [b"new/31.a", b"new/3.between"]
    assert entries(seen.listing) == entries(scanned(maildir).listing)
    assert [seen.listing.form(n) for n in range(1, 32)] == [scanned(maildir).listing.form(n) for n in range(1, 32)]


def test_what_we_have_delivered_is_not_looked_at(maildir: Maildir, looked: list[bytes]) -> None:
    maildir.put("new/1.a")
    scan(os.fsencode(maildir.path), NOTHING, {b"1.a": Facts(7, 1, 0)})
    assert looked == []


@pytest.mark.parametrize("flags", [":2,", ":2,S", ":2,FS,S=1"])
def test_flags_change_neither_id_nor_order(maildir: Maildir, flags: str) -> None:
    for name in ("1.a", "1.b", "1.c"):
        maildir.put(f"new/{name}")
    before = entries(scanned(maildir).listing)
    maildir.move("new/1.b", f"cur/1.b{flags}")
    assert entries(scanned(maildir).listing) == before


def test_two_files_of_one_base_name_are_two_messages(maildir: Maildir) -> None:
    maildir.put("new/1.a", b"first\n")
    first = scanned(maildir)
    maildir.put("cur/1.a:2,S", b"the second\n")
    for seen in (scanned(maildir, first), scanned(maildir)):
        found = entries(seen.listing)
        assert sorted(size for _, size in found) == [7, 12]
        assert found[0] == (b"1.a", 12)
        assert len({uidl for uidl, _ in found}) == 2
        assert [seen.files[1], seen.files[2]] == [b"cur/1.a:2,S", b"new/1.a"]
    seen = scanned(maildir, first)
    maildir.move("new/1.a", "cur/1.a:2,R")
    maildir.move("cur/1.a:2,S", "new/1.a")
    assert [size for _, size in entries(scanned(maildir, seen).listing)] == [7, 12]


# Other programs at work while we list.


def interleave(monkeypatch: pytest.MonkeyPatch, after: bytes, change: Callable[[], None]) -> None:
    """`change()` happens right after the first listing of the folder `after`."""
    real, pending = os.listdir, [change]

    def listdir(path: bytes) -> list[bytes]:
        found = real(path)
        if path.rstrip(b"/").endswith(after) and pending:
            pending.pop()()
        return found

    monkeypatch.setattr(os, "listdir", listdir)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("attempts", [1, 3])
def test_a_message_moved_between_two_listings_is_seen_once(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch, known: bool, attempts: int
) -> None:
    monkeypatch.setattr(maildir_scan, "LISTINGS_LIMIT", attempts)
    maildir.put("new/1.a")
    maildir.put("new/2.a", b"another\n")
    before = scanned(maildir) if known else NOTHING
    interleave(monkeypatch, b"new", lambda: maildir.move("new/1.a", "cur/1.a:2,S"))
    seen = scanned(maildir, before)
    assert entries(seen.listing) == [(b"1.a", 7), (b"2.a", 9)]
    assert seen.files[1] == b"cur/1.a:2,S"


def test_a_delivery_of_ours_moved_between_two_listings_is_seen_once(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maildir_scan, "LISTINGS_LIMIT", 1)
    maildir.put("new/1.a")
    before = scanned(maildir)
    maildir.put("new/9.ours")
    interleave(monkeypatch, b"new", lambda: maildir.move("new/9.ours", "cur/9.ours:2,S"))
    seen = scan(os.fsencode(maildir.path), before, {b"9.ours": Facts(7, 1, 0)})
    assert entries(seen.listing) == [(b"1.a", 7), (b"9.ours", 7)]


@pytest.mark.parametrize("folder", [b"new", b"cur"])
def test_a_change_after_the_listing_is_seen_by_the_next(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch, folder: bytes
) -> None:
    monkeypatch.setattr(maildir_scan, "LISTINGS_LIMIT", 1)
    maildir.put("new/1.a")
    maildir.settle()
    interleave(monkeypatch, folder, lambda: maildir.put(f"{folder.decode()}/2.late"))
    seen = scanned(maildir)
    assert seen.listing.count == 1
    assert maildir_scan.stamp(os.fsencode(maildir.path)) != seen.stamp


def test_a_directory_that_never_rests_is_not_listed_for_ever(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = os.listdir, [0]

    def listdir(path: bytes) -> list[bytes]:
        count[0] += 1
        maildir.put(f"new/{count[0]}.a")
        (maildir.path / "new").touch()
        os.utime(maildir.path / "new", ns=(count[0], count[0]))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert scanned(maildir).listing.count >= 1
    assert count[0] == 2 * maildir_scan.LISTINGS_LIMIT


def test_a_message_that_goes_before_it_is_read_is_left_out(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_scan, "LISTINGS_LIMIT", 1)
    maildir.put("new/1.a")
    maildir.put("new/2.a")
    interleave(monkeypatch, b"cur", lambda: maildir.remove("new/1.a"))
    assert [uidl for uidl, _ in entries(scanned(maildir).listing)] == [b"2.a"]


@pytest.mark.parametrize("trouble", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_out_of_descriptors_is_no_reason_to_leave_messages_out(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    maildir.put("new/1.a")

    def fail(descriptor: int, file: bytes) -> Facts:
        raise OSError(trouble, os.strerror(trouble))

    monkeypatch.setattr(maildir_scan, "_look_into", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=os.strerror(trouble)):
        scanned(maildir)
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_bad_message_does_not_hide_the_others(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    maildir.put("new/1.a")
    maildir.put("new/2.a")
    real = maildir_scan._look_into

    def fail(descriptor: int, file: bytes) -> Facts | None:
        if file == b"new/1.a":
            raise OSError(errno.EIO, "bad sector")
        return real(descriptor, file)

    monkeypatch.setattr(maildir_scan, "_look_into", fail)
    assert [uidl for uidl, _ in entries(scanned(maildir).listing)] == [b"2.a"]


def test_a_cold_disk_is_read_by_several_threads_with_the_same_result(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        maildir.put(f"new/{number}.a", b"x\n" * number)
    warm = scanned(maildir)
    reads = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(maildir_scan, "_disk_reads", lambda: next(reads))
    monkeypatch.setattr(maildir_scan, "BATCH", 4)
    assert entries(scanned(maildir).listing) == entries(warm.listing)


def test_no_more_messages_are_listed_than_a_listing_can_hold(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_scan, "MESSAGES_LIMIT", 3)
    for number in range(5):
        maildir.put(f"{'cur' if number % 2 else 'new'}/{number}.a")
    assert [uidl for uidl, _ in entries(scanned(maildir).listing)] == [b"0.a", b"1.a", b"2.a"]


# The racy window.

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("changed", "now", "safe"),
    [
        (5 * SECOND + 1, 5 * SECOND + 1 + FINE_TICK, True),
        (5 * SECOND + 1, 5 * SECOND + FINE_TICK, False),
        (5 * SECOND, 5 * SECOND + COARSE_TICK, True),
        (5 * SECOND, 5 * SECOND + COARSE_TICK - 1, False),
        (9 * SECOND + 1, 5 * SECOND, False),
        (0, 5 * SECOND, True),
    ],
    ids=["fine, later", "fine, same tick", "coarse, later", "coarse, same tick", "from the future", "not there"],
)
def test_a_stamp_is_safe_when_no_later_change_can_look_like_it(changed: int, now: int, safe: bool) -> None:
    assert is_safe(Stamp((1, 0, changed), ABSENT), now) is safe
    assert is_safe(Stamp(ABSENT, (1, 0, changed)), now) is safe


def test_a_listing_taken_within_the_tick_is_not_trusted(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second message leaves the time stamps as they are, as on a file system with coarse times."""
    maildir.put("new/1.a")
    stamp = maildir_scan.stamp(os.fsencode(maildir.path))
    monkeypatch.setattr(maildir_scan, "stamp", lambda path: stamp)
    monkeypatch.setattr("pillarbox.store.maildir.stamp", lambda path: stamp)
    maildrops = Maildrops()
    path = str(maildir.path)
    clock = [stamp.new[2] + FINE_TICK - 1]
    monkeypatch.setattr(time, "time_ns", lambda: clock[0])
    assert uidls(maildrops.load(path)) == [b"1.a"]
    maildir.put("new/2.a")
    assert maildrops.unchanged(path) is None
    assert uidls(maildrops.load(path)) == [b"1.a", b"2.a"]
    clock[0] += 1
    assert uidls(maildrops.load(path)) == [b"1.a", b"2.a"]
    assert maildrops.unchanged(path) is not None


def test_setting_the_times_back_hides_nothing(maildir: Maildir) -> None:
    maildir.put("new/1.a")
    os.utime(maildir.path / "new", (1000, 1000))
    maildir.settle()
    maildrops = Maildrops()
    maildrops.load(str(maildir.path))
    maildir.put("new/2.a")
    os.utime(maildir.path / "new", (1000, 1000))
    assert maildrops.unchanged(str(maildir.path)) is None


def test_another_directory_in_the_place_of_one_is_noticed(maildir: Maildir) -> None:
    maildir.put("new/1.a")
    maildir.settle()
    maildrops = Maildrops()
    maildrops.load(str(maildir.path))
    (maildir.path / "new").rename(maildir.path / "old")
    (maildir.path / "new").mkdir()
    assert maildrops.unchanged(str(maildir.path)) is None
    assert uidls(maildrops.load(str(maildir.path))) == []
