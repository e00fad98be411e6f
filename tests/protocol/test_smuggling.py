"""One message must not hide another: of all that looks like an end of DATA, only CRLF.CRLF is one.

Each case is what a smuggler sends: a text, a would-be end, and a transaction that must never be obeyed.
"""

from __future__ import annotations

from itertools import product

import pytest

from pillarbox.protocol.smtp import AbortMessage, State
from pillarbox.protocol.smtp_conversation import DRAIN_LIMIT

from .smtp_talk import Talk, in_pieces, talk

OPEN = b"EHLO bar.com\r\nMAIL FROM:<a@bar.com>\r\nRCPT TO:<b@foo.com>\r\n"
SECOND = b"MAIL FROM:<smuggled@bar.com>\r\nRCPT TO:<victim@foo.com>\r\nDATA\r\nsecond\r\n.\r\nQUIT\r\n"

NEWLINES = (b"\r", b"\n", b"\r\n", b"")
ENDS = sorted({a + b + b"." + c + d for a, b, c, d in product(NEWLINES, repeat=4)})
SPLITS = (1, 2, 3, 1 << 20)  # octets a piece


def has_bare(text: bytes) -> bool:
    rest = text.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def senders(came: Talk) -> list[bytes]:
    return [envelope.sender for envelope, _ in came.delivered]


@pytest.mark.parametrize("split", SPLITS)
def test_only_crlf_dot_crlf_ends_data(split: int) -> None:
    for end in ENDS:
        came = in_pieces(OPEN + b"DATA\r\nfirst" + end + SECOND, split)
        first, found, behind = (b"first" + end).partition(b"\r\n.\r\n")
        if has_bare(first):
            assert came.delivered == [], end
            assert came.codes == [220, 250, 250, 250, 354, 550], end
            assert came.state is State.CLOSED, end
        elif found:  # a true end; what follows are commands, the first of them refused where a newline is bare
            obeyed = [] if has_bare(behind) else [b"smuggled@bar.com"]
            assert senders(came) == [b"a@bar.com", *obeyed], end
        else:  # all is text of the first message
            assert senders(came) == [b"a@bar.com"] and b"smuggled" in came.delivered[0][1], end


@pytest.mark.parametrize("split", SPLITS)
def test_mended_too_only_crlf_dot_crlf_ends_data(split: int) -> None:
    for end in ENDS:
        came = in_pieces(OPEN + b"DATA\r\nfirst" + end + SECOND, split, normalise=True)
        _, found, behind = (b"first" + end).partition(b"\r\n.\r\n")
        obeyed = [b"smuggled@bar.com"] if found and not has_bare(behind) else []
        assert senders(came) == [b"a@bar.com", *obeyed], end
        assert found or b"smuggled" in came.delivered[0][1], end
        assert not any(b"\r" in text for _, text in came.delivered), end


@pytest.mark.parametrize("bare", [b"\n", b"\r", b"\r\r\n", b"\n\r"])
@pytest.mark.parametrize("mend", [False, True])
def test_in_chunks_a_dot_ends_nothing(bare: bytes, mend: bool) -> None:
    text = b"first" + bare + b"." + bare + SECOND
    for split in SPLITS:
        came = in_pieces(OPEN + b"BDAT %d LAST\r\n" % len(text) + text + b"NOOP\r\n", split, normalise=mend)
        if mend:
            assert senders(came) == [b"a@bar.com"] and came.codes[-2:] == [250, 250]
        else:
            assert came.delivered == [] and came.codes == [220, 250, 250, 250, 550]
            assert came.state is State.CLOSED


def test_a_bare_cr_at_the_end_of_the_last_chunk() -> None:
    assert talk(OPEN + b"BDAT 3\r\nab\rBDAT 0 LAST\r\n").codes[-2:] == [250, 550]
    assert talk(OPEN + b"BDAT 3 LAST\r\nab\r").codes[-1] == 550
    assert talk(OPEN + b"BDAT 3\r\nab\rBDAT 1 LAST\r\n\n").delivered[0][1] == b"ab\n"


def test_the_refusal_comes_at_once_and_the_rest_is_read_to_its_end() -> None:
    sent = OPEN + b"DATA\r\none\ntwo\r\n"
    came = talk(sent)
    assert came.codes[-1] == 550 and came.state is State.DRAINING
    assert isinstance(came.events[-1], AbortMessage)
    came = talk(sent + b"three\r\n.\r")
    assert came.state is State.DRAINING
    came = talk(sent + b"three\r\n.\r\nMAIL FROM:<x@y.z>\r\n")
    assert came.codes[-1] == 550 and came.state is State.CLOSED


def test_in_a_message_that_is_void_already_a_bare_newline_is_no_less_refused() -> None:
    came = talk(OPEN + b"DATA\r\n" + b"x" * 99 + b"\r\ny\n.\r\n" + SECOND, octets_limit=50)
    assert came.codes[-2:] == [354, 550] and came.state is State.CLOSED
    assert isinstance(came.events[-1], AbortMessage)
    came = talk(b"BDAT 8 LAST\r\na\n.\nb\r\n" + SECOND)
    assert came.codes == [220, 550] and came.events == []


def test_the_rest_is_not_read_for_ever() -> None:
    sent = OPEN + b"DATA\r\none\ntwo"
    assert in_pieces(sent + b"x" * (DRAIN_LIMIT - 1000), 1000).state is State.DRAINING
    assert in_pieces(sent + b"x" * (DRAIN_LIMIT + 1000), 1000).state is State.CLOSED


@pytest.mark.parametrize("bare", [b"\n", b"\r"])
def test_a_command_with_a_bare_newline_is_obeyed_in_no_part(bare: bytes) -> None:
    came = talk(OPEN + b"RSET" + bare + b"MAIL FROM:<smuggled@bar.com>" + bare + b"QUIT\r\nDATA\r\nx\r\n.\r\n")
    assert came.codes == [220, 250, 250, 250, 500, 354, 250]
    assert senders(came) == [b"a@bar.com"]
