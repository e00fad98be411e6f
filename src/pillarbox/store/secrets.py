"""Secrets: sealed at rest, judged in one place, generated strong. APOP needs the secret itself, so it can't be hashed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets as randomness
import stat

from ..terms import Attempt, Mechanism, Refused, TryLater
from . import files

KEY_OCTETS = 32
NONCE_OCTETS = 12
VERSION = 1
GENERATED_CHARACTERS = 26  # of base32: 130 bits, out of reach of an offline guesser (128 is the rule)
GROUP = 6
CHOSEN_MINIMUM = 8
SECRET_LIMIT = 200  # octets; APOP and PASS lines hold no more
_NEVER = b"\x00no secret\x00"  # judged against where there is none, so that the work is the same


class Seal:
    """Seals secrets with AES-256-GCM, bound to account, device and purpose."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._key_id = hashlib.sha256(b"pillarbox key id" + key).digest()[:4]
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"Seal(key_id={self._key_id.hex()})"

    def seal(self, secret: bytes, *, account: str, device: str = "", purpose: str = "apop") -> bytes:
        """version, key id, nonce, ciphertext."""
        nonce = randomness.token_bytes(NONCE_OCTETS)
        sealed = self._cipher.encrypt(nonce, secret, _bound_to(account, device, purpose))
        return bytes([VERSION]) + self._key_id + nonce + sealed

    def unseal(self, sealed: bytes, *, account: str, device: str = "", purpose: str = "apop") -> bytes:
        """Raises TryLater where the secret was sealed with another key, or for another account."""
        from cryptography.exceptions import InvalidTag

        start = 1 + len(self._key_id)
        if sealed[:start] != bytes([VERSION]) + self._key_id:
            raise TryLater(
                f"the secret of {account} was sealed with another key; restore secret.key, or set a new secret"
            )
        nonce, text = sealed[start : start + NONCE_OCTETS], sealed[start + NONCE_OCTETS :]
        try:
            return self._cipher.decrypt(nonce, text, _bound_to(account, device, purpose))
        except InvalidTag:
            raise TryLater(f"the sealed secret of {account} is damaged; set a new one") from None


def _bound_to(account: str, device: str, purpose: str) -> bytes:
    return "|".join((account, device, purpose, str(VERSION))).encode()


def load_key(path: str) -> bytes:
    """The sealing key, in a file of its own that only its owner can read; made at first use. Raises Refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return _make_key(path)
    except OSError as error:
        raise Refused(f"{path} can't be opened: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if state.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(state.st_mode) & 0o077:
            raise Refused(f"{path} must belong to you and be readable by nobody else: chmod 600 {path}")
        key = file.read(KEY_OCTETS + 1)
    if len(key) != KEY_OCTETS:
        raise Refused(
            f"{path} is not {KEY_OCTETS} octets long: restore it from a backup, or remove it and set new secrets"
        )
    return key


def _make_key(path: str) -> bytes:
    temporary = f"{path}.{randomness.token_hex(8)}.tmp"
    key = randomness.token_bytes(KEY_OCTETS)
    descriptor = files.create(temporary)
    try:
        files.write_all(descriptor, key)
        files.fsync(descriptor)
        files.link(temporary, path)  # of two who make it at once, one wins
    except FileExistsError:
        return load_key(path)
    finally:
        os.close(descriptor)
        files.unlink(temporary)
    files.sync_directory(os.path.dirname(path))
    return key


def matches(attempt: Attempt, secret: bytes | None) -> bool:
    """The one judge of a login. An empty or missing secret never matches, and costs the same work."""
    usable = secret or _NEVER
    if attempt.mechanism is Mechanism.APOP:
        expected = hashlib.md5(attempt.challenge + usable, usedforsecurity=False).hexdigest().encode("ascii")
    else:
        expected = usable
    return hmac.compare_digest(attempt.proof, expected) and bool(secret)


def generate() -> str:
    """A secret of 130 random bits in groups that can be typed; the hyphens belong to it."""
    letters = base64.b32encode(randomness.token_bytes(20)).decode("ascii").lower()[:GENERATED_CHARACTERS]
    return "-".join(letters[place : place + GROUP] for place in range(0, len(letters), GROUP))


def check_chosen(secret: bytes) -> None:
    """May a person choose this secret? Raises Refused."""
    if len(secret) < CHOSEN_MINIMUM:
        raise Refused(f"a secret needs at least {CHOSEN_MINIMUM} characters; leave the choice to us for a strong one")
    if len(secret) > SECRET_LIMIT:
        raise Refused(f"a secret has at most {SECRET_LIMIT} octets")
    if any(octet < 0x20 or octet == 0x7F for octet in secret) or secret != secret.strip(b" "):
        raise Refused("a secret holds no control characters, and no blank at its ends")
