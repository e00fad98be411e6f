"""Grants as files, in a folder where strangers may write as well."""

from __future__ import annotations

import errno
import os
import tempfile
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import grants as module
from pillarbox.store.grants import Grants
from pillarbox.terms import Grant, TryLater

NOW = 1_800_000_000.0
ALICE = "alice@example.test"
V4, V6 = "192.0.2.1", "2001:db8::1"


@pytest.fixture
def grants(tmp_path: Path) -> Grants:
    return Grants(str(tmp_path), 900)


def put(path: Path, content: bytes = b"USER=alice\0", mtime: float = NOW) -> Path:
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


# Writing.


def test_the_file_is_relay_ctrls(grants: Grants, tmp_path: Path) -> None:
    grants.renew(V4, ALICE, NOW)
    assert os.listdir(tmp_path) == [V4]
    assert (tmp_path / V4).read_bytes() == b"USER=alice\0DOMAIN=example.test\0"
    assert (tmp_path / V4).stat().st_mtime == NOW


def test_the_smtp_servers_uid_can_read_it_whatever_the_umask(grants: Grants, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        grants.renew(V4, ALICE, NOW)
    finally:
        os.umask(before)
    assert (tmp_path / V4).stat().st_mode & 0o777 == 0o644


def test_an_account_without_a_domain(grants: Grants, tmp_path: Path) -> None:
    grants.renew(V4, "carol", NOW)
    assert (tmp_path / V4).read_bytes() == b"USER=carol\0"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (V4, V4),
        ("::ffff:192.0.2.1", V4),
        ("::FFFF:C000:0201", V4),
        (V6, V6),
        ("2001:DB8:0:0::1", V6),
        ("::1", "::1"),
    ],
)
def test_an_address_has_one_file_however_it_is_written(grants: Grants, tmp_path: Path, address: str, name: str) -> None:
    grants.renew(address, ALICE, NOW)
    assert os.listdir(tmp_path) == [name]
    assert grants.find(address, NOW) == grants.find(name, NOW) == Grant(name, ALICE, NOW, NOW + 900)


@pytest.mark.parametrize(
    "address", ["", ".", "..", "../192.0.2.1", "192.0.2.1/../x", "localhost", "fe80::1%../../x", "fe80::1%eth0", "\0"]
)
def test_what_is_no_address_is_no_file(grants: Grants, tmp_path: Path, address: str) -> None:
    with pytest.raises(OSError, match="not an address") as error:
        grants.renew(address, ALICE, NOW)
    assert error.value.errno == errno.EINVAL
    assert grants.find(address, NOW) is None
    assert os.listdir(tmp_path) == []


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[0-9a-fA-F:./%]{1,45}", fullmatch=True)))
def test_a_peer_never_names_another_file(address: str) -> None:
    name = module._file_name(address)
    if name is not None:
        assert "/" not in name
        assert name not in {"", ".", ".."}
        assert str(ip_address(name)) == name


@given(st.ip_addresses())
def test_every_address_has_a_file_that_comes_back(address: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        grants = Grants(folder, 900)
        grants.renew(str(address), ALICE, NOW)
        found = grants.find(str(address), NOW)
        assert found is not None
        assert os.listdir(folder) == [found.address]


def test_the_same_client_costs_a_write_every_ten_seconds(grants: Grants, tmp_path: Path) -> None:
    written = []
    for second in range(25):
        grants.renew(V4, ALICE, NOW + second)
        written.append((tmp_path / V4).stat().st_mtime - NOW)
    assert sorted(set(written)) == [0, 10, 20]


def test_another_account_and_another_address_are_written_at_once(grants: Grants, tmp_path: Path) -> None:
    grants.renew(V4, ALICE, NOW)
    grants.renew(V4, "bob@example.test", NOW + 1)
    assert (tmp_path / V4).read_bytes() == b"USER=bob\0DOMAIN=example.test\0"
    grants.renew(V6, ALICE, NOW + 1)
    assert sorted(os.listdir(tmp_path)) == [V4, V6]


def test_a_clock_that_is_set_back_does_not_stop_renewing(grants: Grants, tmp_path: Path) -> None:
    grants.renew(V4, ALICE, NOW)
    grants.renew(V4, ALICE, NOW - 3600)
    assert (tmp_path / V4).stat().st_mtime == NOW - 3600


def test_memory_is_bounded(grants: Grants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 5)
    for number in range(50):
        grants.renew(V4, f"u{number}@example.test", NOW)
    assert len(grants._written) == 5


def test_a_failed_write_is_told_leaves_nothing_and_is_tried_again(grants: Grants, tmp_path: Path) -> None:
    (tmp_path / V4).mkdir()
    with pytest.raises(IsADirectoryError):
        grants.renew(V4, ALICE, NOW)
    assert os.listdir(tmp_path) == [V4]
    (tmp_path / V4).rmdir()
    grants.renew(V4, ALICE, NOW + 1)
    assert (tmp_path / V4).is_file()


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Grants(str(tmp_path / "nowhere"), 900).renew(V4, ALICE, NOW)


def test_a_file_laid_in_our_way_is_not_written_through(grants: Grants, tmp_path: Path) -> None:
    """In relay-ctrl's folder every user can write: a link there must not lead our pen elsewhere."""
    target = put(tmp_path / "target", b"precious")
    (tmp_path / V4).symlink_to(target)
    (tmp_path / f".{int(NOW)}.000000:{os.getpid()}").symlink_to(target)
    with pytest.raises(FileExistsError):
        grants.renew(V4, ALICE, NOW)
    grants.renew(V4, ALICE, NOW)
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / V4).is_symlink()


# Reading.


@pytest.mark.parametrize(
    ("age", "live"), [(0, True), (899, True), (900, True), (900.5, False), (901, False), (-5, True), (-6, False)]
)
def test_how_long_it_lasts(grants: Grants, tmp_path: Path, age: float, live: bool) -> None:
    put(tmp_path / V4, mtime=NOW - age)
    assert (grants.find(V4, NOW) is not None) is live


@pytest.mark.parametrize(
    ("content", "account"),
    [
        (b"USER=carol\0", "carol"),
        (b"USER=carol\0DOMAIN=\0", "carol"),
        (b"DOMAIN=example.test\0USER=carol\0", "carol@example.test"),
        (b"", ""),  # relay-ctrl-udp's
        (b"nonsense", ""),
        (b"USER=unterminated", ""),
        (b"LD_PRELOAD=/tmp/x\0USER=a=b\0", "a=b"),
        (b"USER=\xff\0", "\ufffd"),
    ],
)
def test_whose_it_is(grants: Grants, tmp_path: Path, content: bytes, account: str) -> None:
    put(tmp_path / V4, content)
    assert grants.find(V4, NOW) == Grant(V4, account, NOW, NOW + 900)


def test_a_huge_file_is_not_read_whole(grants: Grants, tmp_path: Path) -> None:
    put(tmp_path / V4, b"X=" + b"x" * (1 << 20) + b"\0USER=late\0")
    found = grants.find(V4, NOW)
    assert found is not None
    assert found.account == ""


def test_only_a_plain_file_of_one_name_is_a_grant(grants: Grants, tmp_path: Path) -> None:
    real = put(tmp_path / "real")
    (tmp_path / V4).mkdir()
    (tmp_path / V6).symlink_to(real)
    os.link(real, tmp_path / "192.0.2.2")
    os.mkfifo(tmp_path / "192.0.2.3")
    for path in tmp_path.iterdir():
        os.utime(path, (NOW, NOW), follow_symlinks=False)
    for address in (V4, V6, "192.0.2.2", "192.0.2.3"):
        assert grants.find(address, NOW) is None


def test_a_grant_renewed_while_it_is_read_still_counts(
    grants: Grants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / V4)
    real = os.fstat

    def replaced_meanwhile(descriptor: int) -> os.stat_result:
        os.replace(put(tmp_path / "new"), tmp_path / V4)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", replaced_meanwhile)
    assert grants.find(V4, NOW) is not None


def test_what_can_not_be_told_is_no_grant_and_no_refusal(grants: Grants, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(TryLater, match="Permission denied"):
        grants.find(V4, NOW)


# Clearing.


def test_what_is_over_goes_and_everything_else_stays(grants: Grants, tmp_path: Path) -> None:
    for name, age in ((V4, 901), (V6, 901), ("192.0.2.2", 900), ("192.0.2.3", -6), (".1.2:3", 901), (".4.5:6", 0)):
        put(tmp_path / name, mtime=NOW - age)
    for name in ("passwd", ".bashrc", "192.0.2", "192.000.002.001", "2001:DB8::1"):
        put(tmp_path / name, mtime=NOW - 10_000)
    (tmp_path / "192.0.2.9").mkdir()
    os.utime(tmp_path / "192.0.2.9", (0, 0))
    grants.expire(NOW)
    stays = [".4.5:6", ".bashrc", "192.0.2", "192.0.2.2", "192.0.2.9", "192.000.002.001", "2001:DB8::1", "passwd"]
    assert sorted(os.listdir(tmp_path)) == stays


def test_a_link_is_removed_not_followed(grants: Grants, tmp_path: Path) -> None:
    target = put(tmp_path / "target", mtime=0)
    (tmp_path / V4).symlink_to(target)
    os.utime(tmp_path / V4, (0, 0), follow_symlinks=False)
    grants.expire(NOW)
    assert os.listdir(tmp_path) == ["target"]


def test_a_big_folder_is_swept_in_steps(grants: Grants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT", 4)
    left = []
    for number in range(10):
        put(tmp_path / f"192.0.2.{number}", mtime=0)
    for _ in range(3):
        grants.expire(NOW)
        left.append(len(os.listdir(tmp_path)))
    assert left == [6, 2, 0]
    put(tmp_path / V4, mtime=0)
    grants.expire(NOW)
    assert os.listdir(tmp_path) == []
