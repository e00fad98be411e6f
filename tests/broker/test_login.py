"""The judge: SCRAM over several steps, by another implementation's client, and what a stranger may learn of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import scramp

from pillarbox.broker import exchanges
from pillarbox.broker.directory import Directory
from pillarbox.broker.exchanges import Exchanges, scram_key
from pillarbox.broker.login import MAY_NOT_SEND, TLS_ONLY, Judge, Success, Undecided
from pillarbox.broker.tls_only import TlsOnly
from pillarbox.config import Config
from pillarbox.messages import Authenticate, Login, LoginChallenge, LoginRefused, LoginStep
from pillarbox.policy.challenges import Challenges
from pillarbox.policy.networks import Networks
from pillarbox.protocol import scram
from pillarbox.store.devices import Credential
from pillarbox.store.secrets import generate
from pillarbox.terms import Account, TryLater

SECRET = "violin case 55"
BINDING = hashlib.sha256(b"a certificate").digest()


class Source:
    """One account."""

    def __init__(self) -> None:
        self.secret: bytes | None = SECRET.encode()
        self.uid: int | None = None
        self.trouble: TryLater | None = None
        self.others: tuple[Credential, ...] = ()

    def find(self, name: str) -> Account | None:
        if self.trouble:
            raise self.trouble
        return Account(name, f"/mail/{name}/Maildir", self.uid) if name == "alice@example.test" else None

    def login(self, name: str) -> tuple[Account | None, bytes | None]:
        return self.find(name), self.secret if self.find(name) else None

    def credentials(self, name: str) -> tuple[Credential, ...]:
        return self.others if self.find(name) else ()

    def has_passwords(self) -> bool:
        return any(one.hashed for one in self.others)


class Office:
    """A judge, and what a connection would ask it."""

    def __init__(self, **policy: Any) -> None:
        self.source = Source()
        config = msgspec.convert({"domains": ["example.test"], "policy": policy}, Config)
        directory = Directory(config, self.source, lambda _: None)  # type: ignore[arg-type, return-value]
        self.challenges = Challenges("mail.example.test")
        self.exchanges = Exchanges(scram_key(b"k" * 32))
        self.wrong: list[Login] = []
        self.recorded: list[tuple[str, str, str]] = []  # reason, account, device
        self.tls_only = TlsOnly("/nonexistent/ratchet")
        trusted = Networks(("127.0.0.0/8",))
        self.tls_only.configure(0, trusted)
        self.judge = Judge(
            config,
            directory,
            self.challenges,
            trusted,
            self.wrong.append,
            self.tls_only,
            lambda _, reason, account="", device="": self.recorded.append((reason, account, device)),
            self.exchanges,
        )
        self.issued = self.judge.issue(0, 1)[0]
        self.computed = 0

    def begin(self, first: str, mechanism: str = "SCRAM-SHA-256", name: str = "alice", **more: Any) -> Any:
        kind = more.pop("kind", Login)
        more.setdefault("secured", False)
        login = kind(7, name.encode(), first.encode(), mechanism, self.issued, more.pop("secured"), "192.0.2.1", **more)
        return self.judge.verdict(0, login)

    def step(self, response: str | bytes) -> Any:
        return self.judge.go_on(0, LoginStep(7, response.encode() if isinstance(response, str) else response))

    def login(self, mechanism: str = "SCRAM-SHA-256", name: str = "alice", secret: str = SECRET, **more: Any) -> Any:
        """The whole of it; the client checks our signature."""
        bound = ("tls-server-end-point", BINDING) if mechanism.endswith("-PLUS") else None
        client = scramp.ScramClient([mechanism], name, secret, channel_binding=bound)
        verdict = self.begin(client.get_client_first(), mechanism, name, **more)
        if not isinstance(verdict, LoginChallenge):
            return verdict
        client.set_server_first(verdict.challenge.decode())
        verdict = self.step(client.get_client_final())
        if not isinstance(verdict, LoginChallenge):
            return verdict
        client.set_server_final(verdict.challenge.decode())
        return self.step(b"")


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    """One that counts how many verifiers are computed."""
    office, real = Office(), scram.make_verifier

    def counted(*arguments: Any) -> scram.ScramVerifier:
        office.computed += 1
        return real(*arguments)

    monkeypatch.setattr(exchanges.scram, "make_verifier", counted)
    return office


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
@pytest.mark.parametrize("name", ["alice", "alice@example.test"])
def test_a_login(office: Office, mechanism: str, name: str) -> None:
    verdict = office.login(mechanism, name)
    assert isinstance(verdict, Success) and verdict.account.name == "alice@example.test"
    assert verdict.credential.secret == SECRET.encode() and not office.wrong
    again = office.login(mechanism, name)
    assert isinstance(again, LoginRefused) and again.final  # its challenge is void


def test_one_that_is_bound_to_the_certificate(office: Office) -> None:
    under_tls = {"secured": True, "binding": BINDING}
    assert isinstance(office.login("SCRAM-SHA-256-PLUS", **under_tls), Success)
    office = Office()
    other = office.login("SCRAM-SHA-256-PLUS", secured=True, binding=hashlib.sha256(b"another").digest())
    assert other == LoginRefused(7, "AUTH", "authentication failed", False)


def test_where_plus_was_offered_a_client_that_saw_none_is_refused(office: Office) -> None:
    first = "y,,n=alice,r=abc"
    assert isinstance(office.begin(first, secured=True, binding=BINDING), LoginRefused)
    assert isinstance(office.begin(first, secured=True), LoginChallenge)


def test_what_is_not_offered_is_refused() -> None:
    assert Office(profile="strict").login().final
    assert Office().login("SCRAM-SHA-256-PLUS").final  # without TLS
    assert Office().login(kind=Authenticate).final  # nor is anything where mail is handed in
    assert isinstance(Office().login(kind=Authenticate, secured=True), Success)


def test_a_wrong_secret_an_unknown_account_and_one_without_a_secret_are_alike(office: Office) -> None:
    replies, costs = set(), set()
    for name, stored in (("alice", SECRET.encode()), ("bob", b""), ("alice", b""), ("alice", None), ("alice", b"\0\0")):
        office.source.secret, office.computed = stored, 0
        office.issued = office.judge.issue(0, 1)[0]
        replies.add(office.login(name=name, secret="wrong"))
        costs.add(office.computed)
    assert replies == {LoginRefused(7, "AUTH", "authentication failed", False)}
    assert costs == {1} and len(office.wrong) == 5


def test_a_failure_costs_the_same_where_the_verifier_is_at_hand(office: Office) -> None:
    assert isinstance(office.login(), Success)
    office.issued, office.computed = office.judge.issue(0, 1)[0], 0
    assert isinstance(office.login(), Success) and office.computed == 0
    office.issued, office.computed = office.judge.issue(0, 1)[0], 0
    assert isinstance(office.login(secret="wrong"), LoginRefused) and office.computed == 1


def final_message(secret: bytes, bare: bytes, challenge: bytes) -> bytes:
    """What a client of that secret answers, whatever the secret: scramp would not take an empty one."""
    nonce, salt = challenge.split(b",")[0], base64.b64decode(challenge.split(b",")[1][2:])
    client_key = hmac.digest(hashlib.pbkdf2_hmac("sha256", secret, salt, scram.ITERATIONS), b"Client Key", "sha256")
    message = b",".join((bare, challenge, b"c=biws", nonce))
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return b"c=biws," + nonce + b",p=" + base64.b64encode(proof)


@pytest.mark.parametrize("secret", [b"", b"\0", b"\0" * 31])
def test_an_empty_secret_lets_nobody_in(office: Office, secret: bytes) -> None:
    """To HMAC, NULs alone are the empty key."""
    for stored in (secret, b"", None):
        office.source.secret, office.issued = stored, office.judge.issue(0, 1)[0]
        challenge = office.begin("n,,n=alice,r=abc").challenge
        assert isinstance(office.step(final_message(secret, b"n=alice,r=abc", challenge)), LoginRefused)
    office.source.secret, office.issued = b"x", office.judge.issue(0, 1)[0]
    challenge = office.begin("n,,n=alice,r=abc").challenge
    assert isinstance(office.step(final_message(b"x", b"n=alice,r=abc", challenge)), LoginChallenge)


def salt_of(verdict: Any) -> bytes:
    assert isinstance(verdict, LoginChallenge)
    return verdict.challenge.partition(b",s=")[2]


def test_the_salt_of_a_name_is_always_the_same() -> None:
    """Over restarts too, with and without its domain, before and after there is such an account."""
    seen = {}
    for name in ("alice", "ALICE", "alice@example.test", "bob", "Bob@example.test", "carol"):
        salts = {salt_of(Office().begin(f"n,,n={name},r=abc", name=name)) for _ in range(2)}
        assert len(salts) == 1
        seen[name] = salts.pop()
    assert seen["alice"] == seen["ALICE"] == seen["alice@example.test"]
    assert seen["bob"] == seen["Bob@example.test"] and len(set(seen.values())) == 3


def test_three_attempts_end_it(office: Office) -> None:
    finals = [office.login(secret="wrong").final for _ in range(3)]
    assert finals == [False, False, True]
    assert office.login().final


def test_exchanges_that_are_broken_off_are_attempts(office: Office) -> None:
    for _ in range(3):
        assert isinstance(office.begin("n,,n=alice,r=abc"), LoginChallenge)
    assert office.begin("n,,n=alice,r=abc").final


@pytest.mark.parametrize("response", [b"", b"x", b"c=biws,r=abc,p=AAAA", b"x" * 100_000])
def test_a_step_that_is_none_ends_the_exchange(office: Office, response: bytes) -> None:
    office.begin("n,,n=alice,r=abc")
    assert office.step(response).text == "authentication failed"
    assert "waited" in office.step(response).text and not office.computed


def test_a_step_that_nobody_began(office: Office) -> None:
    assert isinstance(office.step(b"x"), LoginRefused)


def test_after_the_signature_there_is_an_empty_response_or_no_login(office: Office) -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "alice", SECRET)
    client.set_server_first(office.begin(client.get_client_first()).challenge.decode())
    assert isinstance(office.step(client.get_client_final()), LoginChallenge)
    assert isinstance(office.step(b"more"), LoginRefused)
    assert isinstance(office.step(b""), LoginRefused)


PHONE = Credential(b"of the phone", "phone")


def _revoke(source: Source) -> None:
    source.others = ()


def _replace(source: Source) -> None:
    source.others = (Credential(b"of another phone", "phone"),)


@pytest.mark.parametrize("change", [_revoke, _replace])
def test_what_is_revoked_under_way_logs_nobody_in(office: Office, change: Callable[[Source], None]) -> None:
    for proven in (False, True):
        office.source.others, office.issued = (PHONE,), office.judge.issue(0, 1)[0]
        client = scramp.ScramClient(["SCRAM-SHA-256"], "alice+phone", "of the phone")
        challenge = office.begin(client.get_client_first(), name="alice+phone").challenge
        client.set_server_first(challenge.decode())
        if proven:
            assert isinstance(office.step(client.get_client_final()), LoginChallenge)
        change(office.source)
        office.computed = 0
        verdict = office.step(b"" if proven else client.get_client_final())
        assert verdict == LoginRefused(7, "AUTH", "authentication failed", False)
        assert office.computed == (0 if proven else 1), "the same work as for nobody"
        assert "waited" in office.step(b"").text


def test_a_new_secret_under_way_is_not_that_of_the_login(office: Office) -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "alice", SECRET)
    client.set_server_first(office.begin(client.get_client_first()).challenge.decode())
    office.source.secret = b"another"
    assert isinstance(office.step(client.get_client_final()), LoginRefused)


def test_where_that_can_not_be_told_the_login_is_put_off(office: Office) -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "alice", SECRET)
    client.set_server_first(office.begin(client.get_client_first()).challenge.decode())
    office.source.trouble = TryLater("the disk")
    assert office.step(client.get_client_final()).code == "SYS/TEMP"
    assert not office.wrong and not office.computed


def undecided(office: Office) -> Undecided:
    office.source.secret, office.source.others = None, (Credential(b"$argon2id$", hashed=True),)
    login = Login(7, b"alice", b"own", "USER", office.issued, True, "192.0.2.1")
    found = office.judge.verdict(0, login)
    assert isinstance(found, Undecided)
    return found


def test_a_slow_hash_that_can_not_tell_is_nobodys_failure(office: Office) -> None:
    verdict = office.judge.decide(undecided(office), None)
    assert isinstance(verdict, LoginRefused) and verdict.code == "SYS/TEMP" and not verdict.final
    assert not office.wrong and office.recorded == [("deferred", "", "")]


def test_a_password_that_was_changed_meanwhile_is_wrong(office: Office) -> None:
    found = undecided(office)
    assert isinstance(office.judge.decide(found, True), Success)
    office.source.trouble = TryLater("the disk")
    later = office.judge.decide(found, True)
    assert isinstance(later, LoginRefused) and later.code == "SYS/TEMP" and not office.wrong
    office.source.trouble, office.source.others = None, (Credential(b"$argon2id$new", hashed=True),)
    assert isinstance(office.judge.decide(found, True), LoginRefused) and len(office.wrong) == 1


def test_a_secret_that_is_prepared_to_nothing_lets_nobody_in(office: Office) -> None:
    """Zero-width characters alone: its verifier would be that of the empty password."""
    office.source.secret = "\u00ad\u200b\ufeff".encode() * 2
    challenge = office.begin("n,,n=alice,r=abc").challenge
    refused = office.step(final_message(b"", b"n=alice,r=abc", challenge))
    assert refused == LoginRefused(7, "AUTH", "authentication failed", False)
    assert office.computed == 1 and len(office.wrong) == 1


def test_a_missing_file_is_told_where_it_was_looked_for(office: Office, capfd: pytest.CaptureFixture[str]) -> None:
    office.source.uid = 1000
    told = {}
    for name in ("alice+nonsense", "alice"):
        for secret in (b"secret", None):
            office.source.secret, office.issued = secret, office.judge.issue(0, 1)[0]
            login = Login(7, name.encode(), b"0" * 32, "APOP", office.issued, False, "192.0.2.1")
            assert isinstance(office.judge.verdict(0, login), LoginRefused)
            told[name, secret] = ".password is not there" in capfd.readouterr().err
    assert [key for key, said in told.items() if said] == [("alice", None)]


def test_the_ledger_hears_of_each_proof_once(office: Office) -> None:
    assert isinstance(office.login(), Success)
    office.issued = office.judge.issue(0, 1)[0]
    assert isinstance(office.login(secret="wrong"), LoginRefused)
    assert office.recorded == [("", "alice@example.test", ""), ("badcred", "", "")]


def test_whoever_proves_the_secret_and_hangs_up_is_in_the_ledger(office: Office) -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "alice", SECRET)
    client.set_server_first(office.begin(client.get_client_first()).challenge.decode())
    office.step(client.get_client_final())
    assert office.recorded == [("", "alice@example.test", "")]


def test_the_brakes_see_the_proof_and_not_what_a_client_can_say_again(office: Office) -> None:
    """Else one first message, repeated, would be one guess."""
    for _ in range(2):
        challenge = office.begin("n,,n=alice,r=abc").challenge
        office.step(final_message(b"wrong", b"n=alice,r=abc", challenge))
    assert len({login.proof for login in office.wrong}) == 2


def test_where_the_ratchet_holds_a_right_proof_gets_no_signature(office: Office, tmp_path: Path) -> None:
    office.tls_only = office.tls_only.__class__(str(tmp_path / "ratchet"))
    office.tls_only.configure(1, Networks(()))
    office.judge = replace(office.judge, tls_only=office.tls_only)
    assert isinstance(office.login(), Success)
    office.tls_only._store().count("alice@example.test", 1)
    office.tls_only._store().latch("alice@example.test", 0.0)
    office.issued = office.judge.issue(0, 1)[0]
    assert office.login() == LoginRefused(7, "AUTH", TLS_ONLY, True)
    assert office.recorded[-1][0] == "ratchet"
    office.issued = office.judge.issue(0, 1)[0]
    assert isinstance(office.login(secured=True), Success)


def test_a_device_logs_in_by_its_label_and_the_plain_name_is_the_accounts_own(office: Office) -> None:
    office.source.others = (Credential(b"of the phone", "phone"), Credential(b"of the tablet", "tablet"))

    def login(name: str, secret: str, **more: Any) -> Any:
        office.issued = office.judge.issue(0, 1)[0]
        return office.login(name=name, secret=secret, **more)

    verdict = login("alice+phone", "of the phone")
    assert isinstance(verdict, Success) and verdict.account.name == "alice@example.test"
    assert verdict.credential.label == "phone" and office.recorded == [("", "alice@example.test", "phone")]
    assert isinstance(login("alice", SECRET), Success)
    for name, secret in (("alice", "of the phone"), ("alice+phone", SECRET), ("alice+phone", "of the tablet")):
        assert isinstance(login(name, secret), LoginRefused)
    assert isinstance(login("alice+watch", "of the phone"), LoginRefused)


def test_a_device_that_may_not_send_or_is_elsewhere_gets_no_signature(office: Office) -> None:
    office.source.others = (
        Credential(b"x", "phone", sends=False),
        Credential(b"y", "desk", networks=("198.51.100.0/24",)),
    )
    assert office.login(name="alice+phone", secret="x", kind=Authenticate, secured=True).text == MAY_NOT_SEND
    office.issued = office.judge.issue(0, 1)[0]
    assert office.login(name="alice+desk", secret="y") == LoginRefused(7, "AUTH", "authentication failed", False)
    assert [reason for reason, *_ in office.recorded] == ["device", "network"] and len(office.wrong) == 1


def test_an_account_with_a_hashed_password_alone_is_unknown_to_scram(office: Office) -> None:
    office.source.secret, office.source.others = None, (Credential(b"$argon2id$", hashed=True),)
    assert office.login(secret="$argon2id$") == LoginRefused(7, "AUTH", "authentication failed", False)
    assert office.computed == 1
    office.issued = office.judge.issue(0, 1)[0]
    cram = office.judge.verdict(0, Login(7, b"alice", b"0" * 32, "CRAM-MD5", office.issued, False, "192.0.2.1"))
    assert cram == LoginRefused(7, "AUTH", "authentication failed", False)


def test_a_name_that_differs_from_that_in_the_message_is_refused(office: Office) -> None:
    assert isinstance(office.begin("n,,n=bob,r=abc", name="alice"), LoginRefused)


# What is remembered.


def begun(books: Exchanges, session: tuple[int, int], now: float) -> None:
    login = Login(session[1], b"alice", b"n,,n=alice,r=abc", "SCRAM-SHA-256", b"", False, "192.0.2.1")
    books.begin(session, login, "alice@example.test", (None, None), now)


def test_exchanges_are_forgotten_when_they_are_old_too_many_or_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "CAPACITY", 3)
    books = Exchanges(b"k" * 32)
    for number in range(4):
        begun(books, (number % 2, number), float(number))
    assert books.get((0, 0), 4.0) is None and books.get((1, 1), 4.0)
    books.forget((1, 1))
    books.forget_network(1)
    assert books.get((1, 1), 4.0) is None and books.get((1, 3), 4.0) is None
    assert books.get((0, 2), 2.0 + exchanges.PATIENCE)
    assert books.get((0, 2), 2.1 + exchanges.PATIENCE) is None


def test_verifiers_are_remembered_up_to_a_number(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "VERIFIERS", 1)
    for mechanism, computed in (("SCRAM-SHA-1", 1), ("SCRAM-SHA-1", 1), ("SCRAM-SHA-256", 2), ("SCRAM-SHA-1", 3)):
        office.issued = office.judge.issue(0, 1)[0]
        assert isinstance(office.login(mechanism), Success)
        assert office.computed == computed


def test_a_new_secret_has_a_new_verifier(office: Office) -> None:
    assert isinstance(office.login(), Success)
    office.source.secret, office.issued = b"another", office.judge.issue(0, 1)[0]
    assert isinstance(office.login(), LoginRefused)
    assert isinstance(office.login(secret="another"), Success)


def test_no_secret_in_a_repr(office: Office) -> None:
    office.begin("n,,n=alice,r=abc")
    shown = repr(office.exchanges.get((0, 7), 0.0)) + repr(LoginStep(7, b"canary")) + repr(LoginChallenge(7, b"canary"))
    assert SECRET not in shown and "canary" not in shown


# What the brakes ask before an attempt waits.


def proves(office: Office, secret: str, mechanism: str = "APOP", name: str = "alice") -> bool:
    if mechanism == "SCRAM-SHA-256":
        office.issued = office.judge.issue(0, 1)[0]
        client = scramp.ScramClient([mechanism], name, secret)
        client.set_server_first(office.begin(client.get_client_first(), name=name).challenge.decode())
        return office.judge.proves_generated(0, LoginStep(7, client.get_client_final().encode()))
    proof = hashlib.md5(office.issued + secret.encode()).hexdigest() if mechanism == "APOP" else secret
    return office.judge.proves_generated(
        0, Login(7, name.encode(), proof.encode(), mechanism, office.issued, True, "192.0.2.1")
    )


@pytest.mark.parametrize("mechanism", ["APOP", "USER", "SCRAM-SHA-256"])
def test_a_generated_secret_is_proven_and_no_other(office: Office, mechanism: str) -> None:
    assert not proves(office, SECRET, mechanism), "a person chose it"
    ours, phone = generate(), generate()
    office.source.secret, office.source.others = ours.encode(), (Credential(phone.encode(), "phone"),)
    assert proves(office, ours, mechanism) and proves(office, phone, mechanism, "alice+phone")
    assert not proves(office, SECRET, mechanism) and not proves(office, ours, mechanism, "nobody")
    assert not office.wrong and not office.recorded


def test_no_word_of_it_is_a_verdict(office: Office) -> None:
    """Neither the challenge nor the exchange is spent by it."""
    ours = generate()
    office.source.secret = ours.encode()
    for _ in range(10):
        assert not proves(office, SECRET) and proves(office, ours)
    client = scramp.ScramClient(["SCRAM-SHA-256"], "alice", ours)
    client.set_server_first(office.begin(client.get_client_first()).challenge.decode())
    final = client.get_client_final().encode()
    assert office.judge.proves_generated(0, LoginStep(7, final))
    assert not office.judge.proves_generated(0, LoginStep(7, b"x"))
    assert not office.judge.proves_generated(0, LoginStep(8, final))
    assert isinstance(office.step(final), LoginChallenge) and isinstance(office.step(b""), Success)
    assert not office.judge.proves_generated(0, Login(7, b"alice", b"", "NONSENSE", office.issued, True, "192.0.2.1"))


@pytest.mark.parametrize("name", ["alice", "nobody"])
@pytest.mark.parametrize("generated", [True, False])
def test_a_no_of_scram_costs_one_verifier_whoever_it_is(office: Office, name: str, generated: bool) -> None:
    if generated:
        office.source.secret = generate().encode()
    assert not proves(office, "wrong", "SCRAM-SHA-256", name)
    assert office.computed == 1
