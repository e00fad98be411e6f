"""qmail's control files, as qmail-control(5) has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillarbox.store.control import FILE_LIMIT, Controls
from pillarbox.terms import TryLater


@pytest.fixture
def controls(tmp_path: Path) -> Controls:
    (tmp_path / "me").write_bytes(b"mail.example.test \t\nignored\n")
    (tmp_path / "rcpthosts").write_bytes(b"# ours\nexample.test\n\n.sub.test  \n#no\nlast.test")
    (tmp_path / "databytes").write_bytes(b"1000000 octets\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "queue").mkdir()
    return Controls(str(tmp_path))


def test_one_value_is_the_first_line_without_blanks_at_its_end(controls: Controls) -> None:
    assert controls.me() == b"mail.example.test"
    assert controls.line("empty", b"fallback") == b""
    assert controls.line("helohost", b"fallback") == b"fallback" and controls.line("helohost") is None


def test_a_list_has_comments_and_empty_lines(controls: Controls) -> None:
    assert controls.lines("rcpthosts") == [b"example.test", b".sub.test", b"last.test"]
    assert controls.lines("empty") == [] and controls.lines("locals") is None


def test_a_number_is_the_digits_at_the_start(controls: Controls) -> None:
    assert controls.number("databytes", 0) == 1_000_000
    assert controls.number("me", 7) == 7 and controls.number("timeoutsmtpd", 1200) == 1200


@pytest.mark.parametrize("name", ["queue", "huge"])
def test_a_file_that_cannot_be_read_is_trouble_and_not_as_if_it_were_missing(
    name: str, tmp_path: Path, controls: Controls
) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(FILE_LIMIT + 1)
    with pytest.raises(TryLater, match=name):
        controls.lines(name)
