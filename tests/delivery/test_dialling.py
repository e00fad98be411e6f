"""Opening a connection: greetings, EHLO and HELO, TLS offered and required, logging in at the smarthost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.delivery.dialling import Login

from ..peers.certificates import Authority
from ..peers.dns import NameServer
from ..peers.faults import Endless, HangUp, Inject, Say, Stall
from ..peers.fixtures import authority, names  # noqa: F401
from ..peers.misbehaving import KEYWORDS, Misbehaving, Stage, misbehaving
from ..peers.ports import refusing, unanswering
from ..peers.smarthost import smarthost
from .outgoing import SHORT, deliver_one, outgoing

SECRET = "correct horse"


@pytest.fixture
def peer() -> Iterator[Misbehaving]:
    with misbehaving() as made:
        yield made


@pytest.fixture
def tls_peer(authority: Authority) -> Iterator[Misbehaving]:  # noqa: F811
    with misbehaving(context=authority.issue("mx.there.test").server_context()) as made:
        yield made


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.EHLO])
@pytest.mark.parametrize(
    "reply",
    [b"554 5.7.1 no service\r\n", b"421 4.3.2 too busy\r\n", b"450 no\r\n", b"hello\r\n", b"\xff\xfe\r\n", b"250 "],
)
def test_a_host_that_does_not_want_to_talk_delays(peer: Misbehaving, stage: Stage, reply: bytes) -> None:
    peer.plan(stage, HangUp(reply))
    outcome = deliver_one(outgoing(), to=peer.route)
    assert outcome.action == "delayed"
    assert outcome.status.startswith("4.")
    assert outcome.mta == "127.0.0.1"


def test_its_own_code_and_text_are_kept(peer: Misbehaving) -> None:
    peer.plan(Stage.GREETING, Say(b"554 5.7.1 no\x1b[1m service\r\n"))
    outcome = deliver_one(outgoing(), to=peer.route)
    assert (outcome.status, outcome.reply) == ("4.7.1", "554 5.7.1 no?[1m service")


@pytest.mark.parametrize("reply", [b"500 what?\r\n", b"502 5.5.1 no\r\n"])
def test_who_knows_no_ehlo_gets_helo(peer: Misbehaving, reply: bytes) -> None:
    peer.plan(Stage.EHLO, Say(reply))
    assert deliver_one(outgoing(), to=peer.route).action == "relayed"
    (taken,) = peer.wait_for(1)
    assert taken.mail == b"FROM:<a@us.test>"
    assert peer.sessions[0].commands[:2] == [b"EHLO us.test", b"HELO us.test"]


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.EHLO])
def test_silence_has_an_end(peer: Misbehaving, stage: Stage) -> None:
    peer.plan(stage, Stall(b"22"))
    assert deliver_one(outgoing(), to=peer.route, patience=SHORT).status == "4.4.2"


def test_a_greeting_without_end_is_left(peer: Misbehaving) -> None:
    peer.plan(Stage.GREETING, Endless())
    assert deliver_one(outgoing(), to=peer.route).action == "delayed"


def test_nobody_there() -> None:
    with refusing() as port:
        outcome = deliver_one(outgoing(), to=f"127.0.0.1:{port}")
    assert (outcome.action, outcome.status) == ("delayed", "4.4.1")
    assert "refused" in outcome.text
    with unanswering() as port:
        outcome = deliver_one(outgoing(), to=f"127.0.0.1:{port}", patience=SHORT)
    assert (outcome.action, outcome.status) == ("delayed", "4.4.1")


@pytest.mark.parametrize("reply", [b"220 US.test ESMTP\r\n", b"220 us.test\r\n"])
def test_who_greets_by_our_name_is_us(names: NameServer, reply: bytes) -> None:  # noqa: F811
    with misbehaving(host="127.0.0.2") as peer:
        peer.plan(Stage.GREETING, Say(reply))
        names.exchanger("there.test", peer.host)
        outcome = deliver_one(outgoing(), resolvers=[names.address], port=peer.port)
    assert (outcome.action, outcome.status) == ("failed", "5.4.6")
    assert not peer.transactions


def test_who_answers_ehlo_by_our_name_is_us(names: NameServer, peer: Misbehaving) -> None:  # noqa: F811
    peer.plan(Stage.EHLO, Say(b"250-us.test\r\n250 SIZE\r\n"))
    names.exchanger("there.test", peer.host)
    assert deliver_one(outgoing(), resolvers=[names.address], port=peer.port).status == "5.4.6"


def test_a_filter_of_this_machine_may_have_our_name(peer: Misbehaving) -> None:
    peer.plan(Stage.GREETING, Say(b"220 us.test ESMTP\r\n"))
    assert deliver_one(outgoing(), to=peer.route).action == "relayed"


# TLS.


def test_tls_is_used_where_it_is_offered_whatever_the_certificate(authority: Authority) -> None:  # noqa: F811
    bad = authority.issue("elsewhere.test", expired=True, self_signed=True)
    with misbehaving(context=bad.server_context()) as peer:
        assert deliver_one(outgoing(), to=peer.route).action == "relayed"
    (taken,) = peer.taken
    assert taken.encrypted
    assert peer.sessions[0].verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


def test_a_big_message_under_tls(tls_peer: Misbehaving) -> None:
    big = b"Subject: x\n\n" + (b"y" * 79 + b"\n") * 50_000
    assert deliver_one(outgoing(big), to=tls_peer.route).action == "relayed"
    assert tls_peer.wait_for(1)[0].message == big.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "fault", [Say(b"454 4.7.0 not now\r\n"), HangUp(), HangUp(b"220 go\r\n"), HangUp(b"220 go\r\nrubbish")]
)
def test_where_tls_fails_mail_goes_without(tls_peer: Misbehaving, fault: Say | HangUp) -> None:
    """RFC 7435: that is no worse than before there was TLS."""
    tls_peer.plan(Stage.STARTTLS, fault)
    assert deliver_one(outgoing(), to=tls_peer.route).action == "relayed"
    assert not tls_peer.wait_for(1)[0].encrypted
    assert len(tls_peer.sessions) == 2


def test_who_wants_tls_that_fails_gets_the_mail_later(tls_peer: Misbehaving) -> None:
    tls_peer.plan(Stage.STARTTLS, HangUp())
    tls_peer.plan(Stage.MAIL, Say(b"530 5.7.0 STARTTLS first\r\n"))
    outcome = deliver_one(outgoing(), to=tls_peer.route)
    assert (outcome.action, outcome.status) == ("delayed", "4.7.5")


def test_what_is_injected_before_tls_is_not_heard(tls_peer: Misbehaving) -> None:
    """RFC 3207 section 4.2; else the reply to EHLO would be a stranger's."""
    tls_peer.plan(Stage.STARTTLS, Inject(b"250-evil\r\n250 X-EVIL\r\n"))
    outcome = deliver_one(outgoing(), to=tls_peer.route)
    assert outcome.action == "relayed"
    assert outcome.reply == "250 2.0.0 taken"


def required(peer: Misbehaving, names: NameServer, authority: Authority, **more: object) -> tuple[str, str]:  # noqa: F811
    names.exchanger("there.test", peer.host)
    options = {"resolvers": [names.address], "port": peer.port, "ca_file": str(authority.ca_file)}
    outcome = deliver_one(outgoing(), tls_required=["there.test"], **options, **more)
    return outcome.action, outcome.status


def test_required_tls_with_a_proven_name(tls_peer: Misbehaving, names: NameServer, authority: Authority) -> None:  # noqa: F811
    assert required(tls_peer, names, authority) == ("relayed", "2.0.0")
    assert tls_peer.wait_for(1)[0].encrypted


def test_required_tls_without_proof(names: NameServer, authority: Authority) -> None:  # noqa: F811
    for certificate in (
        authority.issue("elsewhere.test"),
        authority.issue("mx.there.test", expired=True),
        authority.issue("mx.there.test", self_signed=True),
    ):
        with misbehaving(context=certificate.server_context()) as peer:
            assert required(peer, names, authority) == ("delayed", "4.7.5")
            assert not peer.transactions


@pytest.mark.parametrize("fault", [Say(b"454 4.7.0 not now\r\n"), HangUp()])
def test_required_tls_that_fails(
    tls_peer: Misbehaving,
    names: NameServer,  # noqa: F811
    authority: Authority,  # noqa: F811
    fault: Say | HangUp,
) -> None:
    tls_peer.plan(Stage.STARTTLS, fault)
    assert required(tls_peer, names, authority) == ("delayed", "4.7.5")
    assert not tls_peer.transactions


def test_required_tls_that_is_not_offered(peer: Misbehaving, names: NameServer, authority: Authority) -> None:  # noqa: F811
    assert required(peer, names, authority) == ("delayed", "4.7.4")
    assert not peer.transactions


def test_a_ca_file_that_cannot_be_used_delays_what_needs_it(
    peer: Misbehaving, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = deliver_one(outgoing(), to=peer.route, tls_required=["*"], ca_file="/nowhere")
    assert (outcome.action, outcome.status) == ("delayed", "4.3.5")
    assert "delivery.ca_file" in outcome.text
    assert "delivery-trouble key=delivery.ca_file" in capfd.readouterr().err
    assert deliver_one(outgoing(), to=peer.route, ca_file="/nowhere").action == "relayed"


# The smarthost.


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return str(path)


def test_plain_under_proven_tls(authority: Authority, secret_file: str) -> None:  # noqa: F811
    context = authority.issue("localhost").server_context()
    with smarthost(context=context, logins={"us": SECRET}) as smart:
        outcome = deliver_one(
            outgoing(),
            smarthost=f"localhost:{smart.port}",
            smarthost_user="us",
            smarthost_secret_file=secret_file,
            ca_file=str(authority.ca_file),
            ipv6=False,
        )
    assert outcome.action == "relayed"
    assert (smart.taken[0].login, smart.taken[0].encrypted) == ("us", True)


def test_a_smarthost_that_does_not_prove_its_name_gets_no_secret(authority: Authority, secret_file: str) -> None:  # noqa: F811
    context = authority.issue("other.test").server_context()
    with smarthost(context=context, logins={"us": SECRET}) as smart:
        outcome = deliver_one(
            outgoing(),
            smarthost=f"localhost:{smart.port}",
            smarthost_user="us",
            smarthost_secret_file=secret_file,
            ca_file=str(authority.ca_file),
            ipv6=False,
        )
    assert (outcome.action, outcome.status) == ("delayed", "4.7.5")
    assert not smart.attempts


def log_in(keywords: bytes, secret_file: str, *faults: Say, address: str = "127.0.0.1") -> tuple[str, list[bytes]]:
    """Over a connection without TLS: status, and what was said to log in."""
    with misbehaving(host=address, keywords=(*KEYWORDS, keywords)) as peer:
        for place, fault in enumerate(faults, 1):
            peer.plan(Stage.AUTH, fault, nth=place)
        outcome = deliver_one(
            outgoing(),
            smarthost=peer.route,
            smarthost_user="us",
            smarthost_secret_file=secret_file,
            smarthost_tls="offer",
        )
        commands = [line for line in peer.sessions[0].commands if line.startswith(b"AUTH")]
        return outcome.status, commands


def test_plain_to_this_machine(secret_file: str) -> None:
    status, said = log_in(b"AUTH CRAM-MD5 LOGIN PLAIN", secret_file, Say(b"235 2.7.0 ok\r\n"))
    assert (status, said) == ("2.0.0", [b"AUTH PLAIN AHVzAGNvcnJlY3QgaG9yc2U="])


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback as if it were another machine."""
    monkeypatch.setattr("pillarbox.delivery.dialling._is_this_machine", lambda address: False)


@pytest.mark.usefixtures("far")
def test_no_password_in_the_clear_to_another_machine(secret_file: str) -> None:
    assert log_in(b"AUTH PLAIN LOGIN", secret_file) == ("4.7.0", [])


@pytest.mark.usefixtures("far")
def test_a_digest_may_go_in_the_clear(secret_file: str) -> None:
    status, said = log_in(b"AUTH PLAIN CRAM-MD5", secret_file, Say(b"334 PDFAc21hcnQudGVzdD4=\r\n"))
    assert said == [b"AUTH CRAM-MD5"]
    assert status == "4.7.0"  # the server of the test knows no second step


@pytest.mark.parametrize("keywords", [b"AUTH GSSAPI", b"AUTH", b"X-NOTHING"])
def test_a_smarthost_without_a_login_that_we_know(secret_file: str, keywords: bytes) -> None:
    assert log_in(keywords, secret_file) == ("4.7.0", [])


def test_a_refused_login_keeps_the_mail_and_the_secret(secret_file: str, capfd: pytest.CaptureFixture[str]) -> None:
    echo = Say(b"535 5.7.8 no: AHVzAGNvcnJlY3QgaG9yc2U=, correct horse\r\n")
    assert log_in(b"AUTH PLAIN", secret_file, echo)[0] == "4.7.0"
    logged = capfd.readouterr().err
    assert "refused our login (535)" in logged
    assert "horse" not in logged
    assert "AHVz" not in logged


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_secret_that_cannot_be_read_delays(peer: Misbehaving, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    outcome = deliver_one(
        outgoing(), smarthost=peer.route, smarthost_user="us", smarthost_secret_file=str(path), smarthost_tls="offer"
    )
    assert (outcome.action, outcome.status) == ("delayed", "4.3.5")
    assert not peer.sessions


def test_a_secret_is_in_no_repr() -> None:
    assert SECRET not in repr(Login("us", SECRET))
