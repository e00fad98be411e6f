"""The certificates that the broker keeps: one that is wrong never takes the place of one that works."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from pillarbox import messages
from pillarbox.broker.certificates import Certificates
from pillarbox.channel import FRAME_LIMIT
from pillarbox.config import Config, Tls
from pillarbox.config_values import KEY_PAIRS_LIMIT
from pillarbox.home import Home
from pillarbox.messages import KeyPair
from pillarbox.store.certificates import FILE_LIMIT, load
from pillarbox.terms import Refused

from ..peers.certificates import Authority, Certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "home"))
    (tmp_path / "home" / "tls").mkdir(parents=True)
    return home


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Certificate:
    """At one place, where others will come after it."""
    return moved(authority.issue("mail.example.test"), tmp_path)


def moved(made: Certificate, folder: Path) -> Certificate:
    there = Certificate(folder / "fullchain.pem", folder / "privkey.pem", made.chain)
    shutil.copy(made.certificate, there.certificate)
    shutil.copy(made.key, there.key)
    return there


def configured(*made: Certificate) -> Config:
    return Config(tls=Tls([str(one.certificate) for one in made], [str(one.key) for one in made]))


def fingerprint(made: Certificate) -> str:
    return load(str(made.certificate), str(made.key)).fingerprint


def served(certificates: Certificates) -> list[tuple[str, ...]]:
    return [pair.names for pair in certificates.message.pairs]


def test_none_is_served_before_one_is_known(home: Home) -> None:
    certificates = Certificates(home)
    assert served(certificates) == [] and not certificates.look()


def test_where_none_is_configured_one_is_made_once(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    certificates = Certificates(home)
    certificates.check(Config(hostname="mail.example.test"))
    first = certificates.message
    assert served(certificates) == [("mail.example.test",)]
    log = capfd.readouterr().err
    assert "certificate-made" in log and "sha256=" in log and "PRIVATE" not in log
    again = Certificates(home)
    again.check(Config(hostname="another.example.test"))
    assert again.message == first and "certificate-made" not in capfd.readouterr().err


def test_at_the_start_what_is_wrong_is_an_error_with_file_and_key(home: Home, issued: Certificate) -> None:
    issued.key.write_text("nothing")
    with pytest.raises(Refused) as refused:
        Certificates(home).check(configured(issued))
    assert refused.value.why.startswith(f"{home.config}: `tls.key`: {issued.key} is damaged")


def test_one_of_our_own_that_is_damaged_is_not_made_anew(home: Home) -> None:
    certificates = Certificates(home)
    certificates.check(Config())
    (Path(home.tls) / "key.pem").write_text("nothing")
    with pytest.raises(Refused, match=r"move .*/tls away, and the next start makes a new certificate"):
        Certificates(home).check(Config())
    assert (Path(home.tls) / "key.pem").read_text() == "nothing"


def test_a_renewed_one_is_served_once_its_files_are_still(
    home: Home, issued: Certificate, authority: Authority, tmp_path: Path
) -> None:
    certificates = Certificates(home)
    certificates.check(configured(issued))
    assert not certificates.look() and not certificates.look()
    renewed = authority.issue("mail.example.test", "pop.example.test")
    shutil.copy(renewed.certificate, issued.certificate)
    assert not certificates.look()  # half of it: the key is still the old one
    shutil.copy(renewed.key, issued.key)
    assert not certificates.look()
    assert certificates.look() and served(certificates) == [("mail.example.test", "pop.example.test")]
    assert not certificates.look()


def test_a_wrong_one_is_logged_once_and_the_old_one_kept(
    home: Home, issued: Certificate, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    certificates = Certificates(home)
    certificates.check(configured(issued))
    before = certificates.message
    shutil.copy(authority.issue("mail.example.test", expired=True).certificate, issued.certificate)
    assert not any(certificates.look() for _ in range(5))
    log = capfd.readouterr().err
    assert log.count("certificate-refused") == 1 and "has expired" in log and "kept=1" in log
    assert certificates.message == before
    issued.certificate.unlink()
    assert not any(certificates.look() for _ in range(5)) and certificates.message == before
    again = authority.issue("new.example.test")
    shutil.copy(again.certificate, issued.certificate)
    shutil.copy(again.key, issued.key)
    assert [certificates.look() for _ in range(2)] == [False, True]


def test_another_configuration(home: Home, issued: Certificate, authority: Authority) -> None:
    certificates = Certificates(home)
    certificates.check(configured(issued))
    assert not certificates.configure(configured(issued))
    other = authority.issue("other.example.test")
    assert certificates.configure(configured(issued, other))
    assert served(certificates) == [("mail.example.test",), ("other.example.test",)]
    broken = Config(tls=Tls(str(other.certificate), str(issued.key)))
    assert not certificates.configure(broken) and len(served(certificates)) == 2
    assert certificates.configure(Config()) and served(certificates) == [("localhost.localdomain",)]


def test_a_broker_in_a_dead_ones_place_goes_on_without(home: Home, issued: Certificate) -> None:
    good = issued.key.read_bytes()
    issued.key.write_text("nothing")
    certificates = Certificates(home)
    assert not certificates.configure(configured(issued)) and served(certificates) == []
    issued.key.write_bytes(good)
    assert [certificates.look() for _ in range(2)] == [False, True]
    assert served(certificates) == [("mail.example.test",)]


def test_as_many_as_may_be_fit_into_one_frame() -> None:
    largest = bytes(FILE_LIMIT)
    pairs = tuple(KeyPair(largest, largest, ("mail.example.test",) * 100) for _ in range(KEY_PAIRS_LIMIT))
    assert len(msgspec.msgpack.encode(messages.Certificates(pairs))) < FRAME_LIMIT


def test_the_fingerprint_is_that_of_the_leaf(
    home: Home, issued: Certificate, capfd: pytest.CaptureFixture[str]
) -> None:
    Certificates(home).check(configured(issued))
    assert f"sha256={fingerprint(issued)}" in capfd.readouterr().err
