"""setuidgid beside daemontools' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .logins import among_users, users
from .sides import Case, Result, check, run

SHOW = ("sh", "-c", "id -u; id -ru; id -g; id -rg; id -G; exit 7")


def here(folder: Path) -> None:
    users(folder)
    (folder / "own").write_text("#!/bin/sh\nexit 9\n")


def closed(folder: Path) -> None:
    """A program in a folder of root's alone."""
    users(folder)
    (folder / "closed").mkdir(mode=0o700)
    (folder / "closed" / "x").write_text("#!/bin/sh\nexit 9\n")
    (folder / "closed" / "x").chmod(0o755)


CASES = (
    Case("no arguments", prepare=users),
    Case("no program", ("alice",), prepare=users),
    Case("a user", ("alice", *SHOW), prepare=users),
    Case("a user with a dash in the name", ("bob-sales", *SHOW), prepare=users),
    Case("a user whose group is root's", ("wheel", *SHOW), prepare=users),
    Case("root", ("root", *SHOW), prepare=users),
    Case("an unknown user", ("zoe", *SHOW), prepare=users),
    Case("an unknown user, no UTF-8", (b"z\xff", *SHOW), prepare=users),
    Case("a name in capitals", ("ALICE", *SHOW), prepare=users),
    Case("an empty name", ("", *SHOW), prepare=users),
    Case("a uid instead of a name", ("5001", *SHOW), prepare=users),
    Case("a name and a group", ("alice:bob", *SHOW), prepare=users),
    Case("a name with an extension", ("alice-x", *SHOW), prepare=users),
    Case("two dashes are no option", ("--", "alice", *SHOW), prepare=users),
    Case("the environment stays", ("alice", "env"), {"HOME": "/x", "USER": "x"}, prepare=users),
    Case("the current folder stays", ("alice", "pwd"), prepare=users),
    Case("what the program reads", ("alice", "cat"), stdin=b"input", prepare=users),
    Case("descriptor 3 goes through", ("alice", "sh", "-c", "cat <&3"), record=b"record", prepare=users),
    Case("the program's arguments", ("alice", "printf", "<%s>", "a b", "", "-x", b"\xff"), prepare=users),
    Case("a program that is not there", ("alice", "none"), prepare=users),
    Case("a program that is not there, by its path", ("alice", "./none"), prepare=users),
    Case("a program that may not be run", ("alice", "./own"), prepare=here),
    Case("a program that the user may not reach", ("alice", "./closed/x"), prepare=closed),
    Case("PATH leads nowhere", ("alice", "sh"), {"PATH": "/none"}, prepare=users),
)


@pytest.mark.root
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, open_folder: Path) -> None:
    theirs = among_users(originals / "setuidgid", open_folder / "theirs")
    mine = among_users(ours / "setuidgid", open_folder / "ours")
    check(case, theirs, mine, open_folder / "work")


@pytest.mark.root
@pytest.mark.parametrize("second", ["originals", "ours"])
@pytest.mark.parametrize("account", ["mail", "daemon", "root"])
def test_only_root_may(account: str, second: str, originals: Path, ours: Path, open_folder: Path) -> None:
    """Each of the two, run by the other as an ordinary user."""
    first, then = (ours, originals) if second == "originals" else (originals, ours)
    case = Case("", ("mail", str(then / "setuidgid"), account, "id"))
    complaint = b"setuidgid: fatal: unable to setgid: permission denied\n"
    assert run(first / "setuidgid", case, open_folder / "work") == Result(111, b"", complaint)


@pytest.mark.root
def test_there_is_no_way_back(ours: Path, open_folder: Path) -> None:
    changes = "for change in (os.setuid, os.setgid, os.seteuid):"
    lost = f"import os\n{changes}\n try: change(0)\n except PermissionError: print('no')"
    case = Case("", ("mail", "/usr/bin/python3", "-IS", "-c", lost))
    assert run(ours / "setuidgid", case, open_folder / "work") == Result(0, b"no\nno\nno\n", b"")
