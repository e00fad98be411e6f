"""Recipients of ours: aliases and forwards are followed, mailboxes get the message by a worker of their uid."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from .. import log
from ..messages import NOBODY_LOOKS, Deliver, DeliveryDone, Instruct, Instructed
from ..messages_delivery import ResolveAll, ResolvedAll
from ..protocol.dot_qmail import is_address
from ..protocol.smtp_data import HEADER_LIMIT
from ..protocol.trace import delivered_to_field, return_path_field
from ..store.queue import DiskQueue, QueuedMessage, QueuedRecipient
from ..tasks import in_thread
from ..terms import Outcome, Refused, TryLater
from .questions import Broker

ASKED_AT_ONCE = 100  # addresses; the broker serves logins too
SHOWN = 20  # addresses in a log line
ROUNDS = 20  # of following forwards; each adds a recipient, and DiskQueue bounds these

_DELIVERED_TO = re.compile(rb"^delivered-to:[ \t]*([^ \t\n]+)[ \t]*$", re.IGNORECASE | re.MULTILINE)

LOOP = Outcome("failed", "5.4.6", "the message has been through this address before: forwards lead in a circle")
NOBODY = Outcome("failed", "5.1.1", "there is no such mailbox here")
UNKNOWN = Outcome("delayed", "4.3.0", "the mailbox can't be looked up just now")
DISCARDED = Outcome("delivered", "2.0.0", "the owner of the address keeps nothing")
OWN = ("",)  # an account's own Maildir, see Deliver.maildir


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address of ours leads: mailboxes, and addresses that take its place."""

    accounts: tuple[str, ...]
    forwards: tuple[bytes, ...] = ()
    instructed: bool = False  # .qmail files have a say that has not been heard yet
    maildirs: tuple[str, ...] = OWN  # of the address's own account; a .qmail file may name several

    @property
    def leads_on(self) -> bool:
        """Does it lead to more than one mailbox?"""
        return bool(self.forwards) or len(self.accounts) > 1


Places = dict[bytes, Place | Outcome]  # by recipient; an outcome: it leads nowhere, or that can't be told


class Local:
    """The local hop. `is_ours(address)`: is its domain one of ours?"""

    def __init__(self, queue: DiskQueue, is_ours: Callable[[bytes], bool]) -> None:
        self._queue = queue
        self._is_ours = is_ours

    async def follow(self, broker: Broker, message: QueuedMessage) -> tuple[QueuedMessage, Places]:
        """The message once all forwards have been followed, and where its pending recipients of ours lead.

        An address of several mailboxes is followed too: each becomes a recipient of its own, whose fate is written down
        for itself. So every place that is left is one mailbox. Raises TryLater and OSError.
        """
        stuck: Places = {}
        heard: dict[bytes, Instructed] = {}  # what .qmail files say, so that each is read once
        for _ in range(ROUNDS):
            ours = [each for each in message.pending() if self._is_ours(each.address) and each.address not in stuck]
            places = await self._heard(broker, message, await self._places(broker, ours), heard)
            leading_on = [each for each in ours if isinstance(place := places[each.address], Place) and place.leads_on]
            if not leading_on:
                return message, places | stuck
            for recipient in leading_on:
                place = places[recipient.address]
                assert isinstance(place, Place)
                if outcome := await self._lead_on(broker, message, recipient, place):
                    stuck[recipient.address] = outcome
                message = self._queue.load(message.identity)
        return message, {each.address: LOOP for each in message.pending() if self._is_ours(each.address)}

    async def _places(self, broker: Broker, recipients: Sequence[QueuedRecipient]) -> Places:
        places: Places = {}
        for start in range(0, len(recipients), ASKED_AT_ONCE):
            addresses = tuple(each.address for each in recipients[start : start + ASKED_AT_ONCE])
            places |= await self._ask(broker, addresses)
        return places

    async def _ask(self, broker: Broker, addresses: tuple[bytes, ...]) -> Places:
        try:
            answer: ResolvedAll = await broker.ask(lambda number: ResolveAll(number, addresses))
        except TryLater as error:
            log.line("lookup-failed", why=error.why)
            return dict.fromkeys(addresses, UNKNOWN)
        if not answer.known or {*map(len, (answer.locals, answer.accounts, answer.forwards))} != {len(addresses)}:
            return dict.fromkeys(addresses, UNKNOWN)
        instructed = answer.instructed or (False,) * len(addresses)
        if len(instructed) != len(addresses):
            return dict.fromkeys(addresses, UNKNOWN)
        places = map(Place, answer.accounts, answer.forwards, instructed)
        found = zip(addresses, answer.locals, places, strict=True)
        return {address: _place(ours, place) for address, ours, place in found}

    # .qmail files.

    async def _heard(
        self, broker: Broker, message: QueuedMessage, places: Places, heard: dict[bytes, Instructed]
    ) -> Places:
        """The places with what their owners' .qmail files say; `heard` knows some of that, and learns the rest."""
        asked = {address: place for address, place in places.items() if isinstance(place, Place) and place.instructed}
        unheard = [address for address in asked if address not in heard]
        for start in range(0, len(unheard), ASKED_AT_ONCE):
            some = unheard[start : start + ASKED_AT_ONCE]
            heard |= zip(some, await asyncio.gather(*(self._hear(broker, address) for address in some)), strict=True)
        obeyed = {address: _obeyed(place, heard[address]) for address, place in asked.items()}
        for address in unheard:
            self._note(message, address, heard[address], discarded=obeyed[address] == DISCARDED)
        return places | obeyed

    def _note(self, message: QueuedMessage, address: bytes, said: Instructed, *, discarded: bool) -> None:
        """Mail that waits because of a file, or is gone because of one, has left a line in the log."""
        if said.code:
            log.line("dot-qmail", id=message.identity, to=_shown(address), status=said.code, why=said.text)
        elif discarded:
            log.line("discarded", id=message.identity, to=_shown(address), why=DISCARDED.text)

    async def _hear(self, broker: Broker, address: bytes) -> Instructed:
        try:
            said: Instructed = await broker.ask(lambda number: Instruct(number, address))
        except TryLater as error:
            return Instructed(0, code="4.3.0", text=error.why)
        return said

    # Forwards.

    async def _lead_on(
        self, broker: Broker, message: QueuedMessage, recipient: QueuedRecipient, place: Place
    ) -> Outcome | None:
        """Let others take the recipient's place, after its own mailbox got a copy. None: done, else why not."""
        own, others = _own(recipient.address, place)
        known = {self._folded(each.address): each for each in message.recipients}
        behind = self._ancestors(recipient, known)
        onwards = [address for address in others if self._folded(address) not in behind]
        if not (onwards or own) or (place.forwards and await self._has_been_through(message, recipient.address)):
            return LOOP
        if own:
            copy = await self._deliver_to(broker, message, recipient.address, own, place.maildirs)
            if copy.action != "delivered":
                return copy
        children = [
            QueuedRecipient(address, wish=recipient.wish, via=recipient.address)
            for address in onwards
            if self._folded(address) not in known
        ]
        try:
            await in_thread(lambda: self._queue.expand(message.identity, recipient.address, children))
        except Refused as error:
            return Outcome("failed", error.code or "5.5.3", error.why)
        to = ",".join(address.decode("utf-8", "replace") for address in onwards[:SHOWN])
        more = len(onwards) - SHOWN if len(onwards) > SHOWN else None
        log.line("forwarded", id=message.identity, to=recipient.address.decode("utf-8", "replace"), on=to, more=more)
        return None

    def _ancestors(self, recipient: QueuedRecipient, known: Mapping[bytes, QueuedRecipient]) -> set[bytes]:
        """The recipient, and all whose forwards led to it, as `known` has them."""
        found: set[bytes] = set()
        current: QueuedRecipient | None = recipient
        while current is not None and (address := self._folded(current.address)) not in found:
            found.add(address)
            current = known.get(self._folded(current.via))
        return found

    def _folded(self, address: bytes) -> bytes:
        """Equal for equal mailboxes: what capitals in a local part mean, another host decides (RFC 5321 section 2.4)."""
        lower = address.lower()
        if lower == address or self._is_ours(address):
            return lower
        local, at, domain = address.rpartition(b"@")
        return local + at + domain.lower()

    async def _has_been_through(self, message: QueuedMessage, address: bytes) -> bool:
        """Does Delivered-To say so? Then another host has sent it back to us."""
        header = await in_thread(lambda: self._queue.header(message.identity, HEADER_LIMIT))
        return address.lower() in (found.lower() for found in _DELIVERED_TO.findall(header))

    # Mailboxes.

    async def deliver(
        self, broker: Broker, message: QueuedMessage, places: Mapping[bytes, Place]
    ) -> dict[bytes, Outcome]:
        """Give these recipients' mailboxes, one each, the message; all side by side, and one copy to each mailbox."""
        first = {(place.accounts[0], place.maildirs): address for address, place in reversed(list(places.items()))}
        jobs = [
            self._deliver_to(broker, message, address, account, maildirs)
            for (account, maildirs), address in first.items()
        ]
        outcomes = dict(zip(first, await asyncio.gather(*jobs), strict=True))
        return {address: outcomes[place.accounts[0], place.maildirs] for address, place in places.items()}

    async def _deliver_to(
        self, broker: Broker, message: QueuedMessage, address: bytes, account: str, maildirs: tuple[str, ...]
    ) -> Outcome:
        """One Maildir of the account after the other; which of several have their copy is written down."""
        outcome = Outcome("delivered", "2.0.0")
        kept = {maildir for each in message.recipients if each.address == address for maildir in each.kept}
        for maildir in [each for each in maildirs if each not in kept]:
            done = await self._put(broker, message, address, account, maildir)
            log.line(
                "delivery",
                id=message.identity,
                to=_shown(address),
                account=account,
                maildir=maildir or None,
                outcome=done.outcome,
                why=done.text or None,
            )
            if done.outcome != "delivered":
                outcome = Outcome("delayed", "4.2.0", "the mailbox can't take the message just now")
            elif len(maildirs) > 1:
                await in_thread(self._queue.keep, message.identity, address, maildir)
        return outcome

    async def _put(
        self, broker: Broker, message: QueuedMessage, address: bytes, account: str, maildir: str
    ) -> DeliveryDone:
        """The file name is made of queue id, account and Maildir: a delivery that is repeated is the same one, and so is a
        second one for another address of the same mailbox."""
        key = f"{account}\0{maildir}" if maildir else account
        name = f"{message.identity}.{crc32(key.encode()):08x}"
        head = return_path_field(message.sender) + delivered_to_field(address)
        try:
            descriptor = self._queue.open_message(message.identity)
            done: DeliveryDone = await broker.ask(
                lambda number: Deliver(number, account, maildir, name, head, bool(maildir)), (descriptor,)
            )
        except (TryLater, OSError) as error:
            return DeliveryDone(0, "deferred", str(error))
        return done


async def must_be_ruled(broker: Broker, recipients: Sequence[bytes]) -> None:
    """Raises Refused for one that no .qmail file rules, and TryLater where nobody can look.

    A file that can't be obeyed rules its names: their mail waits for it in the queue.
    """
    for start in range(0, len(recipients), ASKED_AT_ONCE):
        some = recipients[start : start + ASKED_AT_ONCE]
        for address, said in zip(some, await asyncio.gather(*(_at_door(broker, each) for each in some)), strict=True):
            if said.code.startswith("5"):
                raise Refused(f"there is no mailbox {_shown(address)} here", NOBODY.status)
            if said.code == NOBODY_LOOKS:
                raise TryLater(f"nobody can tell just now whether there is a mailbox {_shown(address)} here", "4.3.0")


async def _at_door(broker: Broker, address: bytes) -> Instructed:
    said: Instructed = await broker.ask(lambda number: Instruct(number, address, at_door=True))
    return said


def _place(is_local: bool, place: Place) -> Place | Outcome:
    if not is_local:
        return UNKNOWN  # the broker has not heard of the domain yet, or no more: a reload is under way
    return place if place.accounts or place.forwards else NOBODY


def _obeyed(place: Place, said: Instructed) -> Place | Outcome:
    """The place with what a .qmail file says of it."""
    if said.code:
        failed = said.code.startswith("5")
        return NOBODY if failed else Outcome("delayed", said.code, "the owner's .qmail file can't be obeyed just now")
    if not all(map(is_address, said.forwards)):
        return UNKNOWN  # no file can say that: the worker is none of ours any more
    accounts = place.accounts
    if not said.maildirs:
        accounts = tuple(account for account in accounts if account != said.account)
    forwards = tuple(dict.fromkeys((*said.forwards, *place.forwards)))
    return Place(accounts, forwards, maildirs=said.maildirs or OWN) if accounts or forwards else DISCARDED


def _shown(address: bytes) -> str:
    return address.decode("utf-8", "replace")


def _own(address: bytes, place: Place) -> tuple[str, list[bytes]]:
    """The mailbox that is the address's own, if it has one; and all other addresses that it leads to."""
    if len(place.accounts) == 1:
        own = place.accounts[0]
    else:
        own = next((account for account in place.accounts if account.encode() == address.lower()), "")
    return own, [*(account.encode() for account in place.accounts if account != own), *place.forwards]
