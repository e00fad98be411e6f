"""Is the sample what it claims to be? Tests that lean on it would else prove nothing."""

from __future__ import annotations

import pytest

from pillarbox import wire_form

from .real import Mail, has_bare_cr, odd
from .sample import ACCEPTED, REFUSED, STORED, Sample, on_the_wire


def test_names_are_unique() -> None:
    for sample in (ACCEPTED, REFUSED, STORED):
        assert len({one.name for one in sample}) == len(sample)


@pytest.mark.parametrize("message", ACCEPTED, ids=lambda message: message.name)
def test_what_is_to_be_accepted_has_clean_line_ends_and_lines_within_the_limit(message: Sample) -> None:
    lines = message.data.split(b"\r\n")
    assert lines[-1] == b""
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) < 64 * 1024


def test_the_sample_holds_what_it_names() -> None:
    found = {message.name: message.data for message in ACCEPTED}
    assert b"\r\n.\r\n" in found["dot-only-lines"]
    assert set(found["every-octet"]) == set(range(1, 256))
    assert b"\x1b$B" in found["iso-2022-jp"]
    with pytest.raises(UnicodeDecodeError):
        found["iso-8859-1"].decode("utf-8")
    assert len(found["body-1-mb"]) > 1_000_000


@pytest.mark.parametrize("message", STORED, ids=lambda message: message.name)
def test_the_survey_agrees_with_the_plain_definition(message: Sample) -> None:
    octets, _ = wire_form.survey([message.data])
    assert octets == len(on_the_wire(message.data))


def test_odd_takes_no_message_twice_and_takes_the_oddest() -> None:
    mails = [Mail(f"{n:04}", b"x\n" * n) for n in range(400)]
    mails[7] = Mail("0007", b".\n" * 5 + b"y" * 5000)
    chosen = odd(mails, 100)
    assert len(chosen) == len({mail.name for mail in chosen}) == 100
    assert mails[7] in chosen
    assert odd(mails[:30], 100) != [] and len(odd(mails[:30], 100)) == 30


def test_a_bare_cr_is_told_from_a_pair() -> None:
    assert not has_bare_cr(b"a\r\nb\n")
    assert has_bare_cr(b"a\r\r\nb")
