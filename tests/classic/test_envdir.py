"""envdir beside daemontools' own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .logins import as_user
from .sides import Case, Result, check, run

SHOW = ("env", "env", "-0")
BLANKS = b" \t"
LONG = 100_000  # octets; Linux lets a variable have 131,072


def files(**content: bytes) -> Callable[[Path], None]:
    return named(content)


def named(content: dict[str, bytes], change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], None]:
    """The folder env with these files, and then this is done to it."""

    def prepare(folder: Path) -> None:
        (folder / "env").mkdir()
        for name, octets in content.items():
            (folder / "env" / name).write_bytes(octets)
        change(folder / "env")

    return prepare


def runs(script: bytes, mode: int = 0o755) -> Callable[[Path], None]:
    """The folder env, and a file `own` beside it."""

    def change(folder: Path) -> None:
        (folder.parent / "own").write_bytes(script)
        (folder.parent / "own").chmod(mode)

    return named({}, change)


def sorted_lines(result: Result) -> Result:
    """The order of variables, which the original takes from the file system, does not count."""
    return replace(result, out=b"\0".join(sorted(result.out.split(b"\0"))))


CASES = (
    Case("no arguments"),
    Case("no program", ("env",), prepare=files()),
    Case("an empty folder", SHOW, {"A": "x"}, prepare=files()),
    Case("a value", SHOW, prepare=files(A=b"x\n")),
    Case("a value that replaces another", SHOW, {"A": "y", "B": "z"}, prepare=files(A=b"x\n")),
    Case("several files", SHOW, prepare=files(A=b"1\n", B=b"2\n", C=b"3\n", PATHS=b"4\n")),
    Case("no end of line", SHOW, prepare=files(A=b"x")),
    Case("a second line", SHOW, prepare=files(A=b"x\ny\n")),
    Case("blanks at the end are cut, those at the beginning stay", SHOW, prepare=files(A=b"  x \t \ny\n")),
    Case("blanks within", SHOW, prepare=files(A=b"x \t y\n")),
    Case("nothing but blanks", SHOW, prepare=files(A=BLANKS + b"\n")),
    Case("a CR at the end", SHOW, prepare=files(A=b"x\r\n")),
    Case("a blank before the CR", SHOW, prepare=files(A=b"x \r\n")),
    Case("a NUL becomes an end of line", SHOW, prepare=files(A=b"x\0y\0\n")),
    Case("a blank before a NUL", SHOW, prepare=files(A=b"x \0 \n")),
    Case("NULs alone", SHOW, prepare=files(A=b"\0\0")),
    Case("octets that are no UTF-8", SHOW, prepare=files(A=b"\xff\xe9\n")),
    Case("an equals sign in the value", SHOW, prepare=files(A=b"=x=y\n")),
    Case("one empty line sets the empty value", SHOW, {"A": "y"}, prepare=files(A=b"\n")),
    Case("an empty file removes the variable", SHOW, {"A": "y", "B": "z"}, prepare=files(A=b"")),
    Case("an empty file, and no such variable", SHOW, prepare=files(A=b"")),
    Case("a long value", SHOW, prepare=files(A=b"x" * LONG)),
    Case("a value that is longer than any can be", SHOW, prepare=files(A=b"x" * 2 * LONG)),
    Case("a long second line", SHOW, prepare=files(A=b"x\n" + b"y" * 10 * LONG)),
    Case("a name with a blank", SHOW, prepare=named({"A B": b"x"})),
    Case("a name in UTF-8", SHOW, prepare=named({"Ä": b"x"})),
    Case("a name in lower case", SHOW, {"A": "y"}, prepare=named({"a": b"x"})),
    Case("a name with an equals sign", SHOW, prepare=named({"A=B": b"x"})),
    Case("a name with an equals sign, and such a variable", SHOW, {"A": "y"}, prepare=named({"A=B": b"x"})),
    Case("a name with an equals sign of an empty file", SHOW, {"A": "y"}, prepare=named({"A=B": b""})),
    Case("a name that begins with a dot", SHOW, prepare=named({".A": b"x", "..B": b"y"})),
    Case("a file that is a link", SHOW, prepare=named({"B": b"x"}, lambda env: (env / "A").symlink_to("B"))),
    Case("a link to nothing", SHOW, {"A": "y"}, prepare=named({}, lambda env: (env / "A").symlink_to("none"))),
    Case("a link to itself", SHOW, prepare=named({}, lambda env: (env / "A").symlink_to("A"))),
    Case("a named pipe", SHOW, {"A": "y"}, prepare=named({}, lambda env: os.mkfifo(env / "A"))),
    Case("a folder within", SHOW, prepare=named({}, lambda env: (env / "A").mkdir())),
    Case("a hidden folder within", SHOW, prepare=named({}, lambda env: (env / ".A").mkdir())),
    Case("no such folder", ("none", "env")),
    Case("a folder without a name", ("", "env")),
    Case("a file for a folder", ("own", "env"), prepare=runs(b"")),
    Case("the folder is a link", ("link", "env", "-0"), prepare=named(
        {"A": b"x"}, lambda env: (env.parent / "link").symlink_to("env"))),
    Case("the folder is a link to itself", ("link", "env"), prepare=named(
        {}, lambda env: (env.parent / "link").symlink_to("link"))),
    Case("two dashes are no option", ("--", "env", "env"), prepare=files(A=b"x\n")),
    Case("the current folder stays", ("env", "pwd"), prepare=files()),
    Case("the program's arguments", ("env", "printf", "<%s>", "a b", "", "-x", b"\xff"), prepare=files()),
    Case("the program's exit status", ("env", "sh", "-c", "exit 7"), prepare=files()),
    Case("what the program reads", ("env", "cat"), stdin=b"input", prepare=files()),
    Case("descriptor 3 goes through", ("env", "sh", "-c", "cat <&3"), record=b"record", prepare=files()),
    Case("a program that is not there", ("env", "none"), prepare=files()),
    Case("a program that is not there, by its path", ("env", "./none"), prepare=files()),
    Case("a program without a name", ("env", ""), prepare=files()),
    Case("a program that may not be run", ("env", "./own"), prepare=runs(b"#!/bin/sh\n", 0o644)),
    Case("a program in the current folder is found by its path alone", ("env", "own"), prepare=runs(b"#!/bin/sh\n")),
    Case("a program that is none", ("env", "./own"), prepare=runs(b"junk")),
    Case("a program whose interpreter is missing", ("env", "./own"), prepare=runs(b"#!/none\n")),
    Case("a program that is a folder", ("env", "./env"), prepare=files()),
    Case("the program is looked for in the old PATH", SHOW, prepare=files(PATH=b"/none\n")),
    Case("PATH is removed", SHOW, prepare=files(PATH=b"")),
    Case("PATH is empty", ("env", "own"), {"PATH": ""}, prepare=runs(b"#!/bin/sh\nexit 5\n")),
    Case("PATH with an empty part", ("env", "own"), {"PATH": "/none::/bin"}, prepare=runs(b"#!/bin/sh\nexit 5\n")),
)  # fmt: skip

AS_MAIL = (
    Case("a file that may not be read", SHOW, prepare=named({"A": b"x"}, lambda env: (env / "A").chmod(0o600))),
    Case("a folder that may not be entered", SHOW, prepare=named({"A": b"x"}, lambda env: env.chmod(0o744))),
    Case("a folder that may not be listed", SHOW, prepare=named({"A": b"x"}, lambda env: env.chmod(0o711))),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, tmp_path: Path) -> None:
    check(case, originals / "envdir", ours / "envdir", tmp_path / "work", sorted_lines)


@pytest.mark.root
@pytest.mark.parametrize("case", AS_MAIL, ids=lambda case: case.title)
def test_agreement_without_rights(case: Case, originals: Path, ours: Path, open_folder: Path) -> None:
    theirs = as_user("mail", originals / "envdir", open_folder / "theirs")
    mine = as_user("mail", ours / "envdir", open_folder / "ours")
    check(case, theirs, mine, open_folder / "work", sorted_lines)


@pytest.mark.root
def test_it_needs_no_right_to_the_current_folder(originals: Path, ours: Path, open_folder: Path) -> None:
    def prepare(folder: Path) -> None:
        files(A=b"x")(folder)
        (folder / "env").rename(open_folder / "env")
        folder.chmod(0o700)

    case = Case("", (str(open_folder / "env"), "sh", "-c", "exit 4"), prepare=prepare)
    assert run(as_user("mail", originals / "envdir", open_folder / "theirs"), case, open_folder / "work").status == 111
    (open_folder / "env" / "A").unlink()
    (open_folder / "env").rmdir()
    assert run(as_user("mail", ours / "envdir", open_folder / "ours"), case, open_folder / "work").status == 4
