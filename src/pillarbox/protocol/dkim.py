"""DKIM signatures (RFC 6376; ed25519: RFC 8463), relaxed/relaxed: what of a message is signed, and the field that says so.

Messages come in stored form. A lone CR counts as a line end, for that is what it becomes on its way out. Everything here
takes linear time and, beside the header, constant memory: senders may be hostile.

    fields, start = split(message)              header = canonical_header(fields, names := signed_names(fields))
    bh = body_hash(message, start)              field = unsigned_field(..., names=names, body_hash=bh)
    signed_field(field, SIGN(digest(header, field)))
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence

Field = tuple[bytes, bytes]  # name in lower case; value as it stands there, its lines ended with LF

ALGORITHMS = {"rsa": "rsa-sha256", "ed25519": "ed25519-sha256"}  # k= of a record, and a= of a signature

HEADER_LIMIT = 1 << 20  # octets; reception takes a quarter of that
FIELDS_LIMIT = 1000  # as many as reception takes
AUTHOR_LIMIT = 8 << 10  # octets of a From field; room for a hundred authors
CHUNK = 64 << 10  # octets of a body at a time
LINE = 77  # octets of a line that we fold
STRING = 255  # octets of one string in a TXT record (RFC 1035 section 3.3)

# Signed once more than they are there: nobody can add a second From, or another type for the same body.
SEALED = (b"from", b"reply-to", b"subject", b"to", b"cc", b"content-type", b"content-transfer-encoding")
# The same where they are there; where not, a relay on the way may supply them.
SEALED_IF_PRESENT = (b"sender", b"date", b"message-id", b"in-reply-to", b"references", b"mime-version")
# RFC 6376 section 5.4.1, and RFC 8058 section 4. A mailing list may add its own.
SIGNED = (
    b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id",
    b"content-id", b"content-description", b"content-disposition",
    b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post",
    b"list-owner", b"list-archive",
)  # fmt: skip

_LINE_END = rb"(?>\r\n?|\n)"
_HEADER_END = re.compile(_LINE_END + _LINE_END)
_NEXT_FIELD = re.compile(rb"\n(?![ \t])")
_FIELD_NAME = re.compile(rb"[!-9;-~]+")
_BLANKS = re.compile(rb"  +")
_FOLDS = re.compile(rb"[ \t\n]+")
_TABS = bytes.maketrans(b"\t", b" ")

_COMMENTED = re.compile(rb"[^()\\]+|\\.|[()\\]", re.DOTALL)
_PLAIN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[^"()]+|[()]', re.DOTALL)
_ANGLE = re.compile(rb"[^<>]*<([^<>]*)>[ \t\n]*")
_QUOTED_LOCAL = re.compile(rb'"[ \t\n]*@')
_MAILBOX = re.compile(rb"[^@ \t\n]+[ \t\n]*@[ \t\n]*([A-Za-z0-9\x80-\xff_.-]{1,255})")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


class Unsignable(Exception):
    """The header has no bounds that we accept; the argument says which."""


def is_domain(name: str) -> bool:
    """A domain as signatures and folders name it: lower case, ASCII. A selector has the same form."""
    return _DOMAIN.fullmatch(name) is not None


# The header.


def split(message: bytes) -> tuple[list[Field], int]:
    """The fields of a message, and where its body begins. Lines that are no field are left out. Raises Unsignable."""
    if message[:1] in (b"\n", b"\r"):
        return [], 2 if message.startswith(b"\r\n") else 1
    end = _HEADER_END.search(message, 0, HEADER_LIMIT)
    if end is None and len(message) > HEADER_LIMIT:
        raise Unsignable(f"the header is longer than {HEADER_LIMIT} octets")
    header, start = (message[: end.start()], end.end()) if end else (message, len(message))
    lines = _NEXT_FIELD.split(_mended(header), FIELDS_LIMIT)
    if len(lines) > FIELDS_LIMIT:
        raise Unsignable(f"the header has more than {FIELDS_LIMIT} fields")
    return list(_fields(lines)), start


def _mended(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _fields(lines: Sequence[bytes]) -> Iterator[Field]:
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if colon and _FIELD_NAME.fullmatch(name):
            yield name.lower(), value


def signed_names(fields: Sequence[Field]) -> list[bytes]:
    """What `h=` lists: each name as often as it is there, and the sealed ones once more."""
    present = [name for name, _ in fields]
    names = []
    for name in (*SEALED, *SEALED_IF_PRESENT, *SIGNED):
        count = present.count(name)
        names += [name] * (count + (name in SEALED or (name in SEALED_IF_PRESENT and count > 0)))
    return names


def canonical_header(fields: Sequence[Field], names: Sequence[bytes]) -> bytes:
    """The signed fields in the order of `names`, each name's last one first (RFC 6376 section 5.4.2)."""
    found: dict[bytes, list[bytes]] = {name: [] for name in names}
    for name, value in fields:
        if name in found:
            found[name].append(value)
    return b"".join(_relaxed(name, found[name].pop()) + b"\r\n" for name in names if found[name])


def _relaxed(name: bytes, value: bytes) -> bytes:
    """RFC 6376 section 3.4.2, without the line end."""
    return name + b":" + _FOLDS.sub(b" ", value).strip(b" ")


# The body.


class BodyHash:
    """SHA-256 of a relaxed body (RFC 6376 section 3.4.4), fed in chunks of any size."""

    __slots__ = ("_blank", "_cr", "_hash", "_line_ends", "_some")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._cr = False  # the last octet was CR: an LF belongs to it
        self._blank = False  # a blank waits: does the line go on?
        self._line_ends = 0  # wait likewise: at the end of the body they are dropped, but for one
        self._some = False  # the body is not empty

    def feed(self, chunk: bytes) -> None:
        if self._cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._cr = False
        if not chunk:
            return
        self._cr = chunk.endswith(b"\r")
        text = _mended(chunk)
        if b"\t" in text:
            text = text.translate(_TABS)
        if self._blank:
            text = b" " + text
        if b"  " in text:
            text = _BLANKS.sub(b" ", text)
        self._blank = text.endswith(b" ")
        self._take(text.replace(b" \n", b"\n"))

    def _take(self, text: bytes) -> None:
        if self._blank:
            text = text[:-1]
        lines = text.rstrip(b"\n")
        if lines:
            self._hash_line_ends()
            self._hash.update(lines.replace(b"\n", b"\r\n"))
            self._some = True
        self._line_ends += len(text) - len(lines)

    def _hash_line_ends(self) -> None:
        while self._line_ends:
            count = min(self._line_ends, CHUNK)
            self._hash.update(b"\r\n" * count)
            self._line_ends -= count

    def digest(self) -> bytes:
        """At the end of the body: nothing may be fed any more."""
        if self._some:
            self._hash.update(b"\r\n")
        return self._hash.digest()


def body_hash(message: bytes, start: int) -> bytes:
    """The hash of the body that begins at `start`; the message is not copied."""
    body = BodyHash()
    for place in range(start, len(message), CHUNK):
        body.feed(message[place : place + CHUNK])
    return body.digest()


# The signature.


def unsigned_field(
    *, algorithm: str, domain: str, selector: str, names: Sequence[bytes], body_hash: bytes, now: float
) -> bytes:
    """DKIM-Signature in stored form but for the signature itself, which belongs at its end. `algorithm`: of ALGORITHMS.

    No `l=`: it would let strangers add to the body.
    """
    tags = f"v=1; |a={ALGORITHMS[algorithm]}; |c=relaxed/relaxed; |d={domain}; |s={selector}; |t={int(now)}; "
    words = [*tags.encode("ascii").split(b"|"), b"h=" + names[0] + b":"]
    words += [name + b":" for name in names[1:]]
    words[-1] = words[-1][:-1] + b"; "
    words.append(b"bh=" + base64.b64encode(body_hash) + b";")
    return _folded(b"DKIM-Signature: ", words) + b"\n\tb="


def _folded(line: bytes, words: Sequence[bytes]) -> bytes:
    """Words, which bring their own blanks, on lines that are as short as they can be."""
    lines = []
    for word in words:
        if len(line) + len(word.rstrip(b" ")) > LINE:
            lines.append(line.rstrip(b" "))
            line = b"\t"
        line += word
    return b"\n".join((*lines, line))


def digest(header: bytes, field: bytes) -> bytes:
    """The SHA-256 that is signed (RFC 6376 section 3.7): of the canonical header, and of the field without signature."""
    name, _, value = field.partition(b":")
    return hashlib.sha256(header + _relaxed(name.lower(), value)).digest()


def signed_field(field: bytes, signature: bytes) -> bytes:
    """The whole field, ended, to stand before the message."""
    text = base64.b64encode(signature)
    room = LINE - len(b"\tb=")
    return field + b"\n\t".join(text[place : place + room] for place in range(0, len(text), room)) + b"\n"


# Who answers for a message.


def author_domain(fields: Sequence[Field]) -> str | None:
    """The domain of the From field, in lower case and ASCII; None unless there is one field and one domain."""
    found = [value for name, value in fields if name == b"from"]
    if len(found) != 1 or len(found[0]) > AUTHOR_LIMIT:
        return None
    plain = _without_comments(found[0])
    if plain is None:
        return None
    domains = {_domain_of(mailbox) for mailbox in plain.split(b",") if mailbox.strip(b" \t\n")}
    return domains.pop() if len(domains) == 1 else None


def author(fields: Sequence[Field]) -> bytes | None:
    """The one mailbox of the From field, as local@domain; None where there are several, none, or a quoted one."""
    found = [value for name, value in fields if name == b"from"]
    if len(found) != 1 or len(found[0]) > AUTHOR_LIMIT or _QUOTED_LOCAL.search(found[0]):
        return None
    mailboxes = [mailbox for mailbox in (_without_comments(found[0]) or b"").split(b",") if mailbox.strip(b" \t\n")]
    if len(mailboxes) != 1:
        return None
    angle = _ANGLE.fullmatch(mailboxes[0])
    mailbox = (angle[1] if angle else mailboxes[0]).strip(b" \t\n")
    return b"".join(mailbox.split()) if _MAILBOX.fullmatch(mailbox) else None


def _without_comments(value: bytes) -> bytes | None:
    """Each comment as a blank, and each quoted string as a letter: neither can hold a domain. None: one has no end."""
    parts, depth, place = [], 0, 0
    while place < len(value):
        match = (_COMMENTED if depth else _PLAIN).match(value, place)
        if match is None:
            return None
        part, place = match[0], match.end()
        if part == b"(":
            depth += 1
        elif part == b")":
            depth -= 1
            parts.append(b" ")
        elif not depth:
            parts.append(b"q" if part.startswith(b'"') else part)
        if depth < 0:
            return None
    return b"".join(parts) if not depth else None


def _domain_of(mailbox: bytes) -> str | None:
    if b"<" in mailbox:
        angle = _ANGLE.fullmatch(mailbox)
        if angle is None:
            return None
        mailbox = angle[1]
    match = _MAILBOX.fullmatch(mailbox.strip(b" \t\n"))
    if match is None:
        return None
    try:
        name = match[1].decode("utf-8").lower()
        name = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    return name if is_domain(name) else None


def signing_domains(domain: str) -> Iterator[str]:
    """The domains that may answer for this one: itself, then its parents (RFC 7489 section 3.1.1)."""
    while domain:
        yield domain
        domain = domain.partition(".")[2]


# What is published.


def record_name(domain: str, selector: str) -> str:
    """Where a public key lies (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def record(algorithm: str, public: bytes) -> str:
    """The TXT record. `public`: for rsa SubjectPublicKeyInfo in DER, for ed25519 the 32 octets."""
    return f"v=DKIM1; k={algorithm}; p={base64.b64encode(public).decode('ascii')}"


def zone_line(name: str, text: str) -> str:
    """The record as a zone file writes it, in strings that fit (RFC 1035 section 5.1)."""
    strings = (text[place : place + STRING] for place in range(0, len(text), STRING))
    return f"{name}. IN TXT " + " ".join(f'"{string}"' for string in strings)
