"""File operations: durable in their order, whole or an error, and no way through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pillarbox.store import files

from .maildirs import spy


def test_a_new_file_is_private_and_never_an_old_one(tmp_path: Path) -> None:
    descriptor = files.create(str(tmp_path / "new"))
    assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for taken in ("new", "dangling"):
        with pytest.raises(FileExistsError):
            files.create(str(tmp_path / taken))
    assert not (tmp_path / "nowhere").exists()


def test_a_link_replaces_nothing_and_follows_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "other").write_bytes(b"2")
    with pytest.raises(FileExistsError):
        files.link(str(tmp_path / "one"), str(tmp_path / "other"))
    assert (tmp_path / "other").read_bytes() == b"2"
    (tmp_path / "pointer").symlink_to(tmp_path / "one")
    files.link(str(tmp_path / "pointer"), str(tmp_path / "again"))
    assert (tmp_path / "again").is_symlink()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    descriptor = files.create(str(tmp_path / "new"))
    files.write_all(descriptor, b"0123456789")
    os.close(descriptor)
    assert (tmp_path / "new").read_bytes() == b"0123456789"


def test_a_directory_that_is_none_is_not_synced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        files.sync_directory(str(tmp_path / "file"))


def test_a_failed_sync_of_a_directory_is_said_and_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(os, "fsync", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="bad sector"):
        files.sync_directory(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_file_is_replaced_when_its_content_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace: list[str] = []
    (tmp_path / "file").write_bytes(b"old")
    spy(monkeypatch, lambda name, *arguments: trace.append(name))
    files.replace_file(str(tmp_path / "file"), b"new")
    assert trace == ["create", "write_all", "fsync", "rename", "sync_directory"]
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("operation", ["create", "write_all", "fsync", "rename"])
def test_a_replacement_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def before(name: str, *arguments: object) -> None:
        if name == operation:
            raise OSError(errno.ENOSPC, "full")

    (tmp_path / "file").write_bytes(b"old")
    open_before = len(os.listdir("/proc/self/fd"))
    spy(monkeypatch, before)
    with pytest.raises(OSError, match="full"):
        files.replace_file(str(tmp_path / "file"), b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "4.3.1"),
        (errno.EFBIG, "4.3.1"),
        (errno.EDQUOT, "4.2.2"),
        (errno.EIO, "4.3.0"),
        (errno.EACCES, "4.3.0"),
    ],
)
def test_trouble_has_the_code_of_its_kind(number: int, code: str) -> None:
    trouble = files.trouble(OSError(number, os.strerror(number)), "no message can be written")
    assert trouble.code == code
    assert trouble.why == f"no message can be written: {os.strerror(number)}"
