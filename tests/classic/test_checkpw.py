"""checkpw beside Debian's."""

from __future__ import annotations

from pathlib import Path

import pytest

from .logins import CHALLENGE, SECRET, SHOW, alice, among_users, as_user, digest, faithful, password, shared, users
from .sides import Case, check, run

pytestmark = pytest.mark.root  # it becomes users, and /etc is a private one

CASES = (
    *shared(password),
    Case("no timestamp", SHOW, record=b"alice\0" + SECRET + b"\0", prepare=users),
    Case("an empty timestamp", SHOW, record=b"alice\0" + SECRET + b"\0\0", prepare=users),
    Case("a digest", SHOW, record=digest(), prepare=users),
    Case(
        "a password with a timestamp that is another", SHOW, record=password().replace(CHALLENGE, b"x"), prepare=users
    ),
    Case("an empty password, and an empty file", SHOW, record=password(secret=b""), prepare=alice(b"")),
    Case("an empty password, and an empty first line", SHOW, record=password(secret=b""), prepare=alice(b"\nx\n")),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, open_folder: Path) -> None:
    theirs = among_users(originals / "checkpw", open_folder / "theirs")
    mine = among_users(ours / "checkpw", open_folder / "ours")
    check(case, theirs, mine, open_folder / "work")


@pytest.mark.parametrize(("what", "case"), faithful(password))
def test_faithful(what: str, case: Case, originals: Path, ours: Path, open_folder: Path) -> None:
    """With --faithful it lets in whom the original lets in, and without it does not."""
    theirs = among_users(originals / "checkpw", open_folder / "theirs")
    mine = among_users(ours / "checkpw", open_folder / "ours")
    original = run(theirs, case, open_folder / "work")
    assert original.status == 7
    assert run(mine, case, open_folder / "work").status in (1, 111)
    switched = Case(case.title, ("--faithful", *case.arguments), record=case.record, prepare=case.prepare)
    assert run(mine, switched, open_folder / "work") == original


@pytest.mark.parametrize(("user", "wanted"), [("alice", 7), ("bob", 1)])
def test_without_root_a_user_is_let_in_as_itself(
    user: str, wanted: int, originals: Path, ours: Path, open_folder: Path
) -> None:
    """The original lets in nobody then: it may not even give up groups."""
    original = as_user(user, originals / "checkpw", open_folder / "theirs")
    mine = as_user(user, ours / "checkpw", open_folder / "ours")
    case = Case("", SHOW, record=password(), prepare=users)
    assert run(among_users(original, open_folder / "a"), case, open_folder / "work").status in (1, 111)
    done = run(among_users(mine, open_folder / "b"), case, open_folder / "work")
    assert done.status == wanted
    assert done.out.startswith(b"5001\n5001\n5001\n") == (user == "alice")
