"""Keys that sign outgoing mail: FOLDER/DOMAIN/SELECTOR.pem, PKCS#8, each readable by its owner alone.

Whoever signs owns them; run these functions as that user.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets as randomness
import stat
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from ..terms import Refused
from . import files

END = ".pem"
LIMIT = 4  # keys of a domain that are used: two types, the old one and the new one while they change
FILE_LIMIT = 16 << 10  # octets; a key of 4,096 bits takes a fifth of that
RSA_BITS = 2048  # RFC 8301 section 3.2; 4,096 do not fit into many a DNS panel
RSA_LEAST, RSA_MOST = 1024, 4096  # those that verifiers must know, ibid.

_SELECTOR = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")  # it goes into a header field

PrivateKey = RSAPrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Key:
    """A private key that signs as a domain."""

    domain: str
    selector: str
    private: PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        """k= of its record: rsa or ed25519."""
        return "rsa" if isinstance(self.private, RSAPrivateKey) else "ed25519"

    @property
    def public(self) -> bytes:
        """What its record publishes: DER for rsa (RFC 6376 section 3.6.1), 32 octets for ed25519 (RFC 8463 section 4)."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def generate(algorithm: str) -> PrivateKey:
    """A new key; `algorithm`: rsa or ed25519."""
    if algorithm == "rsa":
        return generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return Ed25519PrivateKey.generate()


def add(folder: str, key: Key) -> None:
    """Keep a new key; durable when this returns, and never in the place of another.

    Raises Refused where there is one of that name, TryLater where the disk fails us.
    """
    path, place = _path(folder, key.domain, key.selector), f"{folder}/{key.domain}"
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
        files.sync_directory(folder)
        _write(path, pem)
        files.sync_directory(place)
    except FileExistsError:
        raise Refused(f"there is a key {key.selector} of {key.domain} already: name another selector") from None
    except OSError as error:
        raise files.trouble(error, f"the key {path} can't be made") from None


def _write(path: str, data: bytes) -> None:
    """Whole and durable before it has its name. Raises FileExistsError rather than replace anything."""
    temporary = f"{path}.{randomness.token_hex(8)}.tmp"
    descriptor = files.create(temporary)
    try:
        files.write_all(descriptor, data)
        files.fsync(descriptor)
        files.link(temporary, path)
    finally:
        os.close(descriptor)
        files.unlink(temporary)


def load(folder: str, domain: str, selector: str) -> Key:
    """Raises Refused for a key that is missing, damaged, or kept where others could read it; it says which."""
    path = _path(folder, domain, selector)
    if not _SELECTOR.fullmatch(selector):
        raise Refused(f"{path} has a name that is no selector: rename it, such as s202611.pem")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"there is no key {selector} of {domain}") from None
    except OSError as error:
        raise Refused(f"{path} can't be opened: {error.strerror}") from None
    try:
        _check_kept_well(path, os.fstat(descriptor))
        pem = os.read(descriptor, FILE_LIMIT + 1)
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return Key(domain, selector, _parse(path, pem))


def _check_kept_well(path: str, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise Refused(f"{path} is no plain file")
    if state.st_uid not in (os.geteuid(), 0) or state.st_mode & 0o077:
        raise Refused(
            f"{path} must belong to uid {os.geteuid()} and be readable by nobody else: "
            f"chown {os.geteuid()} {path}; chmod 600 {path}"
        )


def _parse(path: str, pem: bytes) -> PrivateKey:
    if len(pem) > FILE_LIMIT:
        raise Refused(f"{path} is too long for a key")
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise Refused(f"{path} is damaged, or no private key in PEM without a password") from None
    if isinstance(private, RSAPrivateKey):
        if not RSA_LEAST <= private.key_size <= RSA_MOST:
            raise Refused(f"{path} has {private.key_size} bits; verifiers take {RSA_LEAST} to {RSA_MOST}")
    elif not isinstance(private, Ed25519PrivateKey):
        raise Refused(f"{path} is no key for rsa or ed25519")
    return private


def remove(folder: str, domain: str, selector: str) -> None:
    """Raises Refused where there is none, TryLater where the disk fails us."""
    path, place = _path(folder, domain, selector), f"{folder}/{domain}"
    try:
        files.unlink(path)
        files.sync_directory(place)
        with contextlib.suppress(OSError):  # another key lies there
            os.rmdir(place)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"there is no key {selector} of {domain}") from None
    except OSError as error:
        raise files.trouble(error, f"the key {path} can't be removed") from None


def domains(folder: str) -> list[str]:
    """Those that have a folder, in order. Raises Refused when we may not look."""
    return [name for name in _names(folder) if not name.startswith(".")]


def selectors(folder: str, domain: str) -> list[str]:
    """Of one domain, in order, whatever their files hold. Raises Refused when we may not look."""
    return [name[: -len(END)] for name in _names(f"{folder}/{domain}") if name.endswith(END) and name != END]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Refused(f"{folder} can't be read: {error.strerror}") from None


def _path(folder: str, domain: str, selector: str) -> str:
    return f"{folder}/{domain}/{selector}{END}"
