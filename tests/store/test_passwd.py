"""System users, and the safe way to their ~/Maildir/.password. Runs as any uid: the users are made up."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pillarbox.broker import privilege
from pillarbox.store.passwd import PasswdAccounts
from pillarbox.terms import Account, Refused, TryLater

UID = os.geteuid() or 4242  # of the made-up user: our own, or as root somebody's
GID = os.getegid() or 4242
DOMAINS = ("example.test", "example.org")
ALICE = "alice@example.test"


class System:
    """A user database of one user, and a record of whose uid was taken on."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.acted: list[tuple[int, int]] = []
        self.user = pwd.struct_passwd(("alice", "x", UID, GID, "", str(home), "/bin/sh"))

    def getpwnam(self, name: str) -> pwd.struct_passwd:
        if name != self.user.pw_name:
            raise KeyError(name)
        return self.user

    def change(self, **fields: object) -> None:
        order = ("pw_name", "pw_passwd", "pw_uid", "pw_gid", "pw_gecos", "pw_dir", "pw_shell")
        self.user = pwd.struct_passwd(tuple(fields.get(name, getattr(self.user, name)) for name in order))

    @contextmanager
    def as_user(self, uid: int, gid: int) -> Iterator[None]:
        self.acted.append((uid, gid))
        yield

    def accounts(self, path: str = "Maildir/.password") -> PasswdAccounts:
        return PasswdAccounts(path, DOMAINS, self.as_user)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    system = System(tmp_path / "home")
    monkeypatch.setattr(pwd, "getpwnam", system.getpwnam)
    (system.home / "Maildir").mkdir(parents=True)
    _give(system.home)
    return system


def _give(path: Path) -> None:
    os.chown(path, UID, GID, follow_symlinks=False)


def write(system: System, content: bytes, mode: int = 0o600) -> Path:
    path = system.home / "Maildir" / ".password"
    path.write_bytes(content)
    path.chmod(mode)
    _give(path)
    return path


# Who.


@pytest.mark.root
def test_the_folder_of_the_alias_user_may_be_roots_and_no_other_users(system: System) -> None:
    os.chown(system.home, 0, 0)
    assert system.accounts().find("alice") is None
    found = PasswdAccounts("Maildir/.password", DOMAINS, system.as_user, "alice")
    assert found.find("alice") == Account(ALICE, f"{system.home}/Maildir", UID, GID)
    os.chown(system.home, UID + 1, GID)
    assert found.find("alice") is None


@pytest.mark.parametrize("name", ["alice", ALICE, "ALICE@Example.Test"])
def test_a_user_is_found_by_name_and_by_address(system: System, name: str) -> None:
    assert system.accounts().find(name) == Account(ALICE, f"{system.home}/Maildir", UID, GID)
    assert system.acted == [(UID, GID)]


@pytest.mark.parametrize(
    "name", ["bob", "alice@example.org", "alice@elsewhere.test", "", "@", "alice@", "../alice", "al\0ice", "\udcff"]
)
def test_nobody_else_is_found(system: System, name: str) -> None:
    assert system.accounts().find(name) is None
    assert system.accounts().secret(name) is None


@pytest.mark.parametrize("field", [{"pw_uid": 0}, {"pw_dir": ""}, {"pw_dir": "home"}, {"pw_dir": "/nonexistent"}])
def test_root_and_the_homeless_have_no_mail_here(system: System, field: dict[str, object]) -> None:
    write(system, b"secret\n")
    system.change(**field)
    assert system.accounts().find(ALICE) is None
    assert system.accounts().secret(ALICE) is None


def test_root_is_never_acted_as(system: System) -> None:
    system.change(pw_uid=0)
    system.accounts().find(ALICE)
    system.accounts().secret(ALICE)
    assert system.acted == []


def test_a_home_that_belongs_to_somebody_else_is_nobodys(system: System) -> None:
    """As qmail-getpw has it: daemon's home is /usr/sbin, and takes no mail."""
    system.change(pw_uid=UID + 1)
    assert system.accounts().find(ALICE) is None


def test_a_home_that_can_not_be_seen_just_now_is_no_missing_user(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(path: str) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle")

    accounts = system.accounts()
    monkeypatch.setattr(os, "stat", stale)
    with pytest.raises(TryLater, match="Stale file handle"):
        accounts.find(ALICE)


@pytest.mark.parametrize(
    "path", ["", "/etc/shadow", "../.password", "Maildir/../../x", "Maildir//x", "Maildir/", "./x"]
)
def test_the_password_file_lies_below_the_home(system: System, path: str) -> None:
    with pytest.raises(ValueError, match="below the home folder"):
        system.accounts(path)


# The secret.


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"secret\n", b"secret"),
        (b"secret", b"secret"),
        (b"secret\nsecond line\n", b"secret"),
        (b"secret\0hidden\n", b"secret"),
        (b"secret\r\n", b"secret\r"),
        (b" two words \n", b" two words "),
        ("gr\u00fc\u00dfe\n".encode(), "gr\u00fc\u00dfe".encode()),
        (b"x" * 4096, b"x" * 4096),
    ],
)
def test_the_first_line_is_the_secret(system: System, content: bytes, secret: bytes) -> None:
    write(system, content)
    assert system.accounts().secret(ALICE) == secret
    assert system.acted == [(UID, GID)]


def test_another_place_for_the_file(system: System) -> None:
    path = system.home / ".apop"
    path.write_bytes(b"secret")
    path.chmod(0o400)
    _give(path)
    assert system.accounts(".apop").secret(ALICE) == b"secret"


def test_no_file_is_no_secret(system: System) -> None:
    assert system.accounts().secret(ALICE) is None
    (system.home / "Maildir").rmdir()
    assert system.accounts().secret(ALICE) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"\nsecret\n", b"\0secret\n", b"x" * 4097])
def test_an_empty_or_endless_secret_is_refused(system: System, content: bytes) -> None:
    write(system, content)
    with pytest.raises(Refused, match="empty"):
        system.accounts().secret(ALICE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o610, 0o666])
def test_a_file_that_others_can_use_is_refused(system: System, mode: int) -> None:
    write(system, b"secret", mode)
    with pytest.raises(Refused, match="chmod 600") as error:
        system.accounts().secret(ALICE)
    assert "secret" not in error.value.why


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_ones_own_is_taken(system: System, mode: int) -> None:
    write(system, b"secret", mode)
    assert system.accounts().secret(ALICE) == b"secret"


def test_a_file_of_another_owner_is_refused(system: System, tmp_path: Path) -> None:
    write(system, b"secret")
    system.change(pw_uid=UID + 1)
    with pytest.raises(Refused, match=f"belongs to uid {UID}, not to {UID + 1}"):
        system.accounts().secret(ALICE)


def test_a_second_name_is_refused(system: System, tmp_path: Path) -> None:
    """A hard link to somebody's file would be read as one's own secret."""
    os.link(write(system, b"secret"), tmp_path / "second")
    with pytest.raises(Refused, match="2 names"):
        system.accounts().secret(ALICE)


def test_links_are_not_followed(system: System, tmp_path: Path) -> None:
    real = write(system, b"secret").rename(tmp_path / "real")
    (system.home / "Maildir" / ".password").symlink_to(real)
    with pytest.raises(Refused, match="link"):
        system.accounts().secret(ALICE)


def test_a_folder_behind_a_link_is_not_entered(system: System, tmp_path: Path) -> None:
    write(system, b"secret")
    (system.home / "Maildir").rename(tmp_path / "elsewhere")
    (system.home / "Maildir").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="Not a directory"):
        system.accounts().secret(ALICE)


def test_the_home_itself_may_be_a_link(system: System, tmp_path: Path) -> None:
    write(system, b"secret")
    (tmp_path / "link").symlink_to(system.home)
    system.change(pw_dir=str(tmp_path / "link"))
    assert system.accounts().secret(ALICE) == b"secret"


def test_what_is_no_plain_file_is_refused_and_never_waited_for(system: System) -> None:
    path = system.home / "Maildir" / ".password"
    os.mkfifo(path, 0o600)
    with pytest.raises(Refused, match="no plain file"):
        system.accounts().secret(ALICE)
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(Refused, match="no plain file"):
        system.accounts().secret(ALICE)
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(path.parent, os.O_PATH)
        try:
            sock.bind(f"/proc/self/fd/{here}/.password")  # a short name: tmp_path may be longer than a socket's
        finally:
            os.close(here)
        with pytest.raises(Refused, match="no plain file"):
            system.accounts().secret(ALICE)


def test_no_descriptor_is_left_open(system: System) -> None:
    accounts = system.accounts()
    before = os.listdir("/proc/self/fd")
    for content in (b"secret", b"", b"\n"):
        write(system, content)
        try:
            accounts.secret(ALICE)
        except Refused:
            continue
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_the_kernel_checks_the_users_own_rights(system: System, tmp_path: Path) -> None:
    """As root the file would be read; as the user it is not, while root's folder is in the way."""
    accounts = PasswdAccounts("Maildir/.password", DOMAINS, privilege.as_user)
    write(system, b"secret")
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in a folder of root's
        home = shutil.move(system.home, folder)
        system.change(pw_dir=home)
        with pytest.raises(Refused, match="Permission denied"):
            accounts.secret(ALICE)
        assert accounts.find(ALICE) is None
        os.chmod(folder, 0o755)
        assert accounts.secret(ALICE) == b"secret"
        assert accounts.find(ALICE) == Account(ALICE, f"{home}/Maildir", UID, GID)
        assert (os.geteuid(), os.getegid()) == (0, 0)
