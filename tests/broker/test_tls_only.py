"""The ratchet: days of logins under TLS alone, and what follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillarbox.broker.tls_only import DAY, TlsOnly
from pillarbox.messages import Login
from pillarbox.policy.networks import Networks
from pillarbox.store.ratchet import Ratchet

ALICE, BOB = "alice@example.test", "bob@example.test"
FAR, TRUSTED = "192.0.2.1", "10.0.0.1"


class Host:
    """A ratchet with a clock that stands until it is moved."""

    def __init__(self, folder: Path, days: int = 3) -> None:
        self.now = 1_800_000_000.0
        self.path = str(folder / "ratchet.sqlite3")
        self.tls_only = TlsOnly(self.path, lambda: self.now)
        self.configure(days)

    def configure(self, days: int) -> None:
        self.tls_only.configure(days, Networks(("10.0.0.0/8",)))

    def refuses(self, *, secured: bool, account: str = ALICE, peer: str = FAR) -> bool:
        return self.tls_only.refuses(account, Login(1, b"alice", b"x", "APOP", b"<1@h>", secured, peer))

    def latch(self) -> None:
        for _ in range(5):
            assert not self.refuses(secured=True)
            self.now += DAY


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_after_that_many_days_of_tls_nothing_else_is_taken(host: Host) -> None:
    for _ in range(3):
        assert not host.refuses(secured=True)
        host.now += DAY
    assert not host.refuses(secured=True)  # the fourth day: it latches
    assert host.refuses(secured=False)
    assert not host.refuses(secured=True)
    assert not host.refuses(secured=False, account=BOB)


def test_one_login_in_the_clear_begins_the_count_anew(host: Host) -> None:
    for secured in (True, True, True, False, True, True, True, False):
        assert not host.refuses(secured=secured)
        host.now += DAY


def test_many_logins_of_one_day_and_a_clock_that_jumps_are_few_days(host: Host) -> None:
    for _ in range(50):
        host.refuses(secured=True)
    host.now += 30 * 365 * DAY  # a clock that had begun in 1970
    host.refuses(secured=True)
    assert not host.refuses(secured=False)


def test_trusted_networks_neither_count_nor_are_refused(host: Host) -> None:
    for _ in range(6):
        host.refuses(secured=True, peer=TRUSTED)
        host.now += DAY
    assert not host.refuses(secured=False)
    host.latch()
    assert not host.refuses(secured=False, peer=TRUSTED)
    assert host.refuses(secured=False)


def test_it_can_be_undone_beside_a_running_broker(host: Host) -> None:
    host.latch()
    beside = Ratchet(host.path)
    assert beside.release(ALICE) and not beside.release(ALICE)
    beside.close()
    assert not host.refuses(secured=False)


def test_switched_off_it_holds_nobody_and_counts_nothing(host: Host) -> None:
    for _ in range(3):
        host.refuses(secured=True)
        host.now += DAY
    host.configure(0)
    assert not host.refuses(secured=False)
    host.configure(3)
    host.refuses(secured=True)
    assert not host.refuses(secured=False)


def test_it_outlives_the_broker(host: Host, tmp_path: Path) -> None:
    host.latch()
    assert Host(tmp_path).refuses(secured=False)


def test_what_can_not_be_told_is_refused_without_tls_alone(host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    Path(host.path).write_bytes(b"no database" * 1000)
    assert not host.refuses(secured=True)
    assert host.refuses(secured=False)
    assert "ratchet-trouble" in capfd.readouterr().err


def test_switched_off_there_is_no_file(tmp_path: Path) -> None:
    off = Host(tmp_path, days=0)
    off.refuses(secured=True)
    assert not Path(off.path).exists()


def test_the_file_stays_whole_through_a_power_cut(tmp_path: Path) -> None:
    """A damaged one keeps everybody out who has no TLS; SQLite promises a whole one from NORMAL (1) on."""
    (level,) = Ratchet(str(tmp_path / "ratchet.sqlite3"))._execute("PRAGMA synchronous").fetchone()
    assert level >= 1
