"""`pillarbox import passwd`: the files of system users, good ones and others."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pillarbox.administration import opened
from pillarbox.home import Home

from ..command_line import say

UID, GID = os.geteuid() or 4242, os.getegid() or 4242
LONG = b"a secret of more than twenty"


@pytest.fixture
def users(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their home folders; a file is written with `keep`."""
    entries = {}
    for name in ("alice", "bob", "carol", "dora", "emil", "fred"):
        home = open_folder / name
        (home / "Maildir").mkdir(parents=True)
        for path in (home, home / "Maildir"):
            os.chown(path, UID, GID)
        entries[name] = pwd.struct_passwd((name, "x", UID, GID, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: list(entries.values()))
    return open_folder


def keep(users: Path, name: str, content: bytes, mode: int = 0o600, uid: int = UID) -> Path:
    path = users / name / "Maildir" / ".password"
    path.write_bytes(content)
    path.chmod(mode)
    os.chown(path, uid, GID)
    return path


@pytest.fixture
def place(users: Path) -> Path:
    home = Home(str(users / "home"))
    home.make()
    Path(home.config).write_text('domains = ["example.test"]\n[accounts]\nsource = ["passwd"]\n')
    return users / "home"


def test_each_file_is_sealed_or_reported(users: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(users, "alice", LONG + b"\n")
    keep(users, "bob", b"short\n")
    keep(users, "carol", b"")
    keep(users, "dora", LONG, mode=0o644)
    (users / "emil/Maildir/.password").symlink_to(users / "alice/Maildir/.password")
    said = say(capsys, "import", "passwd", "--home", place)
    found = dict(line.split("\t") for line in said.out.splitlines())
    assert said.status == 1 and LONG.decode() not in said.out + said.err
    assert found["alice@example.test"] == "imported"
    assert found["bob@example.test"].startswith("imported, but it is short")
    assert "is empty" in found["carol"] and "can be read by others" in found["dora"] and "link" in found["emil"]
    assert len(found) == 5, "who has no file is not named"
    with opened(Home(str(place))) as (_, store):
        sealed = {name: store.credentials(f"{name}@example.test") for name in ("alice", "bob", "carol", "dora", "emil")}
    assert [credential.secret for credential in sealed["alice"]] == [LONG]
    assert [credential.secret for credential in sealed["bob"]] == [b"short"]
    assert not sealed["carol"] + sealed["dora"] + sealed["emil"]


@pytest.mark.root
def test_a_file_of_somebody_else_is_reported(users: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(users, "alice", LONG, uid=UID + 1)
    said = say(capsys, "import", "passwd", "--home", place)
    assert said.status == 1 and f"belongs to uid {UID + 1}" in said.out


def test_a_dry_run_changes_nothing(users: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(users, "alice", LONG)
    said = say(capsys, "import", "passwd", "--dry-run", "--home", place)
    assert (said.status, said.out) == (0, "alice@example.test\twould be imported\n")
    with opened(Home(str(place))) as (_, store):
        assert store.devices.of() == []


def test_a_second_time_what_was_imported_stays(users: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keep(users, "alice", LONG)
    say(capsys, "import", "passwd", "--home", place)
    keep(users, "alice", b"another secret, and long too")
    said = say(capsys, "import", "passwd", "--home", place)
    assert said.status == 0 and "imported before" in said.out
    path.unlink()
    assert say(capsys, "import", "passwd", "--home", place).err == "no user has a password file\n"
    with opened(Home(str(place))) as (_, store):
        assert [credential.secret for credential in store.credentials("alice@example.test")] == [LONG]


def test_without_system_users_there_is_nothing_to_import(
    users: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pillarbox.toml").write_text("")
    said = say(capsys, "import", "passwd", "--home", place)
    assert said.status == 1 and "accounts.source" in said.err
