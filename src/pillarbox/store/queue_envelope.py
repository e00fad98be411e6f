"""The envelope file of a queued message: strict JSON, small enough to read with one's own eyes.

Addresses are octets; in the file each octet is the character of that number (Latin-1), so ASCII reads as itself and
nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from ..terms import Envelope

VERSION = 1
PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One message as the queue knows it."""

    identity: str
    sender: bytes  # empty: the null sender
    outcomes: Mapping[bytes, str]  # of each recipient, in the order of the envelope
    received: float  # Unix time, seconds
    next_try: float
    tries: int = 0

    @property
    def recipients(self) -> tuple[bytes, ...]:
        return tuple(self.outcomes)

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.sender, self.recipients)

    def pending(self) -> tuple[bytes, ...]:
        """Recipients that still wait, in the order of the envelope."""
        return tuple(recipient for recipient, outcome in self.outcomes.items() if outcome == PENDING)

    def settled(self, outcomes: Mapping[bytes, str], next_try: float) -> QueuedMessage:
        """After one more try. Raises ValueError for a recipient that the message does not have."""
        if outcomes.keys() - self.outcomes.keys():
            raise ValueError(f"message {self.identity} has no such recipient")
        return replace(self, outcomes={**self.outcomes, **outcomes}, next_try=next_try, tries=self.tries + 1)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    id: str
    received: float
    next_try: float
    tries: int
    sender: str
    recipients: list[tuple[str, Literal["pending", "delivered", "failed"]]]


def render(message: QueuedMessage) -> bytes:
    """The file's content, of one line."""
    recipients = [(recipient.decode("latin-1"), outcome) for recipient, outcome in message.outcomes.items()]
    sender = message.sender.decode("latin-1")
    file = _File(VERSION, message.identity, message.received, message.next_try, message.tries, sender, recipients)  # type: ignore[arg-type]
    return msgspec.json.encode(file) + b"\n"


def parse(content: bytes, identity: str) -> QueuedMessage:
    """What `render` made of the message of that id. Raises ValueError for anything else."""
    try:
        file = msgspec.json.decode(content, type=_File)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if file.id != identity:
        raise ValueError(f"it speaks of the message {file.id!r}")
    outcomes: dict[bytes, str] = {recipient.encode("latin-1"): outcome for recipient, outcome in file.recipients}
    if not outcomes or len(outcomes) != len(file.recipients):
        raise ValueError("a recipient is missing or named twice")
    return QueuedMessage(identity, file.sender.encode("latin-1"), outcomes, file.received, file.next_try, file.tries)
