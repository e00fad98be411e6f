"""QUIT after DELE: what is removed is gone for good when it is said, wherever another program has put it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store import files
from pillarbox.store.maildir import Maildrops

from .maildirs import Maildir


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    made = Maildir(tmp_path / "Maildir")
    for number in range(1, 4):
        made.put(f"new/{number}.a", b"%d\n" % number)
    return made


def fail(trouble: int) -> Callable[..., None]:
    def failing(*arguments: object) -> None:
        raise OSError(trouble, os.strerror(trouble))

    return failing


def traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    trace: list[tuple[str, str]] = []
    for name in ("unlink", "sync_directory"):
        real = getattr(files, name)

        def operation(path: bytes, name: str = name, real: Callable[[bytes], None] = real) -> None:
            real(path)
            trace.append((name, os.fsdecode(path).split("/Maildir/")[1]))

        monkeypatch.setattr(files, name, operation)
    return trace


def test_a_removal_is_durable_when_it_returns(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    maildir.move("new/3.a", "cur/3.a:2,S")
    drop = Maildrops().load(str(maildir.path))
    trace = traced(monkeypatch)
    assert drop.remove([1, 3]) == 0
    assert trace == [
        ("unlink", "new/1.a"),
        ("unlink", "cur/3.a:2,S"),
        ("sync_directory", "cur"),
        ("sync_directory", "new"),
    ]
    assert maildir.files() == ["new/2.a"]


def test_only_what_was_touched_is_synced_and_nothing_for_nothing(
    maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = Maildrops().load(str(maildir.path))
    trace = traced(monkeypatch)
    assert drop.remove([]) == 0
    assert trace == []
    assert drop.remove([2]) == 0
    assert trace == [("unlink", "new/2.a"), ("sync_directory", "new")]


def test_renamed_messages_are_removed_where_they_are(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = Maildrops().load(str(maildir.path))
    maildir.move("new/1.a", "cur/1.a:2,S")
    maildir.move("new/3.a", "cur/3.a:2,")
    trace = traced(monkeypatch)
    assert drop.remove([1, 2, 3]) == 0
    assert maildir.files() == []
    assert [what for what in trace if what[0] == "sync_directory"] == [
        ("sync_directory", "cur"),
        ("sync_directory", "new"),
    ]


def test_what_is_gone_already_is_no_failure_but_made_durable(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = Maildrops().load(str(maildir.path))
    maildir.remove("new/2.a")
    trace = traced(monkeypatch)
    assert drop.remove([2]) == 0
    assert trace == [("sync_directory", "new")]


def test_a_whole_maildir_that_is_gone_is_no_failure(maildir: Maildir) -> None:
    drop = Maildrops().load(str(maildir.path))
    maildir.path.rename(maildir.path.with_name("moved"))
    assert drop.remove([1, 2, 3]) == 0
    with pytest.raises(FileNotFoundError):
        drop.open(1)


def test_what_cannot_be_removed_is_counted(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = Maildrops().load(str(maildir.path))
    real = files.unlink

    def unlink(path: bytes) -> None:
        if path.endswith(b"2.a"):
            raise PermissionError(errno.EACCES, "no")
        real(path)

    monkeypatch.setattr(files, "unlink", unlink)
    assert drop.remove([1, 2, 3]) == 1
    assert maildir.files() == ["new/2.a"]


def test_without_a_sync_nothing_counts_as_removed(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = Maildrops().load(str(maildir.path))
    monkeypatch.setattr(files, "sync_directory", fail(errno.EIO))
    assert drop.remove([1, 2]) == 2


def test_a_message_that_runs_away_for_ever_is_a_failure(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = Maildrops().load(str(maildir.path))
    at, count = ["new/2.a"], [0]

    def unlink(path: bytes) -> None:
        count[0] += 1
        to = f"cur/2.a:2,{count[0]}"
        maildir.move(at[0], to)
        at[0] = to
        raise FileNotFoundError

    monkeypatch.setattr(files, "unlink", unlink)
    assert drop.remove([2]) == 1
    assert count[0] < 10
