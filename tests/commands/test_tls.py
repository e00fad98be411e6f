"""The commands `pillarbox tls`: whom to trust, where it is served, and what is wrong with it."""

from __future__ import annotations

import json
import ssl
from hashlib import sha256
from pathlib import Path

import pytest

from pillarbox.home import Home
from pillarbox.store.certificates import make_own
from pillarbox.testing import server

from ..command_line import SECRET, say
from ..peers.certificates import Authority, Certificate


@pytest.fixture
def home(place: Path) -> Home:
    home = Home(str(place))
    home.make()
    (place / "pillarbox.toml").write_text("")
    return home


@pytest.fixture
def issued(tmp_path: Path) -> tuple[Certificate, Certificate]:
    authority = Authority(tmp_path)
    return authority.issue("mail.example.test", "pop.example.test"), authority.issue("mail.elsewhere.test")


def fingerprint(pem: str) -> str:
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()


def test_before_the_first_start_there_is_none(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, "tls", "show", "--home", home.folder)
    assert said.status == 1
    assert said.err == "pillarbox: there is no certificate yet: the server makes one at its first start\n"


def test_where_no_home_is_none_is_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "tls", "show", "--home", place).status == 1
    assert not place.exists()


def test_the_one_of_its_own_making(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.tls).mkdir(0o700)
    make_own(home.tls, "mail.example.test")
    said = say(capsys, "tls", "show", "--home", home.folder)
    assert said.status == 0
    assert "certificate for mail.example.test\n" in said.out and "  issuer   itself\n" in said.out
    assert f"  SHA-256  {fingerprint((Path(home.tls) / 'certificate.pem').read_text())}\n" in said.out
    assert "  serves   every name\n" in said.out
    assert "  pop3         127.0.0.1:1110  after STLS\n" in said.out and "  pop3s        127.0.0.1:1995\n" in said.out
    assert "PRIVATE" not in said.out


def test_several(home: Home, issued: tuple[Certificate, Certificate], capsys: pytest.CaptureFixture[str]) -> None:
    certificates, keys = ([str(getattr(one, part)) for one in issued] for part in ("certificate", "key"))
    Path(home.config).write_text(f"[tls]\ncertificate = {json.dumps(certificates)}\nkey = {json.dumps(keys)}\n")
    plain = say(capsys, "tls", "show", "--home", home.folder).out
    assert "certificate for mail.example.test, pop.example.test\n" in plain
    assert "  serves   its names, and every other name, and clients that ask for none\n" in plain
    assert "  issuer   CN=Authority of the tests\n" in plain and "  serves   its names\n" in plain
    shown = json.loads(say(capsys, "tls", "show", "--json", "--home", home.folder).out)
    assert [one["names"] for one in shown["certificates"]] == [
        ["mail.example.test", "pop.example.test"],
        ["mail.elsewhere.test"],
    ]
    assert [one["sha256"] for one in shown["certificates"]] == [
        fingerprint(one.certificate.read_text()) for one in issued
    ]
    assert [one["default"] for one in shown["certificates"]] == [True, False]
    assert [one["key"] for one in shown["certificates"]] == keys
    assert shown["listen"]["pop3s"] == ["127.0.0.1:1995"]


def test_what_is_wrong_is_said_with_file_and_key(
    home: Home, issued: tuple[Certificate, Certificate], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(home.config).write_text(f'[tls]\ncertificate = "{issued[0].certificate}"\nkey = "{issued[1].key}"\n')
    for command in (("tls", "show"), ("config", "check")):
        said = say(capsys, *command, "--home", home.folder)
        assert said.status == 1
        assert said.err.startswith(f"pillarbox: {home.config}: `tls.key`: {issued[1].key} is not the key of")


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ('certificate = "/a"', "`tls.certificate` and `tls.key` go together"),
        ('certificate = ["/a", "/b"]\nkey = "/c"', "`tls.certificate` and `tls.key` go together"),
        ('certificate = "a"\nkey = "/c"', '`tls.certificate` is "a", but must be an absolute path'),
        ('certificate = [""]\nkey = "/c"', "`tls.certificate` holds an empty path"),
        ("certificate = 5", "`tls.certificate` must be a text in quotes or a list in square brackets"),
        ('certificates = "/a"', "the nearest one is `tls.certificate`"),
        (f"certificate = {['/a'] * 33}\nkey = {['/b'] * 33}", "`tls.certificate` can't hold more than 32"),
    ],
)
def test_what_is_no_configuration(home: Home, tls: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(home.config).write_text(f"[tls]\n{tls}\n")
    said = say(capsys, "config", "check", "--home", home.folder)
    assert said.status == 1 and words in said.err


def test_a_running_server_serves_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with server(accounts={"alice": SECRET}) as mail:
        shown = json.loads(say(capsys, "tls", "show", "--json", "--home", mail.home).out)
        served = ssl.get_server_certificate((mail.host, mail.pop3s_port))
        assert [one["sha256"] for one in shown["certificates"]] == [fingerprint(served)]
        assert f"sha256={fingerprint(served)}" in mail.log()
