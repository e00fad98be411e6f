"""checkapoppw beside Debian's."""

from __future__ import annotations

from pathlib import Path

import pytest

from .logins import (
    CHALLENGE,
    SHOW,
    alice,
    among_users,
    as_user,
    digest,
    faithful,
    password,
    pipe,
    shared,
    status,
    then,
    users,
)
from .sides import Case, check, run

pytestmark = pytest.mark.root  # it becomes users, and /etc is a private one

DIGEST = digest().split(b"\0")[1]
DIGEST_IN_CAPITALS = digest().replace(DIGEST, DIGEST.upper())
EMPTY = "an empty secret lets everybody in: the digest of the timestamp alone is known to all"
CASES = (
    *shared(digest),
    Case("no timestamp", SHOW, record=digest().removesuffix(CHALLENGE + b"\0"), prepare=users),
    Case("a timestamp without an end", SHOW, record=digest()[:-1], prepare=users),
    Case("a timestamp without brackets", SHOW, record=digest(challenge=b"1.2@mail.example"), prepare=users),
    Case("another timestamp", SHOW, record=digest().replace(CHALLENGE, b"<1.3@mail.example>"), prepare=users),
    Case(
        "an empty timestamp, and its digest",
        SHOW,
        record=digest(challenge=b""),
        prepare=users,
        mended="without a timestamp the digest can be used again and again",
        ours=status(1),
    ),
    Case("a digest in capitals", SHOW, record=DIGEST_IN_CAPITALS, prepare=users),
    Case("half a digest", SHOW, record=digest().replace(DIGEST, DIGEST[:16]), prepare=users),
    Case("no digest", SHOW, record=digest().replace(DIGEST, b""), prepare=users),
    Case("a digest that is no ASCII", SHOW, record=digest().replace(DIGEST, b"\xe9" * 32), prepare=users),
    Case("the password itself", SHOW, record=password(), prepare=users),
    *(
        Case(title, SHOW, record=digest(secret=b""), prepare=prepare, mended=EMPTY, ours=status(1))
        for title, prepare in (
            ("a digest made without a secret, and an empty file", alice(b"")),
            ("a digest made without a secret, and an empty first line", alice(b"\nx\n")),
            ("a digest made without a secret, and NULs in the file", alice(b"\0\0\0")),
            ("a digest made without a secret, and a pipe for a file", then(pipe)),
        )
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, open_folder: Path) -> None:
    theirs = among_users(originals / "checkapoppw", open_folder / "theirs")
    mine = among_users(ours / "checkapoppw", open_folder / "ours")
    check(case, theirs, mine, open_folder / "work")


@pytest.mark.parametrize(("what", "case"), faithful(digest))
def test_faithful(what: str, case: Case, originals: Path, ours: Path, open_folder: Path) -> None:
    """With --faithful it lets in whom the original lets in, and without it does not."""
    theirs = among_users(originals / "checkapoppw", open_folder / "theirs")
    mine = among_users(ours / "checkapoppw", open_folder / "ours")
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
    original = as_user(user, originals / "checkapoppw", open_folder / "theirs")
    mine = as_user(user, ours / "checkapoppw", open_folder / "ours")
    case = Case("", SHOW, record=digest(), prepare=users)
    assert run(among_users(original, open_folder / "a"), case, open_folder / "work").status in (1, 111)
    done = run(among_users(mine, open_folder / "b"), case, open_folder / "work")
    assert done.status == wanted
    assert done.out.startswith(b"5001\n5001\n5001\n") == (user == "alice")
