"""SCRAM: the examples of RFC 5802 and 7677, agreement with another implementation, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stringprep
from typing import Any

import pytest
import scramp
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol import sasl, scram
from pillarbox.protocol.saslprep import saslprep
from pillarbox.terms import Mechanism, Refused

PLUS, SHA_256, SHA_1 = Mechanism.SCRAM_SHA_256_PLUS, Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_1
BINDING = hashlib.sha256(b"a certificate").digest()
SALT = b"0123456789abcdef"

EXAMPLES = {
    SHA_1: (
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"3rfcNHYJY1ZVvWVs7j",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    SHA_256: (
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}


def exchange(first: bytes, nonce: bytes = b"ours", salt: bytes = SALT, binding: bytes = b"") -> scram.ServerScram:
    return scram.ServerScram(scram.read_first(first), salt, nonce, binding=binding, iterations=scram.ITERATIONS)


@pytest.mark.parametrize("mechanism", EXAMPLES)
def test_the_examples_of_the_rfcs(mechanism: Mechanism) -> None:
    first, nonce, challenge, final, signature = EXAMPLES[mechanism]
    salt = base64.b64decode(challenge.partition(b",s=")[2].partition(b",")[0])
    server = exchange(first, nonce, salt)
    assert server.challenge == challenge
    verifier = scram.make_verifier(b"pencil", salt, scram.HASHES[mechanism])
    assert scram.judge(server.read_final(final), verifier) == signature
    assert scram.judge(server.read_final(final), scram.make_verifier(b"pencils", salt, verifier.hash)) is None


def scramp_logs_in(mechanism: Mechanism, name: str, secret: str, wrong: bytes = b"") -> None:
    """A login by another implementation's client, which checks our signature. `wrong`: added to what we keep."""
    bound = ("tls-server-end-point", BINDING) if mechanism is PLUS else None
    client = scramp.ScramClient([mechanism.value], name, secret, channel_binding=bound)
    first = client.get_client_first().encode()
    scram.check_binding(scram.read_first(first), mechanism, offered=mechanism is PLUS)
    server = exchange(first, scram.nonce(b"r" * scram.NONCE_OCTETS), binding=BINDING)
    client.set_server_first(server.challenge.decode())
    verifier = scram.make_verifier(secret.encode() + wrong, SALT, scram.HASHES[mechanism])
    said = scram.judge(server.read_final(client.get_client_final().encode()), verifier)
    assert (said is None) == bool(wrong)
    if said is not None:
        client.set_server_final(said.decode())


@pytest.mark.parametrize("mechanism", scram.HASHES)
@pytest.mark.parametrize(
    "secret", ["pencil", "violin case 55", "a,b=c", "I\u00adX", "\u2168", "Stra\u00dfe\u00a0\u3042"]
)
def test_it_agrees_with_another_implementation(mechanism: Mechanism, secret: str) -> None:
    scramp_logs_in(mechanism, "alice@example.test", secret)
    scramp_logs_in(mechanism, "a,l=ice", secret, wrong=b"x")


def test_a_verifier_of_another_implementation() -> None:
    for mechanism in (SHA_256, SHA_1):
        salt, stored, server, iterations = scramp.ScramMechanism(mechanism.value).make_auth_info(
            "violin case 55", iteration_count=5000, salt=SALT
        )
        ours = scram.make_verifier(b"violin case 55", SALT, scram.HASHES[mechanism], 5000)
        assert (ours.salt, ours.stored_key, ours.server_key, ours.iterations) == (salt, stored, server, iterations)


# RFC 4013 section 3.
@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "a\u0627", "\ue000", "\u200e", "\ud800", "\u0221"])
def test_what_saslprep_prohibits(text: str) -> None:
    with pytest.raises(ValueError, match=r"prohibits|ways"):
        saslprep(text)


def test_a_secret_that_can_not_be_prepared_is_used_as_it_is() -> None:
    for secret in (b"\xff\xfe", b"bell\x07"):
        salted = hashlib.pbkdf2_hmac("sha256", secret, SALT, scram.ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        assert scram.make_verifier(secret, SALT).stored_key == hashlib.sha256(client_key).digest()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,n=user",
        b"n,,r=abc,n=user",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"N,,n=user,r=abc",
        b"p,,n=user,r=abc",
        b"p=,,n=user,r=abc",
        b"n,,m=x,n=user,r=abc",
        b"n,,n=user,r=abc,m=x",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=us er,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=a\x7fc",
        b"n,,n=user,r=a c",
        b"n,,n=user,r=abc\n",
        b"n,,n=user,r=abc,",
        b"n,,n=" + b"x" * 256 + b",r=abc",
        b"n,,n=" + b"=2C" * 256 + b",r=abc",
        b"n,,n=" + "\ufdfa".encode() * 85 + b",r=abc",
        b"n,a=" + b"x" * 256 + b",n=user,r=abc",
        b"n,,n=user,r=" + b"x" * 513,
        b"n,,n=user,r=abc" + b",x=y" * 600,
    ],
)
def test_what_is_no_first_message(message: bytes) -> None:
    with pytest.raises(Refused) as error:
        scram.read_first(message)
    assert error.value.code == sasl.MALFORMED


@pytest.mark.parametrize("name", ["\ufdfa".encode() * 600, b"x" * 256, "\u00ad".encode() * 128, b"=2C" * 256])
def test_a_name_that_is_too_long_is_not_prepared(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """600 such letters would stall everybody else's connections for 14 milliseconds."""

    def prepare(text: str) -> str:
        raise AssertionError("prepared before its length was looked at")

    monkeypatch.setattr(scram, "saslprep", prepare)
    with pytest.raises(Refused, match="at most 255"):
        scram.read_first(b"n,,n=" + name + b",r=abc")


def test_the_longest_name_may_be_escaped_altogether() -> None:
    assert scram.read_first(b"n,,n=" + b"=2C" * 255 + b",r=abc").name == b"," * 255


def test_each_letter_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(stringprep, "in_table_a1", lambda letter: asked.append(letter) or False)
    saslprep("\ufdfa" * 85)
    assert 0 < len(asked) < 18


def test_names_are_unescaped_and_extensions_are_passed_over() -> None:
    first = scram.read_first(b"n,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=abc,x=ignored,y=too")
    assert (first.name, first.nonce) == (b"a,b=c", b"abc")


def test_nobody_acts_for_somebody_else() -> None:
    with pytest.raises(Refused) as error:
        scram.read_first(b"n,a=bob,n=alice,r=abc")
    assert error.value.code == sasl.INVALID


@pytest.mark.parametrize(
    ("flag", "mechanism", "offered", "good"),
    [
        ("p=tls-server-end-point", PLUS, True, True),
        ("p=tls-unique", PLUS, True, False),
        ("p=tls-exporter", PLUS, True, False),
        ("n", PLUS, True, False),
        ("y", PLUS, True, False),
        ("p=tls-server-end-point", SHA_256, True, False),
        ("n", SHA_256, True, True),
        ("n", SHA_256, False, True),
        ("y", SHA_256, False, True),
        ("y", SHA_256, True, False),
        ("y", SHA_1, True, False),
        ("y", SHA_1, False, True),
    ],
)
def test_the_flag_must_fit(flag: str, mechanism: Mechanism, offered: bool, good: bool) -> None:
    first = scram.read_first(flag.encode() + b",,n=user,r=abc")
    if good:
        scram.check_binding(first, mechanism, offered=offered)
    else:
        with pytest.raises(Refused):
            scram.check_binding(first, mechanism, offered=offered)


def test_another_certificate_is_found_out() -> None:
    """Somebody between us, with a certificate of his own, passes on all that is said."""
    bound = ("tls-server-end-point", hashlib.sha256(b"his certificate").digest())
    client = scramp.ScramClient([PLUS.value], "alice", "pencil", channel_binding=bound)
    server = exchange(client.get_client_first().encode(), binding=BINDING)
    client.set_server_first(server.challenge.decode())
    with pytest.raises(Refused, match="binding"):
        server.read_final(client.get_client_final().encode())


FIRST, NONCE = b"n,,n=user,r=abc", b"abcours"
GOOD = b"c=biws,r=abcours,p=" + base64.b64encode(b"x" * 32)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        GOOD.replace(b"c=biws", b"c=eSws"),  # y,,
        GOOD.replace(b"c=biws,", b""),
        GOOD.replace(b"abcours", b"abcour"),
        GOOD.replace(b"abcours", b"abcoursx"),
        GOOD + b",x=y",
        GOOD + b"\n",
        GOOD + b"=",
        GOOD.replace(b",p=", b",m=x,p="),
        GOOD.replace(b"p=eHh4", b"p=eH!4"),
        b"c=biws,r=abcours",
        b"x" * (scram.MESSAGE_LIMIT + 1),
    ],
)
def test_what_is_no_final_message(message: bytes) -> None:
    with pytest.raises(Refused):
        exchange(FIRST).read_final(message)


@pytest.mark.parametrize("octets", [0, 1, 20, 31, 33, 64])
def test_a_proof_of_another_length_is_wrong(octets: int) -> None:
    server, verifier = exchange(FIRST), scram.make_verifier(b"pencil", SALT)
    sent = b"c=biws,r=abcours,p=" + (base64.b64encode(b"x" * octets) or b"AA==")
    assert scram.judge(server.read_final(sent), verifier) is None


@given(st.lists(st.sampled_from([b"n", b",", b"=", b"a", b"y", b"p=x", b"r=", b"n=", b"=2C", b"\xff", b"\0"])))
@settings(max_examples=300)
def test_hostile_messages_are_refused_in_words_of_our_own(words: list[bytes]) -> None:
    def refused(read: Any) -> None:
        try:
            read(b"".join(words))
        except Refused as error:
            assert error.why.isascii() and error.why.isprintable()

    refused(scram.read_first)
    refused(exchange(FIRST).read_final)


def test_no_key_in_a_repr() -> None:
    verifier = scram.make_verifier(b"pencil", SALT)
    shown = repr(verifier) + repr(exchange(FIRST).read_final(GOOD))
    assert repr(verifier.stored_key) not in shown and repr(verifier.server_key) not in shown
    assert "stored_key" not in shown and "proof=" not in shown


@pytest.mark.parametrize(
    ("signature", "used"), [("md5", "sha256"), ("sha1", "sha256"), ("sha256", "sha256"), ("sha384", "sha384")]
)
def test_rfc_5929_the_hash_follows_the_signature(signature: str, used: str) -> None:
    assert scram.end_point(b"DER", signature) == hashlib.new(used, b"DER").digest()


def test_a_certificate_signed_without_a_hash_binds_nothing() -> None:
    assert scram.end_point(b"DER", None) == b""
