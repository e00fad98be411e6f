"""Certificates and keys from files: what is taken, and how what is wrong is named."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from pillarbox.store.certificates import FILE_LIMIT, load, make_own, own_files, signature
from pillarbox.terms import Refused, TryLater

from ..peers.certificates import Authority

NO_LOCK = serialization.NoEncryption()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def refusal(certificate: Path | str, key: Path | str) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        load(str(certificate), str(key))
    return refused.value.code, refused.value.why


def private(key: object, path: Path, lock: serialization.KeySerializationEncryption = NO_LOCK) -> Path:
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)  # type: ignore[attr-defined]
    path.write_bytes(text)
    path.chmod(0o600)
    return path


def test_a_good_pair(authority: Authority) -> None:
    made = authority.issue("mail.example.test", "*.example.test")
    pair = load(str(made.certificate), str(made.key))
    assert pair.names == ("mail.example.test", "*.example.test") and not pair.self_signed
    assert pair.chain == made.certificate.read_bytes() and pair.key == made.key.read_bytes()
    der = ssl.PEM_cert_to_DER_cert(made.certificate.read_text())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    assert pair.fingerprint == digest.finalize().hex(":").upper()
    assert "PRIVATE" not in repr(pair)


def test_a_file_with_key_and_chain_serves_for_both(authority: Authority) -> None:
    made = authority.issue("mail.example.test")
    assert load(str(made.chain), str(made.chain)).names == ("mail.example.test",)


def test_what_is_wrong_is_named(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("mail.example.test"), authority.issue("other.test")
    expired = authority.issue("mail.example.test", expired=True)
    missing, empty, long = tmp_path / "missing", tmp_path / "empty", tmp_path / "long"
    empty.touch(0o600)
    long.touch(0o600)
    long.write_bytes(bytes(FILE_LIMIT + 1))
    for certificate, key, code, words in (
        (missing, good.key, "certificate", "missing can't be read: No such file"),
        (good.certificate, missing, "key", "missing can't be read: No such file"),
        (tmp_path, good.key, "certificate", "is no plain file"),
        (empty, good.key, "certificate", "holds no certificate in PEM"),
        (good.certificate, empty, "key", "holds no private key in PEM"),
        (long, good.key, "certificate", "is longer than"),
        (expired.certificate, expired.key, "certificate", "has expired on "),
        (good.certificate, other.key, "key", f"is not the key of the certificate in {good.certificate}"),
        (good.key, good.certificate, "certificate", "holds no certificate in PEM"),
    ):
        assert refusal(certificate, key)[0] == code
        assert words in refusal(certificate, key)[1]


def test_keys_that_are_refused(authority: Authority, tmp_path: Path) -> None:
    good = authority.issue("mail.example.test")
    locked = serialization.BestAvailableEncryption(b"password")
    for key, lock, words in (
        (ec.generate_private_key(ec.SECP256R1()), locked, "is locked with a password"),
        (dsa.generate_private_key(2048), NO_LOCK, "is no key for TLS"),
        (rsa.generate_private_key(65537, 1024), NO_LOCK, "has 1024 bits"),
        (ed25519.Ed25519PrivateKey.generate(), NO_LOCK, "is not the key of"),
    ):
        assert words in refusal(good.certificate, private(key, tmp_path / "key", lock))[1]


@pytest.mark.parametrize(("mode", "taken"), [(0o600, True), (0o640, True), (0o644, False), (0o602, False)])
def test_a_key_for_all_to_read_is_refused(authority: Authority, mode: int, taken: bool) -> None:
    made = authority.issue("mail.example.test")
    made.key.chmod(mode)
    if taken:
        load(str(made.certificate), str(made.key))
    else:
        assert refusal(made.certificate, made.key) == (
            "key",
            f"{made.key} is open to every user of this machine: chmod o= {made.key}",
        )


def test_links_are_followed_as_certbot_makes_them(authority: Authority, tmp_path: Path) -> None:
    made = authority.issue("mail.example.test")
    (tmp_path / "c").symlink_to(made.certificate)
    (tmp_path / "k").symlink_to(made.key)
    assert load(str(tmp_path / "c"), str(tmp_path / "k")).names == ("mail.example.test",)


def test_a_signature_changes_with_the_file_behind_a_link(tmp_path: Path) -> None:
    one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "link"
    one.write_text("1")
    two.write_text("2")
    link.symlink_to(one)
    before = signature([str(link)])
    assert signature([str(link)]) == before
    link.unlink()
    assert signature([str(link)]) == (None,)
    link.symlink_to(two)
    assert signature([str(link)]) != before


# Our own.


def test_one_of_our_own_making(tmp_path: Path) -> None:
    make_own(str(tmp_path), "mail.example.test")
    certificate, key = map(Path, own_files(str(tmp_path)))
    pair = load(str(certificate), str(key))
    assert pair.self_signed and pair.names == ("mail.example.test",)
    assert isinstance(pair.leaf.public_key(), ec.EllipticCurvePublicKey)
    assert key.stat().st_mode & 0o777 == 0o600
    lifetime = pair.leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=3640) < lifetime < datetime.timedelta(days=3660)
    constraints = pair.leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    assert sorted(path.name for path in tmp_path.iterdir()) == ["certificate.pem", "key.pem"]


def test_two_are_never_the_same(tmp_path: Path) -> None:
    found = set()
    for _ in range(2):
        make_own(str(tmp_path), "mail.example.test")
        found.add(load(*own_files(str(tmp_path))).fingerprint)
    assert len(found) == 2


def test_a_folder_that_is_not_there_is_trouble(tmp_path: Path) -> None:
    with pytest.raises(TryLater):
        make_own(str(tmp_path / "none"), "mail.example.test")


def test_a_long_host_name_fits(tmp_path: Path) -> None:
    name = ".".join(["a" * 60] * 4)
    make_own(str(tmp_path), name)
    assert load(*own_files(str(tmp_path))).names == (name,)
