"""Delivery reports: what RFC 3464, 3461, 6522 and 6533 ask for, and nothing that a stranger can put in."""

from __future__ import annotations

import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol.bounce import (
    HEADER_LIMIT,
    LINE_LIMIT,
    MESSAGE_LIMIT,
    Original,
    Reported,
    decode_xtext,
    report,
    wants,
)
from pillarbox.terms import Outcome, Wish

NOW = 1_000_000.0
HEADER = b"Received: from x by foo.com\nFrom: a@foo.com\nMessage-ID: <m1@foo.com>\nSubject: hello\n"
ORIGINAL = Original(b"a@foo.com", 400_000.0, "7.a")
FAILED = Reported(
    b"b@example.com",
    Outcome("failed", "5.1.1", mta="mx.example.com", reply="550 5.1.1 no such user"),
    last_try=500_000.0,
)
DELAYED = Reported(b"c@example.com", Outcome("delayed", "4.4.1", "connection refused"), last_try=500_000.0)
RELAYED = Reported(b"d@example.com", Outcome("relayed", "2.0.0", mta="mx.example.com", reply="250 ok"))


def made(*recipients: Reported, original: Original = ORIGINAL, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "host": b"foo.com", "now": NOW, "identity": "8.b", "boundary": "=_Zq9/limit", "header": HEADER,
    }  # fmt: skip
    return report(original, recipients or (FAILED,), **arguments | changes)


def parsed(octets: bytes) -> EmailMessage:
    return message_from_bytes(octets, policy=policy.default)


def parts(octets: bytes) -> list[EmailMessage]:
    return list(parsed(octets).iter_parts())  # type: ignore[arg-type]


def words(octets: bytes) -> str:
    """The words for a person, unwrapped."""
    return " ".join(parts(octets)[0].get_content().split())


def raw_parts(octets: bytes) -> list[bytes]:
    """What stands in each part, its own header left off."""
    return [part.partition(b"\n\n")[2] for part in octets.split(b"\n--=_Zq9/limit")[1:-1]]


def blocks(octets: bytes) -> list[list[tuple[str, str]]]:
    """The fields of the second part, unfolded: of the message, then of each recipient."""
    text = re.sub(r"\n +", " ", raw_parts(octets)[1].decode())
    return [
        [(name, value) for name, _, value in (line.partition(": ") for line in block.split("\n") if line)]
        for block in text.split("\n\n")
    ]


# The shape.


def test_a_report_as_it_is_stored() -> None:
    assert made() == (
        b'From: "Mail delivery at foo.com" <MAILER-DAEMON@foo.com>\n'
        b"To: <a@foo.com>\n"
        b"Subject: Undelivered mail returned to sender\n"
        b"Date: Mon, 12 Jan 1970 13:46:40 +0000\n"
        b"Auto-Submitted: auto-replied\n"
        b"Message-ID: <8.b@foo.com>\n"
        b"In-Reply-To: <m1@foo.com>\n"
        b"References: <m1@foo.com>\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: multipart/report; report-type=delivery-status;\n"
        b'        boundary="=_Zq9/limit"\n'
        b"\n"
        b"--=_Zq9/limit\n"
        b"Content-Description: Notification\n"
        b"Content-Type: text/plain; charset=us-ascii\n"
        b"\n"
        b"This is the mail server of foo.com. It writes to you about a message of\n"
        b"yours that came here on Mon, 05 Jan 1970 15:06:40 +0000.\n"
        b"\n"
        b"It could NOT be delivered to this address, and is not tried again:\n"
        b"\n"
        b"    <b@example.com>\n"
        b"\n"
        b"    There is no mailbox with this address.\n"
        b"    Check the address letter by letter, or ask the person for the right\n"
        b"    one in another way.\n"
        b"\n"
        b"    The other side's own words (mx.example.com):\n"
        b"      550 5.1.1 no such user\n"
        b"\n"
        b"The rest of this report is for programs, and for whoever runs your mail:\n"
        b"what is said above in codes, and what the message began with. In the\n"
        b"logs of foo.com the message is called 7.a.\n"
        b"\n"
        b"--=_Zq9/limit\n"
        b"Content-Description: Delivery report\n"
        b"Content-Type: message/delivery-status\n"
        b"\n"
        b"Reporting-MTA: dns; foo.com\n"
        b"Arrival-Date: Mon, 05 Jan 1970 15:06:40 +0000\n"
        b"\n"
        b"Final-Recipient: rfc822; b@example.com\n"
        b"Action: failed\n"
        b"Status: 5.1.1\n"
        b"Remote-MTA: dns; mx.example.com\n"
        b"Diagnostic-Code: smtp; 550 5.1.1 no such user\n"
        b"Last-Attempt-Date: Tue, 06 Jan 1970 18:53:20 +0000\n"
        b"\n"
        b"--=_Zq9/limit\n"
        b"Content-Description: Header of the message\n"
        b"Content-Type: text/rfc822-headers\n"
        b"\n" + HEADER + b"\n"
        b"--=_Zq9/limit--\n"
    )


def test_programs_read_it() -> None:
    message = parsed(made(FAILED, DELAYED))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@foo.com"
    assert message["To"].addresses[0].addr_spec == "a@foo.com"
    assert not message.defects and not any(part.defects for part in message.walk())
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    status: Any = list(message.iter_parts())[1].get_payload()
    assert [block["Action"] for block in status] == [None, "failed", "delayed"]
    assert status[0]["Reporting-MTA"] == "dns; foo.com"


@pytest.mark.parametrize(
    ("recipients", "subject"),
    [
        ([FAILED], "Undelivered mail returned to sender"),
        ([DELAYED], "Delayed mail (still being tried)"),
        ([RELAYED], "Successful mail delivery report"),
        ([RELAYED, DELAYED, FAILED], "Undelivered mail returned to sender"),
        ([RELAYED, DELAYED], "Delayed mail (still being tried)"),
    ],
)
def test_the_subject_is_the_worst_news(recipients: list[Reported], subject: str) -> None:
    octets = made(*recipients)
    assert parsed(octets)["Subject"] == subject
    assert [dict(block)["Action"] for block in blocks(octets)[1:]] == [each.outcome.action for each in recipients]


def test_only_a_delayed_recipient_is_tried_until_a_date() -> None:
    octets = made(FAILED, DELAYED, RELAYED, gives_up=2_000_000.0)
    until = [dict(block).get("Will-Retry-Until") for block in blocks(octets)[1:]]
    assert until == [None, "Sat, 24 Jan 1970 03:33:20 +0000", None]
    assert "until Sat, 24 Jan 1970 03:33:20 +0000" in words(octets)
    assert "Will-Retry-Until" not in dict(blocks(made(DELAYED))[1])


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("failed", "5.7.1", "5.7.1"),
        ("failed", "4.4.7", "4.4.7"),
        ("failed", "", "5.0.0"),
        ("failed", "2.0.0", "5.0.0"),
        ("failed", "5.1.1\nX-Injected: 1", "5.0.0"),
        ("failed", "5.1", "5.0.0"),
        ("delayed", "", "4.0.0"),
        ("delayed", "4.2.2", "4.2.2"),
        ("delayed", "5.7.10", "4.7.10"),
        ("delivered", "", "2.0.0"),
        ("relayed", "5.1.1", "2.0.0"),
        ("expanded", "2.1.5", "2.1.5"),
    ],
)
def test_there_is_always_a_status_that_fits_the_action(action: str, status: str, said: str) -> None:
    octets = made(Reported(b"b@example.com", Outcome(action, status)))
    assert dict(blocks(octets)[1])["Status"] == said


def test_without_a_remote_server_no_field_speaks_of_one() -> None:
    names = [name for name, _ in blocks(made(Reported(b"b@foo.com", Outcome("failed", "5.2.2", "over quota"))))[1]]
    assert names == ["Final-Recipient", "Action", "Status"]


def test_a_remote_server_is_named_and_quoted_exactly_where_that_is_harmless() -> None:
    link = "https://example.com/" + "x" * 100
    outcome = Outcome("failed", "5.7.1", mta="mx.test; (evil)", reply=f"550 see {link} for help")
    fields = dict(blocks(made(replace(FAILED, outcome=outcome)))[1])
    assert fields["Remote-MTA"] == "dns; mx.test???evil?"
    assert fields["Diagnostic-Code"] == f"smtp; 550 see {link} for help"


@pytest.mark.parametrize("bad", ["", "a b", "a\nb", 'a"b', "x" * 71, "=_é"])
def test_a_boundary_that_can_be_none(bad: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        made(boundary=bad)


def test_a_boundary_that_occurs() -> None:
    with pytest.raises(ValueError, match="choose another"):
        made(header=HEADER + b"--=_Zq9/limit\n")
    with pytest.raises(ValueError, match="choose another"):
        made(header=HEADER, message=HEADER + b"\n--=_Zq9/limitless\n")
    assert len(parts(made(header=HEADER + b"X: --=_Zq9/limit\n"))) == 3


def test_what_can_not_be_reported() -> None:
    with pytest.raises(ValueError, match="null sender"):
        made(original=replace(ORIGINAL, sender=b""))
    with pytest.raises(ValueError, match="action"):
        made(Reported(b"b@foo.com", Outcome("vanished")))
    with pytest.raises(ValueError, match="recipient"):
        report(ORIGINAL, (), host=b"foo.com", now=NOW, identity="8.b", boundary="x", header=HEADER)


# The examples of the standards.


def test_the_first_example_of_rfc_3464() -> None:
    octets = report(
        Original(b"owner-info-mime@cs.utk.edu", 773_183_428.0, "RAA14128"),
        [
            Reported(
                b"louisl@larry.slip.umd.edu",
                Outcome("failed", "4.0.0", reply="426 connection timed out"),
                b"rfc822;louisl@larry.slip.umd.edu",
                773_615_749.0,
            )
        ],
        host=b"cs.utk.edu",
        now=773_615_765.0,
        identity="199407072116.RAA14128",
        boundary="RAA14128.773615765/CS.UTK.EDU",
        header=b"From: owner-info-mime@cs.utk.edu\n",
    )
    message, status = parsed(octets), parts(octets)[1].get_payload()
    assert message["Date"] == "Thu, 07 Jul 1994 21:16:05 +0000"
    assert "for 5 days" not in words(octets)  # the status speaks of no time
    assert [dict(block.items()) for block in status] == [  # type: ignore[union-attr]
        {"Reporting-MTA": "dns; cs.utk.edu", "Arrival-Date": "Sat, 02 Jul 1994 21:10:28 +0000"},
        {
            "Original-Recipient": "rfc822; louisl@larry.slip.umd.edu",
            "Final-Recipient": "rfc822; louisl@larry.slip.umd.edu",
            "Action": "failed",
            "Status": "4.0.0",
            "Diagnostic-Code": "smtp; 426 connection timed out",
            "Last-Attempt-Date": "Thu, 07 Jul 1994 21:15:49 +0000",
        },
    ]


def test_the_second_example_of_rfc_3464_has_several_recipients() -> None:
    octets = made(
        Reported(
            b"arathib@vnet.ibm.com",
            Outcome(
                "failed", "5.0.0", "", "vnet.ibm.com", "550 'arathib@vnet.IBM.COM' is not a\nregistered gateway user"
            ),
            b"rfc822;arathib@vnet.ibm.com",
        ),
        Reported(
            b"johnh@hpnjld.njd.hp.com",
            Outcome("delayed", "4.0.0", "hpnjld.njd.jp.com: host name lookup failure"),
            b"rfc822;johnh@hpnjld.njd.hp.com",
        ),
        Reported(
            b"wsnell@sdcc13.ucsd.edu",
            Outcome("failed", "5.0.0", "", "sdcc13.ucsd.edu", "550 user unknown"),
            b"rfc822;wsnell@sdcc13.ucsd.edu",
        ),
    )
    assert blocks(octets)[1:] == [
        [
            ("Original-Recipient", "rfc822; arathib@vnet.ibm.com"),
            ("Final-Recipient", "rfc822; arathib@vnet.ibm.com"),
            ("Action", "failed"),
            ("Status", "5.0.0"),
            ("Remote-MTA", "dns; vnet.ibm.com"),
            ("Diagnostic-Code", "smtp; 550 'arathib@vnet.IBM.COM' is not a registered gateway user"),
        ],
        [
            ("Original-Recipient", "rfc822; johnh@hpnjld.njd.hp.com"),
            ("Final-Recipient", "rfc822; johnh@hpnjld.njd.hp.com"),
            ("Action", "delayed"),
            ("Status", "4.0.0"),
        ],
        [
            ("Original-Recipient", "rfc822; wsnell@sdcc13.ucsd.edu"),
            ("Final-Recipient", "rfc822; wsnell@sdcc13.ucsd.edu"),
            ("Action", "failed"),
            ("Status", "5.0.0"),
            ("Remote-MTA", "dns; sdcc13.ucsd.edu"),
            ("Diagnostic-Code", "smtp; 550 user unknown"),
        ],
    ]


def test_the_conversation_of_rfc_3461_section_10() -> None:
    octets = made(
        Reported(b"Bob@Example.COM", Outcome("delivered", "2.0.0"), b"rfc822;Bob@Example.COM"),
        Reported(b"Dana@Ivory.EDU", Outcome("relayed", "2.0.0", mta="Ivory.EDU"), b"rfc822;Dana@Ivory.EDU"),
        original=replace(ORIGINAL, envid=b"QQ314159"),
    )
    assert blocks(octets)[0][:2] == [("Original-Envelope-Id", "QQ314159"), ("Reporting-MTA", "dns; foo.com")]
    assert dict(blocks(octets)[1])["Original-Recipient"] == "rfc822; Bob@Example.COM"
    assert dict(blocks(octets)[2])["Action"] == "relayed"


# What a sender wants to hear (RFC 3461 section 4.1).

ACTIONS = ("delivered", "relayed", "expanded", "failed", "delayed")


@pytest.mark.parametrize(
    ("notify", "heard"),
    [
        ((), {"failed", "delayed"}),
        (("NEVER",), set()),
        (("SUCCESS",), {"delivered", "relayed", "expanded"}),
        (("FAILURE",), {"failed"}),
        (("DELAY",), {"delayed"}),
        (("SUCCESS", "FAILURE", "DELAY"), set(ACTIONS)),
        (("NEVER", "FAILURE"), set()),
    ],
)
def test_wants(notify: tuple[str, ...], heard: set[str]) -> None:
    assert {action for action in ACTIONS if wants(Wish(notify), action)} == heard


# xtext, and what was said in it.


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (b"abc", b"abc"),
        (b"a+2Bb+3Dc+20d", b"a+b=c d"),
        (b"+0D+0A+00+ff", b"\r\n\0\xff"),
        (b"\xc3\xa9", b"\xc3\xa9"),
        (b"", None),
        (b"a+", None),
        (b"a+4", None),
        (b"a+4g", None),
        (b"a+ 4", None),
        (b"a=b", None),
        (b"a b", None),
        (b"a\n", None),
    ],
)
def test_xtext(text: bytes, octets: bytes | None) -> None:
    assert decode_xtext(text) == octets


@given(st.binary(min_size=1, max_size=60))
def test_xtext_comes_back(octets: bytes) -> None:
    assert decode_xtext(b"".join(b"+%02X" % octet for octet in octets)) == octets


@pytest.mark.parametrize("envid", [b"a+0D+0AAction:+20failed", b"a+C3+A9", b"a+", b"x" * 101, b"+20a", b"+00"])
def test_an_envelope_id_that_can_not_be_said_back_exactly_is_not_said(envid: bytes) -> None:
    octets = made(original=replace(ORIGINAL, envid=envid))
    assert [name for name, _ in blocks(octets)[0]] == ["Reporting-MTA", "Arrival-Date"]
    assert ("Original-Envelope-Id", "a+b c") in blocks(made(original=replace(ORIGINAL, envid=b"a+2Bb+20c")))[0]


@pytest.mark.parametrize(
    ("orcpt", "field"),
    [
        (b"rfc822;b+2Btag@x.test", "rfc822; b+tag@x.test"),
        (b"x400;/C=de/", None),
        (b"x400;/C+3Dde/", "x400; /C=de/"),
        (b"utf-8;b\\x{E9}@x.test", "utf-8; b\\x{E9}@x.test"),
        (b"rfc822;b+0A+0AFinal-Recipient:+20rfc822;c@x.test", None),
        (b"rfc822;", None),
        (b"rfc822", None),
        (b"r\nX: c;b@x.test", None),
        (b"\xe9;b@x.test", None),
        (b"rfc822;" + b"b" * 500, None),
        (b"rfc822;b+FF@x.test", None),
    ],
)
def test_original_recipient(orcpt: bytes, field: str | None) -> None:
    octets = made(replace(FAILED, orcpt=orcpt))
    assert dict(blocks(octets)[1]).get("Original-Recipient") == field
    assert octets.isascii() and len(blocks(octets)) == 2


def test_the_person_reads_the_address_that_was_written_to() -> None:
    assert "<me@home.test> (which leads to <b@example.com>)" in words(
        made(replace(FAILED, orcpt=b"rfc822;me@home.test"))
    )
    assert "leads to" not in words(made(replace(FAILED, orcpt=b"rfc822;B@Example.COM")))
    assert "leads to" not in words(made(replace(FAILED, orcpt=b"x400;b")))


# The original, which goes back.


def test_a_whole_message_goes_back_with_a_failure_only() -> None:
    message = HEADER + b"\nbody\nFrom here\n.\n"
    assert raw_parts(made(message=message))[2] == message
    whole = parts(made(message=message))[2]
    assert whole.get_content_type() == "message/rfc822"
    assert whole.get_content()["Subject"] == "hello"
    assert raw_parts(made(DELAYED, message=message))[2] == HEADER
    assert raw_parts(made(DELAYED, FAILED, message=message))[2] == message
    assert raw_parts(made(message=message[:-1]))[2] == message


@pytest.mark.parametrize(
    "body",
    [b"\xe9\n", b"a\rb\n", b"a\0b\n", b"a" * (LINE_LIMIT + 1), b"a\n" * (MESSAGE_LIMIT // 2)],
    ids=["8bit", "cr", "nul", "long line", "large"],
)
def test_a_message_that_not_every_server_takes_stays_here(body: bytes) -> None:
    octets = made(message=HEADER + b"\n" + body)
    assert parts(octets)[2].get_content_type() == "text/rfc822-headers" and raw_parts(octets)[2] == HEADER


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"", b""),
        (b"\nbody: 1\n", b""),
        (b"A: 1\n\nbody: 1\n", b"A: 1\n"),
        (b"A: 1\r\nB: 2\r\n\r\nbody", b"A: 1\nB: 2\n"),
        (b"A: 1", b"A: 1\n"),
        (b"A: \xe9\0\r\x7f\tb\n", b"A: ????\tb\n"),
        (b"A: " + b"x" * 2000 + b"\nB: 2\n", b"A: " + b"x" * (LINE_LIMIT - 3) + b"\nB: 2\n"),
    ],
)
def test_the_header_goes_back_in_whole_lines_of_ascii(header: bytes, shown: bytes) -> None:
    assert raw_parts(made(header=header))[2] == shown


def test_a_long_header_is_cut_at_a_line() -> None:
    line = b"X-Long: " + b"y" * 90 + b"\n"
    for ending in (b"", b"\r"):
        given_line = line[:-1] + ending + b"\n"
        shown = raw_parts(made(header=given_line * 1000))[2]
        assert shown == line * (HEADER_LIMIT // len(given_line))


def test_a_header_that_is_one_endless_line() -> None:
    assert raw_parts(made(header=b"A: " + b"x" * HEADER_LIMIT))[2] == b"A: " + b"x" * (LINE_LIMIT - 3) + b"\n"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"Message-ID: <a.b@c>", "<a.b@c>"),
        (b"message-id:<a.b@c>", "<a.b@c>"),
        (b"Message-Id:\n <a.b@c> ", "<a.b@c>"),
        (b"Message-ID: <a b@c>", None),
        (b"Message-ID: <ab>", None),
        (b"Message-ID: a@b", None),
        (b"Message-ID: <a@b> <c@d>", None),
        (b"Message-ID: <a@b@c>", None),
        (b"Message-ID: <\xe9@b>", None),
        (b"Message-ID: <%b@b>" % (b"a" * 300), None),
        (b"X-Message-ID: <a@b>", None),
    ],
)
def test_the_report_belongs_to_the_thread(field: bytes, found: str | None) -> None:
    message = parsed(made(header=b"From: a@b\n" + field + b"\nTo: x\n"))
    assert message["In-Reply-To"] == message["References"] == found


# Beyond ASCII (RFC 6533).


def test_an_address_beyond_ascii_in_an_ascii_report_is_escaped() -> None:
    octets = made(replace(FAILED, address="jürgen+x@exämple.test".encode()))
    assert octets.isascii()
    assert dict(blocks(octets)[1])["Final-Recipient"] == "utf-8; j\\x{FC}rgen\\x{2B}x@ex\\x{E4}mple.test"
    assert b"<j?rgen+x@ex?mple.test>" in raw_parts(octets)[0]


def test_a_report_in_utf8() -> None:
    original = replace(ORIGINAL, sender="ä@foo.com".encode(), utf8=True)
    reply = "550 5.1.1 kein Briefkasten für ü"
    octets = made(
        Reported("ü@example.com".encode(), Outcome("failed", "5.1.1", reply=reply), "utf-8;ü+20x@example.com".encode()),
        original=original,
        header="Subject: Grüße\n".encode() + b"X: \xff\n",
    )
    assert "\nTo: <ä@foo.com>\n" in octets.decode("utf-8")
    message = parsed(octets)
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    assert {part["Content-Transfer-Encoding"] for part in [message, *message.iter_parts()]} == {"8bit"}
    fields = dict(blocks(octets)[1])
    assert fields["Original-Recipient"] == "utf-8; ü x@example.com"
    assert fields["Final-Recipient"] == "utf-8; ü@example.com"
    assert fields["Diagnostic-Code"] == f"smtp; {reply}"
    assert raw_parts(octets)[2].decode() == "Subject: Grüße\nX: \ufffd\n"
    assert "<ü x@example.com>" in words(octets)
    whole = HEADER + b"\n\xe9\n"
    assert raw_parts(made(original=original, message=whole))[2] == whole
    assert parts(made(original=original, message=whole))[2].get_content_type() == "message/global"


def test_utf8_only_where_something_needs_it() -> None:
    assert made(original=replace(ORIGINAL, utf8=True)) == made()
    assert not made(original=replace(ORIGINAL, sender="ä@foo.com".encode())).isascii()
    eight = HEADER + b"X: \xc3\xa9\n"
    assert made(header=eight).isascii()
    assert "é" in made(header=eight, original=replace(ORIGINAL, utf8=True)).decode()


# Hostile strangers.

EVIL = [
    b"\r\nBcc: victim@x.test",
    b"\nStatus: 2.0.0\n",
    b"\n\nFinal-Recipient: rfc822; x@y",
    b"\r\n\r\n--=_Zq9/limit--\r\n",
    b"\n.\n",
    b"\r",
    b"\0\x1b[2J",
    b"\xc2\x85\xe2\x80\xa8\xe2\x80\xae",
    b"\xff\xfe",
    b"a" * 1200,
    "\u20ac".encode() * 500,
    b" " * 300,
    b'">@<(",',
]
hostile = st.lists(st.one_of(st.sampled_from(EVIL), st.binary(max_size=30)), max_size=6).map(b"".join)
hostile_text = hostile.map(lambda octets: octets.decode("utf-8", "surrogateescape"))
outcomes = st.builds(Outcome, st.sampled_from(ACTIONS), hostile_text, hostile_text, hostile_text, hostile_text)
recipients = st.lists(
    st.builds(
        Reported, hostile, outcomes, st.one_of(hostile, hostile.map(lambda x: b"rfc822;" + x)), st.floats(0, 4e9)
    ),
    min_size=1,
    max_size=3,
)
originals = st.builds(
    Original, hostile.map(lambda x: b"s" + x), st.floats(0, 4e9), hostile_text, hostile, st.booleans()
)

TOP = {"From", "To", "Subject", "Date", "Auto-Submitted", "Message-ID", "In-Reply-To", "References", "MIME-Version",
       "Content-Type", "Content-Transfer-Encoding"}  # fmt: skip
PER_MESSAGE = {"Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"}
PER_RECIPIENT = ["Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code",
                 "Last-Attempt-Date", "Will-Retry-Until"]  # fmt: skip


@settings(max_examples=50)  # it makes whole reports
@given(originals, recipients, hostile, hostile, hostile_text)
def test_no_stranger_adds_a_line_a_field_or_a_part(
    original: Original, reported: list[Reported], header: bytes, message: bytes, identity: str
) -> None:
    boundary = "=_Zq9/limit"
    try:
        octets = made(*reported, original=original, header=header, message=message, identity=identity, gives_up=3e9)
    except ValueError as error:
        assert "choose another" in str(error) and b"--" + boundary.encode() in header + message
        return
    assert b"\r" not in octets and b"\0" not in octets and octets.endswith(b"\n--=_Zq9/limit--\n")
    assert max(map(len, octets.split(b"\n"))) <= LINE_LIMIT
    assert original.utf8 or not original.sender.isascii() or octets.isascii()
    assert octets.count(b"\n--=_Zq9/limit") == 4
    assert set(parsed(octets).keys()) <= TOP and len(parts(octets)) == 3
    of_message, *of_recipients = blocks(octets)
    assert {name for name, _ in of_message} <= PER_MESSAGE
    assert len(of_recipients) == len(reported)
    for block, each in zip(of_recipients, reported, strict=True):
        names = [name for name, _ in block]
        assert names == [name for name in PER_RECIPIENT if name in names]  # each once, in order
        assert {"Final-Recipient", "Action", "Status"} <= set(names)
        assert dict(block)["Action"] == each.outcome.action


@settings(max_examples=50)
@given(hostile_text)
def test_a_diagnostic_of_any_length_is_bounded_and_folded(reply: str) -> None:
    octets = made(replace(FAILED, outcome=replace(FAILED.outcome, reply="550 " + reply)))
    fields = dict(blocks(octets)[1])
    assert len(fields["Diagnostic-Code"]) < 420 and fields["Diagnostic-Code"].startswith("smtp; 550")
