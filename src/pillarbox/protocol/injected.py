"""Messages from programs on this machine, as `sendmail` and `qmail-inject` take them: read, addressed, completed.

Stored lines end with LF. Of a message that is broken in the small ways of programs we make a sound one: lines may end
with CRLF, a header may be missing in part or in whole, and an mbox's "From " line may stand above it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..terms import Envelope, Refused, Wish
from .address import BadAddress, forward_path, reverse_path
from .address_list import addresses, qualified
from .smtp_data import Content
from .smtp_reply import Reply
from .trace import date

ENVID_LIMIT = 100  # octets, RFC 3461 section 4.4
ENCODED_WORD = 39  # octets of text in one, so that it is no longer than RFC 2047 allows (75)

NOTIFY = frozenset(("NEVER", "SUCCESS", "FAILURE", "DELAY"))
RET = frozenset(("", "FULL", "HDRS"))

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_NO_XCHAR = re.compile(rb"[^!-*,-<>-~]")
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_TO_QUOTE = re.compile(rb'(["\\])')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

RECIPIENTS = (b"to", b"cc", b"bcc", b"apparently-to")
RESENT_RECIPIENTS = (b"resent-to", b"resent-cc", b"resent-bcc")
DROPPED = {b"bcc", b"resent-bcc", b"return-path", b"content-length"}  # qmail-inject and Postfix drop the same
ADDRESSED = {
    *(b"from", b"sender", b"reply-to", b"to", b"cc"),
    *(b"resent-from", b"resent-sender", b"resent-reply-to", b"resent-to", b"resent-cc"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One header field."""

    name: bytes  # in lower case
    raw: bytes  # all of it, folded as it came, with its last LF

    @property
    def value(self) -> bytes:
        return self.raw.partition(b":")[2]


@dataclass(frozen=True, slots=True)
class Message:
    fields: tuple[Field, ...]
    body: bytes  # stored lines, without the empty line above it

    @property
    def resent(self) -> tuple[Field, ...]:
        """The fields of the latest resending (RFC 5322 section 3.6.6), which stand together at the top."""
        found: dict[bytes, Field] = {}
        for field in self.fields:
            resent = field.name.startswith(b"resent-")
            if field.name in found or (found and not resent):
                break
            if resent:
                found[field.name] = field
        return tuple(found.values())

    def has(self, name: bytes) -> bool:
        return any(field.name == name for field in self.fields)


def read(content: bytes) -> Message:
    """What a program wrote. A bare CR is mended: in the header to a space, so that it begins no field there."""
    names: list[bytes] = []
    lines: list[list[bytes]] = []  # of each field
    at = content.find(b"\n") + 1 or len(content) if content.startswith(b"From ") else 0
    while at < len(content):
        end = content.find(b"\n", at) + 1 or len(content)
        line = content[at:end].rstrip(b"\r\n").replace(b"\r", b" ")
        if not line:
            at = end
            break
        if line[:1] in (b" ", b"\t") and lines:
            lines[-1].append(line)
        elif match := _FIELD.match(line):
            names.append(match[1].lower())
            lines.append([line])
        else:
            break  # not a header's line: the body begins, though no empty line says so
        at = end
    fields = (Field(name, b"\n".join(part) + b"\n") for name, part in zip(names, lines, strict=True))
    body = content[at:].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return Message(tuple(fields), body if body.endswith(b"\n") or not body else body + b"\n")


def recipients(message: Message, domain: bytes) -> list[bytes]:
    """Whom the header names; of a resent message, whom it was resent to. Each once. Raises Refused."""
    resent = message.resent
    wanted = RESENT_RECIPIENTS if resent else RECIPIENTS
    found: dict[bytes, None] = {}
    for field in resent or message.fields:
        if field.name not in wanted:
            continue
        try:
            found.update(dict.fromkeys(addresses(field.value, domain)))
        except BadAddress as error:
            raise Refused(f"in the field {field.name.title().decode('ascii')}: {error}", "5.1.3") from None
    return list(found)


def return_path(message: Message, domain: bytes) -> bytes | None:
    """The envelope sender that a Return-Path field names, as qmail-inject heeds it; None where there is none, or none
    that can be read."""
    for field in message.fields:
        if field.name == b"return-path":
            if field.value.strip(b" \t\n") == b"<>":
                return b""
            try:
                return next(iter(addresses(field.value, domain)), None)
            except BadAddress:
                return None
    return None


def header(message: Message, *, sender: bytes, name: str, domain: bytes, message_id: bytes, now: float) -> bytes:
    """The completed header, with the empty line below it: From, Date and Message-ID are there, in what was resent too;
    addresses have a domain; Bcc is gone.

    `sender`: for a missing From, with `name`, which may be empty; `message_id`: without angle brackets.
    """
    author = mailbox(sender or b"MAILER-DAEMON@" + domain, name)
    added = ((b"From", author), (b"Date", date(now)), (b"Message-ID", b"<" + message_id + b">"))
    lines: list[bytes] = []
    if resent := {field.name for field in message.resent}:
        lines += [b"Resent-%b: %b\n" % (key, value) for key, value in added if b"resent-" + key.lower() not in resent]
    lines += [_qualified(field, domain) for field in message.fields if field.name not in DROPPED]
    lines += [b"%b: %b\n" % (key, value) for key, value in added if not message.has(key.lower())]
    return b"".join(lines) + b"\n"


def _qualified(field: Field, domain: bytes) -> bytes:
    if field.name not in ADDRESSED:
        return field.raw
    name, colon, value = field.raw.partition(b":")
    return name + colon + qualified(value, domain)


def mailbox(address: bytes, name: str) -> bytes:
    """`name <address>`, or the address alone; a name outside ASCII as encoded words (RFC 2047)."""
    text = _CONTROL.sub(" ", name).strip(" ")
    if not text:
        return address
    octets = text.encode("utf-8", "replace")
    if not octets.isascii():
        phrase = b" ".join(b"=?utf-8?B?%b?=" % b64encode(part) for part in _pieces(text))
    elif _PLAIN_NAME.fullmatch(octets):
        phrase = octets
    else:
        phrase = b'"%b"' % _TO_QUOTE.sub(rb"\\\1", octets)
    return phrase + b" <" + address + b">"


def _pieces(text: str) -> Iterable[bytes]:
    """Cut between characters, for each encoded word stands alone."""
    piece = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(piece) + len(octets) > ENCODED_WORD:
            yield piece
            piece = b""
        piece += octets
    yield piece


def xtext(octets: bytes) -> bytes:
    """RFC 3461 section 4: printable ASCII as it is, but for `+` and `=`; the rest in hexadecimal."""
    return _NO_XCHAR.sub(lambda match: b"+%02X" % match[0][0], octets)


# The server's side: nobody believes its neighbour.


def envelope(
    sender: bytes, targets: Sequence[bytes], notify: Sequence[str] = (), ret: str = "", envid: bytes = b""
) -> Envelope:
    """The envelope that a program named, each part of it checked; a recipient named twice is one. Raises Refused."""
    chosen = set(notify)
    if not chosen <= NOTIFY or (len(chosen) > 1 and "NEVER" in chosen) or ret not in RET:
        raise Refused("NOTIFY or RET has a value that can't be", "5.5.4")
    if len(envid) > ENVID_LIMIT or not _XTEXT.fullmatch(envid):
        raise Refused(f"the envelope id is longer than {ENVID_LIMIT} octets of xtext, or no xtext", "5.5.4")
    if not targets:
        raise Refused("the message has no recipient", "5.5.3")
    try:
        paths = [reverse_path(b"<" + sender + b">"), *(forward_path(b"<" + target + b">") for target in targets)]
    except BadAddress as error:
        raise Refused(str(error), "5.1.3") from None
    if any(rest for _, rest in paths):
        raise Refused("an address has something behind it", "5.1.3")
    unique = tuple(dict.fromkeys(address for address, _ in paths[1:]))
    origin = paths[0][0]
    wish = Wish(tuple(sorted(chosen)))
    utf8 = not all(address.isascii() for address in (origin, *unique))
    return Envelope(origin, unique, (wish,) * len(unique) if chosen else (), ret, envid, utf8)


class StoredContent(Content):
    """A message that comes as stored lines: its limits, and that it is what it says."""

    __slots__ = ("_open_line",)

    def __init__(self, limit: int) -> None:
        """`limit`: octets on the wire, where a line ends with two."""
        super().__init__(limit)
        self._open_line = False

    def feed(self, chunk: bytes) -> bytes:
        """The same octets. Raises Refused, and then the message is void."""
        if b"\r" in chunk:
            raise Refused("a stored message has no CR", "5.6.0")
        if chunk:
            self._open_line = not chunk.endswith(b"\n")
            self._look_at(chunk, len(chunk) + chunk.count(b"\n"))
        if self.fault is not None:
            raise _refused(self.fault)
        return chunk

    def finish(self) -> bytes:
        """The line end that is missing, if one is."""
        self.ended = True
        return b"\n" if self._open_line else b""


def _refused(reply: Reply) -> Refused:
    return Refused(reply.text, reply.enhanced)


def received_field(*, host: bytes, uid: int, identity: str, now: float) -> bytes:
    """Received (RFC 5321 section 4.4), as stored lines: handed in by a program of this user."""
    return b"Received: by %b (Pillarbox, from uid %d) id %b;\n        %b\n" % (
        host,
        uid,
        identity.encode("ascii"),
        date(now),
    )
