"""A message's octets on the wire, and what is remembered of its form."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.wire_form import CRLF_ONLY, ENDED, LF_ONLY, NO_DOTS, survey

MESSAGES = st.lists(st.sampled_from([b"a", b".", b"\n", b"\r\n", b"\r", b"\0", b"\n."]), max_size=25).map(b"".join)


@pytest.mark.parametrize(
    ("message", "octets", "form"),
    [
        (b"", 0, LF_ONLY | CRLF_ONLY | NO_DOTS | ENDED),
        (b"a", 3, LF_ONLY | CRLF_ONLY | NO_DOTS),
        (b"a\n", 3, LF_ONLY | NO_DOTS | ENDED),
        (b"a\r\n", 3, CRLF_ONLY | NO_DOTS | ENDED),
        (b"a\nb\r\n", 6, NO_DOTS | ENDED),
        (b"a\r", 4, LF_ONLY | CRLF_ONLY | NO_DOTS),
        (b"a\r\r\n", 4, CRLF_ONLY | NO_DOTS | ENDED),
        (b".a\n", 4, LF_ONLY | ENDED),
        (b"a\n.\n", 6, LF_ONLY | ENDED),
        (b"a.\r.\n", 6, LF_ONLY | NO_DOTS | ENDED),
        (b"a\r\n.", 6, CRLF_ONLY),
    ],
)
def test_octets_and_form(message: bytes, octets: int, form: int) -> None:
    assert survey([message]) == (octets, form)


@settings(max_examples=80)
@given(MESSAGES, st.lists(st.integers(0, 60), max_size=5))
def test_chunks_change_nothing(message: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    whole = survey([message])
    assert survey([message[start:end] for start, end in pairwise(places)]) == whole
    assert survey(message[place : place + 1] for place in range(len(message))) == whole


@settings(max_examples=80)
@given(MESSAGES)
def test_octets_are_those_of_the_normalised_lines(message: bytes) -> None:
    *lines, last = message.split(b"\n")
    octets = sum(len(line.removesuffix(b"\r")) + 2 for line in lines) + (len(last) + 2 if last else 0)
    assert survey([message])[0] == octets
