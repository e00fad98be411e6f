"""Recipients of ours: aliases and forwards are followed, mailboxes get the message by a worker of their uid."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from zlib import crc32

from .. import log
from ..messages import Deliver, DeliveryDone
from ..messages_delivery import ResolveAll, ResolvedAll
from ..protocol.smtp_data import HEADER_LIMIT
from ..protocol.trace import delivered_to_field, return_path_field
from ..store.queue import DiskQueue, QueuedMessage, QueuedRecipient
from ..terms import Outcome, Refused, TryLater
from .questions import Broker

ROUNDS = 20  # of following forwards; each adds a recipient, and DiskQueue bounds these

_DELIVERED_TO = re.compile(rb"^delivered-to:[ \t]*([^ \t\n]+)[ \t]*$", re.IGNORECASE | re.MULTILINE)

Result = TypeVar("Result")

LOOP = Outcome("failed", "5.4.6", "the message has been through this address before: forwards lead in a circle")
NOBODY = Outcome("failed", "5.1.1", "there is no such mailbox here")
UNKNOWN = Outcome("delayed", "4.3.0", "the mailbox can't be looked up just now")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address of ours leads: mailboxes, and addresses that take its place."""

    accounts: tuple[str, ...]
    forwards: tuple[bytes, ...] = ()


Places = dict[bytes, Place | Outcome]  # by recipient; an outcome: it leads nowhere, or that can't be told


class Local:
    """The local hop. `is_ours(address)`: is its domain one of ours?"""

    def __init__(self, queue: DiskQueue, is_ours: Callable[[bytes], bool]) -> None:
        self._queue = queue
        self._is_ours = is_ours

    async def follow(self, broker: Broker, message: QueuedMessage) -> tuple[QueuedMessage, Places]:
        """The message once all forwards have been followed, and where its pending recipients of ours lead.

        Raises TryLater and OSError.
        """
        stuck: Places = {}
        for _ in range(ROUNDS):
            ours = [each for each in message.pending() if self._is_ours(each.address) and each.address not in stuck]
            places = await self._places(broker, ours)
            forwarding = [each for each in ours if isinstance(place := places[each.address], Place) and place.forwards]
            if not forwarding:
                return message, places | stuck
            for recipient in forwarding:
                place = places[recipient.address]
                assert isinstance(place, Place)
                if outcome := await self._forward(broker, message, recipient, place):
                    stuck[recipient.address] = outcome
            message = self._queue.load(message.identity)
        return message, {each.address: LOOP for each in message.pending() if self._is_ours(each.address)}

    async def _places(self, broker: Broker, recipients: Sequence[QueuedRecipient]) -> Places:
        if not recipients:
            return {}
        addresses = tuple(recipient.address for recipient in recipients)
        try:
            answer: ResolvedAll = await broker.ask(lambda number: ResolveAll(number, addresses))
        except TryLater as error:
            log.line("lookup-failed", why=error.why)
            return dict.fromkeys(addresses, UNKNOWN)
        if not answer.known or not len(addresses) == len(answer.accounts) == len(answer.forwards):
            return dict.fromkeys(addresses, UNKNOWN)
        return {
            address: Place(accounts, forwards) if accounts or forwards else NOBODY
            for address, accounts, forwards in zip(addresses, answer.accounts, answer.forwards, strict=True)
        }

    # Forwards.

    async def _forward(
        self, broker: Broker, message: QueuedMessage, recipient: QueuedRecipient, place: Place
    ) -> Outcome | None:
        """Let the forwards take the recipient's place, after the mailboxes got their copy. None: done, else why not."""
        known = {each.address: each for each in message.recipients}
        forwards = [address for address in place.forwards if address not in _ancestors(recipient, known)]
        if not (forwards or place.accounts) or await self._has_been_through(message, recipient.address):
            return LOOP
        if place.accounts:
            copy = await self._deliver_to(broker, message, recipient.address, place.accounts)
            if copy.action != "delivered":
                return copy
        children = [QueuedRecipient(address, wish=recipient.wish, via=recipient.address) for address in forwards]
        try:
            await _in_thread(lambda: self._queue.expand(message.identity, recipient.address, children))
        except Refused as error:
            return Outcome("failed", error.code or "5.5.3", error.why)
        to = ",".join(address.decode("utf-8", "replace") for address in forwards)
        log.line("forwarded", id=message.identity, to=recipient.address.decode("utf-8", "replace"), on=to)
        return None

    async def _has_been_through(self, message: QueuedMessage, address: bytes) -> bool:
        """Does Delivered-To say so? Then another host has sent it back to us."""
        header = await _in_thread(lambda: self._queue.header(message.identity, HEADER_LIMIT))
        return address.lower() in (found.lower() for found in _DELIVERED_TO.findall(header))

    # Mailboxes.

    async def deliver(
        self, broker: Broker, message: QueuedMessage, places: Mapping[bytes, Place]
    ) -> dict[bytes, Outcome]:
        """Give these recipients' mailboxes the message, one after the other."""
        return {
            address: await self._deliver_to(broker, message, address, place.accounts)
            for address, place in places.items()
        }

    async def _deliver_to(
        self, broker: Broker, message: QueuedMessage, address: bytes, accounts: Sequence[str]
    ) -> Outcome:
        for account in accounts:
            done = await self._put(broker, message, address, account)
            log.line(
                "delivery",
                id=message.identity,
                to=address.decode("utf-8", "replace"),
                account=account,
                outcome=done.outcome,
                why=done.text or None,
            )
            if done.outcome != "delivered":
                return Outcome("delayed", "4.2.0", "the mailbox can't take the message just now")
        return Outcome("delivered", "2.0.0")

    async def _put(self, broker: Broker, message: QueuedMessage, address: bytes, account: str) -> DeliveryDone:
        """The file name is made of queue id and account: a delivery that is repeated is the same one, and so is a second
        one for another address of the same mailbox."""
        name = f"{message.identity}.{crc32(account.encode()):08x}"
        head = return_path_field(message.sender) + delivered_to_field(address)
        try:
            descriptor = self._queue.open_message(message.identity)
            done: DeliveryDone = await broker.ask(
                lambda number: Deliver(number, account, "", name, head), (descriptor,)
            )
        except (TryLater, OSError) as error:
            return DeliveryDone(0, "deferred", str(error))
        return done


def _ancestors(recipient: QueuedRecipient, known: Mapping[bytes, QueuedRecipient]) -> set[bytes]:
    """The recipient, and all whose forwards led to it."""
    found: set[bytes] = set()
    current: QueuedRecipient | None = recipient
    while current is not None and current.address not in found:
        found.add(current.address)
        current = known.get(current.via)
    return found


async def _in_thread(work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(None, work)
