"""Secrets: sealed at rest, judged in one place, generated strong. APOP needs the secret itself, so it can't be hashed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
from functools import partial

from ..terms import Attempt, Mechanism, Refused, TryLater
from . import files

KEY_OCTETS = 32
NONCE_OCTETS = 12
VERSION = 1
GENERATED_CHARACTERS = 28  # of base32: 140 bits; 128 are out of reach of an offline guesser
GENERATED_MINIMUM = 26  # 130 bits
GROUP = 7  # four groups and three hyphens make 31 characters
CHOSEN_MINIMUM = 8
SECRET_LIMIT = 200  # octets; a POP3 command of 255 (RFC 2449 section 4) must hold it
_NEVER = b"\x00" * 31  # judged where there is no secret, so that the work is the same; never accepted
_PASSWORDS = frozenset((Mechanism.USER_PASS, Mechanism.PLAIN, Mechanism.LOGIN))
_md5 = partial(hashlib.md5, usedforsecurity=False)


class Seal:
    """Seals secrets with AES-256-GCM, each bound to its account, device and purpose.

    A sealed secret is: version (1 octet), key id (4, for a later change of keys), nonce (12), ciphertext with tag.
    """

    def __init__(self, key: bytes) -> None:
        """`key`: 32 octets. Raises ValueError."""
        # Imported here: who only judges a plain .password file must start without third-party packages.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(key) != KEY_OCTETS:
            raise ValueError(f"a sealing key has {KEY_OCTETS} octets")
        self._head = bytes([VERSION]) + hashlib.sha256(b"pillarbox key id" + key).digest()[:4]
        self._cipher = AESGCM(key)
        self._invalid = InvalidTag

    def __repr__(self) -> str:
        return f"Seal(key_id={self._head[1:].hex()})"

    def seal(self, secret: bytes, *, account: str, device: str = "", purpose: str = "apop") -> bytes:
        """The sealed secret; only the same key, account, device and purpose open it again."""
        nonce = os.urandom(NONCE_OCTETS)
        return self._head + nonce + self._cipher.encrypt(nonce, secret, _bound_to(account, device, purpose))

    def unseal(self, sealed: bytes, *, account: str, device: str = "", purpose: str = "apop") -> bytes:
        """Raises TryLater where the secret was sealed with another key, for somebody else, or is damaged."""
        start = len(self._head)
        if sealed[:start] != self._head:
            raise TryLater(f"the secret of {account} was sealed with another key; restore that key or set a new secret")
        nonce, text = sealed[start : start + NONCE_OCTETS], sealed[start + NONCE_OCTETS :]
        try:
            return self._cipher.decrypt(nonce, text, _bound_to(account, device, purpose))
        except (self._invalid, ValueError):  # ValueError: cut off within the nonce
            raise TryLater(f"the sealed secret of {account} is damaged; set a new one") from None


def _bound_to(account: str, device: str, purpose: str) -> bytes:
    parts = (account, device, purpose, str(VERSION))
    if any("|" in part for part in parts):
        raise ValueError("no name that a secret is bound to may hold a '|'")
    return "|".join(parts).encode()


def load_key(path: str, *, create: bool = True) -> bytes:
    """The sealing key, in a file of its own that only its owner can read; made where there is none.

    Raises Refused for a file that can't be trusted or is missing, TryLater where the disk fails us.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if create:
            return _make_key(path)
        raise Refused(f"{path}: the sealing key is missing; restore it from a backup") from None
    except OSError as error:
        raise Refused(f"{path} can't be opened: {error.strerror}") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise Refused(f"{path} is no plain file")
        if state.st_uid not in (os.geteuid(), 0) or state.st_mode & 0o077:
            raise Refused(f"{path} must belong to you and be readable by nobody else: chmod 600 {path}")
        key = os.read(descriptor, KEY_OCTETS + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_OCTETS:
        raise Refused(f"{path} must have {KEY_OCTETS} octets: restore it, or remove it and set new secrets")
    return key


def _make_key(path: str) -> bytes:
    """Whole and durable before it has its name: a key that vanished in a power cut would take all secrets with it."""
    temporary = f"{path}.{os.urandom(8).hex()}.tmp"
    try:
        descriptor = files.create(temporary)
        try:
            files.write_all(descriptor, os.urandom(KEY_OCTETS))
            files.fsync(descriptor)
            files.link(temporary, path)
        except FileExistsError:
            pass  # of two who make it at once, one wins, and both use that one
        finally:
            os.close(descriptor)
            files.unlink(temporary)
        files.sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        raise files.trouble(error, f"the sealing key {path} can't be made") from None
    return load_key(path, create=False)


def matches(attempt: Attempt, secret: bytes | None) -> bool:
    """The one judge of a login. Never with an empty or missing secret, which costs the same work, nor with one of NULs
    alone: that is what a crash leaves of a file, and to HMAC it is the empty one.

    A digest is lower-case hex (RFC 1939 section 7, RFC 2195), and is made with a challenge: a fixed one could be replayed.
    """
    usable = secret or _NEVER
    exists = usable.strip(b"\0") != b""
    if attempt.mechanism in _PASSWORDS:
        return hmac.compare_digest(attempt.proof, usable) and exists
    expected = _digest(attempt.mechanism, attempt.challenge, usable)
    return hmac.compare_digest(attempt.proof, expected) and exists and bool(attempt.challenge)


def _digest(mechanism: Mechanism, challenge: bytes, secret: bytes) -> bytes:
    """Raises ValueError for a mechanism without one."""
    if mechanism is Mechanism.APOP:
        return _md5(challenge + secret).hexdigest().encode("ascii")
    if mechanism is Mechanism.CRAM_MD5:
        return hmac.new(secret, challenge, _md5).hexdigest().encode("ascii")
    raise ValueError(f"{mechanism.value} is not judged by a digest")


def generate(characters: int = GENERATED_CHARACTERS) -> str:
    """A random secret that can be typed: lower-case base32 in groups of seven. The hyphens belong to the secret.

    Raises ValueError for less than 128 bits.
    """
    if characters < GENERATED_MINIMUM:
        raise ValueError(f"a generated secret has at least {GENERATED_MINIMUM} characters")
    letters = base64.b32encode(os.urandom(characters)).decode("ascii").lower()[:characters]
    return "-".join(letters[place : place + GROUP] for place in range(0, characters, GROUP))


def check_chosen(secret: bytes) -> None:
    """May a person choose this secret? Raises Refused, whose text never holds it."""
    if len(secret) < CHOSEN_MINIMUM:
        raise Refused(f"a secret needs at least {CHOSEN_MINIMUM} characters; leave the choice to us for a strong one")
    if len(secret) > SECRET_LIMIT:
        raise Refused(f"a secret has at most {SECRET_LIMIT} octets: POP3 clients can't send a longer one")
    if any(octet < 0x20 or octet == 0x7F for octet in secret):
        raise Refused("a secret holds no control characters: no tabs, no line ends")
    if secret != secret.strip(b" "):
        raise Refused("a secret neither begins nor ends with a blank: clients drop them")
