"""Delivery into a Maildir: the order of its file operations, every failure, and that nothing is delivered twice."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pillarbox.store import files, maildir_names
from pillarbox.store.maildir import Maildrops
from pillarbox.store.maildir_delivery import Slot, deliver, make, sync
from pillarbox.terms import TryLater

from .maildirs import Maildir, content, entries, spy, uidls

MESSAGE = b"Subject: hello\n\nbody\n"
HEAD = b"Return-Path: <>\nDelivered-To: alice@example.test\n"
NAME = "1795491907.0123456789abcdef.0"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a Maildir will be."""
    return str(tmp_path / "example.test" / "alice")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    """A queued message, its position somewhere in the middle."""
    (tmp_path / "queued").write_bytes(MESSAGE)
    descriptor = os.open(tmp_path / "queued", os.O_RDONLY)
    os.lseek(descriptor, 5, os.SEEK_SET)
    yield descriptor
    os.close(descriptor)


def put(path: str, message: bytes = MESSAGE, name: str | None = None) -> Slot:
    slot = Slot(path, name)
    os.write(slot.fd, message)
    slot.seal()
    slot.publish()
    return slot


def traced(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """Operations and the paths they were told, as far as those lie below `root`; directories end with a slash."""
    trace: list[str] = []

    def before(name: str, *arguments: object) -> None:
        paths = [os.fsdecode(place) for place in arguments if isinstance(place, str | bytes) and name != "write_all"]
        trace.append(" ".join([name, *(os.path.relpath(place, root) for place in paths)]))

    spy(monkeypatch, before)
    return trace


def read(path: str) -> list[bytes]:
    drop = Maildrops().load(path)
    return [content(drop, number) for number in range(1, drop.listing().count + 1)]


def tmp(path: str) -> list[str]:
    return os.listdir(f"{path}/tmp")


# The order of operations.


def test_a_message_is_durable_before_it_is_visible_and_its_name_before_sync_returns(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(path)
    trace = traced(monkeypatch, Path(path))
    slot = put(path)
    sync(path)
    temporary = f"tmp/{slot.name.partition(',')[0]}"
    assert trace == [
        f"create {temporary}",
        "fsync",
        f"link {temporary} new/{slot.name}",
        f"unlink {temporary}",
        "sync_directory new",
    ]


def test_a_queued_message_takes_the_same_steps(
    path: str, source: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(path)
    trace = traced(monkeypatch, Path(path))
    slot = deliver(path, NAME, HEAD, source)
    steps = [step.split()[0] for step in trace]
    assert steps == ["create", "write_all", "write_all", "fsync", "link", "unlink", "sync_directory"]
    assert trace[-1] == "sync_directory new"
    assert read(path) == [HEAD + MESSAGE]
    assert os.lseek(source, 0, os.SEEK_CUR) == 5
    assert slot.name == f"{NAME},S={len(HEAD + MESSAGE)},W={len(HEAD + MESSAGE) + (HEAD + MESSAGE).count(10)}"


def test_a_new_maildir_is_durable_before_anything_can_come_into_it(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    real = os.mkdir

    def mkdir(folder: str, mode: int) -> None:
        real(folder, mode)
        trace.append(f"mkdir {os.path.relpath(folder, tmp_path)}")
        made.append(folder)

    trace = traced(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "mkdir", mkdir)
    put(path)
    assert trace[1:-3] == [
        "mkdir example.test",
        "sync_directory .",
        "mkdir example.test/alice",
        "mkdir example.test/alice/new",
        "mkdir example.test/alice/cur",
        "sync_directory example.test/alice",
        "sync_directory example.test",
        "sync_directory .",
        "mkdir example.test/alice/tmp",
        trace[0],
    ]
    assert all(os.stat(folder).st_mode & 0o777 == 0o700 for folder in made)


def test_many_may_make_the_same_maildir_at_once(path: str) -> None:
    barrier = threading.Barrier(8)

    def delivery() -> None:
        barrier.wait()
        put(path)

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(delivery) for _ in range(8)]:
            future.result()
    assert read(path) == [MESSAGE] * 8


def test_a_maildir_whose_new_was_removed_is_mended(path: str) -> None:
    make(path)
    slot = Slot(path)
    os.rmdir(f"{path}/new")
    os.write(slot.fd, MESSAGE)
    slot.seal()
    slot.publish()
    assert read(path) == [MESSAGE]


# What is written.


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", 0),
        (b"\n", 2),
        (b"no end", 8),
        (b"a\nb\n", 6),
        (b"a\r\nb\r\n", 6),
        (b"a\r\nb\nc", 9),
        (b"\r", 3),
        (b"\0\xff\n", 4),
        (b".\n", 3),
    ],
)
def test_the_name_tells_both_sizes_and_a_listing_agrees(path: str, message: bytes, wire: int) -> None:
    slot = Slot(path)
    os.write(slot.fd, message)
    slot.seal()
    assert slot.fd == -1
    slot.publish()
    assert slot.name.endswith(f",S={len(message)},W={wire}")
    assert entries(Maildrops().load(path).listing()) == [(slot.name.encode(), wire)]


def test_a_slot_is_private_and_goes_with_its_last_word(path: str) -> None:
    slot = Slot(path)
    assert os.fstat(slot.fd).st_mode & 0o777 == 0o600
    os.write(slot.fd, b"half a mess")
    slot.abort()
    slot.abort()
    assert tmp(path) == []
    assert slot.fd == -1


def test_messages_are_not_delivered_through_links(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    (tmp_path / "precious").write_bytes(b"mine\n")
    monkeypatch.setattr(maildir_names, "unique", lambda now: "1795491907.guessed")
    os.symlink(tmp_path / "precious", f"{path}/tmp/1795491907.guessed")
    with pytest.raises(TryLater):
        put(path, MESSAGE, NAME)
    os.unlink(f"{path}/tmp/1795491907.guessed")
    put(path, MESSAGE, NAME)
    assert (tmp_path / "precious").read_bytes() == b"mine\n"
    assert read(path) == [MESSAGE]


@pytest.mark.parametrize("name", ["", "../new/1.a", "1.a/b", ".hidden", "1.a:2,S", "1.a\0", "1.a\n", "é", "a" * 101])
def test_a_name_that_leads_elsewhere_is_refused(path: str, name: str, source: int) -> None:
    make(path)
    with pytest.raises(TryLater, match="is no name for a message"):
        deliver(path, name, HEAD, source)
    assert tmp(path) == []


# Delivered once.


def test_the_same_delivery_twice_is_one_message(path: str, source: int) -> None:
    deliver(path, NAME, HEAD, source)
    deliver(path, NAME, HEAD, source)
    assert read(path) == [HEAD + MESSAGE]
    assert tmp(path) == []


def test_even_if_its_header_has_changed(path: str, source: int) -> None:
    deliver(path, NAME, HEAD, source)
    deliver(path, NAME, HEAD + b"X-Another: line\n", source)
    assert read(path) == [HEAD + MESSAGE]


@pytest.mark.parametrize("flags", ["", ":2,", ":2,FRS"])
def test_even_if_its_reader_has_marked_it(path: str, source: int, flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = deliver(path, NAME, HEAD, source).name
    os.rename(f"{path}/new/{name}", f"{path}/cur/{name}{flags}")
    trace = traced(monkeypatch, Path(path))
    deliver(path, NAME, HEAD, source)
    assert read(path) == [HEAD + MESSAGE]
    assert [step for step in trace if step.startswith("sync")] == ["sync_directory cur", "sync_directory new"]


def test_a_name_that_only_begins_alike_is_another_message(path: str, source: int) -> None:
    deliver(path, NAME + "1", HEAD, source)
    deliver(path, NAME, HEAD, source)
    assert len(read(path)) == 2


def test_a_try_that_died_is_begun_again(path: str, source: int) -> None:
    slot = Slot(path, NAME)
    os.write(slot.fd, b"half a mess")
    os.close(slot.fd)
    deliver(path, NAME, HEAD, source)
    assert read(path) == [HEAD + MESSAGE]


def test_a_try_that_was_given_up_and_still_goes_on_delivers_nothing_unfinished(path: str) -> None:
    """It waits for a slow disk, and its caller has begun anew."""
    slow, fresh = Slot(path, NAME), Slot(path, NAME)
    os.write(slow.fd, MESSAGE)
    os.write(fresh.fd, b"half a mess")
    slow.seal()
    slow.publish()
    assert read(path) == [MESSAGE]
    os.write(fresh.fd, b"age\n")
    fresh.seal()
    fresh.publish()
    assert read(path) == [MESSAGE] and tmp(path) == []


def test_tries_of_one_delivery_at_the_same_moment_are_one_message(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Slot._delivered_before

    def meanwhile(slot: Slot) -> bool:
        found = real(slot)
        monkeypatch.setattr(Slot, "_delivered_before", real)
        put(path, MESSAGE, NAME)
        return found

    monkeypatch.setattr(Slot, "_delivered_before", meanwhile)
    put(path, MESSAGE, NAME)
    assert read(path) == [MESSAGE] and tmp(path) == []


def test_two_messages_of_ours_never_replace_each_other(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_names, "unique", lambda now: "1795491907.same")
    put(path)
    with pytest.raises(TryLater):
        put(path)
    assert read(path) == [MESSAGE]
    (Path(path) / "tmp" / "1795491907.same").write_bytes(b"under way elsewhere")
    with pytest.raises(TryLater):
        put(path)
    assert (Path(path) / "tmp" / "1795491907.same").read_bytes() == b"under way elsewhere"


@pytest.mark.parametrize("trouble", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_it_is_renamed_and_replaces_nothing(
    path: str, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    def link(old: str, new: str) -> None:
        raise OSError(trouble, os.strerror(trouble))

    monkeypatch.setattr(files, "link", link)
    put(path)
    assert read(path) == [MESSAGE]
    assert tmp(path) == []
    monkeypatch.setattr(maildir_names, "unique", lambda now: "1795491907.same")
    put(path)
    with pytest.raises(TryLater):
        put(path)


# Failures.


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(errno.EIO, "4.3.0"), (errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2"), (errno.EROFS, "4.3.0")],
)
@pytest.mark.parametrize("operation", ["create", "write_all", "fsync", "link", "sync_directory"])
def test_a_failure_is_said_and_leaves_nothing_half_done(
    path: str, source: int, monkeypatch: pytest.MonkeyPatch, operation: str, trouble: int, code: str
) -> None:
    make(path)
    count = [0]

    def before(name: str, *arguments: object) -> None:
        if name == operation:
            count[0] += 1
            raise OSError(trouble, os.strerror(trouble))

    with monkeypatch.context() as patch:
        spy(patch, before)
        with pytest.raises(TryLater) as raised:
            deliver(path, NAME, HEAD, source)
    assert raised.value.code == code
    assert os.strerror(trouble) in raised.value.why
    assert count == [1]
    assert tmp(path) == []
    deliver(path, NAME, HEAD, source)
    assert read(path) == [HEAD + MESSAGE]


def test_no_descriptor_is_left_open(path: str, source: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    deliver(path, NAME, HEAD, source)
    for operation in ("write_all", "fsync", "link", "sync_directory"):
        with monkeypatch.context() as patch:
            patch.setattr(files, operation, lambda *arguments: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                deliver(path, "1." + operation, HEAD, source)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_maildir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (f"{tmp_path}/file", f"{tmp_path}/file/alice"):
        with pytest.raises(TryLater):
            Slot(path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_refuses_and_keeps_what_was_delivered(tmp_path: Path, source: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this root may not mount")
    try:
        path = str(disk / "alice")
        deliver(path, NAME, HEAD, source)
        with pytest.raises(TryLater) as raised:
            deliver(path, "1.big", b"x" * 100_000, source)
        assert raised.value.code == "4.3.1"
        assert read(path) == [HEAD + MESSAGE]
        delivered = 1
        with pytest.raises(TryLater) as raised:
            while True:
                deliver(path, f"{delivered}.small", HEAD, source)
                delivered += 1
        assert raised.value.code == "4.3.1"
        assert tmp(path) == []
        maildrops = Maildrops()
        drop = maildrops.load(path)
        assert len(uidls(drop)) == delivered
        assert drop.remove([1]) == 0
        deliver(path, "2.again", HEAD, source)
        assert len(uidls(maildrops.load(path))) == delivered
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Deliveries and the listing.


def test_deliveries_and_another_programs_doings_are_listed_together(path: str, source: int) -> None:
    maildrops, other = Maildrops(), Maildir(Path(path))
    other.put("new/1.other")
    assert uidls(maildrops.load(path)) == [b"1.other"]
    slot = put(path)
    sync(path)
    maildrops.remember(path, slot.name, slot.octets, slot.form)
    drop = maildrops.load(path)
    assert uidls(drop) == [b"1.other", slot.name.encode()]
    assert drop.listing().form(2) == slot.form
