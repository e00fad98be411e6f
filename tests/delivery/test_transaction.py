"""Transactions with a server that does what it is told, at every stage: each recipient's outcome, and the octets."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pillarbox.delivery import letter
from pillarbox.protocol.exchanger_reply import PASSED_ON
from pillarbox.terms import Wish

from ..peers.faults import Endless, HangUp, Say, Stall
from ..peers.misbehaving import Misbehaving, Stage, misbehaving
from .outgoing import MESSAGE, RECIPIENT, SHORT, deliver, deliver_one, outgoing, with_remote

USUAL = b"FROM:<a@us.test> SIZE=%d" % len(MESSAGE.replace(b"\n", b"\r\n"))
THREE = (b"one@there.test", b"two@there.test", b"three@there.test")
PLAIN = (b"SIZE 1000",)


@pytest.fixture
def peer() -> Iterator[Misbehaving]:
    with misbehaving() as made:
        yield made


@pytest.fixture
def plain_peer() -> Iterator[Misbehaving]:
    """It offers SIZE and nothing else."""
    with misbehaving(keywords=PLAIN) as made:
        yield made


def test_a_message_arrives_to_the_octet(peer: Misbehaving) -> None:
    outcome = deliver_one(outgoing(head=b"Delivered-To: x@us.test\n"), to=peer.route)
    assert (outcome.action, outcome.status, outcome.mta) == ("relayed", "2.0.0", "127.0.0.1")
    assert outcome.reply == "250 2.0.0 taken"
    (taken,) = peer.wait_for(1)
    stored = b"Delivered-To: x@us.test\n" + MESSAGE
    assert taken.message == stored.replace(b"\n", b"\r\n")
    assert taken.mail == b"FROM:<a@us.test> SIZE=%d" % len(taken.message)
    assert b"\r\n..a line" in taken.wire
    assert peer.sessions[0].verbs == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


@given(st.binary(max_size=300).map(lambda text: text.translate(bytes(range(256)), b"\x00")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_no_bare_line_end_is_ever_sent(peer: Misbehaving, body: bytes) -> None:
    body += b"\r\n.\r\r\n\n.\n\r"
    assert deliver_one(outgoing(b"Subject: x\n\n" + body), to=peer.route).action == "relayed"
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removesuffix(b"\n")
    session = peer.sessions[-1]
    peer.wait_until(lambda: session.ended)
    assert not session.bare_line_ends()
    assert session.transactions[0].message == b"Subject: x\r\n\r\n" + lines.replace(b"\n", b"\r\n") + b"\r\n"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [letter.PIECE - 1, letter.PIECE, letter.WHOLE_LIMIT + 1, 2_000_000])
def test_big_messages_arrive_to_the_octet(peer: Misbehaving, size: int, end: bytes) -> None:
    text = b"Subject: x\n\n" + (b".%b\n" % (b"y" * 60)) * (size // 62 + 1)
    text = text[:size] + end
    assert deliver_one(outgoing(text), to=peer.route).action == "relayed"
    (taken,) = peer.wait_for(1)
    tidy = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removesuffix(b"\n") + b"\n"
    assert taken.message == tidy.replace(b"\n", b"\r\n")
    assert taken.mail.endswith(b"SIZE=%d" % len(taken.message))


def test_an_empty_message_is_sent(peer: Misbehaving) -> None:
    assert deliver_one(outgoing(b""), to=peer.route).action == "relayed"
    assert peer.wait_for(1)[0].wire == b".\r\n"


# Replies.


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
@pytest.mark.parametrize(
    ("reply", "action", "status"),
    [
        (b"550 5.7.1 go away\r\n", "failed", "5.7.1"),
        (b"554 no\r\n", "failed", "5.0.0"),
        (b"451-4.7.1 later\r\n451 4.7.1 please\r\n", "delayed", "4.7.1"),
        (b"421 4.3.2 closing\r\n", "delayed", "4.3.2"),
        (b"350 what?\r\n", "delayed", "4.5.0"),
        (b"999 what?\r\n", "delayed", "4.5.0"),
        (b"hello\r\n", "delayed", "4.5.0"),
    ],
)
def test_a_reply_is_an_outcome(peer: Misbehaving, stage: Stage, reply: bytes, action: str, status: str) -> None:
    peer.plan(stage, Say(reply))
    outcome = deliver_one(outgoing(), to=peer.route)
    assert (outcome.action, outcome.status) == (action, status)
    assert not peer.taken


def test_a_yes_to_data_is_not_believed(peer: Misbehaving) -> None:
    """Else the message would be lost that was never sent."""
    peer.plan(Stage.DATA, Say(b"250 2.0.0 taken\r\n"))
    assert deliver_one(outgoing(), to=peer.route).action == "delayed"


def test_each_recipient_has_a_reply_of_its_own(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"550 5.1.1 no such user\r\n"), containing=b"two@")
    peer.plan(Stage.RCPT, Say(b"450 4.2.1 busy\r\n"), containing=b"three@")
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert [outcomes[recipient].action for recipient in THREE] == ["relayed", "failed", "delayed"]
    assert [outcomes[recipient].status for recipient in THREE] == ["2.0.0", "5.1.1", "4.2.1"]
    assert peer.wait_for(1)[0].recipients == [THREE[0]]


def test_the_last_reply_decides_for_those_that_were_accepted(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"550 5.1.1 no such user\r\n"), containing=b"two@")
    peer.plan(Stage.DOT, Say(b"452 4.3.1 full\r\n"))
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert [outcomes[recipient].status for recipient in THREE] == ["4.3.1", "5.1.1", "4.3.1"]


def test_without_a_recipient_no_message_is_sent(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"550 5.1.1 no such user\r\n"))
    assert {outcome.action for outcome in deliver(outgoing(recipients=THREE), to=peer.route).values()} == {"failed"}
    assert peer.sessions[0].verbs[-2:] == [b"RSET", b"QUIT"]
    assert b"DATA" not in peer.sessions[0].verbs


def test_recipients_that_are_too_many_travel_at_once_behind_the_others(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"452 4.5.3 too many\r\n"), nth=3)
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert {outcome.action for outcome in outcomes.values()} == {"relayed"}
    assert [transaction.recipients for transaction in peer.wait_for(2)] == [list(THREE[:2]), [THREE[2]]]
    assert len(peer.sessions) == 1


def test_a_first_recipient_that_is_too_many_waits(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"452 4.5.3 too many\r\n"))
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert {outcome.action for outcome in outcomes.values()} == {"delayed"}


def test_more_than_a_hundred_recipients_are_several_transactions(peer: Misbehaving) -> None:
    many = tuple(b"%d@there.test" % number for number in range(250))
    assert len(deliver(outgoing(recipients=many), to=peer.route)) == 250
    assert [len(transaction.rcpt) for transaction in peer.wait_for(3)] == [100, 100, 50]


# Lost connections: what is not known is delayed, and never called relayed.


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY, Stage.DOT])
@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_is_no_success(peer: Misbehaving, stage: Stage, reset: bool) -> None:
    peer.plan(stage, HangUp(reset=reset))
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert {outcome.action for outcome in outcomes.values()} == {"delayed"}
    assert {outcome.status for outcome in outcomes.values()} == {"4.4.2"}


def test_what_was_refused_before_the_end_stays_refused(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, Say(b"550 5.1.1 no such user\r\n"), containing=b"one@")
    peer.plan(Stage.RCPT, HangUp(), containing=b"three@")
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert [outcomes[recipient].action for recipient in THREE] == ["failed", "delayed", "delayed"]


def test_a_good_bye_while_recipients_are_named_delays_them_all(peer: Misbehaving) -> None:
    peer.plan(Stage.RCPT, HangUp(b"421 4.3.2 shutting down\r\n"), containing=b"two@")
    outcomes = deliver(outgoing(recipients=THREE), to=peer.route)
    assert {outcome.status for outcome in outcomes.values()} == {"4.3.2"}
    assert {outcome.reply for outcome in outcomes.values()} == {"421 4.3.2 shutting down"}


def test_an_end_within_a_big_message(peer: Misbehaving) -> None:
    peer.plan(Stage.BODY, HangUp(reset=True), after=300_000)
    big = b"Subject: x\n\n" + b"y" * 79 + b"\n" * 5_000_000
    assert deliver_one(outgoing(big), to=peer.route).status == "4.4.2"


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
def test_silence_has_an_end(peer: Misbehaving, stage: Stage) -> None:
    peer.plan(stage, Stall(b"2"))
    assert deliver_one(outgoing(), to=peer.route, patience=SHORT).status == "4.4.2"


def test_a_peer_that_takes_no_data_is_left(peer: Misbehaving) -> None:
    held = HoldReading()
    peer.plan(Stage.BODY, held, after=1000)
    big = b"Subject: x\n\n" + b"y" * 79 + b"\n" * 20_000_000
    outcome = deliver_one(outgoing(big), to=peer.route, patience=SHORT)
    assert (outcome.action, outcome.status) == ("delayed", "4.4.2")
    assert "took no data" in outcome.text


class HoldReading:
    """Read no more until the server ends."""

    def act(self, line: object, usual: bytes) -> bytes:
        line.ending.wait()  # type: ignore[attr-defined]
        return b""


@pytest.mark.parametrize("octets", [b"250-and another line\r\n", b"2"])
def test_a_reply_without_end_is_left(peer: Misbehaving, octets: bytes) -> None:
    peer.plan(Stage.RCPT, Endless(octets))
    assert deliver_one(outgoing(), to=peer.route).action == "delayed"


# Extensions.


def test_a_message_that_is_too_big_is_not_sent(plain_peer: Misbehaving) -> None:
    assert deliver_one(outgoing(b"x" * 999 + b"\n"), to=plain_peer.route).status == "5.3.4"
    assert plain_peer.sessions[0].verbs == [b"EHLO", b"QUIT"]
    assert deliver_one(outgoing(b"x" * 998 + b"\n"), to=plain_peer.route).action == "relayed"


@pytest.mark.parametrize("size", [b"SIZE", b"SIZE 0", b"SIZE x", b"SIZE -1", b"SIZE " + b"9" * 30])
def test_a_size_that_says_nothing(size: bytes) -> None:
    with misbehaving(keywords=(size,)) as peer:
        assert deliver_one(outgoing(), to=peer.route).action == "relayed"


EIGHT_BIT = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\nGrüße, und noch ein langer Satz.\n".encode()


def test_8bitmime_is_used_where_it_is_offered(peer: Misbehaving) -> None:
    assert deliver_one(outgoing(EIGHT_BIT), to=peer.route).action == "relayed"
    (taken,) = peer.wait_for(1)
    assert taken.mail.endswith(b" BODY=8BITMIME")
    assert taken.message == EIGHT_BIT.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("padding", [b"", b"x" * 70 + b"\n"])
def test_without_8bitmime_the_message_is_converted(plain_peer: Misbehaving, padding: bytes) -> None:
    plain_peer.keywords = []
    text = EIGHT_BIT + padding * 10_000
    assert deliver_one(outgoing(text), to=plain_peer.route).action == "relayed"
    (taken,) = plain_peer.wait_for(1)
    assert taken.message.isascii()
    assert b"Gr=C3=BC=C3=9Fe" in taken.message
    assert taken.mail == b"FROM:<a@us.test>"


def test_what_cannot_be_converted_fails(plain_peer: Misbehaving) -> None:
    outcome = deliver_one(outgoing(b"Subject: \xff\n\nx\n"), to=plain_peer.route)
    assert (outcome.action, outcome.status) == ("failed", "5.6.3")
    assert "header" in outcome.text


def test_smtputf8_is_used_where_it_is_needed(peer: Misbehaving) -> None:
    recipient = "дом@there.test".encode()
    assert deliver_one(outgoing(recipients=(recipient,)), to=peer.route).action == "relayed"
    assert deliver_one(outgoing("Subject: ü\n\nx\n".encode(), utf8=True), to=peer.route).action == "relayed"
    first, second = peer.wait_for(2)
    assert first.mail.endswith(b" SMTPUTF8")
    assert first.recipients == [recipient]
    assert second.mail.endswith(b" BODY=8BITMIME SMTPUTF8")


def test_without_smtputf8_what_needs_it_fails(plain_peer: Misbehaving) -> None:
    declared = outgoing("Subject: ü\n\nx\n".encode(), utf8=True)
    sender = outgoing(sender="ü@us.test".encode())
    mixed = outgoing(recipients=(RECIPIENT, "ü@there.test".encode()), utf8=True)
    for message in (declared, sender):
        assert deliver_one(message, to=plain_peer.route).status == "5.6.7"
    outcomes = deliver(mixed, to=plain_peer.route)
    assert [outcomes[recipient].status for recipient in mixed.recipients] == ["2.0.0", "5.6.7"]
    assert plain_peer.wait_for(1)[0].mail == USUAL


def test_smtputf8_that_was_only_declared_is_not_needed(plain_peer: Misbehaving) -> None:
    assert deliver_one(outgoing(utf8=True), to=plain_peer.route).action == "relayed"


WISHES = (
    Wish(("SUCCESS", "DELAY"), b"rfc822;x+2By@there.test"),
    Wish(("NEVER",)),
    Wish((), b"rfc822;bad=value"),
)


def test_wishes_are_passed_on(peer: Misbehaving) -> None:
    message = outgoing(recipients=THREE, wishes=WISHES, ret="HDRS", envid=b"QQ+2B1")
    outcomes = deliver(message, to=peer.route)
    assert {outcome.text for outcome in outcomes.values()} == {PASSED_ON}
    (taken,) = peer.wait_for(1)
    assert taken.mail.endswith(b" RET=HDRS ENVID=QQ+2B1")
    assert taken.rcpt == [
        b"TO:<one@there.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@there.test",
        b"TO:<two@there.test> NOTIFY=NEVER",
        b"TO:<three@there.test>",
    ]


def test_without_dsn_wishes_stay_here(plain_peer: Misbehaving) -> None:
    message = outgoing(recipients=THREE, wishes=WISHES, ret="HDRS", envid=b"QQ+2B1")
    outcomes = deliver(message, to=plain_peer.route)
    assert {outcome.text for outcome in outcomes.values()} == {""}
    (taken,) = plain_peer.wait_for(1)
    assert b"RET" not in taken.mail
    assert taken.rcpt == [b"TO:<%b>" % recipient for recipient in THREE]


# Addresses and files that are not what they should be.


@pytest.mark.parametrize(
    "address",
    [b"a@b> NOTIFY=NEVER <c@d", b"a@b\r\nRSET", b"a b@c", b"a@b>", b"", b"a", b"\xff@b", b"a@b> SIZE=1 X:<c@d"],
)
def test_no_address_says_more_than_an_address(peer: Misbehaving, address: bytes) -> None:
    outcomes = deliver(outgoing(recipients=(RECIPIENT, address)), to=peer.route)
    assert [outcome.status for outcome in (outcomes[RECIPIENT], outcomes[address])] == ["2.0.0", "5.1.3"]
    if address:
        assert deliver_one(outgoing(sender=address), to=peer.route).status == "5.1.7"
    assert [transaction.mail for transaction in peer.transactions] == [USUAL]


def test_the_null_sender(peer: Misbehaving) -> None:
    assert deliver_one(outgoing(sender=b""), to=peer.route).action == "relayed"
    assert peer.wait_for(1)[0].mail.startswith(b"FROM:<> ")


def test_a_file_that_cannot_be_read_delays() -> None:
    def unreadable() -> int:
        raise OSError(errno.EIO, "Input/output error")

    outcome = deliver_one(replace(outgoing(), open=unreadable), to="127.0.0.1:9")
    assert (outcome.action, outcome.status) == ("delayed", "4.3.0")


def test_a_file_that_shrinks_ends_the_connection(peer: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last dot would make a torn message a whole one."""

    async def shrunk(descriptor: int, offset: int) -> bytes:
        if offset:
            raise OSError(errno.EIO, letter.CUT)
        return b"x" * letter.PIECE

    monkeypatch.setattr(letter, "_read", shrunk)
    outcome = deliver_one(outgoing(b"y" * 999 + b"\n" * 1_000_000), to=peer.route)
    assert (outcome.action, outcome.status) == ("delayed", "4.3.0")
    peer.wait_until(lambda: peer.sessions[0].ended)
    assert not peer.transactions[0].whole


# Signatures.


class Signer:
    def __init__(self) -> None:
        self.signed: list[bytes] = []

    def holds_keys(self) -> bool:
        return True

    def sign(self, message: bytes) -> bytes:
        self.signed.append(message)
        return b"DKIM-Signature: x\n"


@pytest.mark.parametrize("padding", [b"", b"x" * 70 + b"\n"])
def test_what_is_signed_is_what_is_sent(plain_peer: Misbehaving, padding: bytes) -> None:
    plain_peer.keywords = []
    signer = Signer()
    message = outgoing(EIGHT_BIT + padding * 10_000, sign=True, head=b"Delivered-To: x\n")
    assert deliver_one(message, to=plain_peer.route, signer=signer).action == "relayed"
    (taken,) = plain_peer.wait_for(1)
    head = b"DKIM-Signature: x\r\nDelivered-To: x\r\n"
    assert taken.message == head + signer.signed[-1].replace(b"\n", b"\r\n")


def test_a_big_message_is_signed_as_it_is(peer: Misbehaving) -> None:
    signer, big = Signer(), MESSAGE * 10_000
    assert deliver_one(outgoing(big, sign=True), to=peer.route, signer=signer).action == "relayed"
    assert signer.signed == [big]
    assert peer.wait_for(1)[0].message == (b"DKIM-Signature: x\n" + big).replace(b"\n", b"\r\n")


def test_a_strangers_message_is_not_signed(peer: Misbehaving) -> None:
    signer = Signer()
    assert deliver_one(outgoing(), to=peer.route, signer=signer).action == "relayed"
    assert not signer.signed


def test_several_transactions_travel_over_one_connection(peer: Misbehaving) -> None:
    async def three(remote: object) -> None:
        for _ in range(3):
            await remote.deliver(outgoing())  # type: ignore[attr-defined]

    with_remote(three, to=peer.route)
    assert len(peer.wait_for(3)) == 3
    assert len(peer.sessions) == 1
