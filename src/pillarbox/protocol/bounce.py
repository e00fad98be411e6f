"""Delivery status notifications: what a mail host tells the sender of a message about it (RFC 3464, RFC 6522, RFC 6533).

A report has three parts: words for a person, fields for programs, and the header of the message (or all of it). It is
written by hand from checked pieces, since everything in it comes from strangers: addresses, replies of remote servers,
the message itself. Nothing of that can end a line, begin a field or end a part.

A report is ASCII, so that every server can take it. Only where the message needed SMTPUTF8, and something in the report
is beyond ASCII, it is UTF-8 throughout; the envelope that it travels in then needs SMTPUTF8: `not report.isascii()`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ..terms import Outcome, Wish
from .report_words import WIDTH, WORDS_LIMIT, farewell, introduction, one_line, paragraph
from .trace import date

MESSAGE_LIMIT = 128 * 1024  # octets; of a longer message only the header goes back, so that bounces can't be a flood
HEADER_LIMIT = 32 * 1024  # octets; more than any real header, and a bound on what hostile ones make us send
ADDRESS_LIMIT = 256  # octets; RFC 5321 section 4.5.3.1.3
LINE_LIMIT = 998  # octets without the line end; RFC 5322 section 2.1.1
ENVID_LIMIT = 100  # octets of xtext; RFC 3461 section 4.4
ORCPT_LIMIT = 500  # octets of xtext; RFC 3461 section 4.2
MESSAGE_ID_LIMIT = 250  # octets; a longer one is nobody's, and would only make long lines

SUBJECTS = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Delayed mail (still being tried)",
    "delivered": "Successful mail delivery report",
    "relayed": "Successful mail delivery report",
    "expanded": "Successful mail delivery report",
}  # of several the first; and what actions there are (RFC 3464 section 2.3.3)
_CLASSES = {
    "failed": "54",
    "delayed": "4",
    "delivered": "2",
    "relayed": "2",
    "expanded": "2",
}  # of the status, likeliest first

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")  # RFC 2046 section 5.1.1
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}")  # RFC 3464 section 2.3.4
_XTEXT = re.compile(rb"(?:[!-*,-<>-~\x80-\xff]|\+[0-9A-Fa-f]{2})+")
_HEXCHAR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,20}")
_NO_NAME = re.compile(r"[^A-Za-z0-9.:_\[\]-]")  # what can't be in a host name, or in an id
_ESCAPED = re.compile(r"[^!-~]|[+=\\]")  # RFC 6533 section 3
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_NOT_AS_TEXT = re.compile(rb"[\x00\r]")
_MESSAGE_ID = re.compile(
    rb"^message-id[ \t]*:[ \t]*(?:\n[ \t]+)?(<[!-;=?A-~]+@[!-;=?A-~]+>)[ \t]*$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Original:
    """The message that a report is about."""

    sender: bytes  # who gets the report
    received: float  # Unix time
    identity: str  # its id in our logs
    envid: bytes = b""  # Envelope.envid
    utf8: bool = False  # Envelope.utf8


@dataclass(frozen=True, slots=True)
class Reported:
    """One recipient, and what became of it."""

    address: bytes
    outcome: Outcome
    orcpt: bytes = b""  # Wish.orcpt
    last_try: float = 0.0  # Unix time; 0: not said


def wants(wish: Wish, action: str) -> bool:
    """Should the sender hear of this action? (RFC 3461 section 4.1; RFC 3464 section 2.3.3 names the actions.)"""
    notify = wish.notify or ("FAILURE", "DELAY")
    if "NEVER" in notify:
        return False
    return {"failed": "FAILURE", "delayed": "DELAY"}.get(action, "SUCCESS") in notify


def report(
    original: Original,
    recipients: Sequence[Reported],
    *,
    host: bytes,
    now: float,
    identity: str,
    boundary: str,
    header: bytes,
    message: bytes = b"",
    gives_up: float = 0.0,
) -> bytes:
    """The report as it is stored: lines end at LF; no Return-Path, since delivery adds that. It goes from the null sender.

    `host`: our name. `identity`: what becomes the report's Message-ID with it. `gives_up`: the Unix time until which
    delayed recipients are tried; 0: not said. `boundary`: random, so that a stranger can't have written it.

    `header`, `message`: the stored original's; what follows the header in `header` is dropped. `message` is empty unless
    all of it shall go back (RFC 3461 section 4.3). It goes back only with a failure, when it has at most MESSAGE_LIMIT
    octets and is plain text for every server; else the header does. In an ASCII report other octets of it become `?`:
    such a header has no right to them, and a report that must be ASCII to arrive everywhere is worth more.

    Raises ValueError: no sender or recipient, an unknown action, a boundary that is malformed or occurs in the text.
    """
    _check(original, recipients, boundary)
    if not any(recipient.outcome.action == "failed" for recipient in recipients):
        message = b""
    utf8 = _needs_utf8(original, recipients, header, message)
    name = _plain_name(host.decode("ascii", "replace"))
    lines = _header_lines(header)
    parts = (
        _part("Notification", "text/plain; charset=" + ("utf-8" if utf8 else "us-ascii"), utf8)
        + _encoded(_words(original, recipients, name, now, gives_up), utf8),
        _part("Delivery report", "message/global-delivery-status" if utf8 else "message/delivery-status", utf8)
        + _encoded(_fields(original, recipients, name, utf8, gives_up), utf8),
        _returned(lines, message, utf8),
    )
    delimiter = b"\n--" + boundary.encode("ascii")
    if any(delimiter in part for part in parts):
        raise ValueError("the boundary occurs in the report: choose another")
    top = [
        *_top(original, recipients, name, now),
        f"Message-ID: <{_plain_name(identity)}@{name}>",
        *_thread(lines),
        *_mime(boundary, utf8),
    ]
    return _encoded(top, utf8) + b"".join(delimiter + b"\n" + part for part in parts) + delimiter + b"--\n"


def decode_xtext(text: bytes) -> bytes | None:
    """What xtext (RFC 3461 section 4) stands for, which may be any octets; None: it is no xtext, or is empty.

    Octets beyond ASCII stand for themselves (RFC 6533 section 3).
    """
    if not _XTEXT.fullmatch(text):
        return None
    return _HEXCHAR.sub(lambda match: bytes((int(match[1], 16),)), text)


def _check(original: Original, recipients: Sequence[Reported], boundary: str) -> None:
    if not original.sender:
        raise ValueError("the null sender gets no report (RFC 5321 section 6.1)")
    if not recipients:
        raise ValueError("a report needs a recipient to report of")
    for recipient in recipients:
        if recipient.outcome.action not in SUBJECTS:
            raise ValueError(f"RFC 3464 knows no action {recipient.outcome.action!r}")
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("a boundary has 1 to 70 of the characters that RFC 2046 names")


def _needs_utf8(original: Original, recipients: Sequence[Reported], header: bytes, message: bytes) -> bool:
    if not original.utf8 and original.sender.isascii():
        return False
    pieces = [original.sender, header, message]
    for recipient in recipients:
        pieces += [recipient.address, recipient.orcpt]
    return not all(map(bytes.isascii, pieces))


# The header of the report, and of its parts.


def _top(original: Original, recipients: Sequence[Reported], host: str, now: float) -> list[str]:
    actions = {recipient.outcome.action for recipient in recipients}
    return [
        f'From: "Mail delivery at {host}" <MAILER-DAEMON@{host}>',
        f"To: <{one_line(original.sender, ADDRESS_LIMIT)}>",
        f"Subject: {next(subject for action, subject in SUBJECTS.items() if action in actions)}",
        f"Date: {_date(now)}",
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
    ]


def _thread(header: bytes) -> list[str]:
    """What makes a mail program show the report beside the original, if that has a Message-ID that is well-formed."""
    match = _MESSAGE_ID.search(header)
    if match is None or len(match[1]) > MESSAGE_ID_LIMIT:
        return []
    message_id = match[1].decode("ascii")
    return [f"In-Reply-To: {message_id}", f"References: {message_id}"]


def _mime(boundary: str, utf8: bool) -> list[str]:
    return [
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'        boundary="{boundary}"',
        *(["Content-Transfer-Encoding: 8bit"] if utf8 else []),
    ]


def _part(description: str, content_type: str, utf8: bool) -> bytes:
    lines = [f"Content-Description: {description}", f"Content-Type: {content_type}"]
    if utf8:
        lines.append("Content-Transfer-Encoding: 8bit")
    return _encoded([*lines, ""], utf8)


# For a person.


def _words(original: Original, recipients: Sequence[Reported], host: str, now: float, gives_up: float) -> list[str]:
    lines = introduction(host, _date(original.received))
    until = _date(gives_up) if gives_up else ""
    for recipient in recipients:
        final = one_line(recipient.address, ADDRESS_LIMIT)
        kind, known = _original_recipient(recipient.orcpt) or ("", "")
        if kind.lower() not in ("rfc822", "utf-8") or known.lower() == final.lower():
            known = ""
        lines += paragraph(
            known or final,
            recipient.outcome,
            status=_status(recipient.outcome),
            waited=now - original.received,
            until=until,
            leads_to=final if known else "",
        )
    return lines + farewell(host, _plain_name(original.identity))


# For programs: RFC 3464 sections 2.2 and 2.3, in their order.


def _fields(original: Original, recipients: Sequence[Reported], host: str, utf8: bool, gives_up: float) -> list[str]:
    lines = []
    if envid := _envelope_id(original.envid):
        lines.append(f"Original-Envelope-Id: {envid}")
    lines += [f"Reporting-MTA: dns; {host}", f"Arrival-Date: {_date(original.received)}"]
    for recipient in recipients:
        lines += ["", *_recipient_fields(recipient, utf8, gives_up)]
    return lines


def _recipient_fields(recipient: Reported, utf8: bool, gives_up: float) -> list[str]:
    outcome = recipient.outcome
    lines = []
    if asked := _original_recipient(recipient.orcpt):
        lines.append(f"Original-Recipient: {_typed(*asked, utf8)}")
    lines.append(f"Final-Recipient: {_typed('rfc822', one_line(recipient.address, ADDRESS_LIMIT), utf8)}")
    lines += [f"Action: {outcome.action}", f"Status: {_status(outcome)}"]
    if mta := one_line(outcome.mta, ADDRESS_LIMIT):
        lines.append(f"Remote-MTA: dns; {_plain_name(mta)}")
    if words := one_line(outcome.reply, WORDS_LIMIT):
        lines += _folded(f"Diagnostic-Code: smtp; {words}")
    if recipient.last_try:
        lines.append(f"Last-Attempt-Date: {_date(recipient.last_try)}")
    if gives_up and outcome.action == "delayed":
        lines.append(f"Will-Retry-Until: {_date(gives_up)}")
    return lines


def _status(outcome: Outcome) -> str:
    """The status code, of a class that fits the action."""
    classes = _CLASSES[outcome.action]
    match = _STATUS.fullmatch(outcome.status)
    if match and match[1] in classes:
        return outcome.status
    if match and outcome.action == "delayed" and match[1] == "5":
        return "4" + outcome.status[1:]  # what would be for good, did we not try again
    return f"{classes[0]}.0.0"


def _envelope_id(envid: bytes) -> str:
    """Empty: none was said, or none that can be repeated."""
    octets = decode_xtext(envid) if len(envid) <= ENVID_LIMIT else None
    return _printable(octets) if octets and octets.isascii() else ""


def _original_recipient(orcpt: bytes) -> tuple[str, str] | None:
    """Address type and address; None: none was said, or none that can be repeated."""
    kind, _, xtext = orcpt[: ORCPT_LIMIT + 1].partition(b";")
    address = decode_xtext(xtext) if len(orcpt) <= ORCPT_LIMIT else None
    name = kind.decode("ascii", "replace")
    if address is None or not _ADDRESS_TYPE.fullmatch(name) or not _printable(address):
        return None
    return name, _printable(address)


def _printable(octets: bytes) -> str:
    """The text; empty where it can't stand in a field as it is: then it is better not repeated than changed."""
    text = octets.decode("utf-8", "replace")
    return text if text == one_line(octets, len(octets)) else ""


def _typed(kind: str, address: str, utf8: bool) -> str:
    """An address with its type. What ASCII can't say is of the type utf-8, and escaped in an ASCII report (RFC 6533)."""
    if address.isascii():
        return f"{kind}; {address}"
    return f"utf-8; {address if utf8 else _ESCAPED.sub(_escape, address)}"


def _escape(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):02X}}}"


# What goes back of the message.


def _returned(header: bytes, message: bytes, utf8: bool) -> bytes:
    if message and _may_return(message, utf8):
        content_type = "message/global" if utf8 else "message/rfc822"
        return _part("Undelivered message", content_type, utf8) + message + (b"" if message.endswith(b"\n") else b"\n")
    content_type = "message/global-headers" if utf8 else "text/rfc822-headers"
    return _part("Header of the message", content_type, utf8) + _fit(header, utf8)


def _may_return(message: bytes, utf8: bool) -> bool:
    """Can every server that takes the report take this message in it? It can't be encoded (RFC 2046 section 5.2.1)."""
    return (
        len(message) <= MESSAGE_LIMIT
        and (utf8 or message.isascii())
        and not _NOT_AS_TEXT.search(message)
        and max(map(len, message.split(b"\n"))) <= LINE_LIMIT
    )


def _header_lines(header: bytes) -> bytes:
    """The original's header, without what follows it; bounded, cut at a line."""
    lines = header[:HEADER_LIMIT]
    if len(header) > HEADER_LIMIT:
        lines = lines[: lines.rfind(b"\n") + 1] or lines
    return (b"\n" + lines.replace(b"\r\n", b"\n")).partition(b"\n\n")[0][1:].removesuffix(b"\n")


def _fit(lines: bytes, utf8: bool) -> bytes:
    """The lines, ended, without what a report may not hold."""
    lines = _CONTROL.sub(b"?", lines)
    lines = lines.decode("utf-8", "replace").encode("utf-8") if utf8 else _BEYOND_ASCII.sub(b"?", lines)
    return b"".join(_cut(line) + b"\n" for line in lines.split(b"\n")) if lines else b""


# Lines.


def _encoded(lines: list[str], utf8: bool) -> bytes:
    return b"".join(_cut(line.encode("utf-8" if utf8 else "ascii", "replace")) + b"\n" for line in lines)


def _folded(line: str) -> list[str]:
    """One field, on several lines (RFC 5322 section 2.2.3); a long word stays whole."""
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)


def _cut(line: bytes) -> bytes:
    """At most LINE_LIMIT octets; of a character of several all or none."""
    return line if len(line) <= LINE_LIMIT else line[:LINE_LIMIT].decode("utf-8", "ignore").encode("utf-8")


def _plain_name(text: str) -> str:
    return _NO_NAME.sub("?", text)


def _date(at: float) -> str:
    return date(at).decode("ascii")
