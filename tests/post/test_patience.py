"""Mail that can't be delivered for long: it is tried again, its sender is warned once, and in the end it bounces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..peers.dns import NameServer
from ..peers.faults import Say
from ..peers.misbehaving import Stage
from .office import Office, mail, opened

OFTEN = 0.2  # seconds between two tries
BUSY = Say(b"450 4.2.1 busy\r\n")


@pytest.fixture(scope="module")
def impatient(world: tuple[NameServer, int]) -> Iterator[Office]:
    """It warns at once, and gives up soon."""
    with opened(*world, longest_wait=OFTEN, warn_after=0.1, lifetime=2.0) as running:
        yield running


@pytest.fixture(scope="module")
def patient(world: tuple[NameServer, int]) -> Iterator[Office]:
    """It warns at once, and tries on."""
    with opened(*world, longest_wait=OFTEN, warn_after=0.1) as running:
        yield running


def actions(office: Office, about: str) -> list[str]:
    return [report.of(about)["Action"] for report in office.reports(about)]


def test_after_its_lifetime_mail_bounces(impatient: Office) -> None:
    domain = impatient.domain()
    with impatient.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, BUSY)
        impatient.send(f"x@{domain}", message=mail("too late"))
        report = impatient.report(f"x@{domain}")
    fields = report.of(f"x@{domain}")
    assert fields["Status"] == "5.4.7"
    assert fields["Diagnostic-Code"] == "smtp; 450 4.2.1 busy", "the last that was heard"
    assert "Subject: too late" in report.returned
    impatient.wait_until(lambda: not impatient.queued(f"x@{domain}"))
    assert actions(impatient, f"x@{domain}") == ["delayed", "failed"]


def test_of_a_dead_exchanger_too(impatient: Office) -> None:
    domain = impatient.domain()
    impatient.names.exchanger(domain, "127.0.1.1")
    impatient.send(f"x@{domain}")
    assert impatient.report(f"x@{domain}").of(f"x@{domain}")["Status"] == "5.4.7"


def test_mail_from_the_null_sender_is_dropped_after_its_lifetime(impatient: Office) -> None:
    domain = impatient.domain()
    with impatient.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, BUSY)
        impatient.send(f"x@{domain}", sender="")
        impatient.wait_until(lambda: not impatient.queue())
    lines = [line for line in impatient.mail.log().split("\n") if domain in line]
    assert any("bounce-dropped" in line for line in lines) and not any(" report " in line for line in lines)


def test_one_warning_and_then_success(patient: Office) -> None:
    domain = patient.domain()
    with patient.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, BUSY)
        patient.send(f"x@{domain}", message=mail("slow"))
        report = patient.report(f"x@{domain}", "delayed")
        fields = report.of(f"x@{domain}")
        assert fields["Status"].startswith("4.") and fields["Will-Retry-Until"]
        assert "Subject: slow" in report.returned
        patient.deferred(f"x@{domain}", tries=4)
        peer.behave()
        peer.wait_for(1)
        patient.wait_empty()
    assert actions(patient, f"x@{domain}") == ["delayed"]
    assert len(peer.taken) == 1


@pytest.mark.parametrize(("notify", "told"), [("FAILURE", []), ("NEVER", []), ("DELAY", ["delayed"])])
def test_the_warning_comes_only_to_who_wants_it(patient: Office, notify: str, told: list[str]) -> None:
    domain = patient.domain()
    with patient.exchanger(domain) as peer:
        peer.plan(Stage.RCPT, BUSY)
        patient.send(f"x@{domain}", wishes=[f"NOTIFY={notify}"])
        patient.deferred(f"x@{domain}", tries=3)
        peer.behave()
        peer.wait_for(1)
        patient.wait_empty()
    assert actions(patient, f"x@{domain}") == told


def test_who_is_done_is_not_tried_again_while_another_waits(patient: Office) -> None:
    domain, other = patient.domain(), patient.domain()
    with patient.exchanger(domain) as slow, patient.exchanger(other) as quick:
        slow.plan(Stage.RCPT, BUSY, containing=b"late")
        patient.send(f"late@{domain}", f"early@{domain}", f"x@{other}", "bob@example.test", message=mail("shared"))
        patient.deferred(f"late@{domain}", tries=3)
        slow.behave()
        slow.wait_for(2)
        patient.wait_empty()
        assert [each.recipients for each in slow.taken] == [[f"{name}@{domain}".encode()] for name in ("early", "late")]
        assert len(quick.taken) == 1
    assert sum(b"Subject: shared\n" in text for text in patient.mail.messages("bob")) == 1
