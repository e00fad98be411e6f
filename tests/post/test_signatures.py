"""Mail of ours arrives with signatures that dkimpy finds right; a stranger's mail stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import dkim  # type: ignore[import-untyped]
import pytest

from ..peers.dns import NameServer
from ..peers.misbehaving import KEYWORDS
from .office import Office, mail, opened

SIGNATURE = b"DKIM-Signature:"
SEVEN_BIT = [keyword for keyword in KEYWORDS if keyword not in (b"8BITMIME", b"SMTPUTF8")]


@pytest.fixture(scope="module")
def records() -> dict[str, bytes]:
    """What `pillarbox dkim add` has printed, by name."""
    return {}


@pytest.fixture(scope="module")
def office(world: tuple[NameServer, int], records: dict[str, bytes]) -> Iterator[Office]:
    with opened(*world, {"forwards": {"gina": "gina@away.test"}}) as running:
        running.send("bob@example.test", message=mail("before there is a key"))
        said = running.command("dkim", "add")
        found = re.findall(r"name +(\S+)\n +type +TXT\n +value +([^\n]+)\n", said)
        records.update((f"{name}.", value.encode()) for name, value in found)
        assert len(records) == 2, said
        yield running


def verified(message: bytes, records: dict[str, bytes]) -> int:
    """How many signatures there are; each of them must be right."""
    count = message.count(SIGNATURE)
    for place in range(count):
        assert dkim.DKIM(message).verify(place, dnsfunc=lambda name, timeout=5: records.get(name.decode()))
    return count


@pytest.mark.parametrize(
    "body", ["short\r\n", "trailing  \r\n\r\n\r\n", "", ".\r\n..\r\n", "long line " * 60_000 + "\r\n"]
)
def test_our_mail_is_signed_with_each_key(office: Office, records: dict[str, bytes], body: str) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.send(f"x@{domain}", message=mail("signed", re.sub(r"(.{900})", r"\1\r\n", body)))
        (taken,) = peer.wait_for(1)
        assert verified(taken.message, records) == 2
        assert not peer.sessions[0].bare_line_ends()


def test_what_is_converted_is_signed_as_it_travels(office: Office, records: dict[str, bytes]) -> None:
    domain = office.domain()
    eight_bit = (
        mail("converted").replace(
            b"\r\n\r\n", b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        )
        + "Grüße\r\n".encode()
    )
    with office.exchanger(domain, keywords=SEVEN_BIT) as peer:
        office.send(f"x@{domain}", message=eight_bit, options=["BODY=8BITMIME"])
        (taken,) = peer.wait_for(1)
        assert taken.message.isascii() and verified(taken.message, records) == 2


def test_a_strangers_mail_is_led_on_unsigned(office: Office) -> None:
    with office.exchanger("away.test") as peer:
        office.receive("gina@example.test", message=mail("forged: from alice"))
        (taken,) = peer.wait_for(1)
        assert b"Subject: forged" in taken.message and SIGNATURE not in taken.message


def test_our_own_reports_are_signed_if_there_is_a_key_for_them(office: Office, records: dict[str, bytes]) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        office.receive("bob@example.test", sender=f"far@{domain}", wishes=["NOTIFY=SUCCESS"])
        (taken,) = peer.wait_for(1)
        assert b'\r\nFrom: "Mail delivery at mail.example.test" <MAILER-DAEMON@mail.example.test>' in taken.message
        assert verified(taken.message, records) == 2


@pytest.mark.parametrize("author", [b"Bob <bob@example.test>", b"ceo@example.test", b'"alice"@example.test'])
def test_nobody_else_s_name_is_signed(office: Office, author: bytes) -> None:
    domain = office.domain()
    with office.exchanger(domain) as peer:
        forged = re.sub(rb"From: [^\r\n]*", lambda _: b"From: " + author, mail("as another"), count=1)
        office.send(f"x@{domain}", message=forged)
        (taken,) = peer.wait_for(1)
        assert author in taken.message and SIGNATURE not in taken.message
