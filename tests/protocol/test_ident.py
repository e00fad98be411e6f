"""The identification protocol (RFC 1413)."""

from __future__ import annotations

import pytest

from pillarbox.protocol import ident


def test_a_query_as_in_section_4() -> None:
    assert ident.query(6191, 23) == b"6191 , 23\r\n"


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (b"6193, 23 : USERID : UNIX : stjohns\r\n", b"stjohns"),  # section 6
        (b"6195, 23 : ERROR : NO-USER\r\n", b""),
        (b"1,2:USERID:OTHER:a : b\tc\r\nmore", b"a:bc"),
        (b"1,2:USERID:UNIX:a\0b\n", b"a"),
        (b"1,2:USERID:UNIX:" + b"a" * 900, b"a" * ident.NAME_LIMIT),
        (b"1,2:USERID:UNIX:", None),
        (b"", None),
    ],
)
def test_a_reply(reply: bytes, name: bytes | None) -> None:
    assert ident.name(reply) == name
