"""What a sender wishes to hear (RFC 3461), as MAIL and RCPT say it and the envelope keeps it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol.smtp import BeginMessage, Event, Recipient
from pillarbox.protocol.smtp_path import (
    ENVID_LIMIT,
    ORCPT_LIMIT,
    MailArgument,
    mail_argument,
    rcpt_argument,
)
from pillarbox.protocol.smtp_reply import Reply
from pillarbox.terms import Envelope, Wish

from .smtp_talk import No, script, talk

EHLO = b"EHLO bar.com\r\n"
OPEN = EHLO + b"MAIL FROM:<a@bar.com>\r\n"


def test_the_example_of_rfc_3461() -> None:
    came = script(
        """
        S: 220
        C: EHLO Example.ORG
        S: 250-
        S: 250-SIZE
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-ENHANCEDSTATUSCODES
        S: 250-DSN
        S: 250
        C: MAIL FROM:<Alice@Example.ORG> RET=HDRS ENVID=QQ314159
        S: 250
        C: RCPT TO:<Bob@Example.COM> NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM
        S: 250
        C: RCPT TO:<Dana@Ivory.EDU> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Dana@Ivory.EDU
        S: 250
        C: RCPT TO:<Fred@Bombs.AF.MIL> NOTIFY=NEVER
        S: 250
        C: RCPT TO:<George@Tax-ME.GOV>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        """
    )
    (envelope, _), *_ = came.delivered
    assert envelope == Envelope(
        b"Alice@Example.ORG",
        (b"Bob@Example.COM", b"Dana@Ivory.EDU", b"Fred@Bombs.AF.MIL", b"George@Tax-ME.GOV"),
        (
            Wish(("SUCCESS",), b"rfc822;Bob@Example.COM"),
            Wish(("SUCCESS", "FAILURE"), b"rfc822;Dana@Ivory.EDU"),
            Wish(("NEVER",)),
            Wish(),
        ),
        "HDRS",
        b"QQ314159",
    )
    assert came.events[1] == Recipient(b"Dana@Ivory.EDU", 0, b"Alice@Example.ORG", envelope.wishes[1])


def test_who_wishes_nothing_has_an_envelope_without_wishes() -> None:
    came = talk(OPEN + b"RCPT TO:<b@foo.com>\r\nRCPT TO:<c@foo.com>\r\nDATA\r\n.\r\n")
    assert came.delivered[0][0] == Envelope(b"a@bar.com", (b"b@foo.com", b"c@foo.com"))


def test_a_recipient_given_twice_keeps_the_first_wish_and_a_refused_one_leaves_none() -> None:
    def answer(event: Event) -> No | None:
        no = isinstance(event, Recipient) and event.address.startswith(b"x")
        return (550, "5.1.1", "no such mailbox here") if no else None

    came = talk(
        OPEN
        + b"RCPT TO:<x@foo.com> NOTIFY=DELAY\r\nRCPT TO:<b@foo.com> NOTIFY=NEVER\r\n"
        + b"RCPT TO:<b@foo.com> NOTIFY=SUCCESS\r\nDATA\r\n.\r\n",
        answer,
    )
    assert came.delivered[0][0] == Envelope(b"a@bar.com", (b"b@foo.com",), (Wish(("NEVER",)),))


def test_a_second_message_knows_nothing_of_the_first_ones_wishes() -> None:
    came = talk(
        EHLO
        + b"MAIL FROM:<a@bar.com> RET=FULL ENVID=1 SMTPUTF8\r\nRCPT TO:<b@foo.com> NOTIFY=NEVER\r\nDATA\r\n.\r\n"
        + b"MAIL FROM:<a@bar.com>\r\nRCPT TO:<b@foo.com>\r\nDATA\r\n.\r\n"
    )
    begins = [event.envelope for event in came.events if isinstance(event, BeginMessage)]
    assert begins[0] == Envelope(b"a@bar.com", (b"b@foo.com",), (Wish(("NEVER",)),), "FULL", b"1", True)
    assert begins[1] == Envelope(b"a@bar.com", (b"b@foo.com",))


@pytest.mark.parametrize(
    ("text", "ret", "envid"),
    [
        (b"RET=full", "FULL", b""),
        (b"ret=HDRS envid=a+20b+2Bc+7E", "HDRS", b"a+20b+2Bc+7E"),
        (b"ENVID=" + b"x" * ENVID_LIMIT, "", b"x" * ENVID_LIMIT),
    ],
)
def test_mail(text: bytes, ret: str, envid: bytes) -> None:
    assert mail_argument(b"FROM:<> " + text, extended=True) == MailArgument(b"", ret=ret, envid=envid)


@pytest.mark.parametrize(
    "text",
    [
        b"RET",
        b"RET=",
        b"RET=BODY",
        b"RET=FULL RET=HDRS",
        b"ENVID",
        b"ENVID=a+2",
        b"ENVID=a+2b",  # hexadecimal digits are upper-case
        b"ENVID=a+0D+0A",  # an encoded line end, on its way into a report
        b"ENVID=a+7F",
        b"ENVID=a+80",
        b"ENVID=a=b",
        "ENVID=ä".encode(),
        b"ENVID=" + b"x" * (ENVID_LIMIT + 1),
        b"ENVID=a ENVID=b",
    ],
)
def test_mail_with_a_value_that_can_not_be(text: bytes) -> None:
    assert talk(EHLO + b"MAIL FROM:<> " + text + b"\r\n").replies[-1].startswith(b"501 5.5.4")


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        (b"notify=never", Wish(("NEVER",))),
        (b"NOTIFY=delay,Success,FAILURE,DELAY", Wish(("DELAY", "SUCCESS", "FAILURE"))),
        (b"ORCPT=rfc822;a+2Bb@c.d NOTIFY=FAILURE", Wish(("FAILURE",), b"rfc822;a+2Bb@c.d")),
        (b"orcpt=x400;/S=".replace(b"S=", b"S+3D") + b"+20", Wish((), b"x400;/S+3D+20")),
        (b"ORCPT=utf-8;\\x{E4}@c.d", Wish((), b"utf-8;\\x{E4}@c.d")),
        (b"ORCPT=a;" + b"x" * (ORCPT_LIMIT - 2), Wish((), b"a;" + b"x" * (ORCPT_LIMIT - 2))),
    ],
)
def test_rcpt(text: bytes, wish: Wish) -> None:
    assert rcpt_argument(b"TO:<b@foo.com> " + text, extended=True, utf8=False) == (b"b@foo.com", wish)


@pytest.mark.parametrize(
    "text",
    [
        b"NOTIFY",
        b"NOTIFY=,",
        b"NOTIFY=SUCCESS,",
        b"NOTIFY=ALWAYS",
        b"NOTIFY=NEVER,DELAY",
        b"NOTIFY=DELAY,NEVER",
        b"NOTIFY=DELAY;SUCCESS",
        b"NOTIFY=DELAY NOTIFY=DELAY",
        "NOTIFY=\u017fUCCESS".encode(),  # in upper case it would be an S
        b"ORCPT",
        b"ORCPT=a@b.c",
        b"ORCPT=;a@b.c",
        b"ORCPT=rfc822;",
        b"ORCPT=rf(c;a@b.c",
        b"ORCPT=rfc822;a+0Ab",
        b"ORCPT=rfc822;a+b",
        "ORCPT=rfc822;ä@b.c".encode(),
        "ORCPT=utf-8;ä@b.c".encode(),  # without SMTPUTF8
        b"ORCPT=a;" + b"x" * (ORCPT_LIMIT - 1),
        b"ORCPT=a;b ORCPT=a;b",
    ],
)
def test_rcpt_with_a_value_that_can_not_be(text: bytes) -> None:
    came = talk(OPEN + b"RCPT TO:<b@foo.com> " + text + b"\r\n")
    assert came.replies[-1].startswith(b"501 5.5.4") and came.events == []


@pytest.mark.parametrize(
    ("orcpt", "right"),
    [
        ("utf-8;ä@b.c", True),
        ("UTF-8;äöü", True),
        ("utf-8;ä+20@b.c", True),
        ("utf-8;ä+0A@b.c", False),
        ("utf-8;\x85@b.c", False),
        ("utf-8;\u2028", False),
        ("utf-8;", False),
        ("rfc822;ä@b.c", False),
    ],
)
def test_an_original_recipient_beyond_ascii(orcpt: str, right: bool) -> None:
    """RFC 6533 section 3."""
    argument = b"TO:<b@foo.com> ORCPT=" + orcpt.encode()
    if right:
        assert rcpt_argument(argument, extended=True, utf8=True)[1].orcpt == orcpt.encode()
    else:
        with pytest.raises(Reply):
            rcpt_argument(argument, extended=True, utf8=True)


def test_an_original_recipient_that_is_no_utf_8() -> None:
    with pytest.raises(Reply):
        rcpt_argument(b"TO:<b@foo.com> ORCPT=utf-8;\xff", extended=True, utf8=True)


def test_who_said_helo_may_wish_nothing() -> None:
    came = talk(
        b"HELO bar.com\r\nMAIL FROM:<> RET=FULL\r\nMAIL FROM:<> ENVID=1\r\nMAIL FROM:<>\r\n"
        b"RCPT TO:<b@foo.com> NOTIFY=NEVER\r\nRCPT TO:<b@foo.com> ORCPT=rfc822;a\r\nRCPT TO:<b@foo.com>\r\n"
    )
    assert came.codes[2:] == [555, 555, 250, 555, 555, 250]


VALUES = st.lists(
    st.sampled_from([b"NEVER", b"DELAY", b",", b";", b"rfc822", b"utf-8", b"+", b"2B", b"0A", b"=", b" ", "ä".encode()])
    | st.binary(max_size=3),
    max_size=6,
).map(b"".join)
SAFE = re.compile(rb"[^\x00-\x20\x7f=]*")


@settings(deadline=None)
@given(st.sampled_from([b"NOTIFY", b"ORCPT"]), VALUES, st.booleans())
def test_no_value_brings_in_a_control_or_a_parameter(name: bytes, value: bytes, utf8: bool) -> None:
    try:
        _, wish = rcpt_argument(b"TO:<b@foo.com> %b=%b" % (name, value), extended=True, utf8=utf8)
    except Reply as reply:
        assert reply.code in (501, 555)
        return
    assert SAFE.fullmatch(wish.orcpt) and (utf8 or wish.orcpt.isascii())
    assert set(wish.notify) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}
