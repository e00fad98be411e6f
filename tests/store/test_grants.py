"""Grants as files, in a folder where strangers may write as well, under clocks that jump."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import files
from pillarbox.store import grants as module
from pillarbox.store.grant_key import boot_id, fingerprint_of, grant_key, monotonic
from pillarbox.store.grants import Grants
from pillarbox.terms import TryLater

NOW, MONOTONIC = 1_800_000_000.0, 5_000.0
ALICE, BOB = "alice@example.test", "bob@example.test"
V4, V6 = "192.0.2.1", "2001:db8::1"
FINGERPRINT = b"8 octets"
KEY = b"k" * 32


def make(folder: Path, *, key: bytes = KEY, boot: str = "boot", expiry: float = 900, classic: bool = False) -> Grants:
    return Grants(str(folder), key=key, boot=boot, expiry=expiry, messages=3, recipients=10, classic=classic)


@pytest.fixture
def grants(tmp_path: Path) -> Grants:
    return make(tmp_path)


@pytest.fixture
def classic(tmp_path: Path) -> Grants:
    return make(tmp_path, classic=True)


def mint(grants: Grants, address: str = V4, account: str = ALICE, after: float = 0) -> None:
    grants.mint(address, account, "APOP", FINGERPRINT, NOW + after, MONOTONIC + after)


def accounts(grants: Grants, address: str = V4, after: float = 0) -> list[str]:
    return [stored.grant.account for stored in grants.find(address, NOW + after, MONOTONIC + after)]


def put(path: Path, content: bytes = b"USER=alice\0", mtime: float = NOW) -> Path:
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


# Writing.


def test_the_file_is_one_that_relay_ctrl_reads(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    assert os.listdir(tmp_path) == [V4]
    assert (tmp_path / V4).read_bytes().startswith(b"USER=alice\0DOMAIN=example.test\0PILLARBOX_GRANTS=1 ")
    assert (tmp_path / V4).stat().st_mtime == NOW
    mint(grants, account=BOB, after=1)
    assert (tmp_path / V4).read_bytes().startswith(b"USER=bob\0DOMAIN=example.test\0")
    assert (tmp_path / V4).stat().st_mtime == NOW + 1


def test_for_relay_ctrl_it_lasts_from_the_latest_session(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    grants.spend(V4, ALICE, 1, NOW + 50, MONOTONIC + 50)
    assert (tmp_path / V4).stat().st_mtime == NOW
    grants.prolong(V4, ALICE, NOW + 100, MONOTONIC + 100)
    assert (tmp_path / V4).stat().st_mtime == NOW + 100


def test_the_smtp_servers_uid_can_read_it_whatever_the_umask(grants: Grants, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        mint(grants)
    finally:
        os.umask(before)
    assert (tmp_path / V4).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("address", ["", "..", "../192.0.2.1", "localhost", "fe80::1%eth0", "\0"])
def test_what_is_no_address_is_no_file(grants: Grants, tmp_path: Path, address: str) -> None:
    with pytest.raises(OSError, match="not an address") as error:
        mint(grants, address)
    assert error.value.errno == errno.EINVAL
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("account", ["", "a b", "a\0b", "ali\u00e7e", "a" * 321])
def test_what_can_not_be_written_down_is_told(grants: Grants, tmp_path: Path, account: str) -> None:
    with pytest.raises(OSError, match="can't be for that account"):
        mint(grants, account=account)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("octets", [0, 7, 17])
def test_a_fingerprint_has_8_to_16_octets(grants: Grants, octets: int) -> None:
    with pytest.raises(OSError):
        grants.mint(V4, ALICE, "APOP", bytes(octets), NOW, MONOTONIC)
    assert grants.find(V4, NOW, MONOTONIC) == ()


@pytest.mark.parametrize("octets", [0, 31, 33])
def test_a_key_has_32_octets(tmp_path: Path, octets: int) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        make(tmp_path, key=bytes(octets))


@given(st.ip_addresses())
def test_every_address_has_a_file_that_comes_back(address: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        grants = make(Path(folder))
        mint(grants, str(address))
        (stored,) = grants.find(str(address), NOW, MONOTONIC)
        assert os.listdir(folder) == [stored.grant.address]


def test_the_same_client_costs_a_write_every_ten_seconds(grants: Grants, tmp_path: Path) -> None:
    written = []
    for second in range(25):
        mint(grants, after=second)
        written.append((tmp_path / V4).stat().st_mtime - NOW)
    assert sorted(set(written)) == [0, 10, 20]


def test_prolonging_costs_a_write_every_minute(grants: Grants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mint(grants)
    read, real = [], Grants._read

    def counted(self: Grants, name: str) -> object:
        read.append(name)
        return real(self, name)

    monkeypatch.setattr(Grants, "_read", counted)
    written = []
    for second in range(0, 600, 10):
        grants.prolong(V4, ALICE, NOW + second, MONOTONIC + second)
        written.append((tmp_path / V4).stat().st_mtime - NOW)
    assert sorted(set(written)) == list(range(0, 600, 60))
    assert len(read) == 1 + 2 * 9  # none but when something is to be written, and once to see that nothing is


@pytest.mark.parametrize("expiry", [900, 100])
def test_a_long_session_keeps_its_grant(tmp_path: Path, expiry: float) -> None:
    grants = make(tmp_path, expiry=expiry)
    mint(grants)
    for second in range(0, 7200, 10):
        grants.prolong(V4, ALICE, NOW + second, MONOTONIC + second)
        assert accounts(grants, after=second) == [ALICE]
    assert accounts(grants, after=7190 + expiry * 0.8) == [ALICE]
    assert accounts(grants, after=7190 + expiry) == []


def test_a_login_that_changes_something_is_written_at_once(grants: Grants) -> None:
    mint(grants)
    grants.mint(V4, ALICE, "APOP", b"another fingerpr", NOW + 1, MONOTONIC + 1)
    grants.mint(V4, ALICE, "USER", b"another fingerpr", NOW + 2, MONOTONIC + 2)
    (stored,) = grants.find(V4, NOW + 2, MONOTONIC + 2)
    assert (stored.fingerprint, stored.grant.mechanism, stored.grant.created) == (b"another fingerpr", "USER", NOW + 2)
    grants.spend(V4, ALICE, 1, NOW + 3, MONOTONIC + 3)
    grants.mint(V4, ALICE, "USER", b"another fingerpr", NOW + 4, MONOTONIC + 4)
    (stored,) = grants.find(V4, NOW + 4, MONOTONIC + 4)
    assert stored.grant.messages == 3


@pytest.mark.parametrize(("wall", "clock"), [(4, 500), (500, 4)])
def test_a_login_counts_from_now_on_either_clock(grants: Grants, wall: float, clock: float) -> None:
    mint(grants)
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW + wall, MONOTONIC + clock)
    (stored,) = grants.find(V4, NOW + wall, MONOTONIC + clock)
    assert (stored.grant.expires, stored.until) == (NOW + wall + 900, MONOTONIC + clock + 900)


def test_of_too_many_accounts_the_oldest_goes(grants: Grants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRANTS_PER_ADDRESS", 3)
    for second in range(5):
        mint(grants, account=f"u{second}", after=second)
    assert accounts(grants, after=5) == ["u2", "u3", "u4"]
    mint(grants, account="u2", after=20)
    mint(grants, account="u5", after=20)
    assert accounts(grants, after=20) == ["u4", "u2", "u5"]


def test_what_is_over_is_not_written_again(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    mint(grants, account=BOB, after=901)
    assert b"alice" not in (tmp_path / V4).read_bytes()


def test_memory_is_bounded(grants: Grants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 5)
    for number in range(50):
        mint(grants, f"192.0.2.{number}")
        grants.prolong(f"192.0.2.{number}", ALICE, NOW, MONOTONIC)
        (tmp_path / f"198.51.100.{number}").mkdir()
        with pytest.raises(IsADirectoryError):
            mint(grants, f"198.51.100.{number}")
    assert len(grants._newest) == len(grants._failed) == len(grants._rests) == 5


# Trouble.


def test_a_failed_write_is_told_leaves_nothing_and_is_tried_again(grants: Grants, tmp_path: Path) -> None:
    (tmp_path / V4).mkdir()
    with pytest.raises(IsADirectoryError):
        mint(grants)
    assert os.listdir(tmp_path) == [V4]
    (tmp_path / V4).rmdir()
    mint(grants, after=1)
    assert accounts(grants, after=1) == [ALICE]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    return monkeypatch


def test_who_logged_in_while_the_disk_was_full_is_no_stranger(
    grants: Grants, tmp_path: Path, full_disk: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space"):
        mint(grants)
    assert os.listdir(tmp_path) == []
    with pytest.raises(TryLater):
        grants.find(V4, NOW + 899, MONOTONIC + 899)
    assert grants.find(V6, NOW, MONOTONIC) == ()
    assert grants.find(V4, NOW + 900, MONOTONIC + 900) == ()
    full_disk.undo()
    mint(grants, after=1)
    assert accounts(grants, after=1) == [ALICE]
    grants.revoke(V4)
    assert accounts(grants, after=1) == []


def test_what_can_not_be_counted_is_not_spent(grants: Grants, full_disk: pytest.MonkeyPatch) -> None:
    full_disk.undo()
    mint(grants)
    full_disk.setattr(files, "rename", lambda old, new: os.rename(old, "/nowhere/at/all"))
    with pytest.raises(TryLater, match="can't be read or written"):
        grants.spend(V4, ALICE, 1, NOW, MONOTONIC)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    grants = make(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        mint(grants)
    for address in (V4, V6):
        with pytest.raises(TryLater):
            grants.find(address, NOW, MONOTONIC)


def test_what_can_not_be_told_is_no_grant_and_no_refusal(grants: Grants, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(TryLater, match="Permission denied"):
        grants.find(V4, NOW, MONOTONIC)
    with pytest.raises(TryLater, match="Permission denied"):
        grants.spend(V4, ALICE, 1, NOW, MONOTONIC)


def test_a_file_laid_in_our_way_is_not_written_through(grants: Grants, tmp_path: Path) -> None:
    """In relay-ctrl's folder every user can write: a link there must not lead our pen elsewhere."""
    target = put(tmp_path / "target", b"precious")
    (tmp_path / V4).symlink_to(target)
    (tmp_path / f".{int(NOW)}.000000:{os.getpid()}").symlink_to(target)
    with pytest.raises(FileExistsError):
        mint(grants)
    mint(grants)
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / V4).is_symlink()


def test_one_writer_at_a_time(grants: Grants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line revokes beside the server: neither may write down what the other has just made untrue."""
    waited = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    mint(grants)
    holder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(TryLater):
            grants.spend(V4, ALICE, 1, NOW, MONOTONIC)
        with pytest.raises(BlockingIOError):
            mint(grants, account=BOB)
        assert len(waited) == 2 * (module.LOCK_TRIES - 1)
        assert accounts(grants) == [ALICE]
    finally:
        os.close(holder)
    mint(grants, account=BOB)
    assert accounts(grants) == [ALICE, BOB]


# Restarts and reboots.


def test_counts_survive_a_restart_of_the_server(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    for used in (1, 2, 3):
        again = make(tmp_path)
        assert again.spend(V4, ALICE, 2, NOW + used, MONOTONIC + used)
        (stored,) = make(tmp_path).find(V4, NOW + used, MONOTONIC + used)
        assert (stored.grant.messages, stored.grant.recipients) == (3 - used, 10 - 2 * used)
    assert not make(tmp_path).spend(V4, ALICE, 1, NOW, MONOTONIC)


def test_no_grant_outlives_a_boot(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    after = make(tmp_path, boot="next")
    assert accounts(after) == []
    assert not after.spend(V4, ALICE, 1, NOW, MONOTONIC)
    after.prolong(V4, ALICE, NOW + 100, MONOTONIC)
    mint(after, account=BOB)
    assert accounts(after) == [BOB]


def test_revoking_one_does_not_bring_back_another_of_the_last_boot(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    mint(grants, account=BOB)
    after = make(tmp_path, boot="next")
    after.revoke(V4, ALICE)
    assert accounts(after) == []


def test_a_shorter_expiry_counts_at_once(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    assert accounts(make(tmp_path, expiry=60)) == []
    assert accounts(make(tmp_path, expiry=60), after=850) == [ALICE]


def test_this_machine_has_a_boot_and_a_clock() -> None:
    assert len(boot_id()) == 36 and boot_id() == boot_id()
    assert 0 < monotonic() <= monotonic()


# Clocks.

jumps = st.one_of(st.floats(-1e6, 1e6), st.floats(-1000, 1000))


eighths = st.integers(-80, 8000).map(lambda number: number / 8)  # seconds that a float holds exactly


@given(eighths, st.one_of(eighths, st.integers(-(10**6), 10**6)))
def test_no_jump_of_the_wall_clock_lengthens_a_grant(passed: float, shown: float) -> None:
    """`shown`: what the wall clock holds for the grant's age."""
    with tempfile.TemporaryDirectory() as folder:
        grants = make(Path(folder))
        mint(grants)
        assert bool(grants.find(V4, NOW + shown, MONOTONIC + passed)) is (passed < 900 and -5 <= shown < 900)


@given(st.lists(st.tuples(st.floats(0, 400), jumps, st.booleans()), max_size=6), st.floats(0, 2000))
def test_a_session_prolongs_by_no_more_than_the_expiry(steps: list[tuple[float, float, bool]], later: float) -> None:
    """Whatever the wall clock does meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        grants = make(Path(folder))
        mint(grants)
        now, clock, last = NOW, MONOTONIC, MONOTONIC
        for passed, jump, session in steps:
            now, clock = now + passed + jump, clock + passed
            if session and grants.find(V4, now, clock):
                grants.prolong(V4, ALICE, now, clock)
                last = clock
        if grants.find(V4, now + later, clock + later):
            assert clock + later < last + 900.001  # the file counts milliseconds


@pytest.mark.parametrize("back", [6.0, 3600.0])
def test_a_grant_of_the_future_is_none_and_a_login_makes_a_new_one(grants: Grants, back: float) -> None:
    mint(grants)
    assert grants.find(V4, NOW - back, MONOTONIC + 1) == ()
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW - back, MONOTONIC + 1)
    assert len(grants.find(V4, NOW - back, MONOTONIC + 1)) == 1


# Strangers.


def test_what_others_write_is_no_grant(grants: Grants, tmp_path: Path) -> None:
    put(tmp_path / V4, b"USER=alice\0DOMAIN=example.test\0")
    put(tmp_path / V6, b"")
    assert accounts(grants, V4) == accounts(grants, V6) == []
    mint(make(tmp_path, key=b"f" * 32), "192.0.2.2")
    assert accounts(grants, "192.0.2.2") == []
    assert list(grants.every(NOW, MONOTONIC)) == []


def test_a_login_replaces_what_others_wrote(grants: Grants, tmp_path: Path) -> None:
    put(tmp_path / V4, b"USER=mallory\0")
    mint(grants)
    assert accounts(grants) == [ALICE]


def test_a_grant_is_not_moved_to_another_address(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    os.rename(tmp_path / V4, tmp_path / "192.0.2.2")
    assert accounts(grants, "192.0.2.2") == []


def test_an_old_file_put_back_is_no_grant(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    old = (tmp_path / V4).read_bytes()
    grants.spend(V4, ALICE, 10, NOW, MONOTONIC)
    put(tmp_path / V4, old)
    assert accounts(grants) == []
    mint(grants)
    old = (tmp_path / V4).read_bytes()
    grants.revoke(V4)
    put(tmp_path / V4, old)
    assert accounts(grants) == []
    mint(grants)
    assert accounts(grants) == [ALICE]


def test_only_a_plain_file_of_one_name_is_a_grant(classic: Grants, tmp_path: Path) -> None:
    real = put(tmp_path / "real")
    (tmp_path / V4).mkdir()
    (tmp_path / V6).symlink_to(real)
    os.link(real, tmp_path / "192.0.2.2")
    os.mkfifo(tmp_path / "192.0.2.3")
    for path in tmp_path.iterdir():
        os.utime(path, (NOW, NOW), follow_symlinks=False)
    for address in (V4, V6, "192.0.2.2", "192.0.2.3"):
        assert accounts(classic, address) == []


def test_a_sealed_file_of_two_names_is_none_either(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    os.link(tmp_path / V4, tmp_path / "kept")
    assert accounts(grants) == []


def test_a_grant_written_anew_while_it_is_read_still_counts(
    grants: Grants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mint(grants)
    content = (tmp_path / V4).read_bytes()
    real = os.fstat

    def replaced_meanwhile(descriptor: int) -> os.stat_result:
        os.replace(put(tmp_path / "new", content), tmp_path / V4)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", replaced_meanwhile)
    assert accounts(grants) == [ALICE]


# Classic style.


@pytest.mark.parametrize(
    ("age", "live"), [(0, True), (899, True), (900, True), (900.5, False), (901, False), (-5, True), (-6, False)]
)
def test_a_classic_grant_lasts_as_relay_ctrls(classic: Grants, tmp_path: Path, age: float, live: bool) -> None:
    put(tmp_path / V4, mtime=NOW - age)
    assert bool(classic.find(V4, NOW, MONOTONIC)) is live


def test_a_classic_grant_is_for_everybody_there(classic: Grants, tmp_path: Path) -> None:
    put(tmp_path / V4, b"")
    (stored,) = classic.find(V4, NOW, MONOTONIC)
    assert (stored.grant.account, stored.grant.created, stored.grant.expires) == ("", NOW, NOW + 900)
    assert stored.fingerprint == b""
    assert all(classic.spend(V4, "", 1000, NOW, MONOTONIC) for _ in range(100))
    assert list(classic.every(NOW, MONOTONIC)) == [stored]


def test_our_own_files_are_plain_ones_there(classic: Grants, tmp_path: Path) -> None:
    mint(classic)
    (stored,) = classic.find(V4, NOW, MONOTONIC)
    assert (stored.grant.account, stored.fingerprint) == (ALICE, b"")
    classic.prolong(V4, ALICE, NOW + 800, MONOTONIC + 800)
    assert accounts(classic, after=1700) == [ALICE]
    assert classic.revoke_account(ALICE) == 1
    assert os.listdir(tmp_path) == []


def test_a_huge_file_is_not_read_whole(classic: Grants, tmp_path: Path) -> None:
    put(tmp_path / V4, b"X=" + b"x" * (1 << 20) + b"\0USER=late\0")
    assert accounts(classic) == [""]


def test_relay_ctrls_files_are_revoked(classic: Grants, tmp_path: Path) -> None:
    put(tmp_path / V4, b"USER=alice\0DOMAIN=example.test\0")
    put(tmp_path / V6, b"USER=bob\0")
    assert not classic.revoke(V4, BOB)
    assert classic.revoke_account(ALICE) == 1
    assert os.listdir(tmp_path) == [V6]
    assert classic.revoke(V6)
    assert os.listdir(tmp_path) == []


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


def test_revoking_all_takes_addresses_only(grants: Grants, tmp_path: Path) -> None:
    mint(grants)
    for name in ("passwd", "2001:DB8::1", ".1.2:3"):
        put(tmp_path / name)
    assert grants.revoke_all() == 1
    assert sorted(os.listdir(tmp_path)) == [".1.2:3", "2001:DB8::1", "passwd"]


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


# Keys.


def test_the_key_of_grants_is_not_the_sealing_key() -> None:
    key = grant_key(KEY)
    assert len(key) == 32 and key != KEY
    assert key == grant_key(KEY) != grant_key(b"l" * 32)


def test_a_fingerprint_follows_the_secret() -> None:
    prints = {
        fingerprint_of(b"violin case", ALICE, KEY),
        fingerprint_of(b"violin cases", ALICE, KEY),
        fingerprint_of(b"violin case", BOB, KEY),
        fingerprint_of(b"violin case", ALICE, b"l" * 32),
    }
    assert len(prints) == 4 and {len(print_) for print_ in prints} == {16}
    assert fingerprint_of(b"violin case", ALICE, KEY) in prints


def test_a_stored_grant_with_no_more_messages_is_still_found(grants: Grants) -> None:
    """So that the client is told what to do, not that it is a stranger."""
    mint(grants)
    for _ in range(3):
        grants.spend(V4, ALICE, 1, NOW, MONOTONIC)
    (stored,) = grants.find(V4, NOW, MONOTONIC)
    assert stored.grant == replace(stored.grant, messages=0, recipients=7)


def big(folder: Path, *, messages: int, recipients: int) -> Grants:
    return Grants(
        str(folder), key=KEY, boot="boot", expiry=900, messages=messages, recipients=recipients, classic=False
    )


def test_a_share_is_spent_without_writing_and_lost_with_the_process(tmp_path: Path) -> None:
    grants = big(tmp_path, messages=1000, recipients=10_000)
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW, 0.0)
    assert grants.spend(V4, ALICE, 1, NOW, 0.0)
    written = os.stat(tmp_path / V4).st_ino
    for _ in range(4):
        assert grants.spend(V4, ALICE, 1, NOW, 0.0)
    assert os.stat(tmp_path / V4).st_ino == written
    (left,) = grants.find(V4, NOW, 0.0)
    assert (left.grant.messages, left.grant.recipients) == (995, 9995)
    (after,) = big(tmp_path, messages=1000, recipients=10_000).find(V4, NOW, 0.0)
    assert (after.grant.messages, after.grant.recipients) == (995, 9950)


def test_all_of_a_grant_can_be_spent_and_no_more(tmp_path: Path) -> None:
    grants = big(tmp_path, messages=50, recipients=120)
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW, 0.0)
    assert sum(grants.spend(V4, ALICE, 2, NOW, 0.0) for _ in range(100)) == 50
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW + 60, 60.0)
    assert sum(grants.spend(V4, ALICE, 3, NOW + 60, 60.0) for _ in range(100)) == 40


def test_a_share_does_not_outlive_its_grant(tmp_path: Path) -> None:
    grants = big(tmp_path, messages=1000, recipients=1000)
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW, 0.0)
    assert grants.spend(V4, ALICE, 1, NOW, 0.0)
    grants.revoke(V4)
    assert not grants.spend(V4, ALICE, 1, NOW, 0.0)
    grants.mint(V4, ALICE, "APOP", FINGERPRINT, NOW + 30, 30.0)
    (fresh,) = grants.find(V4, NOW + 30, 30.0)
    assert fresh.grant.messages == 1000
