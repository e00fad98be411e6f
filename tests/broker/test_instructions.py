"""What a worker answers about its user's .qmail files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillarbox.broker.instructions import instructed, is_ruled
from pillarbox.messages import Instruct, Instructed

ALICE = "alice@ours.test"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "alice"
    folder.mkdir(0o700)
    return folder


def ask(home: Path, extension: str = "") -> Instructed:
    return instructed(Instruct(7, b"x@ours.test", ALICE, str(home), extension), "ours.test")


def test_without_a_file_mail_goes_to_the_own_maildir_and_an_extension_is_nobodys(home: Path) -> None:
    assert ask(home) == Instructed(7, ALICE, ("",))
    assert ask(home, "list").code == "5.1.1"
    assert not is_ruled(str(home), "list")


def test_an_empty_file_says_the_same_as_none(home: Path) -> None:
    for name in (".qmail", ".qmail-list"):
        (home / name).touch(0o600)
    assert ask(home) == ask(home, "list") == Instructed(7, ALICE, ("",))
    assert is_ruled(str(home), "list")


def test_the_own_maildir_is_known_by_whatever_path(home: Path) -> None:
    (home / ".qmail-default").write_text(f"./Maildir/\n{home}/lists/\n&bob\n")
    (home / ".qmail-default").chmod(0o600)
    assert ask(home, "a-b") == Instructed(7, ALICE, ("", "lists"), (b"bob@ours.test",))


def test_an_obstacle_is_told_by_its_line_and_without_its_words(home: Path) -> None:
    (home / ".qmail").write_text("./Maildir/\n|program with a secret\n")
    (home / ".qmail").chmod(0o600)
    answer = ask(home)
    assert (answer.code, answer.maildirs, answer.forwards) == ("4.3.5", (), ())
    assert f"line 2 of {home}/.qmail" in answer.text and "secret" not in answer.text


def test_a_file_that_can_not_be_trusted_rules_until_it_can(home: Path) -> None:
    (home / ".qmail-list").touch(0o600)
    (home / ".qmail-list").chmod(0o666)
    assert ask(home, "list").code == "4.7.0" and is_ruled(str(home), "list")
    home.chmod(0o1700)
    assert ask(home).code == "4.2.1"
