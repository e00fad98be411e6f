"""The mail that is laid: names and octets tell the truth, and a Maildir can be made new again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import mail
from pillarbox.store.maildir_names import sizes


@pytest.mark.parametrize("size", [700, 3000, 50_000, 2_500_000])
def test_messages_have_about_the_size_that_was_asked_for(size: int) -> None:
    for number in range(mail.DOTTED_EVERY):
        content = mail.message(number, size)
        assert abs(len(content) - size) < 160
        assert content == mail.message(number, size)
        assert content.endswith(b"\n") and b"\r" not in content


def test_names_tell_the_sizes_and_the_total_is_what_a_client_sees(tmp_path: Path) -> None:
    laid = mail.lay(tmp_path / "user0", 40, 3000)
    total = 0
    for path in (tmp_path / "user0" / "cur").iterdir():
        content = path.read_bytes()
        assert sizes(path.name.encode()) == (len(content), mail.octets(content))
        total += sum(len(line) + 2 + line.startswith(b".") for line in content[:-1].split(b"\n"))
    assert laid == mail.Laid(40, total)


def test_a_maildir_is_made_new_and_its_names_come_back(tmp_path: Path) -> None:
    drop = tmp_path / "user0"
    mail.lay(drop, 5, 700)
    names = {path.name for path in (drop / "cur").iterdir()}
    (drop / "dovecot-uidlist").write_text("3 V1\n")
    mail.forget(drop)
    mail.rename_all(drop, plain=True)
    assert {path.name for path in drop.iterdir()} == {"new", "cur", "tmp"}
    assert not any("," in path.name.partition(":")[0] for path in (drop / "cur").iterdir())
    mail.rename_all(drop, plain=False)
    assert {path.name for path in (drop / "cur").iterdir()} == names
