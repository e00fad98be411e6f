"""Who hears what became of a message: bounces, warnings of delay, and success where it was asked for (RFC 3461, 3464)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .. import log
from ..config import Config
from ..protocol.bounce import HEADER_LIMIT, MESSAGE_LIMIT, Original, Reported, report, wants
from ..protocol.exchanger_reply import PASSED_ON
from ..store.queue import DiskQueue, QueuedMessage, QueuedRecipient
from ..tasks import in_thread
from ..terms import Envelope

BOUNDARY_OCTETS = 16


class Notices:
    """Makes reports to senders, and queues them. A report has the null sender, and is never reported on."""

    def __init__(self, queue: DiskQueue, config: Callable[[], Config], accepted: Callable[[str], None]) -> None:
        """`accepted(id)` is called for each report that is queued."""
        self._queue = queue
        self._config = config
        self._accepted = accepted

    def due(self, message: QueuedMessage, now: float) -> bool:
        """Is there anything that the sender wants to hear?"""
        return bool(self._final(message) or self._late(message, now))

    async def tell(self, message: QueuedMessage, now: float) -> None:
        """Queue what is due, durably, and then mark it as told. Raises TryLater and OSError: it is due again then."""
        if final := self._final(message):
            await self._report(message, final, now, "f")
        if late := self._late(message, now):
            await self._report(message, late, now, "d")
        told = [recipient.address for recipient in message.unreported()]
        if message.pending() and (told or late):
            await in_thread(lambda: self._queue.mark(message.identity, reported=told, warned=True if late else None))

    def _final(self, message: QueuedMessage) -> list[QueuedRecipient]:
        return [each for each in message.unreported() if _is_wanted(each) and not _is_passed_on(each)]

    def _late(self, message: QueuedMessage, now: float) -> list[QueuedRecipient]:
        after = self._config().delivery.warn_after
        if message.warned or not after or now - message.received < after:
            return []
        return [each for each in message.pending() if _is_wanted(each)]

    async def _report(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], now: float, kind: str
    ) -> None:
        """The id is made of the message's, and of whom the report is on: one that is made again is the same one."""
        why = ",".join(each.address.decode("utf-8", "replace") for each in recipients)
        if not message.sender:
            log.line("bounce-dropped", id=message.identity, to=why, what="the sender is null: nobody is told")
            return
        # One that could not be noted is made again, with those who were settled since: it must not pass for the first.
        about = message.recipients.index(recipients[0])
        identity = f"{message.identity}.{kind}{about}.n{len(recipients)}"
        text = await in_thread(lambda: self._content(message, recipients, now, identity))
        envelope = Envelope(b"", (message.sender,), utf8=not text.isascii())
        if await in_thread(lambda: self._queue.add(identity, envelope, text)):
            log.line(
                "report", id=identity, about=message.identity, to=message.sender.decode("utf-8", "replace"), on=why
            )
            self._accepted(identity)

    def _content(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], now: float, identity: str
    ) -> bytes:
        config = self._config()
        more = MESSAGE_LIMIT if message.ret == "FULL" else HEADER_LIMIT
        start = self._queue.content(message.identity, more + 1)
        return report(
            Original(message.sender, message.received, message.identity, message.envid, message.utf8),
            [
                Reported(each.address, each.outcome, each.wish.orcpt, now)
                for each in recipients
                if each.outcome is not None
            ],
            host=config.hostname.encode(),
            now=now,
            identity=identity,
            boundary=os.urandom(BOUNDARY_OCTETS).hex(),
            header=start,
            message=start if message.ret == "FULL" else b"",
            gives_up=message.received + config.delivery.lifetime,
        )


def is_notice(message: QueuedMessage) -> bool:
    """Is it a report of ours? Only these are queued under the id of another message, and why."""
    return message.identity.count(".") > 1


def _is_wanted(recipient: QueuedRecipient) -> bool:
    return recipient.outcome is not None and wants(recipient.wish, recipient.outcome.action)


def _is_passed_on(recipient: QueuedRecipient) -> bool:
    """Does the next host report on it? A report of ours would be one too many (RFC 3461 section 5.2.1)."""
    outcome = recipient.outcome
    return outcome is not None and outcome.action == "relayed" and outcome.text == PASSED_ON
