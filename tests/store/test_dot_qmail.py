"""A .qmail file is read whole or not at all, and only where its owner alone could have written it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pillarbox.store.dot_qmail import Found, find
from pillarbox.terms import TryLater

LIMIT = 1000
STRANGER = 64_242  # a uid that nobody has


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "alice"
    folder.mkdir(0o700)
    return folder


def write(home: Path, name: str, content: bytes = b"./Maildir/\n", mode: int = 0o600) -> Path:
    path = home / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def look(home: Path, *names: str) -> Found | None:
    return find(str(home), names, LIMIT)


def test_the_first_file_that_is_there_is_read(home: Path) -> None:
    write(home, ".qmail-a-default", b"two\n")
    write(home, ".qmail-default", b"three\n")
    found = look(home, ".qmail-a-b", ".qmail-a-default", ".qmail-default")
    assert found == Found(".qmail-a-default", b"two\n", False)
    assert look(home, ".qmail-b") is None


@pytest.mark.parametrize(("mode", "forward_only"), [(0o600, False), (0o644, False), (0o700, True), (0o744, True)])
def test_the_x_bit_is_told(home: Path, mode: int, forward_only: bool) -> None:
    write(home, ".qmail", mode=mode)
    found = look(home, ".qmail")
    assert found is not None and found.forward_only is forward_only


def test_a_link_is_followed_as_qmail_local_does(home: Path) -> None:
    write(home, ".qmail-list", b"&a@b.test\n")
    (home / ".qmail-old").symlink_to(".qmail-list")
    found = look(home, ".qmail-old")
    assert found is not None and found.content == b"&a@b.test\n"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_defers_the_mail(home: Path, mode: int) -> None:
    write(home, ".qmail", mode=mode)
    with pytest.raises(TryLater, match="others may write to") as error:
        look(home, ".qmail")
    assert error.value.code == "4.7.0"


@pytest.mark.parametrize(
    ("mode", "code", "told"),
    [
        (0o720, "4.7.0", "others may write to the home folder"),
        (0o702, "4.7.0", "others may write to the home folder"),
        (0o1700, "4.2.1", "sticky"),
    ],
)
def test_a_home_that_others_may_write_or_that_is_being_changed_defers_the_mail(
    home: Path, mode: int, code: str, told: str
) -> None:
    home.chmod(mode)
    with pytest.raises(TryLater, match=told) as error:
        look(home, ".qmail")
    assert error.value.code == code


def test_what_is_no_plain_file_is_not_passed_over(home: Path) -> None:
    (home / ".qmail-a").mkdir()
    os.mkfifo(home / ".qmail-b")
    (home / ".qmail-c").symlink_to(".qmail-c")
    for name in (".qmail-a", ".qmail-b", ".qmail-c"):
        with pytest.raises(TryLater, match=name):
            look(home, name, ".qmail-default")


def test_a_file_without_end_is_not_read(home: Path) -> None:
    write(home, ".qmail", b"#" * LIMIT)
    assert look(home, ".qmail") is not None
    write(home, ".qmail", b"#" * (LIMIT + 1))
    with pytest.raises(TryLater, match="longer than 1000 octets"):
        look(home, ".qmail")
    (home / ".qmail-zero").symlink_to("/dev/zero")
    with pytest.raises(TryLater, match="no plain file"):
        look(home, ".qmail-zero")


def test_a_home_that_is_away_is_no_reason_to_bounce(home: Path) -> None:
    with pytest.raises(TryLater, match="alice/away"):
        look(home / "away", ".qmail")


@pytest.mark.root
def test_a_file_of_somebody_else_is_not_obeyed(home: Path) -> None:
    os.chown(write(home, ".qmail"), STRANGER, STRANGER)
    with pytest.raises(TryLater, match=f"belongs to uid {STRANGER}"):
        look(home, ".qmail")
