"""Mail brought to the server by smtplib, each message under a sender of its own, so that it is known again."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterable

from pillarbox.testing import Server

REPLY_SECONDS = 60
ACCEPTED = 250
_KEY = re.compile(rb"Return-Path: <([^@>]*)@sender\.test>\n")
_TRACE = re.compile(rb"Return-Path: <[^>\n]*>\n(?:Delivered-To: [^\n]*\n)?Received: [^\n]*\n(?:[ \t][^\n]*\n)*")


def connect(server: Server) -> smtplib.SMTP:
    smtp = smtplib.SMTP(server.host, server.smtp_port, local_hostname="client.test", timeout=REPLY_SECONDS)
    smtp.ehlo()
    return smtp


def post(server: Server, recipient: str, messages: Iterable[tuple[str, bytes]]) -> dict[str, tuple[int, bytes]]:
    """Send these (key, message with CRLF) over one connection, a new one after each refusal; the replies to DATA."""
    replies: dict[str, tuple[int, bytes]] = {}
    smtp = connect(server)
    for key, message in messages:
        replies[key] = _send(smtp, f"{key}@sender.test", recipient, message)
        if replies[key][0] != ACCEPTED:
            smtp.close()
            smtp = connect(server)
    smtp.quit()
    return replies


def post_all(server: Server, recipient: str, messages: Iterable[tuple[str, bytes]]) -> None:
    """The same, for messages that must be accepted."""
    refused = {key: reply for key, reply in post(server, recipient, messages).items() if reply[0] != ACCEPTED}
    assert not refused


def key(received: bytes) -> str:
    """Which of the messages this is, as it lies in the Maildir or came from a client."""
    found = _KEY.match(received)
    assert found, received[:200]
    return found[1].decode()


def differs_only_in_trace(received: bytes, sent: bytes) -> bool:
    """Is this the message as it was sent (LF line ends), with our Return-Path and Received put before it?"""
    head = received[: len(received) - len(sent)]
    return received.endswith(sent) and _TRACE.fullmatch(head) is not None


def _send(smtp: smtplib.SMTP, sender: str, recipient: str, message: bytes) -> tuple[int, bytes]:
    for reply in (smtp.mail(sender), smtp.rcpt(recipient)):
        assert reply[0] == ACCEPTED, reply
    return smtp.data(message)
