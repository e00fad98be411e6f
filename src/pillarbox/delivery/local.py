"""One try of one queued message: each pending recipient's worker is asked to put it into the Maildir."""

from __future__ import annotations

import asyncio
import time
from zlib import crc32

from .. import log
from ..messages import Deliver, DeliveryDone, ResolveAll, ResolvedAll
from ..policy.schedule import next_try
from ..protocol.trace import return_path_field
from ..store.queue import DELIVERED, DiskQueue, QueuedMessage
from ..terms import TryLater
from .questions import Broker


async def attempt(queue: DiskQueue, broker: Broker, identity: str) -> float | None:
    """Try the message once. None: every recipient has it, and it has left the queue; else when to try again."""
    message = queue.load(identity)
    pending = message.pending()
    try:
        answer: ResolvedAll = await broker.ask(lambda number: ResolveAll(number, pending, ""))
        accounts = answer.accounts
    except TryLater as error:
        log.line("try-deferred", id=identity, why=error.why)
        accounts = ("",) * len(pending)
    delivered = [
        recipient
        for recipient, account in zip(pending, accounts, strict=True)
        if account and await _deliver(queue, broker, message, recipient, account)
    ]
    return await asyncio.get_running_loop().run_in_executor(None, _settle, queue, message, delivered)


async def _deliver(queue: DiskQueue, broker: Broker, message: QueuedMessage, recipient: bytes, account: str) -> bool:
    """The file name is made of queue id and account: a delivery that is repeated is the same one, and so is a second
    one for another address of the same mailbox."""
    name = f"{message.identity}.{crc32(account.encode()):08x}"
    head = return_path_field(message.sender) + b"Delivered-To: " + recipient + b"\n"
    try:
        descriptor = queue.open_message(message.identity)
        done: DeliveryDone = await broker.ask(lambda number: Deliver(number, account, "", name, head), (descriptor,))
    except (TryLater, OSError) as error:
        done = DeliveryDone(0, "deferred", str(error))
    log.line(
        "delivery",
        id=message.identity,
        to=recipient.decode("utf-8", "replace"),
        account=account,
        outcome=done.outcome,
        why=done.text or None,
    )
    return done.outcome == DELIVERED


def _settle(queue: DiskQueue, message: QueuedMessage, delivered: list[bytes]) -> float | None:
    """Waits for the disk: for a thread."""
    if len(delivered) == len(message.pending()):
        queue.remove(message.identity)
        return None
    when = next_try(message.received, time.time())
    queue.settle(message.identity, dict.fromkeys(delivered, DELIVERED), when)
    return when
