"""SCRAM, the server's side (RFC 5802, RFC 7677), with channel binding to the certificate (RFC 5929 section 4).

    C: n,,n=user,r=NONCE         S: r=NONCE+OURS,s=SALT,i=ITERATIONS
    C: c=BINDING,r=...,p=PROOF   S: v=SIGNATURE

The server keeps a verifier, from which nobody can log in without guessing the secret, and proves in its turn that it
has it. Messages here are decoded from base64; everything in them is the client's, bounded, and never said again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import Error, a2b_base64, b2a_base64
from dataclasses import dataclass, field

from ..terms import Mechanism, Refused
from .credentials import INVALID, MALFORMED, NAME_LIMIT, check_identity, checked_name
from .saslprep import saslprep

ITERATIONS = 4096  # RFC 7677 section 4 asks for at least as many; 128 random bits need no more
SALT_OCTETS = 16
NONCE_OCTETS = 18  # 144 bits, and no padding in base64
MESSAGE_LIMIT = 2048  # octets; a name of 255, each escaped, a nonce, and extensions of which we know none
_ESCAPED_LIMIT = 3 * NAME_LIMIT  # of a name whose every octet is written as =2C or =3D
END_POINT = b"tls-server-end-point"

HASHES = {
    Mechanism.SCRAM_SHA_256_PLUS: "sha256",
    Mechanism.SCRAM_SHA_256: "sha256",
    Mechanism.SCRAM_SHA_1: "sha1",
}

_NAME = rb"(?:[^\x00,=]|=2C|=3D)+"
_NONCE = rb"[!-+\--~]{1,512}"  # printable, no comma
_EXTENSIONS = rb"(?:,[A-Za-ln-z]=[^\x00,]+)*"  # m is for what a server must know (section 5.1)
_BASE64 = rb"[A-Za-z0-9+/]+={0,2}"
_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]{1,64})),(?:a=(?P<identity>%b))?,)"
    rb"(?P<bare>n=(?P<name>%b),r=(?P<nonce>%b)%b)" % (_NAME, _NAME, _NONCE, _EXTENSIONS),
    re.DOTALL,
)
_FINAL = re.compile(
    rb"(?P<bare>c=(?P<binding>%b),r=(?P<nonce>%b)%b),p=(?P<proof>%b)" % (_BASE64, _NONCE, _EXTENSIONS, _BASE64),
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What is kept of a secret. `hash`: hashlib's name; the salt is public."""

    hash: str
    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make_verifier(secret: bytes, salt: bytes, hash: str = "sha256", iterations: int = ITERATIONS) -> ScramVerifier:
    """Of a secret as it was typed. This is the work that a guesser has for each guess: about a millisecond."""
    salted = hashlib.pbkdf2_hmac(hash, prepared(secret), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash)
    server_key = hmac.digest(salted, b"Server Key", hash)
    return ScramVerifier(hash, salt, iterations, hashlib.new(hash, client_key).digest(), server_key)


def prepared(secret: bytes) -> bytes:
    """SASLprep where that can be done; else as it is, which is what clients do with such a password."""
    try:
        return saslprep(secret.decode()).encode()
    except ValueError:
        return secret


def end_point(certificate: bytes, signature_hash: str | None) -> bytes:
    """The channel binding tls-server-end-point of a certificate in DER; empty where it has none.

    `signature_hash`: of the certificate's signatureAlgorithm, by hashlib's name; None: it has none, as with Ed25519.
    """
    if signature_hash is None:
        return b""
    strong = "sha256" if signature_hash in ("md5", "sha1") else signature_hash  # RFC 5929 section 4.1
    return hashlib.new(strong, certificate).digest()


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """The client's first message, parsed."""

    name: bytes
    flag: bytes  # n: knows no channel binding; y: thinks that we do not; p=TYPE: wants that one
    gs2: bytes
    bare: bytes
    nonce: bytes


def read_first(message: bytes) -> ClientFirst:
    """Raises Refused."""
    found = _FIRST.fullmatch(message) if len(message) <= MESSAGE_LIMIT else None
    if found is None:
        raise Refused("that is no first message of SCRAM (RFC 5802 section 7)", MALFORMED)
    name = _read_name(found["name"])
    if found["identity"] is not None:
        check_identity(_read_name(found["identity"]), name)
    return ClientFirst(name, found["flag"], found["gs2"], found["bare"], found["nonce"])


def _read_name(escaped: bytes) -> bytes:
    """Its length is looked at first: a stranger's three octets may be prepared to eighteen letters."""
    if len(escaped) > _ESCAPED_LIMIT or len(octets := _unescaped(escaped)) > NAME_LIMIT:
        raise Refused(f"a name has at most {NAME_LIMIT} octets", MALFORMED)
    try:
        name = saslprep(octets.decode())
    except ValueError:
        raise Refused("a name is UTF-8 text without control characters (RFC 4013)", MALFORMED) from None
    return checked_name(name.encode())


def _unescaped(name: bytes) -> bytes:
    return name.replace(b"=2C", b",").replace(b"=3D", b"=")


def check_binding(first: ClientFirst, mechanism: Mechanism, *, offered: bool) -> None:
    """Does the flag fit the mechanism? `offered`: SCRAM-SHA-256-PLUS was. Raises Refused.

    A client that thinks we know no channel binding, while we offered it, saw another list than we sent: somebody
    between us took it out (RFC 5802 section 6).
    """
    if mechanism is Mechanism.SCRAM_SHA_256_PLUS:
        if first.flag != b"p=" + END_POINT:
            raise Refused(f"the channel binding here is {END_POINT.decode()}, and no other", INVALID)
    elif first.flag.startswith(b"p="):
        raise Refused("channel binding goes with a mechanism that ends in -PLUS", INVALID)
    elif first.flag == b"y" and offered:
        raise Refused("channel binding was offered, and somebody kept it from the client", INVALID)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the client has proved, to be held against a verifier."""

    message: bytes = field(repr=False)  # RFC 5802's AuthMessage
    proof: bytes = field(repr=False)


class ServerScram:
    """One exchange: `challenge` goes to the client, whose answer `read_final` takes apart."""

    __slots__ = ("_bare", "_binding", "_nonce", "challenge")

    def __init__(self, first: ClientFirst, salt: bytes, nonce: bytes, *, binding: bytes, iterations: int) -> None:
        """`nonce`: ours, random, printable without a comma. `binding`: the data of the channel, used where the client
        asks for it."""
        self._nonce = first.nonce + nonce
        self._binding = _encode(first.gs2 + (binding if first.flag.startswith(b"p=") else b""))
        self._bare = first.bare
        self.challenge = b"r=%b,s=%b,i=%d" % (self._nonce, _encode(salt), iterations)

    def read_final(self, message: bytes) -> Proof:
        """The client's final message. Raises Refused for one that can't be right, whatever the secret."""
        found = _FINAL.fullmatch(message) if len(message) <= MESSAGE_LIMIT else None
        if found is None:
            raise Refused("that is no final message of SCRAM (RFC 5802 section 7)", MALFORMED)
        if found["nonce"] != self._nonce or not hmac.compare_digest(found["binding"], self._binding):
            raise Refused("the nonce or the channel binding is not that of this connection", INVALID)
        try:
            proof = a2b_base64(found["proof"], strict_mode=True)
        except Error:
            raise Refused("that is not base64", MALFORMED) from None
        return Proof(b",".join((self._bare, self.challenge, found["bare"])), proof)


def judge(proof: Proof, verifier: ScramVerifier) -> bytes | None:
    """Our final message, which proves to the client that we hold the verifier. None: the secret was wrong."""
    signature = hmac.digest(verifier.stored_key, proof.message, verifier.hash)
    if len(proof.proof) != len(signature):
        return None
    client_key = bytes(ours ^ theirs for ours, theirs in zip(signature, proof.proof, strict=True))
    if not hmac.compare_digest(hashlib.new(verifier.hash, client_key).digest(), verifier.stored_key):
        return None
    return b"v=" + _encode(hmac.digest(verifier.server_key, proof.message, verifier.hash))


def nonce(random: bytes) -> bytes:
    """Our part of a nonce, of NONCE_OCTETS random octets."""
    return _encode(random)


def _encode(octets: bytes) -> bytes:
    return b2a_base64(octets, newline=False)
