"""Secrets: sealed at rest, judged in one place, generated strong. APOP needs the secret itself, so it can't be hashed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..terms import Attempt, Mechanism, Refused, TryLater
from . import files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS = 32
KEYS_LIMIT = 2  # in a file: the key, and the one before while a rotation is under way
KEY_ID_OCTETS = 4
NONCE_OCTETS = 12
VERSION = 1
_HEAD = bytes([VERSION])
GENERATED_CHARACTERS = 28  # of base32: 140 bits; 128 are out of reach of an offline guesser
GENERATED_MINIMUM = 26  # 130 bits
GROUP = 7  # four groups and three hyphens make 31 characters
CHOSEN_MINIMUM = 8
SECRET_LIMIT = 200  # octets; a POP3 command of 255 (RFC 2449 section 4) must hold it
_GENERATED = re.compile(rb"(?:[a-z2-7]{7}-)+[a-z2-7]{1,7}")
VARIETY = (
    8  # different characters: fewer come up once in 10**10 secrets of ours, and in a word of seven repeated always
)
_NEVER = b"\x00" * 31  # judged where there is no secret, so that the work is the same; never accepted
PASSWORDS = frozenset((Mechanism.USER_PASS, Mechanism.PLAIN, Mechanism.LOGIN))
_md5 = partial(hashlib.md5, usedforsecurity=False)


class Seal:
    """Seals secrets with AES-256-GCM, each bound to its account, device and purpose.

    A sealed secret is: version (1 octet), key id (4), nonce (12), ciphertext with tag.
    """

    def __init__(self, *keys: bytes, reread: Callable[[], Sequence[bytes]] | None = None) -> None:
        """`keys`: 32 octets each; the first one seals, all of them open. Raises ValueError.

        `reread`: all keys as they are now, asked for once a secret was sealed with one that is not known.
        """
        # Imported here: who only judges a plain .password file must start without third-party packages.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not keys or any(len(key) != KEY_OCTETS for key in keys):
            raise ValueError(f"a sealing key has {KEY_OCTETS} octets")
        self._make, self._invalid = AESGCM, InvalidTag
        self._reread = reread
        self.key_id = key_id_of(keys[0])
        self._ciphers = {key_id_of(key): AESGCM(key) for key in keys}

    def __repr__(self) -> str:
        return f"Seal(key_id={self.key_id.hex()})"

    def _cipher(self, key_id: bytes) -> AESGCM | None:
        """None: no key that we have or may read is that one."""
        if key_id not in self._ciphers and self._reread is not None:
            with contextlib.suppress(Refused, TryLater):
                self._ciphers |= {key_id_of(key): self._make(key) for key in self._reread()}
        return self._ciphers.get(key_id)

    def seal(
        self, secret: bytes, *, account: str, device: str = "", purpose: str = "apop", key_id: bytes | None = None
    ) -> bytes:
        """The sealed secret; only the same key, account, device and purpose open it again.

        `key_id`: the key to seal with, if not the first. Raises TryLater where that one is not at hand.
        """
        key_id = key_id or self.key_id
        cipher = self._cipher(key_id)
        if cipher is None:
            raise TryLater("secrets here are sealed with another key than the one at hand; restore that key")
        nonce = os.urandom(NONCE_OCTETS)
        return _HEAD + key_id + nonce + cipher.encrypt(nonce, secret, _bound_to(account, device, purpose))

    def unseal(self, sealed: bytes, *, account: str, device: str = "", purpose: str = "apop") -> bytes:
        """Raises TryLater where the secret was sealed with another key, for somebody else, or is damaged."""
        start = len(_HEAD) + KEY_ID_OCTETS
        cipher = self._cipher(sealed[1:start]) if sealed.startswith(_HEAD) else None
        if cipher is None:
            raise TryLater(f"the secret of {account} was sealed with another key; restore that key or set a new secret")
        nonce, text = sealed[start : start + NONCE_OCTETS], sealed[start + NONCE_OCTETS :]
        try:
            return cipher.decrypt(nonce, text, _bound_to(account, device, purpose))
        except (self._invalid, ValueError):  # ValueError: cut off within the nonce
            raise TryLater(f"the sealed secret of {account} is damaged; set a new one") from None


def key_id_of(key: bytes) -> bytes:
    """What tells a key from others, and nothing about it."""
    return hashlib.sha256(b"pillarbox key id" + key).digest()[:KEY_ID_OCTETS]


def key_id_of_sealed(sealed: bytes) -> bytes:
    """Of the key that this was sealed with."""
    return sealed[len(_HEAD) : len(_HEAD) + KEY_ID_OCTETS]


def seal_of(path: str, *, create: bool) -> Seal:
    """The seal with the keys in a file, now and after a rotation. Raises as load_key."""
    return Seal(*load_keys(path, create=create), reread=lambda: load_keys(path, create=False))


def _bound_to(account: str, device: str, purpose: str) -> bytes:
    bound = f"{account}|{device}|{purpose}|{VERSION}"
    if bound.count("|") != 3:
        raise ValueError("no name that a secret is bound to may hold a '|'")
    return bound.encode()


def load_key(path: str, *, create: bool = True) -> bytes:
    """The sealing key, the first of load_keys."""
    return load_keys(path, create=create)[0]


def load_keys(path: str, *, create: bool = True) -> tuple[bytes, ...]:
    """The sealing key, in a file of its own that only its owner can read; made where there is none.

    Behind it, while a rotation is under way, the one before.

    Raises Refused for a file that can't be trusted or is missing, TryLater where the disk fails us.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if create:
            return (_make_key(path),)
        raise Refused(f"{path}: the sealing key is missing; restore it from a backup") from None
    except OSError as error:
        raise Refused(f"{path} can't be opened: {error.strerror}") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise Refused(f"{path} is no plain file")
        if state.st_uid not in (os.geteuid(), 0) or state.st_mode & 0o077:
            raise Refused(f"{path} must belong to you and be readable by nobody else: chmod 600 {path}")
        content = os.read(descriptor, KEYS_LIMIT * KEY_OCTETS + 1)
    finally:
        os.close(descriptor)
    if len(content) not in (KEY_OCTETS, KEYS_LIMIT * KEY_OCTETS):
        raise Refused(f"{path} must have {KEY_OCTETS} octets: restore it, or remove it and set new secrets")
    return tuple(content[start : start + KEY_OCTETS] for start in range(0, len(content), KEY_OCTETS))


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
    return matching(attempt, [secret or b""], 1) is not None


def matching(attempt: Attempt, secrets: Sequence[bytes], work: int) -> int | None:
    """Which of these secrets the attempt was made with. All are judged, and so many as `work` where there are fewer:
    neither their number nor which one it is shows in the time.
    """
    proof_of = _judge_of(attempt.mechanism, attempt.challenge)
    padded = [secret or _NEVER for secret in secrets] + [_NEVER] * (work - len(secrets))
    judged = [hmac.compare_digest(attempt.proof, proof_of(usable)) & (usable.strip(b"\0") != b"") for usable in padded]
    return judged.index(True) if True in judged and (attempt.challenge or attempt.mechanism in PASSWORDS) else None


def _judge_of(mechanism: Mechanism, challenge: bytes) -> Callable[[bytes], bytes]:
    """What proves a secret. Raises ValueError for a mechanism that is judged elsewhere."""
    if mechanism in PASSWORDS:
        return bytes
    if mechanism is Mechanism.APOP:
        return partial(_apop, _md5(challenge))
    if mechanism is Mechanism.CRAM_MD5:
        return lambda secret: hmac.new(secret, challenge, _md5).hexdigest().encode("ascii")
    raise ValueError(f"{mechanism.value} is not judged by a digest")


def _apop(begun: hashlib._Hash, secret: bytes) -> bytes:
    """`begun`: with the challenge, once for all secrets."""
    digest = begun.copy()
    digest.update(secret)
    return digest.hexdigest().encode("ascii")


def generate(characters: int = GENERATED_CHARACTERS) -> str:
    """A random secret that can be typed: lower-case base32 in groups of seven. The hyphens belong to the secret.

    Raises ValueError for less than 128 bits.
    """
    if characters < GENERATED_MINIMUM:
        raise ValueError(f"a generated secret has at least {GENERATED_MINIMUM} characters")
    letters = base64.b32encode(os.urandom(characters)).decode("ascii").lower()[:characters]
    return "-".join(letters[place : place + GROUP] for place in range(0, characters, GROUP))


def is_generated(secret: bytes) -> bool:
    """Has it the form of `generate`, so that nobody guesses it? A person's choice has it only where he copied one."""
    letters = secret.replace(b"-", b"")
    return (
        _GENERATED.fullmatch(secret) is not None and len(letters) >= GENERATED_MINIMUM and len(set(letters)) >= VARIETY
    )


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
