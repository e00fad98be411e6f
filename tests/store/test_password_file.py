"""A password file: which faults are told apart, and what `faithful` lets pass. More of it in test_passwd."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.store import password_file
from pillarbox.store.password_file import LIMIT, WrongMode
from pillarbox.terms import Refused, TryLater

PATH = ("Maildir", ".password")
OWN = os.getuid()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path.joinpath(*PATH)
    path.parent.mkdir()
    path.write_bytes(b"the secret\nmore\n")
    path.chmod(0o600)
    return path


def read(file: Path, uid: int = OWN, *, faithful: bool = False) -> bytes | None:
    return password_file.read(str(file.parent.parent), PATH, uid, faithful=faithful)


@pytest.mark.parametrize("faithful", [False, True])
class TestEitherWay:
    def test_the_first_line(self, file: Path, faithful: bool) -> None:
        assert read(file, faithful=faithful) == b"the secret"

    def test_no_file(self, file: Path, faithful: bool) -> None:
        file.unlink()
        assert read(file, faithful=faithful) is None

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601])
    def test_others_may_use_it(self, file: Path, faithful: bool, mode: int) -> None:
        file.chmod(mode)
        with pytest.raises(WrongMode):
            read(file, faithful=faithful)

    def test_somebody_elses_file_is_no_question_of_its_mode(self, file: Path, faithful: bool) -> None:
        file.chmod(0o644)
        with pytest.raises(Refused, match="belongs to") as told:
            read(file, OWN + 1, faithful=faithful)
        assert not isinstance(told.value, WrongMode)

    def test_a_folder(self, file: Path, faithful: bool) -> None:
        file.unlink()
        file.mkdir(0o700)
        with pytest.raises(WrongMode, match="no plain file"):
            read(file, faithful=faithful)

    def test_a_pipe_is_not_waited_for(self, file: Path, faithful: bool) -> None:
        file.unlink()
        os.mkfifo(file, 0o600)
        with pytest.raises(Refused, match="no plain file"):
            read(file, faithful=faithful)

    @pytest.mark.parametrize("content", [b"\n", b"\nx\n", b"\0", b"\0\0\0"])
    def test_an_empty_secret(self, file: Path, faithful: bool, content: bytes) -> None:
        file.write_bytes(content)
        with pytest.raises(Refused, match="empty"):
            read(file, faithful=faithful)

    def test_a_link_to_itself(self, file: Path, faithful: bool) -> None:
        file.unlink()
        file.symlink_to(file.name)
        with pytest.raises(Refused):
            read(file, faithful=faithful)

    def test_a_name_that_is_too_long(self, file: Path, faithful: bool) -> None:
        with pytest.raises(TryLater):
            password_file.read(str(file.parent), ("x" * 300,), OWN, faithful=faithful)

    def test_no_descriptor_is_left_open(self, file: Path, faithful: bool) -> None:
        before = os.listdir("/proc/self/fd")
        read(file, faithful=faithful)
        file.chmod(0o644)
        with pytest.raises(WrongMode):
            read(file, faithful=faithful)
        assert os.listdir("/proc/self/fd") == before


def linked(file: Path) -> None:
    file.rename(file.with_name("kept"))
    file.symlink_to("kept")


def linked_above(file: Path) -> None:
    file.parent.rename(file.parent.with_name("kept"))
    file.parent.symlink_to("kept")


def named_twice(file: Path) -> None:
    file.with_name("second").hardlink_to(file)


def long(file: Path) -> None:
    file.write_bytes(b"the secret\n" + b"x" * LIMIT)


@pytest.mark.parametrize("change", [linked, linked_above, named_twice, long])
def test_what_faithful_lets_pass(file: Path, change: Callable[[Path], None]) -> None:
    change(file)
    with pytest.raises(Refused):
        read(file)
    assert read(file, faithful=True) == b"the secret"


def test_a_refusal_never_shows_the_secret(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(Refused) as told:
        read(file)
    assert "secret" not in str(told.value)
