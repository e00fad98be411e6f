"""The envelope file of a queued message: strict JSON, to be read with one's own eyes.

Addresses are octets; in the file each octet is the character of that number (Latin-1), so ASCII reads as itself and
nothing is lost. A field that has its usual value is left out.
"""

from __future__ import annotations

from math import isfinite
from typing import Literal

import msgspec

from ..terms import Outcome, Wish
from .queue_message import IDENTITY, NO_WISH, QueuedMessage, QueuedRecipient

ENVELOPE_LIMIT = 64 << 20  # octets; 10,000 recipients, each with all that may be said of it, take less


class _Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    action: Literal["delivered", "relayed", "expanded", "delayed", "failed"]
    status: str = ""
    text: str = ""
    mta: str = ""
    reply: str = ""


class _Recipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    address: str
    state: Literal["pending", "delivered", "relayed", "expanded", "failed"] = "pending"
    notify: tuple[Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"], ...] = ()
    orcpt: str = ""
    via: str = ""
    outcome: _Outcome | None = None
    reported: bool = False
    kept: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="version", tag=2):
    id: str
    received: float
    next_try: float
    sender: str
    recipients: list[_Recipient]
    tries: int = 0
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""
    utf8: bool = False
    account: str = ""
    held: bool = False
    warned: bool = False


class _FileOne(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="version", tag=1):
    """As the first version wrote it."""

    id: str
    received: float
    next_try: float
    tries: int
    sender: str
    recipients: list[tuple[str, Literal["pending", "delivered", "failed"]]]


_decoder: msgspec.json.Decoder[_File | _FileOne] = msgspec.json.Decoder(_File | _FileOne)


def render(message: QueuedMessage) -> bytes:
    """The file's content, of one line. Raises ValueError for what `parse` would not take back: it must not be written."""
    if not (isfinite(message.received) and isfinite(message.next_try)):
        raise ValueError("a time is not finite")
    file = _File(
        id=message.identity,
        received=message.received,
        next_try=message.next_try,
        sender=message.sender.decode("latin-1"),
        recipients=[_render_recipient(recipient) for recipient in message.recipients],
        tries=message.tries,
        ret=message.ret,  # type: ignore[arg-type]
        envid=message.envid.decode("latin-1"),
        utf8=message.utf8,
        account=message.account,
        held=message.held,
        warned=message.warned,
    )
    content = msgspec.json.encode(file) + b"\n"
    _decode(content)
    return content


def _render_recipient(recipient: QueuedRecipient) -> _Recipient:
    outcome = recipient.outcome
    return _Recipient(
        address=recipient.address.decode("latin-1"),
        state=recipient.state,  # type: ignore[arg-type]
        notify=recipient.wish.notify,  # type: ignore[arg-type]
        orcpt=recipient.wish.orcpt.decode("latin-1"),
        via=recipient.via.decode("latin-1"),
        outcome=outcome and _Outcome(outcome.action, outcome.status, outcome.text, outcome.mta, outcome.reply),  # type: ignore[arg-type]
        reported=recipient.reported,
        kept=recipient.kept,
    )


def parse(content: bytes, identity: str) -> QueuedMessage:
    """What `render` made of the message of that id, now or in version 1. Raises ValueError for anything else."""
    file = _decode(content)
    if file.id != identity or not IDENTITY.fullmatch(identity):
        raise ValueError(f"it speaks of the message {file.id!r}")
    sender = file.sender.encode("latin-1")
    if isinstance(file, _FileOne):
        old = tuple(QueuedRecipient(address.encode("latin-1"), state) for address, state in file.recipients)
        return QueuedMessage(identity, sender, _distinct(old), file.received, file.next_try, file.tries)
    return QueuedMessage(
        identity,
        sender,
        _distinct(tuple(_parse_recipient(recipient) for recipient in file.recipients)),
        file.received,
        file.next_try,
        file.tries,
        file.ret,
        file.envid.encode("latin-1"),
        file.utf8,
        file.account,
        file.held,
        file.warned,
    )


def _decode(content: bytes) -> _File | _FileOne:
    if len(content) > ENVELOPE_LIMIT:
        raise ValueError(f"it is longer than {ENVELOPE_LIMIT} octets")
    try:
        return _decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _parse_recipient(file: _Recipient) -> QueuedRecipient:
    outcome = file.outcome
    return QueuedRecipient(
        file.address.encode("latin-1"),
        file.state,
        Wish(file.notify, file.orcpt.encode("latin-1")) if file.notify or file.orcpt else NO_WISH,
        file.via.encode("latin-1"),
        Outcome(outcome.action, outcome.status, outcome.text, outcome.mta, outcome.reply) if outcome else None,
        file.reported,
        file.kept,
    )


def _distinct(recipients: tuple[QueuedRecipient, ...]) -> tuple[QueuedRecipient, ...]:
    if not recipients or len({recipient.address for recipient in recipients}) != len(recipients):
        raise ValueError("a recipient is missing or named twice")
    return recipients
