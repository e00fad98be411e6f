"""selectcheckpw beside upstream's shell script, which Debian has as an example."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ..peers import packages
from .logins import SECRET, Prepare, Record, alice, among_users, digest, give, password, status, then, users
from .sides import Case, Result, check, run

pytestmark = pytest.mark.root  # it becomes users, and /etc is a private one

EXAMPLE = "usr/share/doc/checkpw/examples/selectcheckpw"
SHOW = b'#!/bin/sh\nfor each; do echo "<$each>"; done; id -u; pwd; echo "$USER|$EXT|$AUTH|$KEPT"; exit 7\n'
SPLIT = "an argument is one argument, whatever is in it"
SEARCHED = "both programs are found by PATH, so that either can be replaced"


def ready(folder: Path) -> None:
    """The users, and a program in alice's home that shows its arguments."""
    users(folder)
    give(folder / "alice", "show", SHOW, mode=0o755)


def login(
    title: str,
    auth: str | None,
    record: bytes | None,
    *arguments: str | bytes,
    prepare: Prepare = ready,
    environment: dict[str, str] | None = None,
    **rest: Any,
) -> Case:
    given = ("./show", *arguments)
    chosen = {} if auth is None else {"AUTH": auth}
    return Case(title, given, chosen | (environment or {}), record=record, prepare=prepare, **rest)


def shown(*arguments: str) -> Any:
    """The program got these, in alice's home."""
    lines = "".join(f"<{argument}>\n" for argument in arguments).encode()
    return lambda result: result.status == 7 and result.out.startswith(lines + b"5001\n")


def both(title: str, name: bytes = b"alice", **rest: Any) -> tuple[Case, Case]:
    """A row for a password, and one for a digest."""
    return (
        login(f"a password: {title}", "pop", password(name), **rest),
        login(f"a digest: {title}", "apop", digest(name), **rest),
    )


CASES = (
    *both("a login"),
    *both("the environment goes through", environment={"KEPT": "yes", "USER": "x"}),
    *both("an unknown user", b"zoe"),
    *both("a user with an extension", b"alice-lists"),
    *both("others may read the file", prepare=alice(mode=0o644)),
    *both("no file", prepare=then(lambda home: (home / "Maildir/.password").unlink())),
    *both("MAILDIR is not there", environment={"MAILDIR": "none"}),
    login("a wrong password", "pop", password(secret=b"other")),
    login("a wrong digest", "apop", digest(secret=b"other")),
    login("a digest, and AUTH is pop", "pop", digest()),
    login("a password, and AUTH is apop", "apop", password()),
    login("no AUTH", None, password()),
    login("no AUTH, no descriptor 3", None, None),
    login("an empty AUTH", "", password()),
    login("AUTH in capitals", "POP", password()),
    login("AUTH in capitals, for a digest", "APOP", digest()),
    login("AUTH with a blank behind it", "pop ", password()),
    login("AUTH with a line end behind it", "apop\n", digest()),
    login("AUTH that only begins so", "pop3", password()),
    login("AUTH is a pattern", "*", password()),
    login("AUTH is pop, no descriptor 3", "pop", None),
    login("AUTH is apop, no descriptor 3", "apop", None),
    login("AUTH is pop, an empty descriptor 3", "pop", b""),
    login("AUTH is apop, an empty descriptor 3", "apop", b""),
    login("513 octets on descriptor 3", "pop", password().ljust(513, b"x")),
    Case("AUTH is pop, no program", (), {"AUTH": "pop"}, record=password(), prepare=ready),
    Case("AUTH is apop, no program", (), {"AUTH": "apop"}, record=digest(), prepare=ready),
    Case("no AUTH, no program", (), record=password(), prepare=ready),
    Case("a program that is not there", ("none",), {"AUTH": "pop"}, record=password(), prepare=ready),
    login("arguments", "pop", password(), "-n", "b", "--", "c=d", "$HOME", "`id`", "'", '"', ";", "é", b"\xff"),
    login("a dash for an argument", "apop", digest(), "-"),
    login("an argument with a blank", "pop", password(), "a b", mended=SPLIT, ours=shown("a b")),
    login("an argument with a line end", "apop", digest(), "a\nb", mended=SPLIT, ours=shown("a\nb")),
    login("an empty argument", "pop", password(), "", "a", mended=SPLIT, ours=shown("", "a")),
    login("an argument that is a pattern", "pop", password(), "*", mended=SPLIT, ours=shown("*")),
    login(
        "PATH leads to neither program",
        "pop",
        password(),
        environment={"PATH": "/none"},
        mended=SEARCHED,
        ours=lambda result: (
            result
            == Result(111, b"", b"selectcheckpw: fatal: unable to run checkpw: file does not exist\n", result.files)
        ),
    ),
)


@pytest.fixture
def original(open_folder: Path) -> Path:
    """The script, made one that can be run."""
    installed = Path("/") / EXAMPLE
    found = installed if installed.exists() else packages.unpacked("checkpw") / EXAMPLE  # images leave such files out
    script = open_folder / "selectcheckpw"
    shutil.copy(found, script)
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, original: Path, originals: Path, ours: Path, open_folder: Path) -> None:
    """Ours finds the original checkpw and checkapoppw here."""
    theirs = among_users(original, open_folder / "theirs")
    mine = among_users(ours / "selectcheckpw", open_folder / "ours")
    check(case, theirs, mine, open_folder / "work")


ALONE = [case for case in CASES if not case.mended]


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.title)
def test_the_same_with_our_checkpw_and_checkapoppw(
    case: Case, original: Path, originals: Path, ours: Path, open_folder: Path
) -> None:
    """Where PATH leads to them, it goes on as one of them without an exec."""
    theirs = among_users(original, open_folder / "theirs")
    mine = among_users(ours / "selectcheckpw", open_folder / "ours")
    path = {"PATH": f"{ours}:/usr/bin:/bin"}
    alone = Case(case.title, case.arguments, {**case.environment, **path}, record=case.record, prepare=case.prepare)
    check(alone, theirs, mine, open_folder / "work")


@pytest.mark.parametrize(("name", "auth", "record"), [("checkpw", "pop", password), ("checkapoppw", "apop", digest)])
def test_the_original_script_with_ours_in_the_place_of_the_programs(
    name: str, auth: str, record: Record, original: Path, originals: Path, ours: Path, open_folder: Path
) -> None:
    script = among_users(original, open_folder / "mixed", [((ours / name).resolve(), f"/usr/bin/{name}")])
    case = login("mixed", auth, record(), "a")
    assert shown("a")(run(script, case, open_folder / "work"))
    # What tells that it is ours: the original lets this one in
    linked = login("mixed", auth, record(), prepare=alice(SECRET + b"\n" + b"x" * 5000))
    assert status(1)(run(script, linked, open_folder / "work"))


def test_the_switch_goes_on_to_checkpw(ours: Path, open_folder: Path) -> None:
    script = among_users(ours / "selectcheckpw", open_folder / "ours")
    path = {"PATH": f"{ours}:/usr/bin:/bin", "AUTH": "pop"}
    case = Case("", ("--faithful", "id", "-un"), path, record=password(b"root"), prepare=ready)
    assert run(script, case, open_folder / "work").out == b"root\n"


@pytest.mark.parametrize("auth", [{}, {"AUTH": "x"}])
def test_without_auth_descriptor_3_is_left_unread(auth: dict[str, str], ours: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, password())
        pid = os.posix_spawn(
            ours / "selectcheckpw",
            ["selectcheckpw", "true"],
            {"PATH": "/usr/bin:/bin", **auth},
            file_actions=[(os.POSIX_SPAWN_DUP2, reader, 3)],
        )
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert os.read(reader, 512) == password()
    finally:
        os.close(reader)
        os.close(writer)
