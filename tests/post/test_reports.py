"""Who hears of what became of a message: bounces, and what was asked for (RFC 3461, RFC 3464)."""

from __future__ import annotations

import pytest

from ..peers.faults import Say
from ..peers.misbehaving import KEYWORDS, Misbehaving, Stage
from .office import Office, mail, parsed

UNKNOWN = Say(b"550-5.1.1 there is no\r\n550 5.1.1 such user here\r\n")
WITHOUT_DSN = [keyword for keyword in KEYWORDS if keyword != b"DSN"]


def reported(peer: Misbehaving, count: int = 1) -> list[bytes]:
    """Reports that reached another host."""
    taken = [each for each in peer.wait_for(count) if each.sender == b""]
    return [each.message.replace(b"\r\n", b"\n") for each in taken]


def test_a_refused_recipient_bounces_to_the_sender(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, UNKNOWN)
        office.send(f"nobody@{domain}", message=mail("see you", "the body stays here\r\n"))
        report = office.report(f"nobody@{domain}")
    fields = report.of(f"nobody@{domain}")
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert fields["Remote-MTA"] == f"dns; mx.{domain}"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 there is no such user here"
    assert report.fields["Reporting-MTA"] == "dns; mail.example.test"
    assert report.whole["Return-Path"] == "<>" and report.whole["Auto-Submitted"] == "auto-replied"
    assert report.whole["In-Reply-To"] == "<see-you@example.test>"
    assert "Subject: see you" in report.returned and "the body stays here" not in report.returned
    assert f"nobody@{domain}" in report.words and "such user here" in report.words


def test_one_is_taken_and_one_refused(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, UNKNOWN, containing=b"nobody")
        office.send(f"nobody@{domain}", f"somebody@{domain}", f"else@{domain}")
        report = office.report(f"nobody@{domain}")
        assert peer.wait_for(1)[0].recipients == [b"somebody@" + domain.encode(), b"else@" + domain.encode()]
        assert len(report.recipients) == 1
        office.wait_empty()
        assert len(peer.taken) == 1


def test_several_failures_of_one_message_are_one_report(office: Office) -> None:
    domain, other = office.domain(), office.domain()
    office.names.null_mx(domain)
    office.names.null_mx(other)
    office.send(f"x@{domain}", f"y@{domain}", f"z@{other}")
    office.wait_empty()
    reports = office.reports(f"x@{domain}") + office.reports(f"z@{other}")
    found = [each["Final-Recipient"] for report in reports[:1] for each in report.recipients]
    assert found == [f"rfc822; x@{domain}", f"rfc822; y@{domain}", f"rfc822; z@{other}"]
    assert len(reports) == 2, "the same one, found twice"


@pytest.mark.parametrize("recipients", [["bob"], ["bob", "carol"]])
def test_success_here_is_told_where_it_was_asked_for(office: Office, recipients: list[str]) -> None:
    subject = f"success {len(recipients)}"
    office.send(
        *(f"{name}@example.test" for name in recipients),
        message=mail(subject),
        options=["RET=HDRS", "ENVID=QQ3141+2B59"],
        wishes=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bobby+2B@example.test"],
    )
    office.mail.wait_for("bob", lambda text: f"Subject: {subject}\n".encode() in text)
    office.wait_empty()
    reports = [each for each in office.reports("bob@example.test") if subject in each.returned]
    fields = reports[0].of("bob@example.test")
    assert len(reports) == 1
    assert (fields["Action"], fields["Status"]) == ("delivered", "2.0.0")
    assert fields["Original-Recipient"] == "rfc822; Bobby+@example.test"
    assert reports[0].fields["Original-Envelope-Id"] == "QQ3141+59"


def test_success_is_told_to_a_sender_elsewhere(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.receive("bob@example.test", sender=f"far@{domain}", wishes=["NOTIFY=SUCCESS"])
        (text,) = reported(peer)
        assert parsed(text).of("bob@example.test")["Action"] == "delivered"
        assert peer.taken[0].recipients == [b"far@" + domain.encode()]


def test_a_peer_that_reports_itself_gets_the_wishes(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.send(
            f"x@{domain}",
            options=["RET=FULL", "ENVID=QQ314159"],
            wishes=["NOTIFY=SUCCESS,DELAY", f"ORCPT=rfc822;Mr+2BX@{domain}"],
        )
        (taken,) = peer.wait_for(1)
        assert b" RET=FULL ENVID=QQ314159" in taken.mail
        notify, orcpt = taken.rcpt[0].split(b" ")[1:]
        assert sorted(notify.removeprefix(b"NOTIFY=").split(b",")) == [b"DELAY", b"SUCCESS"]
        assert orcpt == f"ORCPT=rfc822;Mr+2BX@{domain}".encode()
        office.wait_empty()
        assert not office.reports(f"x@{domain}"), "that is the peer's to do"


def test_where_the_peer_reports_nothing_we_say_that_it_was_passed_on(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain, keywords=WITHOUT_DSN) as peer:
        office.send(f"x@{domain}", options=["ENVID=QQ314159"], wishes=["NOTIFY=SUCCESS"])
        fields = office.report(f"x@{domain}", "relayed").of(f"x@{domain}")
        assert fields["Remote-MTA"] == f"dns; mx.{domain}"
        (taken,) = peer.taken
        assert b"NOTIFY" not in b"".join(taken.rcpt) and b"ENVID" not in taken.mail


@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "DELAY"])
def test_failure_is_not_told_to_who_does_not_want_it(office: Office, notify: str) -> None:
    domain = office.domain()
    office.names.null_mx(domain)
    office.send(f"x@{domain}", wishes=[f"NOTIFY={notify}"])
    office.wait_empty()
    assert f"x@{domain}" in office.mail.log() and not office.reports(f"x@{domain}")


def test_all_of_the_message_goes_back_where_that_is_asked_for(office: Office) -> None:
    domain = office.domain()
    office.names.null_mx(domain)
    office.send(f"x@{domain}", message=mail("precious", "every word\r\n"), options=["RET=FULL"])
    returned = office.report(f"x@{domain}").returned
    assert "Subject: precious" in returned and returned.endswith("every word\n")


def test_a_bounce_that_can_not_be_delivered_is_dropped(office: Office) -> None:
    domain, gone = office.domain(), office.domain()
    office.names.null_mx(domain)
    office.names.null_mx(gone)
    office.receive("bob@example.test", sender=f"x@{gone}", wishes=["NOTIFY=SUCCESS"])
    office.wait_until(lambda: "bounce-dropped" in office.mail.log() and gone in office.mail.log())
    office.wait_empty()
    dropped = [line for line in office.mail.log().split("\n") if "bounce-dropped" in line]
    assert any(gone in line for line in dropped)


def test_mail_from_the_null_sender_makes_no_bounce(office: Office) -> None:
    domain = office.domain()
    office.names.null_mx(domain)
    office.send(f"x@{domain}", sender="")
    office.wait_empty()
    lines = [line for line in office.mail.log().split("\n") if domain in line]
    assert any("bounce-dropped" in line for line in lines) and not any(" report " in line for line in lines)


def test_a_hostile_header_and_reply_stay_in_their_places(office: Office) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, Say(b"550 no\x00\x1b[2J \xff Final-Recipient: rfc822; evil@x.test\r\n"))
        hostile = b"Subject: =?\xff\x00\r\nX: --b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n"
        office.send(f"x@{domain}", message=hostile)
        report = office.report(f"x@{domain}")
    assert len(report.recipients) == 1 and report.of(f"x@{domain}")["Status"].startswith("5.")
    assert "\x1b" not in report.words
