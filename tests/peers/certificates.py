"""A certificate authority of the tests' own, and certificates good and bad."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pillarbox.store.certificates import PrivateKey

SHA256 = hashes.SHA256()
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM; `chain` holds the key and then the certificate, as Postfix likes it."""

    certificate: Path
    key: Path
    chain: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """`ca_file` is what a client must trust to believe its certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._issued = folder, 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        authority = _builder(self._name, self._name, self._key, -DAY, 30 * DAY)
        authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        authority = authority.add_extension(_key_usage(), critical=True)
        own_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        authority = authority.add_extension(own_id, critical=False)  # Python 3.13 believes no other
        self.ca_file = folder / "authority.pem"
        self.ca_file.write_bytes(_pem(authority.sign(self._key, hashes.SHA256())))

    def issue(
        self,
        *names: str,
        expired: bool = False,
        self_signed: bool = False,
        private: PrivateKey | None = None,
        signed_with: hashes.SHA256 | hashes.SHA384 = SHA256,
    ) -> Certificate:
        """For these host names; the first is the common name too. `private`: its key, by default a new one."""
        key = private or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        ends = -DAY if expired else 30 * DAY
        built = _builder(subject, subject if self_signed else self._name, key, -2 * DAY, ends)
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        issuer = key if self_signed else self._key
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
        built = built.add_extension(issuer_id, critical=False)
        signed = built.add_extension(alternatives, critical=False).sign(issuer, signed_with)
        return self._write(signed, key)

    def client_context(self) -> ssl.SSLContext:
        return self.context_of(self.ca_file)

    @staticmethod
    def context_of(ca_file: Path) -> ssl.SSLContext:
        """A client that trusts these authorities alone."""
        return ssl.create_default_context(cafile=str(ca_file))

    def _write(self, certificate: x509.Certificate, key: PrivateKey) -> Certificate:
        self._issued += 1
        stem = self._folder / f"certificate-{self._issued}"
        made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"), stem.with_suffix(".chain"))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made.certificate.write_bytes(_pem(certificate))
        for path in (made.key, made.chain):
            path.touch(mode=0o600)
        made.key.write_bytes(private)
        made.chain.write_bytes(private + _pem(certificate))
        return made


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
