"""A message with octets beyond ASCII, made fit for a host that takes 7-bit mail only (RFC 6152 section 3, RFC 2045).

Texts become quoted-printable or base64, whichever is shorter, all else base64; the structure stays as it is. Stored
form in and out: lines end with LF.
"""

from __future__ import annotations

import base64
import binascii
import re

DEPTH_LIMIT = 20  # parts within parts; real mail has four or five
PARTS_LIMIT = 10_000  # in all

_FIELD = rb"^%b[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*"
_TYPE = re.compile(_FIELD % rb"content-type", re.IGNORECASE | re.MULTILINE)
_ENCODING = re.compile(_FIELD % rb"content-transfer-encoding", re.IGNORECASE | re.MULTILINE)
_MIME_VERSION = re.compile(rb"^mime-version[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MEDIA = re.compile(rb"[ \t\n]*([!#-'*+.0-9A-Z^-~-]+)/([!#-'*+.0-9A-Z^-~-]+)[ \t\n]*(?:;|\Z)", re.IGNORECASE)
_BOUNDARY = re.compile(
    rb';[ \t\n]*boundary[ \t\n]*=[ \t\n]*(?:"([^"\\\n]{1,200})"|([^";, \t\n]{1,200}))', re.IGNORECASE
)
_ASCII = bytes(range(128))
_BLANKED = _ASCII + b"?" * 128  # a translation


class Unconvertible(Exception):
    """It can't be; the argument says why, in words that follow "and"."""


def seven_bit(message: bytes) -> bytes:
    """The same message in ASCII. Raises Unconvertible."""
    return message if message.isascii() else _Conversion().entity(message, b"text/plain", depth=0)


class _Conversion:
    """Of one message; counts its parts."""

    def __init__(self) -> None:
        self._parts = 0

    def entity(self, entity: bytes, default: bytes, *, depth: int) -> bytes:
        """Header and body. `default`: the type where none is said (RFC 2045 section 5.2, RFC 2046 section 5.1.5)."""
        self._parts += 1
        if depth > DEPTH_LIMIT or self._parts > PARTS_LIMIT:
            raise Unconvertible("its parts are nested too deep, or too many")
        if entity.isascii():
            return entity
        header, body = _split(entity)
        if not header.isascii():
            raise Unconvertible("its header has characters beyond ASCII")
        media = _media_type(header) or default
        if media.startswith(b"multipart/"):
            return self._multipart(header, body, media, depth)
        if media.startswith(b"message/"):
            return self._enclosed(header, body, media, depth)
        return _leaf(header, body, media, whole=depth == 0)

    def _multipart(self, header: bytes, body: bytes, media: bytes, depth: int) -> bytes:
        if media == b"multipart/signed":
            raise Unconvertible("its signature would not survive the conversion")
        default = b"message/rfc822" if media == b"multipart/digest" else b"text/plain"
        delimiter = re.compile(rb"^--%b(--)?[ \t]*$" % re.escape(_boundary(header)), re.MULTILINE)
        pieces: list[bytes] = []
        place, inside = 0, False
        for found in delimiter.finditer(body):
            pieces += (self._segment(body[place : found.start()], default, depth, inside=inside), found[0])
            place, inside = found.end(), not found[1]
            if found[1]:
                break
        pieces.append(self._segment(body[place:], default, depth, inside=inside))
        return _encoded_as(b"7bit", header) + b"\n" + b"".join(pieces)

    def _segment(self, text: bytes, default: bytes, depth: int, *, inside: bool) -> bytes:
        """What stands between two delimiter lines, with the line ends that belong to them; outside the parts it means
        nothing (RFC 2046 section 5.1.1)."""
        if text.isascii():
            return text
        if not inside:
            return text.translate(_BLANKED)
        end = -1 if text.endswith(b"\n") else len(text)
        return text[:1] + self.entity(text[1:end], default, depth=depth + 1) + text[end:]

    def _enclosed(self, header: bytes, body: bytes, media: bytes, depth: int) -> bytes:
        if media != b"message/rfc822":
            raise Unconvertible(f"it holds a part of the type {media.decode('ascii')}, which can't be converted")
        return _encoded_as(b"7bit", header) + b"\n" + self.entity(body, b"text/plain", depth=depth + 1)


def _leaf(header: bytes, body: bytes, media: bytes, *, whole: bool) -> bytes:
    """A part without parts. `whole`: it is the message, whose header must say that it is MIME."""
    said = _ENCODING.search(header)
    if said and _value(said[0]).strip(b" \t\n").lower() not in (b"7bit", b"8bit", b"binary"):
        raise Unconvertible("a part of it is not encoded as it says")
    if whole and not _MIME_VERSION.search(header):
        header += b"MIME-Version: 1.0\n"
        if not _TYPE.search(header):
            header += b"Content-Type: text/plain; charset=unknown-8bit\n"  # RFC 1428
    if media.startswith(b"text/") and 6 * len(body.translate(None, _ASCII)) < len(body):
        return _encoded_as(b"quoted-printable", header) + b"\n" + binascii.b2a_qp(body, istext=True)
    return _encoded_as(b"base64", header) + b"\n" + base64.encodebytes(body.replace(b"\n", b"\r\n"))


def _split(entity: bytes) -> tuple[bytes, bytes]:
    """Header, with the end of its last line, and the body behind the blank line."""
    if entity.startswith(b"\n"):
        return b"", entity[1:]
    end = entity.find(b"\n\n")
    return (entity[: end + 1], entity[end + 2 :]) if end >= 0 else (entity, b"")


def _value(field: bytes) -> bytes:
    return field.partition(b":")[2]


def _media_type(header: bytes) -> bytes:
    """In lower case; empty where none is said, or none that can be understood."""
    said = _TYPE.search(header)
    found = _MEDIA.match(_value(said[0])) if said else None
    return (found[1] + b"/" + found[2]).lower() if found else b""


def _boundary(header: bytes) -> bytes:
    said = _TYPE.search(header)
    found = _BOUNDARY.search(_value(said[0])) if said else None
    if found is None:
        raise Unconvertible("it has parts without a boundary")
    return found[1] or found[2]


def _encoded_as(encoding: bytes, header: bytes) -> bytes:
    """The header, saying so."""
    header = _ENCODING.sub(b"", header)
    return header if encoding == b"7bit" else header + b"Content-Transfer-Encoding: " + encoding + b"\n"
