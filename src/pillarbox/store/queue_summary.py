"""The queue as a reader sees it who does not own it, while its owner works on: nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..terms import TryLater
from .queue_folder import Folder
from .queue_message import QueuedMessage


@dataclass(frozen=True, slots=True)
class Summary:
    """A queued message; or one whose envelope can't be read, and why."""

    identity: str
    octets: int  # of the message as stored
    message: QueuedMessage | None
    damage: str = ""


def summaries(path: str) -> Iterator[Summary]:
    """All queued messages, oldest first, read one by one; those that leave meanwhile are left out. Raises TryLater."""
    folder = Folder(path)
    for identity in sorted(folder.names("envelope")):
        try:
            yield Summary(identity, folder.octets(identity), folder.read_envelope(identity))
        except FileNotFoundError:
            if folder.holds(identity):  # a removal takes the envelope first
                yield Summary(identity, 0, None, "its message is missing")
        except (TryLater, OSError) as error:
            yield Summary(identity, 0, None, str(error))
