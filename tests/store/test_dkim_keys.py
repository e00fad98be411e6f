"""Signing keys on disk: durable, never overwritten, never read from where others could."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pillarbox.store import dkim_keys, files
from pillarbox.store.dkim_keys import Key
from pillarbox.terms import Refused, TryLater

DOMAIN, SELECTOR = "example.org", "s202611-ed"
KEY = Key(DOMAIN, SELECTOR, dkim_keys.generate("ed25519"))
RSA = Key(DOMAIN, "s202611-rsa", dkim_keys.generate("rsa"))


def pem(private: object, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("key", [KEY, RSA], ids=["ed25519", "rsa"])
def test_a_key_comes_back(key: Key, tmp_path: Path) -> None:
    dkim_keys.add(str(tmp_path), key)
    found = dkim_keys.load(str(tmp_path), DOMAIN, key.selector)
    assert (found.domain, found.selector, found.algorithm) == (DOMAIN, key.selector, key.algorithm)
    assert found.public == key.public
    path = tmp_path / DOMAIN / f"{key.selector}.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_a_new_key_is_strong_and_public_as_its_record_wants_it() -> None:
    assert isinstance(RSA.private, rsa.RSAPrivateKey) and RSA.private.key_size == 2048
    assert RSA.algorithm == "rsa" and KEY.algorithm == "ed25519"
    assert len(KEY.public) == 32
    loaded = serialization.load_der_public_key(RSA.public)
    assert loaded == RSA.private.public_key()


def test_a_key_does_not_show_itself() -> None:
    assert "private" not in repr(KEY) and "Ed25519" not in repr(KEY)


def test_a_key_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("create", "write_all", "fsync", "link", "unlink", "sync_directory"):
        real = getattr(files, name)
        monkeypatch.setattr(
            files, name, lambda *arguments, name=name, real=real: (done.append(name), real(*arguments))[1]
        )
    dkim_keys.add(str(tmp_path), KEY)
    assert done == ["sync_directory", "create", "write_all", "fsync", "link", "unlink", "sync_directory"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    dkim_keys.add(str(tmp_path), KEY)
    with pytest.raises(Refused, match="already"):
        dkim_keys.add(str(tmp_path), Key(DOMAIN, SELECTOR, dkim_keys.generate("ed25519")))
    assert dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR).public == KEY.public
    assert tree(tmp_path) == [DOMAIN, f"{DOMAIN}/{SELECTOR}.pem"]


@pytest.mark.parametrize("operation", ["create", "write_all", "fsync", "link"])
def test_a_failing_disk_leaves_no_key(operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, operation, full)
    with pytest.raises(TryLater, match="No space left"):
        dkim_keys.add(str(tmp_path), KEY)
    assert tree(tmp_path) == [DOMAIN]


def test_keys_are_listed_and_removed(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for key in (RSA, KEY):
        dkim_keys.add(folder, key)
    (tmp_path / DOMAIN / "notes.txt").write_text("not a key")
    (tmp_path / DOMAIN / ".pem").write_text("no selector")
    assert dkim_keys.domains(folder) == [DOMAIN]
    assert dkim_keys.selectors(folder, DOMAIN) == [SELECTOR, "s202611-rsa"]
    dkim_keys.remove(folder, DOMAIN, SELECTOR)
    assert dkim_keys.selectors(folder, DOMAIN) == ["s202611-rsa"]
    with pytest.raises(Refused, match=f"no key {SELECTOR} of {DOMAIN}"):
        dkim_keys.remove(folder, DOMAIN, SELECTOR)


def test_the_last_key_of_a_domain_takes_its_folder_along(tmp_path: Path) -> None:
    dkim_keys.add(str(tmp_path), KEY)
    dkim_keys.remove(str(tmp_path), DOMAIN, SELECTOR)
    assert tree(tmp_path) == []


def test_where_there_is_nothing_there_are_no_keys(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    assert dkim_keys.domains(missing) == [] and dkim_keys.selectors(missing, DOMAIN) == []
    assert dkim_keys.selectors(str(tmp_path), "file") == []
    for place in (missing, str(tmp_path)):
        with pytest.raises(Refused, match="no key"):
            dkim_keys.load(place, "file", SELECTOR)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "damaged"),
        (pem(KEY.private)[:60], "damaged"),
        (pem(RSA.private).replace(b"A", b"B", 40), "damaged"),
        (pem(KEY.private, b"password"), "without a password"),
        (b"x" * (dkim_keys.FILE_LIMIT + 1), "too long"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "no key for rsa or ed25519"),
    ],
    ids=["empty", "cut", "damaged", "encrypted", "long", "elliptic"],
)
def test_a_file_that_is_no_good_key_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = place(tmp_path, content)
    with pytest.raises(Refused, match=why) as error:
        dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR)
    assert str(path) in error.value.why


@pytest.mark.parametrize(("limit", "bits"), [("RSA_LEAST", 2049), ("RSA_MOST", 2047)])
def test_a_key_of_a_length_that_verifiers_do_not_know_is_refused(
    limit: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, pem(RSA.private))
    assert dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR).algorithm == "rsa"
    monkeypatch.setattr(dkim_keys, limit, bits)
    with pytest.raises(Refused, match="2048 bits"):
        dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR)


def place(folder: Path, content: bytes) -> Path:
    path = folder / DOMAIN / f"{SELECTOR}.pem"
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_a_key_that_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    place(tmp_path, pem(KEY.private)).chmod(mode)
    with pytest.raises(Refused, match="chmod 600"):
        dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR)


@pytest.mark.root
def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(place(tmp_path, pem(KEY.private)), 12345, 12345)
    with pytest.raises(Refused, match="must belong to uid 0"):
        dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR)


@pytest.mark.parametrize("selector", ["", "..", "A", "a b", "s1; x=1", "a\n", "a."])
def test_a_name_that_could_not_stand_in_a_field_is_refused(selector: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no selector"):
        dkim_keys.load(str(tmp_path), DOMAIN, selector)


def test_links_and_pipes_are_no_keys(tmp_path: Path) -> None:
    path = place(tmp_path, pem(KEY.private))
    path.rename(path.with_name("real"))
    path.symlink_to("real")
    with pytest.raises(Refused, match="can't be opened"):
        dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(Refused, match="no plain file"):
        dkim_keys.load(str(tmp_path), DOMAIN, SELECTOR)
