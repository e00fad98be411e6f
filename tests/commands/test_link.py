"""`pillarbox link`: links that lead to this program, and nothing of anybody else's overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pillarbox import cli
from pillarbox.commands import executable, link
from pillarbox.programs.names import PROGRAMS
from pillarbox.terms import Misuse, Refused

from ..system_users import open_folder, ordinary


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The executable, in a folder of its own in place of the environment's."""
    scripts = tmp_path / "venv" / "bin"
    scripts.mkdir(parents=True)
    found = sysconfig.get_path
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts) if name == "scripts" else found(name))
    return scripts / "pillarbox-classic"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def links(folder: Path) -> dict[str, str]:
    return {path.name: os.readlink(path) for path in folder.iterdir()}


def test_all_names_are_made_and_said(program: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link.link(str(folder))
    assert links(folder) == dict.fromkeys(("sendmail", "qmail-inject", "mailq", *PROGRAMS), str(program))
    assert capsys.readouterr().out.count(f" leads to {program}\n") == len(PROGRAMS) + 3
    link.link(str(folder), "mailq")
    assert capsys.readouterr().out == f"{folder}/mailq leads to {program} already\n"


def test_each_name_is_that_program(program: Path, folder: Path) -> None:
    link.link(str(folder), "envdir", "mailq")
    (folder / "env").mkdir()
    (folder / "env" / "NAME").write_text("value\n")
    command = [folder / "envdir", folder / "env", "printenv", "NAME"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "value\n", "")
    environment = {"PATH": "/usr/bin:/bin", "PILLARBOX_HOME": str(folder / "home")}
    done = subprocess.run([folder / "mailq"], capture_output=True, text=True, env=environment)
    assert done.returncode == 69 and done.stderr.startswith("mailq: there is no home in"), done.stderr


@pytest.mark.root
def test_what_other_users_can_not_reach_is_said(
    program: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.parent.chmod(0o700)
    link.link(str(folder), "envdir")
    assert str(program.parent) in capsys.readouterr().err


def test_another_interpreter_can_be_named(program: Path, folder: Path) -> None:
    link.link(str(folder), "envdir", python=sys.executable)
    assert program.read_text().startswith(f"#!{sys.executable} -IS\n")
    with pytest.raises(Refused, match=r"/bin/true is no Python 3\.[0-9]+ named by its whole path"):
        link.link(str(folder), "envdir", python="/bin/true")


def test_only_what_was_asked_for_is_made(program: Path, folder: Path) -> None:
    link.app([str(folder), "sendmail"], result_action="return_value")
    assert list(links(folder)) == ["sendmail"]


def test_a_link_of_an_older_installation_is_replaced(program: Path, folder: Path) -> None:
    (folder / "sendmail").symlink_to("/gone/bin/pillarbox")
    link.link(str(folder), "sendmail")
    assert links(folder) == {"sendmail": str(program)}


@pytest.mark.parametrize("foreign", ["file", "folder", "link"])
def test_what_is_not_ours_stays_and_all_others_are_made(
    program: Path, folder: Path, foreign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [folder / "mailq", folder / "tcpserver"]
    for path in paths:
        if foreign == "file":
            path.write_text("precious")
        elif foreign == "folder":
            path.mkdir()
        else:
            path.symlink_to("/usr/lib/sendmail")
    assert cli.run(["link", str(folder)]) == 1
    told = capsys.readouterr()
    assert [line for line in told.err.splitlines() if not line.startswith("warning: ")] == [
        f"left alone: {path} is there already, and is no link to pillarbox-classic" for path in paths
    ]
    made = {path.name for path in folder.iterdir() if path.is_symlink() and os.readlink(path) == str(program)}
    assert made == {"sendmail", "qmail-inject", *PROGRAMS} - {"tcpserver"}
    assert told.out.count(" leads to ") == len(made)
    if foreign == "file":
        assert [path.read_text() for path in paths] == ["precious"] * 2


def test_a_folder_that_may_not_be_written_is_named(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_folder() as folder:
        (folder / "bin").mkdir()
        (folder / "bin").chmod(0o555)
        with ordinary():
            assert cli.run(["link", str(folder / "bin")]) == 1
        assert capsys.readouterr().err == f"pillarbox: {folder}/bin can't be written: run this as root\n"
        assert not links(folder / "bin") and not program.exists()


def test_an_installation_that_may_not_be_written_is_named() -> None:
    with open_folder() as folder:
        (folder / "venv").mkdir()
        (folder / "venv").chmod(0o555)
        with ordinary(), pytest.raises(Refused, match="/venv can't be written: run this as root"):
            executable._write(str(folder / "venv" / "pillarbox-classic"), "")


def test_names_that_do_not_work_are_not_made(program: Path, folder: Path) -> None:
    with pytest.raises(Misuse, match="can't stand in for `newaliases`"):
        link.link(str(folder), "sendmail", "newaliases")
    assert not links(folder)


def test_no_folder(program: Path, folder: Path) -> None:
    with pytest.raises(Refused, match="is no folder"):
        link.link(str(folder / "no"))
