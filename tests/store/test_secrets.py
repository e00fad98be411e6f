"""Sealing, the key's file, the one judge, and which secrets are good."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.store import files
from pillarbox.store.secrets import KEY_OCTETS, Seal, check_chosen, generate, is_generated, load_key, matches
from pillarbox.terms import Attempt, Mechanism, Refused, TryLater

KEY = bytes(range(KEY_OCTETS))
CHALLENGE = b"<1896.697170952@dbc.mtview.ca.us>"  # the example of RFC 1939 section 7
SECRET = b"tanstaaf"
DIGEST = b"c4c9334bac560ecc979e58001b3e22fb"
USER = Mechanism.USER_PASS
APOP = Mechanism.APOP
CRAM = Mechanism.CRAM_MD5


def keyed(secret: bytes) -> bytes:
    return hmac.new(secret, CHALLENGE, "md5").hexdigest().encode()


# Sealing.


@given(st.binary(max_size=300), st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=40))
def test_what_was_sealed_comes_back(secret: bytes, account: str) -> None:
    seal = Seal(KEY)
    sealed = seal.seal(secret, account=account)
    assert seal.unseal(sealed, account=account) == secret
    assert len(secret) < 4 or secret not in sealed


def test_the_same_secret_is_never_sealed_alike() -> None:
    seal = Seal(KEY)
    assert len({seal.seal(SECRET, account="a@b.test") for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "bound_to",
    [
        {"account": "b@b.test"},
        {"account": "a@b.test", "device": "phone"},
        {"account": "a@b.test", "purpose": "scram"},
    ],
)
def test_a_sealed_secret_opens_for_nobody_else(bound_to: dict[str, str]) -> None:
    sealed = Seal(KEY).seal(SECRET, account="a@b.test")
    with pytest.raises(TryLater, match="damaged"):
        Seal(KEY).unseal(sealed, **bound_to)


def test_names_can_not_be_shifted_into_one_another() -> None:
    with pytest.raises(ValueError, match=r"\|"):
        Seal(KEY).seal(SECRET, account="a|b")


def test_another_key_is_named_as_the_trouble() -> None:
    sealed = Seal(KEY).seal(SECRET, account="a@b.test")
    with pytest.raises(TryLater, match="sealed with another key"):
        Seal(KEY[::-1]).unseal(sealed, account="a@b.test")


def test_any_damage_is_found() -> None:
    seal = Seal(KEY)
    sealed = seal.seal(SECRET, account="a@b.test")
    for place in range(len(sealed)):
        for damaged in (sealed[:place], sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]):
            with pytest.raises(TryLater) as error:
                seal.unseal(damaged, account="a@b.test")
            assert SECRET.decode() not in str(error.value)


def test_a_seal_does_not_show_its_key() -> None:
    assert KEY.hex()[:8] not in repr(Seal(KEY))


@pytest.mark.parametrize("octets", [0, 16, 31, 33])
def test_a_key_has_32_octets(octets: int) -> None:
    with pytest.raises(ValueError, match="32 octets"):
        Seal(bytes(octets))


# The key's file.


def test_the_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = load_key(str(path))
    assert len(key) == KEY_OCTETS
    assert load_key(str(path)) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["key"]
    assert load_key(str(tmp_path / "other")) != key


def test_the_key_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("create", "write_all", "fsync", "link", "unlink", "sync_directory"):
        real = getattr(files, name)
        monkeypatch.setattr(
            files, name, lambda *arguments, name=name, real=real: (done.append(name), real(*arguments))[1]
        )
    load_key(str(tmp_path / "key"))
    assert done == ["create", "write_all", "fsync", "link", "unlink", "sync_directory"]


def test_of_two_who_make_the_key_at_once_both_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "key")
    real, others = files.fsync, []

    def fsync_after_somebody_else_was_faster(descriptor: int) -> None:
        monkeypatch.setattr(files, "fsync", real)
        others.append(load_key(path))
        real(descriptor)

    monkeypatch.setattr(files, "fsync", fsync_after_somebody_else_was_faster)
    assert [load_key(path)] == others
    assert os.listdir(tmp_path) == ["key"]


def test_a_full_disk_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(TryLater, match="No space left"):
        load_key(str(tmp_path / "key"))
    assert os.listdir(tmp_path) == []


def test_a_missing_key_is_not_made_when_told_so(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="missing"):
        load_key(str(tmp_path / "key"), create=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", KEY[:-1], KEY + b"\n"])
def test_a_key_of_the_wrong_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused, match="32 octets"):
        load_key(str(path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(mode)
    with pytest.raises(Refused, match="chmod 600"):
        load_key(str(path))


def test_a_link_a_pipe_and_a_folder_are_no_key(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(KEY)
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    for name in ("link", "pipe", "folder"):
        with pytest.raises(Refused, match=name):
            load_key(str(tmp_path / name))


# The judge.


def test_the_example_of_rfc_1939() -> None:
    assert matches(Attempt(b"mrose", DIGEST, APOP, CHALLENGE), SECRET)


@pytest.mark.parametrize(
    ("proof", "challenge"),
    [
        (DIGEST.upper(), CHALLENGE),
        (DIGEST[:-1], CHALLENGE),
        (DIGEST + b"0", CHALLENGE),
        (b"", CHALLENGE),
        (DIGEST, CHALLENGE[1:-1]),
        (SECRET, CHALLENGE),
        (hashlib.md5(SECRET).hexdigest().encode(), b""),
        (b"\xff" * 32, CHALLENGE),
    ],
)
def test_a_wrong_digest(proof: bytes, challenge: bytes) -> None:
    assert not matches(Attempt(b"mrose", proof, APOP, challenge), SECRET)


def test_the_example_of_rfc_2195() -> None:
    challenge, digest = b"<1896.697170952@postoffice.reston.mci.net>", b"b913a602c7eda7a495b4e6e7334d3890"
    assert matches(Attempt(b"tim", digest, CRAM, challenge), b"tanstaaftanstaaf")
    for proof, with_challenge in (
        (digest.upper(), challenge),
        (digest, challenge[1:-1]),
        (digest[:-1], challenge),
        (b"", challenge),
        (b"tanstaaftanstaaf", challenge),
        (hmac.new(b"tanstaaftanstaaf", b"", "md5").hexdigest().encode(), b""),
        (hashlib.md5(challenge + b"tanstaaftanstaaf").hexdigest().encode(), challenge),
    ):
        assert not matches(Attempt(b"tim", proof, CRAM, with_challenge), b"tanstaaftanstaaf")


@pytest.mark.parametrize("mechanism", [USER, Mechanism.PLAIN, Mechanism.LOGIN])
@pytest.mark.parametrize(
    ("proof", "right"), [(SECRET, True), (SECRET + b" ", False), (b"Tanstaaf", False), (b"", False), (DIGEST, False)]
)
def test_a_password(mechanism: Mechanism, proof: bytes, right: bool) -> None:
    assert matches(Attempt(b"mrose", proof, mechanism, CHALLENGE), SECRET) is right


@pytest.mark.parametrize("secret", [None, b"", b"\0", bytes(31), bytes(64)])
@pytest.mark.parametrize("guess", [b"", b"\0", bytes(31), bytes(64), b"\x00no secret\x00"])
def test_no_secret_never_matches(secret: bytes | None, guess: bytes) -> None:
    """checkapoppw lets anyone in on an empty file: MD5 of the challenge alone is known to all."""
    digest = hashlib.md5(CHALLENGE + guess).hexdigest().encode()
    assert not matches(Attempt(b"mrose", digest, APOP, CHALLENGE), secret)
    assert not matches(Attempt(b"mrose", keyed(guess), CRAM, CHALLENGE), secret)
    for mechanism in (USER, Mechanism.PLAIN, Mechanism.LOGIN):
        assert not matches(Attempt(b"mrose", guess, mechanism), secret)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_secret_that_is_missing_costs_the_same_work(secret: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    true = hmac.compare_digest

    def compare(proof: bytes, expected: bytes) -> bool:
        done.append(f"compared with {len(expected)}")
        return true(proof, expected)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for mechanism in (APOP, CRAM):
        assert not matches(Attempt(b"mrose", b"x" * 32, mechanism, CHALLENGE), secret)
    assert done == ["compared with 32"] * 2


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80).map(str.encode)


@given(SECRETS, SECRETS)
def test_a_login_matches_its_own_secret_only(secret: bytes, other: bytes) -> None:
    digest = hashlib.md5(CHALLENGE + secret).hexdigest().encode()
    for attempt in (
        Attempt(b"a", digest, APOP, CHALLENGE),
        Attempt(b"a", keyed(secret), CRAM, CHALLENGE),
        Attempt(b"a", secret, USER),
    ):
        assert matches(attempt, secret)
        assert matches(attempt, other) is (secret == other)


# Which secrets.


def test_a_generated_secret_can_be_typed_and_is_strong() -> None:
    secrets = {generate() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert len(secret) == 31
        assert [len(group) for group in secret.split("-")] == [7, 7, 7, 7]
        assert set(secret) <= set("abcdefghijklmnopqrstuvwxyz234567-")
        check_chosen(secret.encode())


def test_a_longer_one_for_who_wants_it() -> None:
    assert len(generate(64).replace("-", "")) == 64
    with pytest.raises(ValueError, match="26"):
        generate(25)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (b"", "at least 8"),
        (b"1234567", "at least 8"),
        (b"x" * 201, "at most 200"),
        (b"tab\there!", "control"),
        (b"new line\n", "control"),
        (b"nul\0nul\0", "control"),
        (b"delete\x7f!", "control"),
        (b" blanks!", "blank"),
        (b"blanks! ", "blank"),
    ],
)
def test_a_poor_choice_is_refused(secret: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why) as error:
        check_chosen(secret)
    assert not secret or secret.decode() not in error.value.why


@pytest.mark.parametrize("secret", [b"12345678", b"x" * 200, b"two words", "gr\u00fc\u00dfe an alle".encode()])
def test_a_fair_choice(secret: bytes) -> None:
    check_chosen(secret)


@pytest.mark.parametrize("characters", [26, 28, 52, 104])
def test_a_generated_secret_is_known_by_its_form(characters: int) -> None:
    assert all(is_generated(generate(characters).encode()) for _ in range(100))


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"correct horse battery staple",
        b"qxvb4mz",
        b"abcdefg-hijklmn-opqrstu-vwx",  # 120 bits
        b"abcdefghijklmnopqrstuvwxyz",
        b"abcdefg-hijklmn-opqrstu-vwxyz1",
        b"abcdefg-hijklmn-opqrstu-vwxyz\n",
        b"ABCDEFG-HIJKLMN-OPQRSTU-VWXYZ",
        b"letmein-letmein-letmein-letmein",
    ],
)
def test_a_chosen_one_is_not(secret: bytes) -> None:
    assert not is_generated(secret)
