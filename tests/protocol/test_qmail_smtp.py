"""qmail-smtpd's conversation whole and octet by octet; what it says word by word is in tests/classic."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.address import forward_path, reverse_path
from pillarbox.protocol.lines import LineBuffer
from pillarbox.protocol.qmail_address import LIMIT, BadArgument, argument_address, smtp_address, smtp_sender
from pillarbox.protocol.qmail_data import HOPS_LIMIT, QmailData
from pillarbox.protocol.qmail_smtp import (
    COMMANDS,
    LINE_LIMIT,
    BeginMessage,
    EndMessage,
    QmailSmtpSession,
    Recipient,
)
from pillarbox.protocol.smtp_data import BareNewline
from pillarbox.protocol.smtp_events import AbortMessage, MessageData

Told = tuple[bytes, tuple[tuple[bytes, bytes, tuple[bytes, ...]], ...], int | None]


def played(session: QmailSmtpSession, chunks: list[bytes]) -> Told:
    """Output, messages that came whole (content, sender, recipients) and exit status; every event gets a yes."""
    output, messages, content = b"", [], b""
    for chunk in (b"", *chunks):
        session.receive(chunk)
        while event := session.next_event():
            match event:
                case Recipient(address, _):
                    session.recipient_accepted(address)
                case BeginMessage():
                    content = b""
                    session.message_begun()
                case MessageData(data):
                    content += data
                case EndMessage(sender, recipients, fault):
                    if fault:
                        session.refuse(fault)
                    else:
                        messages.append((content, sender, recipients))
                        session.message_accepted(b"ok")
                case AbortMessage():
                    content = b""
        output += session.take_output()
    return output, tuple(messages), session.status


def new(limit: int = 0) -> QmailSmtpSession:
    return QmailSmtpSession(b"mx.test", data_limit=limit, recipients_limit=3)


LINES = st.sampled_from(
    [verb + rest for verb in (*COMMANDS, b"XYZZY", b"") for rest in (b"", b" ", b" x")]
    + [
        b"MAIL FROM:<a@b>",
        b"MAIL FROM:<>",
        b"RCPT TO:<x@y>",
        b'RCPT TO:<"a\\@b"@y>',
        b"DATA",
        b"DATA",
        b".",
        b"..",
        b".\r",
    ]
    + [b"Received: x", b"x" * 5000]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n"])
TALK = st.lists(st.tuples(LINES, ENDS), max_size=25).map(lambda parts: b"".join(line + end for line, end in parts))


@given(TALK, st.data())
def test_how_it_is_cut_changes_nothing(talk: bytes, data: st.DataObject) -> None:
    whole = played(new(limit=50), [talk])
    assert played(new(limit=50), [talk[at : at + 1] for at in range(len(talk))]) == whole
    cut = data.draw(st.integers(0, len(talk)))
    assert played(new(limit=50), [talk[:cut], talk[cut:]]) == whole


@given(st.binary(max_size=400))
def test_any_octets_are_answered_in_whole_lines(octets: bytes) -> None:
    output, _, status = played(new(), [octets])
    assert output.endswith(b"\r\n") and status in (None, 0, 1)
    assert all(re.fullmatch(rb"[2345][0-9]{2}[ -][ -~]*", line) for line in output[:-2].split(b"\r\n"))


# Content.


def decoded(wire: bytes, chunk: int) -> tuple[bytes, bytes, bool]:
    """Stored octets, what is left behind the end, and whether that came."""
    content, source, stored = QmailData(0), LineBuffer(LINE_LIMIT), b""
    for at in range(0, len(wire), chunk):
        source.feed(wire[at : at + chunk])
        if content.ended:
            break
        stored += content.read(source)
        if content.ended:
            return stored, source.take_rest() + wire[at + chunk :], True
    return stored, b"", False


@given(
    st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))),
    st.integers(1, 9),
)
def test_a_message_that_is_stuffed_comes_out_as_it_was(lines: list[bytes], chunk: int) -> None:
    stuffed = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)
    stored, rest, ended = decoded(stuffed + b".\r\nQUIT\r\n", chunk)
    assert ended and rest == b"QUIT\r\n"
    wanted = b"".join(line + b"\n" for line in lines)
    assert stored.replace(b"..\r", b".\r") == wanted.replace(b"..\r", b".\r")  # a dot before a CR alone is no stuffing


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("wire", [b"\n.\r\n", b"\n", b"a\nb", b"\r\n.\n", b".\n", b"\r\n\n", b"x\r\n.\r\r\n\n"])
def test_an_lf_alone_is_found_however_it_comes(wire: bytes, size: int) -> None:
    with pytest.raises(BareNewline):
        decoded(wire + b"\r\n.\r\n", size)


def test_hops_are_those_of_the_header_alone() -> None:
    head = b"Received: a\r\n" * (HOPS_LIMIT - 1)
    for more, looping in ((b"", False), (b"delivered-to : x\r\n", True), (b"Received-SPF: x\r\n", False),
                          (b"\r\nReceived: x\r\n", False), (b"X: y\r\n Received: x\r\n", False)):  # fmt: skip
        content, source = QmailData(0), LineBuffer(LINE_LIMIT)
        source.feed(head + more + b".\r\n")
        content.read(source)
        assert content.looping is looping, more


# Addresses.

ARGUMENTS = [
    (b"FROM:<a@b>", b"a@b"),
    (b"FROM:<a@b> SIZE=3 <c>", b"a@b"),
    (b"FROM: a@b SIZE=3", b"a@b"),
    (b"<>", b""),
    (b"", b""),
    (b"FROM:<a@b", b"a@b"),
    (b'TO:<"a>b"@c>', b"a>b@c"),
    (b"TO:<a\\>b@c>", b"a>b@c"),
    (b"TO:<a\\", b"a"),
    (b"TO:<@x,@y:a@b>", b"a@b"),
    (b"TO:<@x>", b""),
    (b"TO:<a@[192.0.2.1]>", b"a@here.test"),
    (b"TO:<a@[192.0.2.2]>", b"a@[192.0.2.2]"),
]


@pytest.mark.parametrize(("argument", "address"), ARGUMENTS)
def test_what_is_read_out_of_an_argument(argument: bytes, address: bytes) -> None:
    assert argument_address(argument, frozenset((b"[192.0.2.1]",)), b"here.test") == address


@given(st.binary(max_size=40))
def test_an_address_is_bounded_and_has_no_control_characters(argument: bytes) -> None:
    try:
        address = argument_address(b"<" + argument * 30)
    except BadArgument:
        return
    assert len(address) <= LIMIT and not re.search(rb"[\x00-\x1f\x7f]", address)


@given(st.text('ab."\\ @<>%,;:', min_size=1, max_size=20))
def test_what_qmail_took_off_is_put_on_again(local: str) -> None:
    """Whatever stood there, our queue reads the same address."""
    written = smtp_address(local.encode() + b"@y.test", b"")
    assert argument_address(b"TO:<" + written + b">") == local.encode() + b"@y.test"
    assert forward_path(b"<" + written + b">") == (written, b"")


def test_senders_that_are_none() -> None:
    assert smtp_sender(b"", b"x") == b"" == smtp_sender(b"#@[]", b"x")
    assert reverse_path(b"<" + smtp_sender(b"root", b"mx.test") + b">")[0] == b"root@mx.test"
    with pytest.raises(BadArgument):
        smtp_sender(b"list-@h-@[]", b"x")
