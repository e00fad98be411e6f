"""8-bit mail made 7-bit: another's parser must find the same in both."""

from __future__ import annotations

import email
import email.message
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.protocol import downgrade
from pillarbox.protocol.downgrade import Unconvertible, seven_bit

LINE_LIMIT = 998  # RFC 5321 section 4.5.3.1.6, without CRLF

TEXT = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
WORDS = "Grüße, und ein längerer Satz, der fast nur aus ASCII besteht, so wie die meisten.\n"


def parts(message: bytes) -> list[tuple[str, bytes | None]]:
    """Type and decoded content of all parts, line ends as LF."""
    parsed = email.message_from_bytes(message, policy=email.policy.compat32)
    found = []
    for part in parsed.walk():
        content = part.get_payload(decode=True)
        assert content is None or isinstance(content, bytes)
        found.append((part.get_content_type(), content.replace(b"\r\n", b"\n").rstrip(b"\n") if content else content))
    return found


def check(message: bytes) -> bytes:
    """It is converted, says the same, and every line may be sent."""
    converted = seven_bit(message)
    assert converted.isascii()
    assert parts(converted) == parts(message)
    assert max(map(len, converted.split(b"\n"))) <= max(LINE_LIMIT, max(map(len, message.split(b"\n"))))
    return converted


def test_ascii_stays_as_it_is() -> None:
    message = b"Subject: x\nContent-Transfer-Encoding: 8bit\n\nhello\n"
    assert seven_bit(message) is message


def test_a_text_of_few_characters_beyond_ascii_is_quoted_printable() -> None:
    converted = check(f"MIME-Version: 1.0\nSubject: x\n{TEXT}{WORDS}.\nFrom here \n".encode())
    assert b"Content-Transfer-Encoding: quoted-printable\n\n" in converted
    assert b"8bit" not in converted
    assert b"Gr=C3=BC=C3=9Fe" in converted


def test_a_text_of_many_is_base64_with_the_line_ends_of_the_wire() -> None:
    converted = check(f"MIME-Version: 1.0\n{TEXT}いろは\nにほへ\n".encode())
    assert b"Content-Transfer-Encoding: base64\n" in converted
    payload = email.message_from_bytes(converted).get_payload(decode=True)
    assert payload == "いろは\r\nにほへ\r\n".encode()


def test_what_is_no_text_is_base64() -> None:
    check(
        b"MIME-Version: 1.0\nContent-Type: application/x\nContent-Transfer-Encoding: 8bit\n\n" + b"a" * 100 + b"\xff\n"
    )


def test_a_message_that_is_no_mime_becomes_it() -> None:
    converted = seven_bit(b"Subject: x\n\n" + WORDS.encode())
    parsed = email.message_from_bytes(converted)
    assert parsed["MIME-Version"] == "1.0"
    assert parsed["Content-Type"] == "text/plain; charset=unknown-8bit"
    assert parsed.get_payload(decode=True) == WORDS.encode()


def multipart(*inner: bytes, kind: str = "mixed", boundary: str = "b 1") -> bytes:
    head = f'Content-Type: multipart/{kind};\n boundary="{boundary}"\nContent-Transfer-Encoding: 8bit\n\npreamble\n'
    joined = b"".join(b"--%b\n%b\n" % (boundary.encode(), part) for part in inner)
    return head.encode() + joined + b"--%b--\nepilogue\n" % boundary.encode()


def test_parts_are_converted_one_by_one() -> None:
    plain = b"Content-Type: text/plain\n\nASCII stays\n  as it is"
    text = (TEXT + WORDS).encode()
    binary = b"Content-Type: image/x\nContent-Transfer-Encoding: binary\nContent-Disposition: inline\n\n\x80\x81\n"
    nested = multipart(text, plain, kind="alternative", boundary="b 1+inner")
    enclosed = b"Content-Type: message/rfc822\n\nSubject: inner\n" + text
    message = b"MIME-Version: 1.0\n" + multipart(plain, text, binary, nested, enclosed, b"\n" + WORDS.encode())
    converted = check(message)
    assert plain in converted
    assert converted.count(b"MIME-Version") == 1


def test_a_digest_holds_messages() -> None:
    inner = b"\nSubject: inner\n" + (TEXT + WORDS).encode()
    check(b"MIME-Version: 1.0\n" + multipart(inner, kind="digest"))


def test_what_stands_outside_the_parts_is_blanked() -> None:
    message = multipart(b"\nhello").replace(b"preamble", "Prä".encode()).replace(b"epilogue", "ü".encode())
    converted = seven_bit(message)
    assert converted.isascii()
    assert b"--b 1\n\nhello\n--b 1--\n??\n" in converted


def test_a_last_part_without_an_end_is_converted_too() -> None:
    message = multipart((TEXT + WORDS).encode()).partition(b"--b 1--")[0]
    check(b"MIME-Version: 1.0\n" + message)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("Subject: ü\n\nx\n".encode(), "header"),
        ("no body, no end of the header ü".encode(), "header"),
        (b"MIME-Version: 1.0\n" + multipart((TEXT + WORDS).encode(), kind="signed"), "signature"),
        (b"Content-Type: multipart/mixed\n\n\xff\n", "boundary"),
        (b"Content-Type: message/global\n\n\xff\n", "message/global"),
        (b"Content-Type: message/rfc822\n\nSubject: \xff\n\nx\n", "header"),
        (b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n\xff\n", "encoded"),
        (b"Content-Type: text/plain\nContent-Transfer-Encoding:\n quoted-printable\n\n\xff\n", "encoded"),
    ],
)
def test_what_cannot_be_converted_says_why(message: bytes, why: str) -> None:
    with pytest.raises(Unconvertible, match=why):
        seven_bit(message)


def test_parts_within_parts_have_an_end() -> None:
    message = (TEXT + WORDS).encode()
    for depth in range(downgrade.DEPTH_LIMIT):
        message = multipart(message, boundary=f"b{depth}")
    check(b"MIME-Version: 1.0\n" + message)
    with pytest.raises(Unconvertible, match="nested"):
        seven_bit(multipart(message, boundary="one more"))


def test_parts_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downgrade, "PARTS_LIMIT", 5)
    part = (TEXT + WORDS).encode()
    check(b"MIME-Version: 1.0\n" + multipart(*[part] * 4))
    with pytest.raises(Unconvertible, match="too many"):
        seven_bit(multipart(*[part] * 5))


@given(
    st.lists(st.sampled_from([b"\n", b"--b", b"--", b"Content-Type: multipart/mixed; boundary=b\n", b"\xff", b"x: y"]))
)
def test_whatever_comes_the_result_is_ascii_or_there_is_none(pieces: list[bytes]) -> None:
    try:
        assert seven_bit(b"".join(pieces)).isascii()
    except Unconvertible:
        pass


def test_hostile_shapes_take_no_time() -> None:
    """Anything that looked at the rest again for each of these would not end within the limit of a test."""
    many = 100_000
    for shape in (b"a: b\n", b"\n", b"--b\n", b"--b", b" \n", b";", b"content-type:\n"):
        for head in (b"", b"Content-Type: multipart/mixed; boundary=b\n\n", b"Content-Type: text/plain"):
            try:
                seven_bit(head + shape * many + b"\n\n\xff\n")
            except Unconvertible:
                continue
