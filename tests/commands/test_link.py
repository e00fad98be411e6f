"""`pillarbox link`: links that lead to this program, and nothing of anybody else's overwritten."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pillarbox.commands import link
from pillarbox.terms import Misuse, Refused


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed command, as this process was called."""
    path = tmp_path / "venv" / "bin" / "pillarbox"
    path.parent.mkdir(parents=True)
    path.touch(0o755)
    monkeypatch.setattr(sys, "argv", [str(path), "link"])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def links(folder: Path) -> dict[str, str]:
    return {path.name: os.readlink(path) for path in folder.iterdir()}


def test_all_names_are_made_and_said(command: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link.link(str(folder))
    assert links(folder) == dict.fromkeys(("sendmail", "qmail-inject", "mailq"), str(command))
    assert capsys.readouterr().out.count(f" leads to {command}\n") == 3
    link.link(str(folder), "mailq")
    assert capsys.readouterr().out == f"{folder}/mailq leads to {command} already\n"


def test_only_what_was_asked_for_is_made(command: Path, folder: Path) -> None:
    link.app([str(folder), "sendmail"], result_action="return_value")
    assert list(links(folder)) == ["sendmail"]


def test_a_link_of_an_older_installation_is_replaced(command: Path, folder: Path) -> None:
    (folder / "sendmail").symlink_to("/gone/bin/pillarbox")
    link.link(str(folder), "sendmail")
    assert links(folder) == {"sendmail": str(command)}


@pytest.mark.parametrize("foreign", ["file", "folder", "link"])
def test_what_is_not_ours_stays_and_nothing_is_half_done(command: Path, folder: Path, foreign: str) -> None:
    path = folder / "mailq"
    if foreign == "file":
        path.write_text("precious")
    elif foreign == "folder":
        path.mkdir()
    else:
        path.symlink_to("/usr/lib/sendmail")
    with pytest.raises(Refused, match="mailq is there already, and is no link to pillarbox"):
        link.link(str(folder))
    assert [entry.name for entry in folder.iterdir()] == ["mailq"]
    if foreign == "link":
        assert os.readlink(path) == "/usr/lib/sendmail"


def test_names_that_do_not_work_are_not_made(command: Path, folder: Path) -> None:
    with pytest.raises(Misuse, match="can't stand in for `newaliases`"):
        link.link(str(folder), "sendmail", "newaliases")
    assert not links(folder)


def test_no_folder(command: Path, folder: Path) -> None:
    with pytest.raises(Refused, match="is no folder"):
        link.link(str(folder / "no"))


def test_the_command_is_found_however_this_process_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pillarbox").touch(0o755)
    monkeypatch.setattr(sys, "argv", ["/somewhere/pillarbox/__main__.py"])
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert link.executable() == f"{tmp_path}/pillarbox"
    (tmp_path / "pillarbox").chmod(0o644)
    with pytest.raises(Refused, match="is not installed"):
        link.executable()
