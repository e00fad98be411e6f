"""Messages that we wrote ourselves, each odd in one way, so that the tests have mail to send without any corpus.

ACCEPTED: to be sent as they are and to come out as they went in. REFUSED: what SMTP reception must not take.
STORED: files as other programs may leave them in a Maildir, of any line ends.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple


class Sample(NamedTuple):
    name: str
    data: bytes


class Bad(NamedTuple):
    name: str
    data: bytes
    reply: bytes  # how the refusal begins


def on_the_wire(stored: bytes) -> bytes:
    """What RETR must send for this file, before stuffing: RFC 1939 section 11, said as simply as can be."""
    text = re.sub(rb"\r?\n", b"\r\n", stored)
    return text if text.endswith(b"\n") or not text else text + b"\r\n"


def _mail(subject: str, *body: bytes, header: tuple[bytes, ...] = ()) -> bytes:
    head = (
        b"From: Ann Writer <ann@sender.test>",
        b"To: reader@example.test",
        b"Subject: " + subject.encode("ascii"),
        b"Date: Mon, 01 Sep 2025 12:00:00 +0000",
        *header,
    )
    return b"".join(line + b"\r\n" for line in (*head, b"", *body))


def _mime(kind: bytes, encoding: bytes = b"8bit") -> tuple[bytes, ...]:
    return (b"MIME-Version: 1.0", b"Content-Type: " + kind, b"Content-Transfer-Encoding: " + encoding)


def _parts(boundary: bytes, *parts: bytes, closed: bool = True) -> tuple[bytes, ...]:
    lines = [line for part in parts for line in (b"--" + boundary, *part.split(b"\n"))]
    return (*lines, b"--" + boundary + b"--") if closed else tuple(lines)


def _multipart(kind: bytes, boundary: bytes) -> tuple[bytes, ...]:
    return (b"MIME-Version: 1.0", b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"')


_UTF8 = _mime(b"text/plain; charset=utf-8")
_OCTETS = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
_PICTURE = base64.b64encode(bytes(range(256)) * 12)
_PICTURE_LINES = tuple(_PICTURE[n : n + 76] for n in range(0, len(_PICTURE), 76))
_TRACE = b"Received: from hop-%d.test by hop-%d.test;\r\n\tMon, 01 Sep 2025 12:00:00 +0000\r\n"


def _traced(hops: int) -> bytes:
    return b"".join(_TRACE % (hop, hop + 1) for hop in range(hops)) + _mail("Many hops", b"Hello")


ACCEPTED = (
    Sample("plain", _mail("Plain", b"Hello,", b"", b"this is all.")),
    Sample("one-line-body", _mail("Short", b"x")),
    Sample("empty-body", _mail("No body")),
    Sample("header-only", _mail("No empty line either")[:-2]),
    Sample("no-header", b"\r\nA body under an empty header.\r\n"),
    Sample("no-header-field", b"This line is no header field.\r\nNor is this.\r\n"),
    Sample("empty-lines-at-the-end", _mail("Trailing", b"text", b"", b"", b"", b"")),
    Sample("empty-lines-only", b"\r\n\r\n\r\n\r\n"),
    Sample("blanks-at-line-ends", _mail("Blanks", b"two blanks  ", b"a tab\t", b" ", b"\t")),
    Sample("signature", _mail("Signature", b"Bye", b"-- ", b"Ann")),
    Sample("leading-dots", _mail("Dots", b".one", b"..two", b"...three", b". blank", b"not . here")),
    Sample("dot-only-lines", _mail("Lone dots", b".", b"", b".", b".", b"..", b"...")),
    Sample("dot-first-in-body", _mail("Dot first", b".", b"after the dot")),
    Sample("dot-last-in-body", _mail("Dot last", b"before the dot", b".")),
    Sample("dots-many", _mail("Many dots", *(b"." * (n % 80) for n in range(2000)))),
    Sample("commands-in-body", _mail("Commands", b"QUIT", b"DATA", b"RSET", b".", b"MAIL FROM:<x@y.test>")),
    Sample("replies-in-body", _mail("Replies", b"+OK", b"-ERR no", b"250 ok", b"354 go on")),
    Sample("from-lines", _mail("From", b"From here on", b">From there", b"From ann Mon Sep  1 12:00:00 2025")),
    Sample("line-998", _mail("998", b"x" * 998)),
    Sample("line-999", _mail("999", b"y" * 999)),
    Sample("line-2100", _mail("2100", b"z" * 2100, b"short")),
    Sample("line-8193", _mail("8193", b"w" * 8193)),
    Sample("line-16384", _mail("16384", b"." * 90 + b"u" * 16294, b"." + b"v" * 16383)),
    Sample("line-60000", _mail("60000", b"0123456789" * 6000)),
    Sample("line-every-length", _mail("Every length", *(b"a" * n for n in range(300)))),
    Sample("utf-8", _mail("UTF-8", "Grüße, Καλημέρα, こんにちは, 🙂".encode(), header=_UTF8)),
    Sample("utf-8-header", "Subject: Grüße aus Köln\r\nFrom: Jürgen <j@sender.test>\r\n\r\nHallo\r\n".encode()),
    Sample("utf-8-cut", _mail("Cut", "é".encode()[:1], "🙂".encode()[:3], header=_UTF8)),
    Sample("utf-8-mark", b"\xef\xbb\xbf" + _mail("Byte order mark", b"Hello")),
    Sample("iso-8859-1", _mail("Latin", "Süße Träume, déjà vu".encode("iso-8859-1"), header=_mime(b"text/plain"))),
    Sample("iso-8859-1-header", "Subject: Süße\r\n\r\nTräume\r\n".encode("iso-8859-1")),
    Sample(
        "iso-2022-jp",
        _mail(
            "=?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=",
            "こんにちは。日本語のメールです。".encode("iso-2022-jp"),
            header=_mime(b"text/plain; charset=ISO-2022-JP", b"7bit"),
        ),
    ),
    Sample("shift-jis", _mail("Shift JIS", "表示ソ能".encode("shift_jis"), header=_mime(b"text/plain"))),
    Sample("big5", _mail("Big5", "功能許可".encode("big5"), header=_mime(b"text/plain; charset=big5"))),
    Sample("koi8-r", _mail("KOI8-R", "Привет".encode("koi8-r"), header=_mime(b"text/plain; charset=koi8-r"))),
    Sample("utf-7", _mail("UTF-7", "Grüße".encode("utf-7"), header=_mime(b"text/plain; charset=utf-7", b"7bit"))),
    Sample("every-octet", _mail("Every octet", _OCTETS, _OCTETS[::-1], header=_mime(b"application/octet-stream"))),
    Sample("nbsp-and-nel", _mail("Line ends of Unicode", b"a\x85b\xa0c\x0bd\x0ce\x1cf\x1dg\x1eh", b"\xe2\x80\xa8")),
    Sample("control-characters", _mail("Control", b"\x01\x02\x07\x08 \x1b[31mred\x1b[0m \x7f")),
    Sample("control-z", _mail("End of file", b"before", b"\x1a", b"after\x04")),
    Sample("telnet-octets", _mail("Telnet", b"\xff\xfb\x01\xff\xff\xf4")),
    Sample("quoted-printable", _mail("QP", b"caf=C3=A9 =", b"=2E", header=_mime(b"text/plain", b"quoted-printable"))),
    Sample("base64", _mail("Picture", *_PICTURE_LINES, header=_mime(b"image/png", b"base64"))),
    Sample(
        "multipart",
        _mail(
            "Two parts",
            b"A preamble.",
            *_parts(b"=_b", b"Content-Type: text/plain\n\nHello", b"Content-Type: text/html\n\n<p>Hello"),
            b"An epilogue.",
            header=_multipart(b"alternative", b"=_b"),
        ),
    ),
    Sample(
        "multipart-unclosed",
        _mail("Unclosed", *_parts(b"b", b"\nHello", closed=False), header=_multipart(b"mixed", b"b")),
    ),
    Sample("multipart-no-boundary", _mail("Boundary?", b"--", header=(b"Content-Type: multipart/mixed",))),
    Sample(
        "multipart-nested",
        _mail(
            "Nested",
            *(b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n" % (n, n + 1) for n in range(60)),
            header=_multipart(b"mixed", b"0"),
        ),
    ),
    Sample(
        "message-in-message",
        _mail("Forwarded", *_mail("Inner", b".inner").split(b"\r\n"), header=_mime(b"message/rfc822")),
    ),
    Sample("folded-header", _mail("Folded", b"x", header=(b"X-Fold: a", b" b", b"\tc", b"   d"))),
    Sample("folded-blank", _mail("Folded", b"x", header=(b"X-Fold: a", b" ", b"\t", b" z"))),
    Sample("header-first-empty", b"X-Empty:\r\nX-Blank: \r\nSubject:\r\n\r\nx\r\n"),
    Sample("header-wrong", b"Subject: x\r\n: no name\r\nno colon\r\nBlank before : x\r\n\r\nx\r\n"),
    Sample("header-twice", _mail("Twice", b"x", header=(b"Subject: again", b"To: a@b.test", b"From: c@d.test"))),
    Sample("header-fields-900", _mail("Fields", b"x", header=tuple(b"X-%d: %d" % (n, n) for n in range(900)))),
    Sample("header-line-huge", _mail("Huge", b"x", header=(b"X-Huge: " + b"h" * 30000,))),
    Sample("recipients-500", _mail("All", b"x", header=(b"Cc: " + b",\r\n ".join([b"c@d.test"] * 500),))),
    Sample("traced", _mail("Trace of others", b"x", header=(b"Return-Path: <liar@sender.test>", b"Delivered-To: me"))),
    Sample("received-30", _traced(30)),
    Sample("status-lines", _mail("Status", b"x", header=(b"Status: RO", b"X-Status: A", b"X-UIDL: 1", b"Lines: 1"))),
    Sample("content-length-wrong", _mail("Length", b"x", b"y", header=(b"Content-Length: 100000",))),
    Sample("body-1-mb", _mail("Big", *(b"%07d " % n + b"b" * 66 for n in range(14000)))),
)

_LONG = 1 << 20

REFUSED = (
    Bad("bare-lf", _mail("Bare LF", b"one\ntwo"), b"550 5.6.0"),
    Bad("bare-lf-first", b"\n" + _mail("Bare LF", b"x"), b"550 5.6.0"),
    Bad("bare-cr", _mail("Bare CR", b"one\rtwo"), b"550 5.6.0"),
    Bad("cr-cr-lf", _mail("CR CR LF", b"one\r"), b"550 5.6.0"),
    Bad("bare-cr-in-header", b"Subject: x\rBcc: all@example.test\r\n\r\nx\r\n", b"550 5.6.0"),
    Bad("smuggled-lf-dot-lf", _mail("x", b"a\n.\nMAIL FROM:<x@y.test>"), b"550 5.6.0"),
    Bad("smuggled-lf-dot-crlf", _mail("x", b"a\n.") + b"MAIL FROM:<x@y.test>\r\n", b"550 5.6.0"),
    Bad("smuggled-crlf-dot-lf", _mail("x", b"a", b".\nMAIL FROM:<x@y.test>"), b"550 5.6.0"),
    Bad("smuggled-cr-dot-cr", _mail("x", b"a\r.\rMAIL FROM:<x@y.test>"), b"550 5.6.0"),
    Bad("line-1-mb", _mail("1 MB in a line", b"l" * _LONG), b"5"),
    Bad("received-101", _traced(101), b"5"),
)

STORED = (
    Sample("lf", b"Subject: x\n\none\n.two\n"),
    Sample("crlf", b"Subject: x\r\n\r\none\r\n.two\r\n"),
    Sample("mixed", b"Subject: x\r\n\none\n\r\ntwo\r\n.three\n"),
    Sample("unended-lf", b"Subject: x\n\nno final newline"),
    Sample("unended-crlf", b"Subject: x\r\n\r\nno final newline"),
    Sample("unended-cr", b"Subject: x\n\ntext\r"),
    Sample("unended-dot", b"Subject: x\n\n."),
    Sample("bare-cr", b"Subject: x\n\na\rb\r\rc\r\n\rd\n"),
    Sample("cr-cr-lf", b"Subject: x\n\na\r\r\nb\r\r\r\n"),
    Sample("nul", b"Subject: x\n\na\0b\n\0\n.\0\n"),
    Sample("empty", b""),
    Sample("newline-only", b"\n"),
    Sample("dot-only", b"."),
    Sample("one-octet", b"\xff"),
    Sample("line-1-mb", b"Subject: x\n\n" + b"m" * _LONG + b"\n.\n"),
    Sample("chunk-edges", b"".join(b"e" * (n - 1) + b"\n." for n in (4096, 8192, 65536, 65536, 131072))),
    Sample("crlf-over-the-edge", b"e" * 65535 + b"\r\n" + b"e" * 65535 + b"\n"),
)
