"""The words for a person: a sentence for every status, and strangers' words kept in their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol.report_words import SENTENCES, SUBJECTS, WIDTH, duration, one_line, paragraph
from pillarbox.terms import Outcome


def said(action: str, status: str, waited: float = 0.0, until: str = "", **more: str) -> str:
    lines = paragraph("b@example.com", Outcome(action, status, **more), status=status, waited=waited, until=until)
    assert max(map(len, lines)) <= WIDTH
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("5.1.1", "no mailbox"),
        ("5.1.2", "no such name"),
        ("5.1.10", "takes none"),
        ("5.2.2", "full"),
        ("5.2.3", "larger"),
        ("5.3.4", "too large"),
        ("5.4.1", "does not answer"),
        ("4.4.1", "does not answer"),
        ("5.4.6", "circles"),
        ("5.4.7", "again and again for 7 days"),
        ("5.6.3", "so old"),
        ("5.6.7", "English alphabet"),
        ("5.7.1", "rule of its own"),
        ("5.7.10", "encrypted"),
        ("5.7.30", "encrypted"),
        ("5.7.26", "no proof"),
        ("5.4.99", "could not be reached"),
        ("5.0.0", "could not be delivered"),
        ("5.9.1", "could not be delivered"),
    ],
)
def test_what_happened(status: str, words: str) -> None:
    assert words in said("failed", status, waited=7 * 86400.0)


@pytest.mark.parametrize("status", [f"5.{key}" for key in SENTENCES] + [f"5.{key}.999" for key in SUBJECTS])
def test_every_failure_says_what_to_do(status: str) -> None:
    text = said("failed", status)
    assert text.count(".") >= 3 and "{" not in text and "You need do nothing" not in text


def test_a_delay_needs_nothing_done() -> None:
    text = said("delayed", "4.2.2", until="tomorrow")
    assert "The mailbox is full. You need do nothing: it is tried again and again until tomorrow." in text
    assert "again and again. If" in said("delayed", "4.2.2")


@pytest.mark.parametrize(("action", "words"), [("delivered", "lies in the mailbox"), ("relayed", "no reports of success"),
                                               ("expanded", "several people")])  # fmt: skip
def test_good_news(action: str, words: str) -> None:
    assert words in said(action, "2.0.0")


def test_strangers_words_are_marked_and_come_last() -> None:
    text = said("failed", "5.1.1", text="the alias points nowhere", mta="mx.test", reply="550 go away\r\n550 now")
    assert "More exactly: the alias points nowhere" in text
    assert text.endswith("The other side's own words (mx.test): 550 go away 550 now")
    assert "own words" not in said("failed", "5.1.1")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7 * 86400.0, "7 days"), (172_800.0, "2 days"), (86400.0, "24 hours"), (7200.0, "2 hours"), (59.0, "some time")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80)), st.integers(0, 80))
def test_one_line_is_one_line_of_bounded_length(text: str | bytes, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line.splitlines()) <= 1 and line.isprintable() | (len(line) > 0)
    assert len(line.encode()) <= limit


def test_one_line() -> None:
    assert one_line(b" a\r\n b\t\tc\0\xff ", 50) == "a  b c??"
    assert one_line("a\udcffb\u202ec\x85d", 50) == "a?b?c?d"
    assert one_line("äöü", 3) == "ä?"
