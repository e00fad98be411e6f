"""Certificates for TLS and their private keys: files in PEM, and one of our own making where nobody gave us any."""

from __future__ import annotations

import datetime
import os
import stat
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..terms import Refused
from . import files

FILE_LIMIT = 48 << 10  # octets; a chain of five RSA certificates has 10,000, and all pairs must fit into one frame
RSA_LEAST = 2048  # bits; OpenSSL and clients take no less
OWN_DAYS = 3650  # clients that trust it do so by its fingerprint, and each change costs their owners a question
EARLIER = datetime.timedelta(days=1)  # for clients whose clock is slow
WEAK = (hashes.MD5, hashes.SHA1)

_SIGNS = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # digitalSignature alone

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, checked: they belong together, and it is valid now."""

    files: tuple[str, str]
    chain: bytes = field(repr=False)  # PEM, leaf first
    key: bytes = field(repr=False)  # PEM, without a password
    leaf: x509.Certificate = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names that it is for; of a certificate without any, its common name."""
        try:
            found = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return tuple(str(name.value) for name in self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        return tuple(found.value.get_values_for_type(x509.DNSName))

    @property
    def fingerprint(self) -> str:
        """SHA-256, as clients show it."""
        return fingerprint(self.leaf)

    @property
    def signed(self) -> tuple[bytes, str | None]:
        """The leaf in DER, and the hash of its signature by hashlib's name; None: a signature without a hash."""
        algorithm = self.leaf.signature_hash_algorithm
        return self.leaf.public_bytes(serialization.Encoding.DER), algorithm.name if algorithm else None

    @property
    def self_signed(self) -> bool:
        return self.leaf.subject == self.leaf.issuer


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, as clients show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def load(certificate: str, key: str) -> Pair:
    """Raises Refused, which names the file; its `code` is "certificate" or "key", whichever is wrong."""
    chain, leaf = read_certificate(certificate)
    secret = _read(key, "key", private=True)
    try:
        private = serialization.load_pem_private_key(secret, password=None)
    except TypeError:
        raise Refused(f"{key} is locked with a password: take it off with openssl pkey", "key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(f"{key} is damaged, or holds no private key in PEM", "key") from None
    if not isinstance(private, PrivateKey):
        raise Refused(f"{key} is no key for TLS: it must be ECDSA, RSA or Ed25519", "key")
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size < RSA_LEAST:
        raise Refused(f"{key} has {private.key_size} bits; clients take {RSA_LEAST} or more", "key")
    if private.public_key() != leaf.public_key():
        raise Refused(f"{key} is not the key of the certificate in {certificate}", "key")
    return Pair((certificate, key), chain, secret, leaf)


def read_certificate(path: str) -> tuple[bytes, x509.Certificate]:
    """The file, and the first certificate in it. Raises Refused, as `load` does."""
    chain = _read(path, "certificate", private=False)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        algorithm = leaf.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(f"{path} is damaged, or holds no certificate in PEM", "certificate") from None
    now = datetime.datetime.now(datetime.UTC)
    if now > leaf.not_valid_after_utc:
        raise Refused(f"{path} has expired on {leaf.not_valid_after_utc:%Y-%m-%d}", "certificate")
    if now < leaf.not_valid_before_utc:
        raise Refused(f"{path} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}", "certificate")
    if isinstance(algorithm, WEAK):
        raise Refused(f"{path} is signed with {algorithm.name}, which clients do not take", "certificate")
    return chain, leaf


def _read(path: str, what: str, *, private: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}", what) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise Refused(f"{path} is no plain file", what)
        if private and state.st_mode & 0o007:
            raise Refused(f"{path} is open to every user of this machine: chmod o= {path}", what)
        data = os.read(descriptor, FILE_LIMIT + 1)
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}", what) from None
    finally:
        os.close(descriptor)
    if len(data) > FILE_LIMIT:
        raise Refused(f"{path} is longer than {FILE_LIMIT} octets", what)
    return data


def signature(paths: list[str]) -> Signature:
    """Changes when one of the files does."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            state = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((state.st_mtime_ns, state.st_ino, state.st_size))
    return tuple(found)


# Our own.


def own_files(folder: str) -> tuple[str, str]:
    """Where the certificate of our own making lies, and its key."""
    return f"{folder}/certificate.pem", f"{folder}/key.pem"


def make_own(folder: str, hostname: str) -> None:
    """A self-signed certificate with a P-256 key; durable when this returns. Raises TryLater."""
    certificate, key = own_files(folder)
    private = ec.generate_private_key(ec.SECP256R1())
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = _own(private, hostname).public_bytes(serialization.Encoding.PEM)
    try:
        files.replace_file(key, secret)
        files.replace_file(certificate, made)
    except OSError as error:
        raise files.trouble(error, f"the certificate {certificate} can't be made") from None


def _own(private: ec.EllipticCurvePrivateKey, hostname: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])  # RFC 5280: at most 64
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=OWN_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNS, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    return builder.sign(private, hashes.SHA256())
