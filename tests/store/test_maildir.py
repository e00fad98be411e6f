"""Maildrops that are kept open: what is trusted, found again, removed, counted, cleaned."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pillarbox.store import maildir_scan
from pillarbox.store.maildir import CLEAN_SECONDS, REMEMBERED_LIMIT, TMP_SECONDS, USAGE_SECONDS, Maildrops
from pillarbox.terms import TryLater

from .maildirs import Maildir, content, entries, uidls, watch_listings, watch_looks


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    made = Maildir(tmp_path / "Maildir")
    for number in range(1, 4):
        made.put(f"new/{number}.a", b"%d\n" % number)
    return made


# Trust.


def test_a_maildrop_at_rest_is_not_looked_at_again(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    maildrops, path = Maildrops(), str(maildir.path)
    assert maildrops.unchanged(path) is None
    maildir.settle()
    drop = maildrops.load(path)
    listed = watch_listings(monkeypatch)
    assert maildrops.unchanged(path) is drop
    assert maildrops.load(path) is drop
    assert listed == []


@pytest.mark.parametrize(
    "change",
    [
        lambda maildir: maildir.put("new/9.a"),
        lambda maildir: maildir.remove("new/1.a"),
        lambda maildir: maildir.move("new/1.a", "cur/1.a:2,S"),
        lambda maildir: maildir.move("new/1.a", "new/1.a:2,S"),
    ],
    ids=["put", "remove", "move", "mark"],
)
def test_a_changed_maildrop_is_looked_at(maildir: Maildir, change: Callable[[Maildir], None]) -> None:
    maildrops, path = Maildrops(), str(maildir.path)
    maildir.settle()
    maildrops.load(path)
    change(maildir)
    assert maildrops.unchanged(path) is None
    assert entries(maildrops.load(path).listing()) == entries(Maildrops().load(path).listing())


def test_one_that_is_not_there_is_empty_until_it_is(tmp_path: Path) -> None:
    maildrops, path = Maildrops(), str(tmp_path / "Maildir")
    assert uidls(maildrops.load(path)) == []
    assert maildrops.unchanged(path) is not None
    Maildir(tmp_path / "Maildir").put("new/1.a")
    assert maildrops.unchanged(path) is None
    assert uidls(maildrops.load(path)) == [b"1.a"]


def test_one_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "Maildir").write_bytes(b"a file")
    with pytest.raises(TryLater, match=r"the Maildir .*/Maildir can't be read: Not a directory"):
        Maildrops().load(str(tmp_path / "Maildir"))
    assert Maildrops().unchanged(str(tmp_path / "Maildir")) is None


def test_the_cache_is_bounded_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    one, two, three = (Maildir(tmp_path / name) for name in ("one", "two", "three"))
    for maildir in (one, two, three):
        maildir.put("new/1.a")
    three.settle()
    maildrops = Maildrops(capacity=2500)
    for maildir in (one, two):
        maildrops.load(str(maildir.path))
    assert maildrops.unchanged(str(one.path)) is not None
    maildrops.load(str(three.path))
    assert maildrops.unchanged(str(two.path)) is None
    assert maildrops.unchanged(str(one.path)) is not None
    assert maildrops.unchanged(str(three.path)) is not None


def test_many_threads_may_load_the_same_maildrop_and_one_of_them_reads(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    maildir.settle()
    looked = watch_looks(monkeypatch)
    maildrops, barrier = Maildrops(), threading.Barrier(8)

    def load() -> list[bytes]:
        barrier.wait()
        return uidls(maildrops.load(str(maildir.path)))

    with ThreadPoolExecutor(8) as threads:
        results = [future.result() for future in [threads.submit(load) for _ in range(8)]]
    assert results == [[b"1.a", b"2.a", b"3.a"]] * 8
    assert len(looked) == 3


def test_another_program_that_marks_messages_all_the_time_hides_none(maildir: Maildir) -> None:
    """Not one message is lost from sight or doubled, and what a listing shows can be opened."""
    maildrops, path, stop = Maildrops(), str(maildir.path), threading.Event()
    rounds = 0

    def mark() -> None:
        nonlocal rounds
        at = "new/2.a"
        while not stop.is_set():
            to = f"cur/2.a:2,{'S' * (rounds % 5)}"
            if to != at:
                maildir.move(at, to)
                at = to
            rounds += 1
            time.sleep(0.0005)

    marker = threading.Thread(target=mark)
    marker.start()
    try:
        for _ in range(100):
            drop = maildrops.load(path)
            assert uidls(drop) == [b"1.a", b"2.a", b"3.a"]
            assert content(drop, 1) == b"1\n"
    finally:
        stop.set()
        marker.join()
    assert rounds > 0
    assert content(maildrops.load(path), 2) == b"2\n"


# Opening.


@pytest.mark.parametrize("to", ["cur/2.a:2,", "cur/2.a:2,RS", "new/2.a:2,F", "cur/2.a"])
def test_a_message_that_was_renamed_is_found_again(maildir: Maildir, to: str) -> None:
    drop = Maildrops().load(str(maildir.path))
    maildir.move("new/2.a", to)
    assert content(drop, 2) == b"2\n"
    maildir.move(to, "cur/2.a:2,again")
    assert content(drop, 2) == b"2\n"
    maildir.remove("cur/2.a:2,again")
    with pytest.raises(FileNotFoundError):
        drop.open(2)


def test_many_renamed_messages_cost_one_listing(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = Maildrops().load(str(maildir.path))
    for number in range(1, 4):
        maildir.move(f"new/{number}.a", f"cur/{number}.a:2,S")
    maildir.settle()
    listed = watch_listings(monkeypatch)
    assert [content(drop, number) for number in range(1, 4)] == [b"1\n", b"2\n", b"3\n"]
    assert len(listed) == 2
    maildir.move("cur/2.a:2,S", "cur/2.a:2,RS")
    assert content(drop, 2) == b"2\n"


def test_a_message_renamed_twice_within_a_tick_is_found(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second renaming leaves the time stamps as they are."""
    drop = Maildrops().load(str(maildir.path))
    maildir.move("new/2.a", "cur/2.a:2,S")
    stamp = maildir_scan.stamp(os.fsencode(maildir.path))
    monkeypatch.setattr(maildir_scan, "stamp", lambda path: stamp)
    monkeypatch.setattr("pillarbox.store.maildir.stamp", lambda path: stamp)
    monkeypatch.setattr(time, "time_ns", lambda: stamp.cur[2])
    assert content(drop, 2) == b"2\n"
    maildir.move("cur/2.a:2,S", "cur/2.a:2,RS")
    assert content(drop, 2) == b"2\n"


def test_a_twin_is_never_taken_for_the_message_that_went(maildir: Maildir) -> None:
    maildir.put("cur/2.a:2,S", b"the twin\n")
    drop = Maildrops().load(str(maildir.path))
    number = drop.scan.files.all().index(b"new/2.a") + 1
    maildir.remove("new/2.a")
    with pytest.raises(FileNotFoundError):
        drop.open(number)
    assert drop.remove([number]) == 0
    assert (maildir.path / "cur" / "2.a:2,S").read_bytes() == b"the twin\n"


def test_when_twins_are_renamed_nobody_guesses(maildir: Maildir) -> None:
    maildir.put("cur/2.a:2,S", b"the twin\n")
    drop = Maildrops().load(str(maildir.path))
    maildir.remove("new/2.a")
    maildir.move("cur/2.a:2,S", "cur/2.a:2,RS")
    for number in (2, 3):
        with pytest.raises(FileNotFoundError):
            drop.open(number)
    assert drop.remove([2, 3]) == 0
    assert (maildir.path / "cur" / "2.a:2,RS").exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_takes_a_messages_place_is_not_opened(maildir: Maildir, tmp_path: Path, kind: str) -> None:
    drop = Maildrops().load(str(maildir.path))
    place = maildir.path / "new" / "2.a"
    place.unlink()
    if kind == "link":
        (tmp_path / "secret").write_bytes(b"not yours\n")
        place.symlink_to(tmp_path / "secret")
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        drop.open(2)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_reads_only_and_is_not_inherited(maildir: Maildir) -> None:
    descriptor = Maildrops().load(str(maildir.path)).open(1)
    with pytest.raises(OSError):
        os.write(descriptor, b"x")
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


# What we have delivered ourselves.


def test_facts_of_deliveries_spare_reading(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    maildrops, path = Maildrops(), str(maildir.path)
    maildrops.load(path)
    maildir.put("new/9.ours,S=6,W=7")
    maildrops.remember(path, "9.ours,S=6,W=7", 7, 13)
    looked = watch_looks(monkeypatch)
    listing = maildrops.load(path).listing()
    assert looked == []
    assert (listing.size(4), listing.form(4)) == (7, 13)


def test_facts_are_bounded(maildir: Maildir) -> None:
    maildrops, path = Maildrops(capacity=1 << 30), str(maildir.path)
    for number in range(REMEMBERED_LIMIT + 10):
        maildrops.remember(path, f"{number}.x", 7, 13)
    assert len(maildrops._all[os.fsencode(path)].delivered) == REMEMBERED_LIMIT
    maildrops.load(path)
    assert maildrops._all[os.fsencode(path)].delivered == {}


# Octets used.


def test_usage_counts_what_is_there(maildir: Maildir) -> None:
    maildrops, path = Maildrops(), str(maildir.path)
    assert maildrops.usage(path) == 9
    assert maildrops.usage(str(maildir.path / "none")) == 0


def test_usage_follows_our_deliveries_and_removals_at_once(maildir: Maildir) -> None:
    maildrops, path = Maildrops(), str(maildir.path)
    assert maildrops.usage(path) == 9
    maildir.put("new/9.a", b"x" * 98 + b"\n")
    maildrops.remember(path, "9.a", 100, 1)
    assert maildrops.usage(path) == 109
    assert maildrops.load(path).remove([4]) == 0
    assert maildrops.usage(path) == 9


def test_usage_lists_a_busy_maildrop_once_in_a_while(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    maildrops, path, clock = Maildrops(), str(maildir.path), [1000.0]
    monkeypatch.setattr("pillarbox.store.maildir.time.monotonic", lambda: clock[0])
    assert maildrops.usage(path) == 9
    maildir.put("new/9.a", b"x" * 98 + b"\n")
    clock[0] += USAGE_SECONDS - 1
    assert maildrops.usage(path) == 9
    clock[0] += 2
    assert maildrops.usage(path) == 109


def test_usage_waits_for_nobody_who_counts(maildir: Maildir) -> None:
    maildrops, path = Maildrops(), str(maildir.path)
    maildrops.remember(path, "9.a", 5, 0)
    with maildrops._all[os.fsencode(path)].lock:
        assert maildrops.usage(path) == 5


def test_usage_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "Maildir").write_bytes(b"a file")
    with pytest.raises(TryLater):
        Maildrops().usage(str(tmp_path / "Maildir"))


# tmp.


def test_what_dead_deliveries_left_is_cleaned_away(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    tmp = maildir.path / "tmp"
    ages = {"dead": (TMP_SECONDS + 9,) * 2, "read lately": (60, TMP_SECONDS + 9), "young": (TMP_SECONDS - 60,) * 2}
    for name, (accessed, changed) in ages.items():
        (tmp / name).write_bytes(b"half a mess")
        os.utime(tmp / name, (now - accessed, now - changed))
    (tmp / "folder").mkdir()
    os.utime(tmp / "folder", (1000, 1000))
    maildrops = Maildrops()
    maildrops.load(str(maildir.path))
    assert sorted(os.listdir(tmp)) == ["folder", "read lately", "young"]
    os.utime(tmp / "young", (1000, 1000))
    maildir.put("new/8.a")
    maildrops.load(str(maildir.path))
    assert (tmp / "young").exists()
    monkeypatch.setattr("pillarbox.store.maildir.time.time", lambda: now + CLEAN_SECONDS + 10)
    maildir.put("new/9.a")
    maildrops.load(str(maildir.path))
    assert not (tmp / "young").exists()
