"""Passwords that a person chose: the verifier, and how strong a secret must be for APOP."""

from __future__ import annotations

import argon2
import pytest
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from pillarbox.store.password_hash import check_strong, hashed, verifies
from pillarbox.terms import Refused


def test_a_password_is_verified_and_no_other() -> None:
    verifier = hashed(b"my own password")
    assert argon2.PasswordHasher().verify(verifier, "my own password"), "the library's own reading"
    assert "password" not in verifier and verifier != hashed(b"my own password")
    assert verifies(verifier, b"my own password")
    assert not any(
        verifies(verifier, wrong) for wrong in (b"", b"my own passwore", b"my own password\0", b"\xff" * 200)
    )


@pytest.mark.parametrize("verifier", [None, ""])
def test_without_a_verifier_nobody_gets_in(verifier: str | None) -> None:
    assert not any(verifies(verifier, password) for password in (b"", b"abc", b"my own password"))


@pytest.mark.parametrize("verifier", ["$argon2id$", "no verifier", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$"])
@pytest.mark.parametrize("password", [b"", b"abc", b"my own password"])
def test_a_damaged_verifier_is_no_wrong_password(verifier: str, password: bytes) -> None:
    with pytest.raises((VerificationError, InvalidHashError)) as error:
        verifies(verifier, password)
    assert not isinstance(error.value, VerifyMismatchError)


def test_nor_is_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    monkeypatch.setattr(argon2.PasswordHasher, "verify", no_memory)
    with pytest.raises(VerificationError, match="Memory"):
        verifies(None, b"my own password")


def test_the_verifier_that_nobody_has_costs_what_others_cost() -> None:
    from pillarbox.store.password_hash import _NOBODYS

    ours, nobodys = (argon2.extract_parameters(text) for text in (hashed(b"my own password"), _NOBODYS))
    assert ours == nobodys and ours.type is argon2.Type.ID


@pytest.mark.parametrize("password", [b"", b"1234567", b"with\ttab in it", b" blank before", b"x" * 201])
def test_what_is_no_password(password: bytes) -> None:
    with pytest.raises(Refused):
        hashed(password)


@pytest.mark.parametrize(
    "secret", [b"correct horse battery staple", b"\xff\xfe rather strange octets", b"9f" * 3 + b"kq-Wm7,xTz_0bRd!uE4"]
)
def test_a_strong_secret_may_be_used_for_apop(secret: bytes) -> None:
    assert check_strong(secret).startswith(("about ", "more than "))


@pytest.mark.parametrize(
    "secret", [b"tanstaaf", b"k7#pQz!9mW2$xL5", b"a" * 200, b"qwertyuiopasdfghjklzxcvbnm", b"passwordpassword1234"]
)
def test_a_weak_one_may_not(secret: bytes) -> None:
    with pytest.raises(Refused) as error:
        check_strong(secret)
    assert secret.decode() not in error.value.why
