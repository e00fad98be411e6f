"""maildirmake, against what is known of qmail's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import sides


@dataclass(frozen=True)
class Case:
    """One row: arguments, what is there before, and how it ends."""

    title: str
    arguments: tuple[str | bytes, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    complaint: str = ""
    status: int = 111
    mended: str = ""


CASES = (
    Case("a new Maildir", ("m",), status=0),
    Case("a name with a slash at its end", ("m/",), status=0),
    Case("a name with a blank", ("m m",), status=0),
    Case("a name that is no UTF-8", (b"m\xff",), status=0),
    Case("a name of 240 octets", ("m" * 240,), status=0),
    Case("more arguments", ("m", "n"), status=0),
    Case("no name", (), complaint="usage: maildirmake name", status=100),
    Case("an empty name", ("",), complaint="fatal: unable to mkdir : file does not exist"),
    Case("it is there already", ("m",), lambda folder: (folder / "m").mkdir(),
         "fatal: unable to mkdir m: file already exists"),
    Case("a file is there", ("m",), lambda folder: (folder / "m").touch(), "fatal: unable to mkdir m: file already exists"),
    Case("a link to nothing is there", ("m",), lambda folder: (folder / "m").symlink_to("none"),
         "fatal: unable to mkdir m: file already exists"),
    Case("the folder above is missing", ("a/m",), complaint="fatal: unable to mkdir a/m: file does not exist"),
    Case("what is above is a file", ("a/m",), lambda folder: (folder / "a").touch(),
         "fatal: unable to mkdir a/m: not a directory"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_as_known(case: Case, ours: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    given = sides.Case("", case.arguments, prepare=lambda folder: case.prepare(folder))
    done = sides.run(ours / "maildirmake", given, work)
    assert (done.status, done.out) == (case.status, b"")
    assert done.err == (f"maildirmake: {case.complaint}\n".encode() if case.complaint else b"")
    if case.status == 0:
        (made,) = work.iterdir()
        assert sorted(path.name for path in made.iterdir()) == ["cur", "new", "tmp"]
        assert {path.stat().st_mode & 0o7777 for path in (made, *made.iterdir())} == {0o700}
