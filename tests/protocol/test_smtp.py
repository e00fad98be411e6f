"""SMTP as a conversation: the examples of the RFCs, what is refused, and that no input can upset the session."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.protocol.smtp import (
    COMMANDS,
    LINE_LIMIT,
    BeginMessage,
    EndMessage,
    Event,
    MessageData,
    Recipient,
    State,
)
from pillarbox.terms import Envelope, Wish

from .smtp_talk import LIMIT, Caller, No, in_pieces, script, session, talk

EHLO = b"EHLO bar.com\r\n"
OPEN = EHLO + b"MAIL FROM:<a@bar.com>\r\nRCPT TO:<b@foo.com>\r\n"
ENHANCED = re.compile(rb"([245])\d\d ([245])\.\d{1,3}\.\d{1,3} ")


def test_rfc_5321_appendix_d_1_a_typical_transaction() -> None:
    def unknown(event: Event) -> No | None:
        known = not isinstance(event, Recipient) or b"Green" not in event.address
        return None if known else (550, "5.1.1", "no such mailbox here")

    came = script(
        """
        S: 220 foo.com ESMTP
        C: EHLO bar.com
        S: 250-foo.com greets [192.0.2.7]
        S: 250-SIZE 1048576
        S: 250-PIPELINING
        S: 250-8BITMIME
        S: 250-SMTPUTF8
        S: 250-ENHANCEDSTATUSCODES
        S: 250-DSN
        S: 250 CHUNKING
        C: MAIL FROM:<Smith@bar.com>
        S: 250 2.1.0
        C: RCPT TO:<Jones@foo.com>
        S: 250 2.1.5
        C: RCPT TO:<Green@foo.com>
        S: 550 5.1.1 no such mailbox here
        C: RCPT TO:<Brown@foo.com>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: Blah blah blah...
        C: ...etc. etc. etc.
        C: .
        S: 250 2.0.0 queued
        C: QUIT
        S: 221 2.0.0
        """,
        unknown,
    )
    envelope = Envelope(b"Smith@bar.com", (b"Jones@foo.com", b"Brown@foo.com"))
    assert came.delivered == [(envelope, b"Blah blah blah...\n..etc. etc. etc.\n")]
    assert came.state is State.CLOSED and came.messages == 1


def test_rfc_5321_appendix_d_2_an_aborted_transaction() -> None:
    came = script(
        """
        S: 220
        C: HELO bar.com
        S: 250 foo.com
        C: MAIL FROM:<Smith@bar.com>
        S: 250 2.1.0
        C: RCPT TO:<Jones@foo.com>
        S: 250 2.1.5
        C: RSET
        S: 250 2.0.0
        C: DATA
        S: 503 5.5.1
        C: QUIT
        S: 221 2.0.0
        """
    )
    assert came.delivered == []


def test_rfc_5321_appendix_d_3_a_source_route_and_d_4_verifying() -> None:
    came = script(
        """
        S: 220
        C: HELO bar.com
        S: 250
        C: VRFY Crispin
        S: 252
        C: MAIL FROM:<@bar.com:JQP@bar.com>
        S: 250
        C: RCPT TO:<@xyz.com,@foo.com:Jones@XYZ.COM>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        """
    )
    assert came.delivered == [(Envelope(b"JQP@bar.com", (b"Jones@XYZ.COM",)), b"")]


def test_rfc_2920_pipelining_and_several_messages() -> None:
    group = b"MAIL FROM:<mrose@dbc.mtview.ca.us>\r\nRCPT TO:<ned@foo.com>\r\nRCPT TO:<dan@foo.com>\r\nDATA\r\n"
    came = talk(EHLO + group + b"one\r\n.\r\n" + group + b"two\r\n.\r\nRSET\r\nQUIT\r\n")
    assert came.codes == [220, 250, *(250, 250, 250, 354, 250) * 2, 250, 221]
    assert [data for _, data in came.delivered] == [b"one\n", b"two\n"]


def test_rfc_2920_all_recipients_refused_in_a_pipeline() -> None:
    def none(event: Event) -> No | None:
        return (550, "5.1.1", "no such mailbox here") if isinstance(event, Recipient) else None

    came = script(
        """
        S: 220
        C: EHLO dbc.mtview.ca.us
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250-
        S: 250
        C: MAIL FROM:<mrose@dbc.mtview.ca.us>
        C: RCPT TO:<nsb@foo.com>
        C: RCPT TO:<galvin@foo.com>
        C: DATA
        S: 250 2.1.0
        S: 550 5.1.1
        S: 550 5.1.1
        S: 554 5.5.1 no recipient has been accepted
        C: QUIT
        S: 221 2.0.0
        """,
        none,
    )
    assert came.delivered == []


def test_every_reply_has_its_enhanced_code_but_those_to_greetings() -> None:
    commands = b"EHLO,NOOP,VRFY,VRFY x,HELP,RSET,EXPN x,WHAT,DATA,RSET x,MAIL FROM:<a>,RCPT TO:<a>,".replace(
        b",", b"\r\n"
    )
    came = talk(EHLO + commands + b"MAIL FROM:<a@b.c> X=1\r\nNO\nOP\r\n" + OPEN[len(EHLO) :] + b"DATA\r\n.\r\nQUIT\r\n")
    replies = [line for line in came.replies[1:] if line[3:4] == b" "]
    assert replies[0].startswith(b"250 CHUNKING") and replies[1].startswith(b"501 say")
    for reply in replies[2:]:
        found = ENHANCED.match(reply)
        assert reply.startswith(b"354 ") or (found and found[1] == found[2]), reply


@pytest.mark.parametrize(
    ("before", "command", "reply"),
    [
        (b"", b"MAIL FROM:<a@b.c>", b"503 "),
        (EHLO, b"RCPT TO:<a@b.c>", b"503 5.5.1"),
        (EHLO, b"DATA", b"503 5.5.1"),
        (OPEN, b"MAIL FROM:<a@b.c>", b"503 5.5.1"),
        (OPEN, b"DATA now", b"501 5.5.4"),
        (OPEN, b"QUIT now", b"501 5.5.4"),
        (OPEN, b"RCPT TO:<>", b"553 5.1.3"),
        (OPEN, b"RCPT TO:<a@b.c> RRVS=2014-04-03T23:01:00Z", b"555 5.5.4"),
        (OPEN, b"RCPT FROM:<a@b.c>", b"501 5.5.4"),
        (EHLO, b"MAIL FROM:a@b.c", b"553 5.1.7"),
        (EHLO, b"MAIL FROM:<postmaster>", b"553 5.1.7"),
        (EHLO, b"MAIL FROM:<a@b.c> AUTH=<>", b"555 5.5.4"),
        (EHLO, b"MAIL FROM:<a@b.c> SIZE=x", b"501 5.5.4"),
        (EHLO, b"MAIL FROM:<a@b.c> SIZE", b"501 5.5.4"),
        (EHLO, b"MAIL FROM:<a@b.c> SIZE=1 SIZE=1", b"501 5.5.4"),
        (EHLO, b"MAIL FROM:<a@b.c> BODY=BINARYMIME", b"501 5.5.4"),
        (EHLO, b"MAIL FROM:<a@b.c> SMTPUTF8=1", b"501 5.5.4"),
        (EHLO, b"MAIL FROM:<a@b.c> SIZE=1048577", b"552 5.3.4"),
        (EHLO, b"MAIL FROM:<a@b.c> SIZE=" + b"9" * 20, b"552 5.3.4"),
        (b"HELO bar.com\r\n", b"MAIL FROM:<a@b.c> SIZE=1", b"555 "),
        (EHLO, "MAIL FROM:<ä@b.c>".encode(), b"553 5.6.7"),
        (EHLO, b"MAIL FROM:<\xff@b.c> SMTPUTF8", b"553 5.1.7"),
        (EHLO, b"HELO", b"501 say"),
        (EHLO, b"HELO " + b"x" * 256, b"501 say"),
        (EHLO, b"STARTTLS", b"502 5.5.1"),
        (EHLO, b"AUTH PLAIN AGEAYg==", b"502 5.5.1"),
        (EHLO, b"", b"500 5.5.1"),
        (EHLO, b" NOOP", b"500 5.5.1"),
        (EHLO, b"NOOP\nNOOP", b"500 5.5.2"),
        (EHLO, b"NOOP\rNOOP", b"500 5.5.2"),
    ],
)
def test_what_is_refused_leaves_the_state_as_it_was(before: bytes, command: bytes, reply: bytes) -> None:
    was = talk(before)
    came = talk(before + command + b"\r\n")
    assert came.output.startswith(was.output)
    (said,) = came.output[len(was.output) :].split(b"\r\n")[:-1]
    assert said.startswith(reply)
    assert (came.state, came.events) == (was.state, was.events)


def test_parameters_and_blanks_that_are_taken() -> None:
    line = "MAIL FROM: <ä@bücher.example> SIZE=77 body=8bitmime SMTPUTF8 \r\nRCPT TO:<ö@foo.com>\r\nDATA \r\n.\r\n".encode()
    came = talk(EHLO + line)
    recipient, begin = came.events[:2]
    assert recipient == Recipient("ö@foo.com".encode(), 77, "ä@bücher.example".encode(), Wish())
    assert begin == BeginMessage(
        Envelope("ä@bücher.example".encode(), ("ö@foo.com".encode(),), utf8=True), b"UTF8SMTP", b"bar.com"
    )


@pytest.mark.parametrize(("greeting", "protocol"), [(b"HELO", b"SMTP"), (b"EHLO", b"ESMTP")])
def test_the_protocol_and_the_clients_name_are_told(greeting: bytes, protocol: bytes) -> None:
    came = talk(greeting + b" [\x1b]0;\xc3\xa4\r\n" + OPEN[len(EHLO) :] + b"DATA\r\n.\r\n")
    begin = came.events[1]
    assert isinstance(begin, BeginMessage)
    assert (begin.protocol, begin.helo) == (protocol, b"[?]0;??")


def test_who_greets_again_with_helo_has_no_extensions() -> None:
    came = talk(EHLO + b"HELO bar.com\r\nNOOP\r\nMAIL FROM:<a@b.c> SIZE=1\r\n")
    assert came.replies[-3:-1] == [b"250 foo.com", b"250 2.0.0 ok"] and came.codes[-1] == 555


def test_a_recipient_given_twice_is_one() -> None:
    came = talk(OPEN + b"RCPT TO:<b@foo.com>\r\nDATA\r\n.\r\n")
    assert came.delivered[0][0].recipients == (b"b@foo.com",)
    assert sum(isinstance(event, Recipient) for event in came.events) == 1, "nobody is asked again"


def test_a_recipient_that_was_refused_is_asked_about_again() -> None:
    refusals = iter([(450, "4.2.1", "later"), None])
    data = EHLO + b"MAIL FROM:<a@b.c>\r\n" + b"RCPT TO:<b@foo.com>\r\n" * 3
    came = in_pieces(data, len(data), lambda _: next(refusals))
    assert came.codes[-3:] == [450, 250, 250]


def test_repetitions_count_as_recipients() -> None:
    came = talk(OPEN + b"RCPT TO:<b@foo.com>\r\n" * 3 + b"RCPT TO:<c@foo.com>\r\nRSET\r\n" + OPEN, recipients_limit=3)
    assert came.codes[4:] == [250, 250, 452, 452, 250, 250, 250, 250]


def test_too_many_recipients() -> None:
    came = talk(OPEN + b"RCPT TO:<c@foo.com>\r\nRCPT TO:<d@foo.com>\r\nDATA\r\n.\r\n", recipients_limit=2)
    assert came.codes[-4:] == [250, 452, 354, 250]
    assert came.delivered[0][0].recipients == (b"b@foo.com", b"c@foo.com")


def test_bad_commands_end_it_but_a_wrong_sequence_does_not() -> None:
    came = talk(EHLO + b"RCPT TO:<a@b.c>\r\n" * 30 + b"WHAT\r\n" * 20 + b"NOOP\r\n")
    assert came.codes[2:] == [503] * 30 + [500] * 19 + [421]
    assert came.state is State.CLOSED


@pytest.mark.parametrize("verb", [b"GET", b"post", b"PUT", b"HEAD", b"CONNECT"])
def test_a_web_browser_is_not_heard_out(verb: bytes) -> None:
    came = talk(verb + b" / HTTP/1.1\r\n" + OPEN)
    assert came.codes == [220, 500] and came.state is State.CLOSED


def test_a_command_line_without_an_end_is_not_kept() -> None:
    assert talk(b"NOOP " + b"x" * (LINE_LIMIT - 7) + b"\r\n").codes == [220, 250]
    caller = Caller(session())
    caller.feed(b"x" * LINE_LIMIT)
    assert caller.talk.codes == [220, 500] and caller.talk.state is State.CLOSED
    assert caller.session.pending == 0


def test_the_table_names_every_command_that_has_a_use() -> None:
    assert set(COMMANDS) == set(b"HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP".split(b" "))


WORDS = st.sampled_from(
    [
        *COMMANDS,
        b" ",
        b"\r\n",
        b"\n",
        b"\r",
        b"FROM:<a@b.c>",
        b"TO:<a@b.c>",
        b".",
        b" LAST",
        b"7",
        b" SMTPUTF8",
        b"\xff",
    ]
)
LINES = st.sampled_from(
    [
        EHLO,
        OPEN,
        b"DATA\r\n",
        b"x\r\n",
        b"\r\n.\r\n",
        b"BDAT 5\r\n",
        b"BDAT 9 LAST\r\n",
        b"RSET\r\n",
        b"a\nb",
        b"QUIT\r\n",
    ]
)
INPUT = st.lists(WORDS | LINES | st.binary(max_size=20), max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(WORDS | LINES | st.binary(max_size=20), max_size=40),
    st.integers(1, 50),
    st.sampled_from([9, LIMIT]),
    st.booleans(),
)
def test_nothing_that_is_sent_upsets_the_session(words: list[bytes], size: int, limit: int, mend: bool) -> None:
    refused = len(words) % 3  # accept, refuse recipients, refuse messages

    def answer(event: Event) -> No | None:
        kinds: tuple[type, ...] = ((), (Recipient,), (BeginMessage, EndMessage))[refused]
        return (450, "4.0.0", "no") if isinstance(event, kinds) else None

    data = b"".join(words)
    came = in_pieces(data, size, answer, octets_limit=limit, normalise=mend)
    assert came == in_pieces(data, len(data) + 1, answer, octets_limit=limit, normalise=mend)
    assert len(came.output) < 400 * (len(data) + 1)
    assert all(line[:3].isdigit() and len(line) <= 510 for line in came.replies)
    assert not any(isinstance(event, MessageData) and b"\r" in event.data for event in came.events)
