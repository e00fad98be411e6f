"""Peers that break off, stall, lie and refuse: nothing is lost, nobody else is delayed, and nothing comes twice but where
SMTP can't tell."""

from __future__ import annotations

import pytest

from ..peers.certificates import Authority
from ..peers.dns import NameServer
from ..peers.faults import Drip, Endless, Fault, HangUp, Hold, Inject, Say, Stall
from ..peers.misbehaving import KEYWORDS, Stage
from .office import Office, mail, opened

LARGE = mail("large", ("x" * 70 + "\r\n") * 10_000)
FAULTS: dict[str, tuple[Stage, Fault]] = {
    "421 at the greeting": (Stage.GREETING, Say(b"421 4.3.2 too many\r\n")),
    "554 at the greeting": (Stage.GREETING, Say(b"554 5.7.1 go away\r\n")),
    "no SMTP at the greeting": (Stage.GREETING, Say(b"SSH-2.0-OpenSSH_9.2\r\n")),
    "a reply code that there is none": (Stage.EHLO, Say(b"999 hello\r\n")),
    "endless lines of EHLO": (Stage.EHLO, Endless()),
    "an endless line of EHLO": (Stage.EHLO, Endless(b"2")),
    "hangs up at EHLO": (Stage.EHLO, HangUp()),
    "452 to MAIL": (Stage.MAIL, Say(b"452 4.3.1 no room\r\n")),
    "hangs up at MAIL": (Stage.MAIL, HangUp()),
    "421 to RCPT": (Stage.RCPT, Say(b"421 4.3.2 bye\r\n")),
    "450 to RCPT": (Stage.RCPT, Say(b"450 4.2.0 greylisted\r\n")),
    "hangs up at RCPT": (Stage.RCPT, HangUp(reset=True)),
    "451 to DATA": (Stage.DATA, Say(b"451 4.3.0 later\r\n")),
    "250 to DATA": (Stage.DATA, Say(b"250 2.0.0 taken already\r\n")),
    "hangs up at DATA": (Stage.DATA, HangUp()),
    "hangs up amid the message": (Stage.BODY, HangUp()),
    "resets amid the message": (Stage.BODY, HangUp(reset=True)),
    "451 after the dot": (Stage.DOT, Say(b"451 4.3.0 try again\r\n")),
    "421 after the dot": (Stage.DOT, Say(b"421 4.3.2 going down\r\n")),
    "354 after the dot": (Stage.DOT, Say(b"354 more, please\r\n")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_loses_and_doubles_nothing(office: Office, fault: str) -> None:
    bad, good = office.domain(), office.domain()
    stage, what = FAULTS[fault]
    with office.exchanger(bad) as peer, office.exchanger(good) as other:
        peer.plan(stage, what, after=20_000 if stage is Stage.BODY else 0)
        office.send(f"x@{bad}", f"y@{bad}", f"z@{good}", message=LARGE)
        other.wait_for(1)
        waiting = office.deferred(f"x@{bad}")
        assert {each.address.partition(b"@")[0] for each in waiting.pending()} == {b"x", b"y"}
        assert all(each.outcome and each.outcome.status.startswith("4.") for each in waiting.pending())
        assert peer.taken == []
        peer.behave()
        office.flush()
        (taken,) = peer.wait_for(1)
        office.wait_empty()
        assert sorted(taken.recipients) == [f"x@{bad}".encode(), f"y@{bad}".encode()]
        assert taken.message.endswith(LARGE[-1000:])
        assert len(peer.taken) == len(other.taken) == 1
        assert not office.reports(f"x@{bad}")


def test_where_smtp_can_not_tell_it_comes_twice_rather_than_never(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.DOT, HangUp(), times=1)
        office.send(f"x@{domain}")
        office.deferred(f"x@{domain}")
        office.flush()
        peer.wait_for(1)
        office.wait_empty()
        assert [(each.whole, each.acknowledged) for each in peer.transactions] == [(True, False), (True, True)]


def test_a_refusal_of_the_message_is_final_for_all(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.DOT, Say(b"554 5.7.1 spam\r\n"))
        office.send(f"x@{domain}", f"y@{domain}")
        report = office.report(f"y@{domain}")
        assert [each["Status"] for each in report.recipients] == ["5.7.1", "5.7.1"]


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.RCPT, Stage.DOT])
def test_a_peer_that_stalls_delays_nobody_else(office: Office, stage: Stage) -> None:
    """More messages for it than may be tried at once for one destination."""
    bad, good = office.domain(), office.domain()
    hold = Hold()
    with office.exchanger(bad) as peer, office.exchanger(good) as other:
        peer.plan(stage, hold)
        for number in range(25):
            office.send(f"x{number}@{bad}")
        assert hold.reached.wait(30)
        for number in range(3):
            office.send(f"y{number}@{good}", "bob@example.test", message=mail(f"meanwhile {stage.name} {number}"))
        office.send(f"z@{bad}", f"y3@{good}", "carol@example.test", message=mail(f"shared {stage.name}"))
        other.wait_for(4)
        office.mail.wait_for("carol", lambda text: f"Subject: shared {stage.name}\n".encode() in text)
        office.mail.wait_for("bob", lambda text: f"Subject: meanwhile {stage.name} 2\n".encode() in text)
        assert peer.taken == [] and 0 < len(peer.sessions) <= 10
        hold.release()
        peer.wait_for(26)
        office.wait_empty()
        assert len({each.recipients[0] for each in peer.taken}) == len(peer.taken) == 26
        assert len(other.taken) == 4
        assert peer.most_at_once <= 10


def test_a_peer_that_stalls_and_leaves(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.DATA, Stall(b"35"))
        office.send(f"x@{domain}")
        peer.wait_until(lambda: bool(peer.transactions and peer.transactions[0].rcpt))
    office.remove(office.deferred(f"x@{domain}").identity)


def test_a_reply_that_drips(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.EHLO, Drip(0.0005))
        peer.plan(Stage.DOT, Drip(0.005))
        office.send(f"x@{domain}")
        peer.wait_for(1)
        office.wait_empty()


def test_a_recipient_too_many_is_sent_to_in_another_transaction(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, Say(b"452 4.5.3 enough\r\n"), nth=3)
        office.send(*(f"x{number}@{domain}" for number in range(5)))
        office.wait_empty()
        reached = sorted(recipient for each in peer.wait_for(2) for recipient in each.recipients)
        assert reached == [f"x{number}@{domain}".encode() for number in range(5)]


# Lies.


def test_starttls_that_is_offered_and_not_there(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain, keywords=[*KEYWORDS, b"STARTTLS"]) as peer:
        office.send(f"x@{domain}")
        assert not peer.wait_for(1)[0].encrypted


@pytest.mark.parametrize("fault", [HangUp(b"220 go\r\n"), Say(b"454 4.7.0 not now\r\n"), HangUp()])
def test_a_handshake_that_fails(office: Office, authority: Authority, fault: Fault) -> None:
    domain = office.domain()
    with office.exchanger(domain, context=authority.issue("x.test").server_context()) as peer:
        peer.plan(Stage.STARTTLS, fault)
        office.send(f"x@{domain}")
        assert not peer.wait_for(1)[0].encrypted
        office.wait_empty()


def test_any_certificate_is_better_than_none(office: Office, authority: Authority) -> None:
    domain = office.domain()
    with office.exchanger(domain, context=authority.issue("x.test", expired=True).server_context()) as peer:
        office.send(f"x@{domain}")
        assert peer.wait_for(1)[0].encrypted


def test_plain_text_behind_the_answer_to_starttls_is_not_believed(office: Office, authority: Authority) -> None:
    domain = office.domain()
    with office.exchanger(domain, context=authority.issue("x.test").server_context()) as peer:
        peer.plan(
            Stage.STARTTLS,
            Inject(b"250 mx.injected.test\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 lies\r\n"),
        )
        office.send(f"x@{domain}")
        peer.wait_for(1)
        office.wait_empty()
        assert "lies" not in office.mail.log() and len(peer.taken) == 1


@pytest.mark.parametrize("keywords", [[b"PIPELINING", b"8BITMIME"], [b"SIZE"], [b"SIZE 0"], [b"SIZE lots"], []])
def test_what_ehlo_offers_and_keeps_not(office: Office, keywords: list[bytes]) -> None:
    domain = office.domain()
    with office.exchanger(domain, keywords=keywords, refuse_pipelining=True) as peer:
        office.send(f"x@{domain}")
        peer.wait_for(1)
        office.wait_empty()


def test_a_peer_without_ehlo(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.EHLO, Say(b"502 5.5.1 what?\r\n"))
        office.send(f"x@{domain}")
        (taken,) = peer.wait_for(1)
        assert taken.mail == b"FROM:<alice@example.test>" and peer.sessions[0].verbs[:2] == [b"EHLO", b"HELO"]


def test_a_connection_serves_several_messages(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        for number in range(10):
            office.send(f"x@{domain}")
            peer.wait_for(number + 1)
            office.wait_empty()
        assert len(peer.sessions) < 10 and not any(session.bare_line_ends() for session in peer.sessions)


def test_one_host_under_many_names_delays_nobody_else(world: tuple[NameServer, int]) -> None:
    """More names than there are connections for, all of one host that says nothing."""
    hold = Hold()
    with opened(*world, connections=20) as office, office.exchanger() as tarpit, office.exchanger("good.test") as other:
        names = [f"many{number}.test" for number in range(40)]
        for name in names:
            office.names.exchanger(name, tarpit.host)
        tarpit.plan(Stage.GREETING, hold)
        office.send(*(f"x@{name}" for name in names))
        assert hold.reached.wait(30)
        tarpit.wait_until(lambda: len(tarpit.sessions) >= 10)
        office.send("x@good.test", "bob@example.test", message=mail("past the tarpit"))
        other.wait_for(1)
        office.mail.wait_for("bob", lambda text: b"Subject: past the tarpit\n" in text)
        assert tarpit.taken == [] and tarpit.most_at_once <= 10
        hold.release()

        def all_gone() -> bool:
            office.flush()
            return not office.queue()

        office.wait_until(all_gone)
        reached = sorted(recipient for each in tarpit.taken for recipient in each.recipients)
        assert reached == sorted(f"x@{name}".encode() for name in names)
