"""What is added to a message that is handed in: what is missing, once, and nothing in the rest of it."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.smtp_data import HEADER_LIMIT
from pillarbox.protocol.submission import Completion

DATE = b"Date: Thu, 01 Jan 1970 00:00:07 +0000\n"
IDENTITY = b"Message-ID: <7f3a@foo.com>\n"


def completed(message: bytes, size: int = 1 << 20) -> bytes:
    completion = Completion(b"foo.com", "7f3a", 7.5)
    pieces = [completion.feed(message[start : start + size]) for start in range(0, len(message), size)]
    return b"".join(pieces) + completion.finish()


BOTH = DATE + IDENTITY


@pytest.mark.parametrize(
    ("message", "added"),
    [
        (b"From: a@b.c\n\nhello\n", BOTH),
        (b"From: a@b.c\nDate: x\n\nhello\n", IDENTITY),
        (b"Message-Id: <x>\nFrom: a@b.c\n\nhello\n", DATE),
        (b"DATE \t: x\nmEsSaGe-iD\t: <x>\n\n", b""),
        (b"Date:\n x\nMessage-ID:\n <x>\n\n", b""),
        (b"From: a@b.c\n\nDate: x\nMessage-ID: <x>\n", BOTH),  # in the body
        (b"From: a@b.c\n\n\nDate: x\n", BOTH),
        (b"Subject: x\n Date: x\n\tMessage-ID: <x>\n\n", BOTH),  # in a folded field
        (b"X-Date: x\nDates: x\nResent-Date: x\nResent-Message-ID: <x>\n\n", BOTH),
        (b"Subject: Date: x Message-ID: <x>\n\n", BOTH),
        (b"\nDate: x\nMessage-ID: <x>\n", BOTH),  # no header at all
        (b"\n", BOTH),
        (b"", BOTH),
        (b"Date: x\n", IDENTITY),  # no body
        (b"Date x\nDate\n : x\n\n", BOTH),
        (b"Bcc: hidden@b.c\nBcc:\n\nhello\n", BOTH),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_what_is_missing_stands_in_front(message: bytes, added: bytes, size: int) -> None:
    assert completed(message, size) == added + message


def test_what_was_added_is_a_header_to_others() -> None:
    read = message_from_bytes(completed(b"From: a@b.c\nSubject: hello\n\nDate: body\n"), policy=SMTP)
    assert read["Message-ID"] == "<7f3a@foo.com>" and read["Date"].datetime.timestamp() == 7
    assert (read["Subject"], read.get_content()) == ("hello", "Date: body\n")


LINES = st.sampled_from(
    [b"Date: x\n", b"message-id: <x>\n", b" Date: x\n", b"X: y\n", b"\n", b"Date x\n", b"date\t:\n"]
)


def reference(message: bytes) -> bytes:
    """Line by line."""
    names = set()
    for line in message.split(b"\n")[:-1]:
        if not line:
            break
        name, colon, _ = line.partition(b":")
        if colon and not line.startswith(b" "):
            names.add(name.rstrip(b" \t").lower())
    return (b"" if b"date" in names else DATE) + (b"" if b"message-id" in names else IDENTITY) + message


@given(st.lists(LINES, max_size=12).map(b"".join), st.integers(1, 40))
def test_it_is_what_a_reading_line_by_line_says_however_it_is_cut(message: bytes, size: int) -> None:
    assert completed(message, size) == reference(message)


def test_the_header_is_held_back_and_nothing_else() -> None:
    completion = Completion(b"foo.com", "7f3a", 7.5)
    assert completion.feed(b"Date: x\nFrom: a@b.c\n") == b""
    assert completion.feed(b"\nbody") == IDENTITY + b"Date: x\nFrom: a@b.c\n\nbody"
    chunk = b"\n\nDate: y\n" * 10
    assert completion.feed(chunk) is chunk
    assert completion.finish() == b""


def test_a_header_without_an_end_is_not_held_for_ever() -> None:
    completion = Completion(b"foo.com", "7f3a", 7.5)
    line = b"X: " + b"y" * 1020 + b"\n"
    came = [completion.feed(line) for _ in range(HEADER_LIMIT // len(line) + 2)]
    assert came[0] == b"" and b"".join(came).startswith(BOTH + line)
    assert b"".join(came) == BOTH + line * len(came)
