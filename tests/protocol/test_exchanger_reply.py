"""Replies of other hosts: what they mean, and that their text can do no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.exchanger_reply import TEXT_LIMIT, first_word, reply


@pytest.mark.parametrize(
    ("code", "text", "action", "status"),
    [
        (250, "2.0.0 queued as 1", "relayed", "2.0.0"),
        (250, "ok", "relayed", "2.0.0"),
        (251, "will forward", "relayed", "2.0.0"),
        (450, "4.2.1 busy", "delayed", "4.2.1"),
        (421, "bye", "delayed", "4.0.0"),
        (550, "5.1.1 no such user", "failed", "5.1.1"),
        (550, "5.7.26", "failed", "5.7.26"),
        (550, "4.7.1 the class does not agree", "failed", "5.0.0"),
        (451, "5.7.1 the class does not agree", "delayed", "4.0.0"),
        (550, "5.1.1.1 is no code", "failed", "5.0.0"),
        (550, "5.1.1234", "failed", "5.0.0"),
        (550, "x 5.1.1", "failed", "5.0.0"),
        (550, "", "failed", "5.0.0"),
        (354, "go on", "delayed", "4.5.0"),
    ],
)
def test_what_a_reply_means(code: int, text: str, action: str, status: str) -> None:
    outcome = reply(code, text).outcome("mx.test")
    assert (outcome.action, outcome.status, outcome.mta) == (action, status, "mx.test")
    assert outcome.reply == f"{code} {text}".rstrip(" ")


def test_lines_become_one_and_repeat_no_code() -> None:
    assert reply(550, "5.1.1 no such\n5.1.1 user\nhere").text == "5.1.1 no such user here"


@given(st.text(max_size=2000))
def test_a_text_is_short_and_printable(text: str) -> None:
    kept = reply(550, text).outcome("").reply
    assert kept.isascii()
    assert kept.isprintable()
    assert len(kept) <= TEXT_LIMIT + 4


@pytest.mark.parametrize("code", [-1, 0, 25, 199, 354, 600, 999])
def test_a_code_that_means_nothing(code: int) -> None:
    assert not reply(code, "").known


def test_the_name_in_a_greeting() -> None:
    assert first_word("MX.Test ESMTP\nmore") == "mx.test"
    assert first_word("") == ""
