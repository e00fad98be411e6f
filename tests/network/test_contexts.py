"""What TLS is spoken with: versions, ciphers, protocols, and which certificate for which name."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pillarbox.key_pair import KeyPair
from pillarbox.network import process
from pillarbox.network.contexts import contexts
from pillarbox.store.certificates import PrivateKey, load

from ..peers.certificates import Authority, Certificate
from .tls_peers import Line, key_pair

NAMES = (("mail.example.test",), ("mail.elsewhere.test", "pop.elsewhere.test"), ("*.wild.test",))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issued(authority: Authority) -> list[Certificate]:
    return [authority.issue(*names) for names in NAMES]


@pytest.fixture(scope="module")
def pairs(issued: list[Certificate]) -> list[KeyPair]:
    return [key_pair(certificate, *names) for certificate, names in zip(issued, NAMES, strict=True)]


def presented(pairs: list[KeyPair], name: str | None, protocol: str = "pop3") -> bytes | None:
    """The certificate (DER) that a client gets which asks for this name."""
    context = ssl._create_unverified_context()
    return peer(Line(pairs, protocol=protocol, secured=True), context, name).getpeercert(binary_form=True)


def peer(line: Line, context: ssl.SSLContext, name: str | None = None) -> ssl.SSLObject:
    tls = line.shake(context, name).tls
    assert tls is not None
    return tls


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("mail.example.test", 0),
        ("mail.elsewhere.test", 1),
        ("POP.Elsewhere.test", 1),
        ("a.wild.test", 2),
        ("a.b.wild.test", 0),
        ("wild.test", 0),
        ("unknown.test", 0),
        (None, 0),
    ],
)
@pytest.mark.parametrize("protocol", ["pop3", "smtp"])
def test_the_name_that_is_asked_for_chooses(
    pairs: list[KeyPair], issued: list[Certificate], name: str | None, index: int, protocol: str
) -> None:
    expected = ssl.PEM_cert_to_DER_cert(issued[index].certificate.read_text())
    assert presented(pairs, name, protocol) == expected


def test_a_client_that_checks_the_name_is_content(pairs: list[KeyPair], authority: Authority) -> None:
    for name in ("mail.example.test", "pop.elsewhere.test", "x.wild.test"):
        line = Line(pairs, secured=True).shake(authority.client_context(), name)
        assert line.answers().startswith(b"+OK")


@pytest.mark.parametrize(
    ("protocol", "offered", "selected"),
    [
        ("pop3", ["pop3"], "pop3"),
        ("pop3", ["http/1.1", "pop3"], "pop3"),
        ("pop3", ["h2"], None),
        ("smtp", ["pop3"], None),
    ],
)
@pytest.mark.parametrize("name", ["mail.example.test", "mail.elsewhere.test"])
def test_alpn(pairs: list[KeyPair], protocol: str, offered: list[str], selected: str | None, name: str) -> None:
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(offered)
    assert peer(Line(pairs, protocol=protocol, secured=True), context, name).selected_alpn_protocol() == selected


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(pairs: list[KeyPair], version: ssl.TLSVersion) -> None:
    context = ssl._create_unverified_context()
    context.minimum_version = context.maximum_version = version
    line = Line(pairs, secured=True)
    assert peer(line, context).version() == line.connection.tls[0] == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_that_are_refused(pairs: list[KeyPair], version: ssl.TLSVersion) -> None:
    context = ssl._create_unverified_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    line = Line(pairs, secured=True)
    with pytest.raises((ssl.SSLError, AssertionError)):
        line.shake(context)
    assert line.connection.closed


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-CCM"])
def test_ciphers_that_are_refused(pairs: list[KeyPair], cipher: str) -> None:
    context = ssl._create_unverified_context()
    context.set_ciphers(cipher)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    line = Line(pairs, secured=True)
    with pytest.raises((ssl.SSLError, AssertionError)):
        line.shake(context)
    assert line.connection.closed


def test_every_cipher_is_authenticated_and_forward_secret(pairs: list[KeyPair]) -> None:
    for context in contexts(pairs).values():
        for cipher in context.get_ciphers():
            assert cipher["aead"], cipher
            assert cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-"), cipher


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "p384"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_other_keys_than_p256_serve_too(tmp_path: Path, kind: str, version: ssl.TLSVersion) -> None:
    private: PrivateKey = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    made = Authority(tmp_path).issue("mail.example.test", private=private)
    load(str(made.certificate), str(made.key))
    context = ssl._create_unverified_context()
    context.minimum_version = context.maximum_version = version
    line = Line([key_pair(made, "mail.example.test")], secured=True)
    assert peer(line, context).version() == version.name.replace("_", ".")
    assert line.answers().startswith(b"+OK")


def test_no_compression_and_no_renegotiation(pairs: list[KeyPair]) -> None:
    for context in contexts(pairs).values():
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION and context.options & ssl.OP_NO_COMPRESSION


def test_what_openssl_does_not_take_is_an_error_and_leaves_no_file_open(pairs: list[KeyPair]) -> None:
    mixed = KeyPair(pairs[0].certificate, pairs[1].key, pairs[0].names)
    for wrong in (mixed, KeyPair(b"", b"", ()), KeyPair(b"no PEM", pairs[0].key, ())):
        with pytest.raises(OSError):
            contexts([wrong])


def test_no_key_stands_in_a_repr(pairs: list[KeyPair]) -> None:
    assert "PRIVATE" not in repr(pairs) and "key=***" in repr(pairs)


def test_a_server_name_that_is_no_ascii_makes_one_line_and_no_trace(
    pairs: list[KeyPair], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Python's ssl can't decode it, and tells sys.unraisablehook alone; strangers may send one as often as they like."""
    monkeypatch.setattr(sys, "unraisablehook", process._unraisable)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="pop.wild.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(outgoing.read().replace(b"pop.wild.test", b"\xff" * len(b"pop.wild.test")))
    with pytest.raises(ssl.SSLError):
        contexts(pairs)["pop3"].wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "ignored error=UnicodeDecodeError" in said
