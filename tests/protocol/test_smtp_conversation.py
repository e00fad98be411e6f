"""Messages as they are received, refused and given up, and the caller's side of a conversation."""

from __future__ import annotations

import pytest

from pillarbox.protocol.smtp import (
    HIGH_WATER,
    LINE_LIMIT,
    AbortMessage,
    BeginMessage,
    EndMessage,
    Event,
    Recipient,
    State,
)
from pillarbox.terms import Envelope

from .smtp_talk import Caller, No, in_pieces, session, talk

EHLO = b"EHLO bar.com\r\n"
OPEN = EHLO + b"MAIL FROM:<a@bar.com>\r\nRCPT TO:<b@foo.com>\r\n"


def test_rfc_3030_simple_chunking() -> None:
    body = b"To: Susan@foo.com\r\nFrom: Sam@bar.com\r\nSubject: test\r\n\r\nThis is a message.\r\n.\r\n..dots\r\n"
    came = talk(OPEN + b"BDAT %d LAST\r\n" % len(body) + body + b"QUIT\r\n")
    assert came.codes == [220, 250, 250, 250, 250, 221]
    assert came.delivered[0][1] == body.replace(b"\r\n", b"\n")


def test_rfc_3030_pipelined_chunks_the_last_of_no_octets() -> None:
    text = b"one\r\ntwo\r\n\r\nthree"
    pieces = (text[:4], text[4:6], text[6:])  # the first cut is within a CRLF
    came = talk(
        OPEN + b"".join(b"BDAT %d\r\n%b" % (len(piece), piece) for piece in pieces) + b"bdat 0 last\r\nNOOP\r\n"
    )
    assert came.codes == [220, 250, 250, 250, *(250,) * 4, 250]
    assert came.delivered == [(Envelope(b"a@bar.com", (b"b@foo.com",)), b"one\ntwo\n\nthree\n")]


def test_chunks_of_a_refused_message_are_swallowed_and_answered() -> None:
    def full(event: Event) -> No | None:
        return (452, "4.3.1", "no room") if isinstance(event, BeginMessage) else None

    came = talk(OPEN + b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nRSET\r\nMAIL FROM:<a@b.c>\r\n", full)
    assert came.codes == [220, 250, 250, 250, 452, 452, 250]
    assert came.state is State.MAIL


def test_chunks_without_a_transaction_are_swallowed_and_change_nothing() -> None:
    came = talk(
        b"BDAT 6 LAST\r\nQUIT\r\n" + EHLO + b"MAIL FROM:<>\r\nBDAT 6\r\nQUIT\r\nRCPT TO:<b@foo.com>\r\nBDAT 0 LAST\r\n"
    )
    assert came.codes == [220, 503, 250, 250, 554, 250, 250]
    assert came.delivered == [(Envelope(b"", (b"b@foo.com",)), b"")]


@pytest.mark.parametrize("command", [b"RSET", b"EHLO again.com", b"HELO again.com"])
def test_between_chunks_a_message_can_be_given_up(command: bytes) -> None:
    came = talk(OPEN + b"BDAT 3\r\nab\r" + command + b"\r\nMAIL FROM:<c@bar.com>\r\n")
    assert came.codes[-3:] == [250, 250, 250]
    assert isinstance(came.events[-1], AbortMessage)


@pytest.mark.parametrize("command", [b"MAIL FROM:<x@y.z>", b"RCPT TO:<x@foo.com>", b"DATA"])
def test_between_chunks_the_envelope_is_closed(command: bytes) -> None:
    assert talk(OPEN + b"BDAT 2\r\nab" + command + b"\r\nBDAT 0 LAST\r\n").codes[-2:] == [503, 250]


@pytest.mark.parametrize("end", [b"QUIT\r\n", b"GET / HTTP/1.1\r\n", b"BDAT x\r\n", b"x" * LINE_LIMIT, b"?\r\n" * 20])
def test_a_session_that_ends_between_chunks_gives_the_message_up(end: bytes) -> None:
    came = talk(OPEN + b"BDAT 2\r\nab" + end)
    assert came.state is State.CLOSED
    assert isinstance(came.events[-1], AbortMessage)


@pytest.mark.parametrize("argument", [b"", b"x", b"-1", b"1 LASTS", b"12345678901", b"1 2", b"\xb2"])
def test_a_chunk_of_unknown_size_ends_the_session(argument: bytes) -> None:
    came = talk(OPEN + b"BDAT " + argument + b"\r\nRSET\r\n")
    assert came.codes[-1] == 501 and came.state is State.CLOSED


@pytest.mark.parametrize("kind", [BeginMessage, EndMessage])
def test_after_a_refused_message_the_next_may_come(kind: type[Event]) -> None:
    def no(event: Event) -> No | None:
        return (451, "4.3.0", "not\r\n250 now\x1b") if isinstance(event, kind) else None

    content = b"x\r\n.\r\n" if kind is EndMessage else b""
    came = talk(OPEN + b"DATA\r\n" + content + b"MAIL FROM:<c@bar.com>\r\n", no)
    assert came.replies[-2:] == [b"451 4.3.0 not??250 now?", b"250 2.1.0 sender ok"]
    assert came.delivered == [] and came.messages == 0


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (b"x: y\r\n\r\n" + b"12345678\r\n" * 30, b"552 5.3.4"),
        (b"Received: x\r\n" * 101, b"554 5.4.6"),
        (b"\r\n" + b"x" * 65537 + b"\r\n", b"554 5.6.0"),
    ],
)
@pytest.mark.parametrize("way", ["DATA", "BDAT"])
def test_a_fault_in_the_content_is_told_at_its_end(text: bytes, reply: bytes, way: str) -> None:
    send = b"DATA\r\n%b.\r\n" % text if way == "DATA" else b"BDAT %d LAST\r\n%b" % (len(text), text)
    limit = 200 if reply.startswith(b"552") else 1 << 20
    data = OPEN + send + b"NOOP\r\n"
    came = in_pieces(data, len(data), octets_limit=limit)
    assert came == in_pieces(data, 1000, octets_limit=limit)
    assert came.replies[-2].startswith(reply) and came.replies[-1].startswith(b"250")
    assert came.delivered == [] and came.state is State.READY


def test_a_slot_is_given_back_as_soon_as_the_fault_shows() -> None:
    caller = Caller(session(octets_limit=100))
    caller.feed(OPEN + b"DATA\r\n" + b"12345678\r\n" * 11)
    assert isinstance(caller.talk.events[-1], AbortMessage)
    assert caller.talk.codes[-1] == 354


def test_no_slot_is_asked_for_a_chunk_that_is_too_big() -> None:
    came = talk(OPEN + b"BDAT 101 LAST\r\n" + b"x" * 101, octets_limit=100)
    assert came.codes[-1] == 552
    assert not any(isinstance(event, BeginMessage) for event in came.events)


def test_a_client_that_does_not_read_is_not_answered_without_end() -> None:
    one = session()
    one.receive(b"HELP\r\n" * 10_000)
    assert one.next_event() is None and one.held_back
    assert HIGH_WATER < one.output_size < HIGH_WATER + 512
    caller = Caller(one)
    caller.feed(b"")
    assert caller.talk.codes == [220] + [214] * 10_000


def test_the_caller_may_end_it_at_any_time() -> None:
    caller = Caller(session())
    caller.feed(OPEN + b"DATA\r\nhalf a li")
    caller.session.fail(421, "4.4.2", "idle for too long")
    caller.session.fail(421, "4.4.2", "idle for too long")
    caller.feed(b"ne\r\n.\r\nNOOP\r\n")
    assert caller.talk.replies[-1] == b"421 4.4.2 idle for too long"
    assert caller.talk.codes[-2] == 354 and caller.talk.state is State.CLOSED


def test_a_refusal_with_421_ends_it() -> None:
    came = talk(OPEN + b"NOOP\r\n", lambda event: (421, "4.3.2", "shutting down"))
    assert came.codes == [220, 250, 250, 421] and came.state is State.CLOSED


def test_an_answer_that_does_not_fit_is_a_bug() -> None:
    one = session()
    with pytest.raises(RuntimeError):
        one.refuse(550, "5.0.0", "no")
    one.receive(OPEN)
    assert isinstance(one.next_event(), Recipient)
    assert one.next_event() is None
    with pytest.raises(RuntimeError):
        one.message_accepted("ok")


def test_the_counters() -> None:
    caller = Caller(session())
    caller.feed(OPEN + b"MAIL FROM:<a@b.c>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n")
    one = caller.session
    assert (one.messages, one.octets, one.refusals, one.quit, one.helo) == (1, 4, 1, True, b"bar.com")
