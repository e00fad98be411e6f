"""Messages from local programs: read, addressed, completed; and what the server holds against them."""

from __future__ import annotations

import email
import email.policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol import injected
from pillarbox.protocol.injected import StoredContent, envelope, mailbox, read, recipients, return_path, xtext
from pillarbox.protocol.smtp_data import HOPS_LIMIT, LINE_LIMIT
from pillarbox.terms import Refused, Wish

HOME = b"home.test"
NOW = 1_795_000_000.0


def header(content: bytes, *, sender: bytes = b"me@home.test", name: str = "") -> bytes:
    message = read(content)
    return injected.header(message, sender=sender, name=name, domain=HOME, message_id=b"1.2@mx.home.test", now=NOW)


def names(content: bytes) -> list[bytes]:
    return [line.partition(b":")[0] for line in content.split(b"\n") if line[:1] not in (b"", b" ", b"\t")]


# Reading.


@pytest.mark.parametrize(
    ("content", "fields", "body"),
    [
        (b"", [], b""),
        (b"To: a\n\nhello\n", [b"To: a\n"], b"hello\n"),
        (b"To: a\r\n b\r\n\r\nhello\r\n", [b"To: a\n b\n"], b"hello\n"),
        (b"To: a\n\nno end", [b"To: a\n"], b"no end\n"),
        (b"just a text\nof two lines\n", [], b"just a text\nof two lines\n"),
        (b"To: a\nno field\n\nx\n", [b"To: a\n"], b"no field\n\nx\n"),
        (b"\nTo: a\n", [], b"To: a\n"),
        (b" To: a\n", [], b" To: a\n"),
        (b"From me Thu Jan  1 00:00:00 1970\nTo: a\n\nx\n", [b"To: a\n"], b"x\n"),
        (b"From me", [], b""),
        (b"From: me\n\nFrom here on\n", [b"From: me\n"], b"From here on\n"),
        (b"To: a\nX-\xff: \x00\n", [b"To: a\n"], b"X-\xff: \x00\n"),
        (b"X: \x00\xff\n\n\x00\xff\n", [b"X: \x00\xff\n"], b"\x00\xff\n"),
        (b"Subject : old\n\n", [b"Subject : old\n"], b""),
        (b"To: a\n\n\n", [b"To: a\n"], b"\n"),
    ],
)
def test_a_message_is_read(content, fields, body):
    message = read(content)
    assert [field.raw for field in message.fields] == fields and message.body == body


def test_a_bare_cr_begins_no_field_and_ends_a_line_of_the_body():
    message = read(b"Subject: x\rBcc: victim@x.test\nTo: a\r\r\n\r\none\rtwo\r\n")
    assert [field.raw for field in message.fields] == [b"Subject: x Bcc: victim@x.test\n", b"To: a\n"]
    assert message.body == b"one\ntwo\n"
    assert recipients(message, HOME) == [b"a@home.test"]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"To: a", b" ", b"From ", b"x", b"\x00"])).map(b"".join))
def test_what_is_stored_has_no_cr_and_whole_lines(content):
    message = read(content)
    stored = b"".join(field.raw for field in message.fields) + b"\n" + message.body
    assert b"\r" not in stored and stored.endswith(b"\n")
    assert all(field.raw.endswith(b"\n") and b"\n\n" not in field.raw for field in message.fields)


def test_many_folded_lines_take_linear_time():
    message = read(b"To: a\n" + b" b,\n" * 200_000)
    assert len(message.fields) == 1


# Whom it goes to.


def test_recipients_come_from_to_cc_and_bcc_each_once():
    message = read(b"To: a, B <b@x.test>\nCc: c@x.test, a@home.test\nbcc: d@x.test\nX-To: e@x.test\nFrom: f\n\n")
    assert recipients(message, HOME) == [b"a@home.test", b"b@x.test", b"c@x.test", b"d@x.test"]


def test_a_resent_message_goes_to_whom_it_was_resent_last():
    latest = b"Resent-From: me\nResent-To: a@x.test\nResent-Bcc: b@x.test\n"
    earlier = b"Received: by y.test\nResent-From: you\nResent-To: c@x.test\nResent-Cc: d@x.test\n"
    assert recipients(read(latest + earlier + b"To: e@x.test\n\n"), HOME) == [b"a@x.test", b"b@x.test"]
    assert recipients(read(latest + b"Resent-To: c@x.test\nTo: e@x.test\n\n"), HOME) == [b"a@x.test", b"b@x.test"]
    assert recipients(read(b"Resent-From: me\nTo: e@x.test\n\n"), HOME) == []


def test_a_bad_list_is_refused_by_its_field():
    with pytest.raises(Refused, match='in the field Cc: "bob smith"') as caught:
        recipients(read(b"To: a\nCC: bob smith\n\n"), HOME)
    assert caught.value.code == "5.1.3"


@pytest.mark.parametrize(
    ("field", "sender"),
    [(b"", None), (b"Return-Path: <>\n", b""), (b"Return-Path: <a@x.test>\n", b"a@x.test"),
     (b"Return-Path: a b\n", None), (b"return-path: a\n", b"a@home.test"), (b"Return-Path:\n", None)],
)  # fmt: skip
def test_a_return_path_names_the_sender(field, sender):
    assert return_path(read(field + b"To: a\n\n"), HOME) == sender


# Completing.


def test_what_is_missing_is_added_once():
    assert names(header(b"Subject: x\n\n")) == [b"Subject", b"From", b"Date", b"Message-ID"]
    whole = header(b"FROM: a@x.test\nDate: b\nmessage-id: <c@d>\n\n")
    assert whole == b"FROM: a@x.test\nDate: b\nmessage-id: <c@d>\n\n"
    assert header(whole) == whole


def test_the_added_fields_are_what_the_standard_asks_for():
    parsed = email.message_from_bytes(header(b"", name="Ann Other"), policy=email.policy.SMTP)
    assert not parsed.defects
    assert parsed["From"].addresses[0].addr_spec == "me@home.test"
    assert parsed["From"].addresses[0].display_name == "Ann Other"
    assert parsed["Date"].datetime.timestamp() == NOW
    assert parsed["Message-ID"] == "<1.2@mx.home.test>"


def test_the_null_sender_has_an_author_all_the_same():
    assert b"From: MAILER-DAEMON@home.test\n" in header(b"", sender=b"")


def test_hidden_recipients_and_foreign_traces_are_removed():
    whole = header(b"To: a\nBcc: b,\n c\nReturn-Path: <d>\nResent-BCC: e\nContent-Length: 3\nX-Bcc: kept\n\n")
    assert names(whole) == [b"Resent-From", b"Resent-Date", b"Resent-Message-ID", b"To", b"X-Bcc", b"From", b"Date",
                            b"Message-ID"]  # fmt: skip
    assert b" c\n" not in whole


def test_a_resent_message_is_completed_above_and_below():
    whole = header(b"Resent-To: a@x.test\nResent-Date: x\nFrom: b@x.test\nDate: y\nMessage-ID: <z@z>\n\n")
    assert names(whole) == [b"Resent-From", b"Resent-Message-ID", b"Resent-To", b"Resent-Date", b"From", b"Date",
                            b"Message-ID"]  # fmt: skip


def test_addresses_get_a_domain_and_texts_do_not():
    whole = header(b"From: root (Cron)\nTo: a, b@x.test\nSubject: a, b\nReply-To: c\n\n")
    assert b"From: root@home.test (Cron)\nTo: a@home.test, b@x.test\nSubject: a, b\nReply-To: c@home.test\n" in whole


def test_the_header_ends_with_an_empty_line():
    assert header(b"").endswith(b"\n\n") and header(b"").count(b"\n\n") == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", b"a@x.test"),
        ("  ", b"a@x.test"),
        ("Ann Other", b"Ann Other <a@x.test>"),
        ("Ann B. Other", b'"Ann B. Other" <a@x.test>'),
        ('A "B" \\', b'"A \\"B\\" \\\\" <a@x.test>'),
        ("A\nBcc: b@x.test", b'"A Bcc: b@x.test" <a@x.test>'),
    ],
)
def test_a_name_stands_before_its_address(name, shown):
    assert mailbox(b"a@x.test", name) == shown


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=200))
def test_any_name_can_be_read_again(name):
    value = mailbox(b"a@x.test", name)
    assert value.isascii() and b"\n" not in value
    assert all(len(word) <= 75 for word in value.split(b" ") if word.startswith(b"=?"))
    if not name.isascii():
        assert str(make_header(decode_header(value.decode()))) == f"{name} <a@x.test>"


def test_xtext():
    assert xtext(b"a+b=c d\x00\xff~") == b"a+2Bb+3Dc+20d+00+FF~"


# The server's side.


def test_an_envelope_is_checked_and_each_recipient_is_one():
    found = envelope(b"a@x.test", [b"b@x.test", b'"c"@x.test', b"b@x.test"], ["DELAY", "FAILURE"], "HDRS", b"id+20x")
    assert found.sender == b"a@x.test" and found.recipients == (b"b@x.test", b"c@x.test")
    assert found.wishes == (Wish(("DELAY", "FAILURE")),) * 2
    assert (found.ret, found.envid, found.utf8) == ("HDRS", b"id+20x", False)
    assert envelope(b"", [b"b@x.test"]).wishes == ()
    assert envelope(b"", ["jürgen@x.test".encode()]).utf8


@pytest.mark.parametrize(
    "arguments",
    [
        (b"a@x.test", []),
        (b"a", [b"b@x.test"]),
        (b"a@x.test> SIZE=1", [b"b@x.test"]),
        (b"", [b""]),
        (b"", [b"b@x.test>\n<c@x.test"]),
        (b"", [b"b@x.test\n"]),
        (b"", [b"b"]),
        (b"", [b"\xff@x.test"]),
        (b"", [b"b@x.test"], ["NEVER", "DELAY"]),
        (b"", [b"b@x.test"], ["SOMETIMES"]),
        (b"", [b"b@x.test"], [], "ALL"),
        (b"", [b"b@x.test"], [], "", b"a b"),
        (b"", [b"b@x.test"], [], "", b"a+2"),
        (b"", [b"b@x.test"], [], "", b"a" * 101),
    ],
)
def test_an_envelope_that_can_not_be(arguments):
    with pytest.raises(Refused) as caught:
        envelope(*arguments)
    assert caught.value.code.startswith("5.")


def test_content_is_counted_as_it_will_be_sent():
    content = StoredContent(10)
    assert content.feed(b"abc\n") + content.feed(b"de") + content.finish() == b"abc\nde\n"
    assert content.octets == 7 and content.ended
    assert StoredContent(10).feed(b"12345678\n") == b"12345678\n"
    for chunk, code in (
        (b"123456789\n", "5.3.4"),
        (b"a\r\n", "5.6.0"),
    ):
        with pytest.raises(Refused) as caught:
            StoredContent(10).feed(chunk)
        assert caught.value.code == code


def test_content_that_would_drown_a_reader_or_loops_is_refused():
    for chunk, code in ((b"a" * (LINE_LIMIT + 1), "5.6.0"), (b"Received: x\n" * (HOPS_LIMIT + 1), "5.4.6")):
        with pytest.raises(Refused) as caught:
            StoredContent(1 << 30).feed(chunk)
        assert caught.value.code == code


def test_an_empty_message_needs_no_line_end():
    content = StoredContent(10)
    assert content.feed(b"") + content.finish() == b""


def test_our_received_field_can_be_read():
    field = injected.received_field(host=b"mx.home.test", uid=1000, identity="17.ab", now=NOW)
    value = email.message_from_bytes(field + b"\n")["Received"]
    assert " ".join(value.split()).startswith("by mx.home.test (Pillarbox, from uid 1000) id 17.ab; ")
