"""One try of one queued message: where each recipient leads, what became of it there, and who hears of that."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from .. import log
from ..config import Config
from ..group_commit import GroupCommit
from ..messages_delivery import ANYBODY, Owned, Owns
from ..policy.schedule import next_try
from ..protocol.dkim import HEADER_LIMIT, Unsignable, author, split
from ..protocol.trace import delivered_to_field
from ..store.queue import DiskQueue, QueuedMessage, QueuedRecipient
from ..tasks import in_thread
from ..terms import Outcome, TryLater
from .local import Local, Place
from .notices import Notices, is_notice
from .questions import Broker
from .remote import RECIPIENTS_LIMIT, STOPPING, Outgoing, Remote

TROUBLE = Outcome("delayed", "4.3.0", "temporary internal trouble")
MAILBOXES_AT_ONCE = 50  # of one message; each holds a descriptor
GAVE_UP = "5.4.7"  # RFC 3463: delivery time expired
Job = Coroutine[Any, Any, dict[bytes, Outcome]]


class Attempts:
    """Tries messages of the queue."""

    def __init__(
        self,
        queue: DiskQueue,
        disk: Executor,
        remote: Remote,
        notices: Notices,
        config: Callable[[], Config],
        signs: Callable[[], bool],
    ) -> None:
        """`disk`: whose threads write the queue. `signs`: is there any key to sign with?"""
        self._queue = queue
        self._remote = remote
        self._notices = notices
        self._local = Local(queue, self._is_ours)
        self._config = config
        self._signs = signs
        self._unsettled: dict[str, dict[bytes, Outcome]] = {}  # what could not be written down yet, by id
        self._removals: GroupCommit[str] = GroupCommit(queue.remove_all, disk)

    def lanes(self, message: QueuedMessage) -> set[Hashable]:
        """Where it has to go, other than to us."""
        return {lane for lane, _ in self._elsewhere(message.pending())}

    def stays_here(self, message: QueuedMessage) -> bool:
        """Has it anywhere to go here, too?"""
        return any(self._is_ours(recipient.address) for recipient in message.pending())

    async def attempt(self, broker: Broker, message: QueuedMessage, without: Collection[Hashable] = ()) -> float | None:
        """Try it, but not in the lanes `without`. When to try again (Unix time), or None: it is settled and gone.

        Raises FileNotFoundError if the message has gone, though its envelope is there, TryLater and OSError.
        """
        self._queue.octets(message.identity)
        message = await self._catch_up(message)
        message, places = await self._local.follow(broker, message)
        outcomes = {address: place for address, place in places.items() if isinstance(place, Outcome)}
        mailboxes = {address: place for address, place in places.items() if isinstance(place, Place)}
        elsewhere = self._elsewhere(message.pending())
        sign = bool(elsewhere) and await self._vouches(broker, message)
        jobs = [
            self._send_all(message, group, sign=sign) for (lane, _), group in elsewhere.items() if lane not in without
        ]
        if mailboxes:
            jobs.append(self._keep_all(broker, message, mailboxes))
        await self._carry_out(message, jobs, outcomes)
        self._unsettled[message.identity] = outcomes
        when = await self._finish(message, outcomes, whole=not without)
        self.forget(message.identity)
        return when

    def forget(self, identity: str) -> None:
        """The message has gone, or all is written down that is known of it."""
        self._unsettled.pop(identity, None)

    async def _catch_up(self, message: QueuedMessage) -> QueuedMessage:
        """What an earlier try has done, and the disk did not take: it must not be done again. Raises TryLater."""
        known = self._unsettled.get(message.identity)
        if known is not None:
            message = await in_thread(self._queue.settle, message.identity, known)
            self.forget(message.identity)
        return message

    async def _carry_out(self, message: QueuedMessage, jobs: list[Job], outcomes: dict[bytes, Outcome]) -> None:
        """All jobs side by side, each to its end. What one has done is written down while others still go on."""
        left = len(jobs)
        for job in asyncio.as_completed(jobs):
            left -= 1
            found = await job
            outcomes |= found
            if left:
                await self._write_down(message, found)

    async def _write_down(self, message: QueuedMessage, outcomes: Mapping[bytes, Outcome]) -> None:
        """So that a crash repeats less. What the disk does not take is tried once more when all have ended."""
        if any(outcome.action != "delayed" for outcome in outcomes.values()):
            try:
                await in_thread(self._queue.settle, message.identity, outcomes)
            except (TryLater, OSError) as error:
                log.line("try-failed", id=message.identity, why=str(error))

    # Where to.

    def _is_ours(self, address: bytes) -> bool:
        domain = address.rpartition(b"@")[2] if b"@" in address else b""
        return not domain or domain.lower().decode("ascii", "replace") in self._config().domains

    def _elsewhere(self, recipients: Sequence[QueuedRecipient]) -> dict[tuple[Hashable, bytes], list[QueuedRecipient]]:
        """Recipients that may travel in one transaction: the same lane, and the same fields on top."""
        groups: defaultdict[tuple[Hashable, bytes], list[QueuedRecipient]] = defaultdict(list)
        for recipient in recipients:
            if not self._is_ours(recipient.address):
                groups[self._remote.lane(recipient.address), recipient.via].append(recipient)
        return groups

    async def _vouches(self, broker: Broker, message: QueuedMessage) -> bool:
        """Do we answer for its author? For our own reports, and where From is an address of who handed it in."""
        if is_notice(message) or message.account == ANYBODY:
            return True
        if not message.account or not self._signs():
            return False
        try:
            address = author(split(self._queue.header(message.identity, HEADER_LIMIT))[0])
            if address is None:
                return False
            answer: Owned = await broker.ask(lambda number: Owns(number, message.account, address))
            return answer.owned
        except (TryLater, Unsignable) as error:
            log.line("not-signed", id=message.identity, why=str(error))
            return False

    async def _keep_all(
        self, broker: Broker, message: QueuedMessage, mailboxes: Mapping[bytes, Place]
    ) -> dict[bytes, Outcome]:
        """Some mailboxes after the others, each lot written down before the next."""
        outcomes: dict[bytes, Outcome] = {}
        addresses = list(mailboxes)
        for start in range(0, len(addresses), MAILBOXES_AT_ONCE):
            lot = addresses[start : start + MAILBOXES_AT_ONCE]
            places = {address: mailboxes[address] for address in lot}
            found = await _guarded(self._local.deliver(broker, message, places), lot)
            outcomes |= found
            if start + MAILBOXES_AT_ONCE < len(addresses):
                await self._write_down(message, found)
        return outcomes

    async def _send_all(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], *, sign: bool
    ) -> dict[bytes, Outcome]:
        """A transaction after the other, each written down before the next. After one that nobody got there is no next."""
        outcomes: dict[bytes, Outcome] = {}
        for start in range(0, len(recipients), RECIPIENTS_LIMIT):
            batch = recipients[start : start + RECIPIENTS_LIMIT]
            found = await _guarded(self._send(message, batch, sign=sign), [each.address for each in batch])
            outcomes |= found
            rest = recipients[start + RECIPIENTS_LIMIT :]
            if rest and all(outcome.action == "delayed" for outcome in found.values()):
                why = found[batch[0].address]
                return outcomes | {each.address: why for each in rest}
            if rest:
                await self._write_down(message, found)
        return outcomes

    async def _send(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], *, sign: bool
    ) -> dict[bytes, Outcome]:
        via = recipients[0].via
        return await self._remote.deliver(
            Outgoing(
                identity=message.identity,
                sender=message.sender,
                recipients=tuple(recipient.address for recipient in recipients),
                wishes=tuple(recipient.wish for recipient in recipients),
                ret=message.ret,
                envid=message.envid,
                utf8=message.utf8,
                head=delivered_to_field(via) if via else b"",
                open=lambda: self._queue.open_message(message.identity),
                sign=sign,
            )
        )

    # What follows.

    async def _finish(self, message: QueuedMessage, outcomes: dict[bytes, Outcome], *, whole: bool) -> float | None:
        """When those that were tried are due again. `whole`: all of its recipients were tried."""
        now = time.time()
        self._lose_patience(message, outcomes, now)
        stopped = STOPPING in outcomes.values()
        tried = bool(message.pending()) and not stopped
        settled = message.settled(outcomes, finished_try=tried)
        if settled.pending() or self._notices.due(settled, now):
            when = self._next_try(settled, now) if settled.pending() else now
            due = when if whole and not stopped else now  # on disk: after a new start nothing waits for room in a lane
            await in_thread(lambda: self._queue.settle(message.identity, outcomes, next_try=due, finished_try=tried))
            await self._notices.tell(settled, now)
            if settled.pending():
                return when
        await self._removals.join(message.identity)
        return None

    def _next_try(self, message: QueuedMessage, now: float) -> float:
        remote = not all(self._is_ours(recipient.address) for recipient in message.pending())
        return next_try(message.received, now, remote=remote, longest=self._config().delivery.longest_wait)

    def _lose_patience(self, message: QueuedMessage, outcomes: dict[bytes, Outcome], now: float) -> None:
        """After its lifetime a message is tried no more; but what was put off now may be delivered yet."""
        if now - message.received < self._config().delivery.lifetime:
            return
        for address, outcome in outcomes.items():
            if outcome.action == "delayed" and outcome.tried:
                outcomes[address] = replace(outcome, action="failed", status=GAVE_UP)


async def _guarded(job: Job, recipients: Collection[bytes]) -> dict[bytes, Outcome]:
    """A bug in one job is a delay for its recipients, and nothing to the others."""
    try:
        return await job
    except Exception as error:
        log.bug(error, where="try")
        return dict.fromkeys(recipients, TROUBLE)
