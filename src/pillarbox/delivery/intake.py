"""Taking mail into the queue: a slot, then a commit that many messages share; relaying is decided here once more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .. import log
from ..group_commit import GroupCommit
from ..link import Link
from ..messages import CommitQueue, Committed, ResolveAll, ResolvedAll, SlotOpened, SlotRefused
from ..store.queue import DiskQueue
from ..terms import Envelope, TryLater
from .questions import Broker

Session = tuple[int, int]

SLOTS_LIMIT = 2000  # open at once; each is a descriptor
TROUBLE = "the queue can't take mail just now, try again later"


class Intake:
    """The slots that are open, and the commits under way."""

    def __init__(self, queue: DiskQueue, broker: Callable[[], Broker | None], accepted: Callable[[str], None]) -> None:
        """`accepted(id)` is called for each message that has become durable."""
        self._queue = queue
        self._broker = broker
        self._accepted = accepted
        self._slots: dict[Session, str] = {}
        self._group: GroupCommit[str] = GroupCommit(queue.publish)

    def open(self, link: Link, session: Session) -> None:
        """Answer with SlotOpened and the slot's descriptor, or SlotRefused."""
        self.abort(session)
        try:
            if len(self._slots) >= SLOTS_LIMIT:
                raise TryLater("too many messages are coming in at once", "4.3.2")
            identity, descriptor = self._queue.open_slot()
        except TryLater as error:
            log.line("slot-refused", why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
            return
        self._slots[session] = identity
        link.send(SlotOpened(session[1]), (descriptor,))

    async def commit(self, link: Link, session: Session, message: CommitQueue) -> None:
        """Answer Committed when message and envelope are durable, else SlotRefused; the slot is gone either way."""
        identity = self._slots.pop(session, None)
        if identity is None:
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
            return
        try:
            await self._decide(message)
            loop = asyncio.get_running_loop()
            envelope = Envelope(message.sender, message.recipients)
            await loop.run_in_executor(None, self._queue.seal, identity, envelope)
            await self._group.join(identity)
        except TryLater as error:
            self._queue.abort(identity)
            log.line("commit-failed", id=identity, why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
        except Exception as error:
            log.bug(error, where="commit")
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
        else:
            link.send(Committed(session[1], identity))
            self._accepted(identity)

    async def _decide(self, message: CommitQueue) -> None:
        """Nobody believes its neighbour: every recipient must be ours, whatever the network process found."""
        broker = self._broker()
        if broker is None:
            raise TryLater("the broker has gone")
        answer: ResolvedAll = await broker.ask(lambda number: ResolveAll(number, message.recipients, message.peer))
        if not message.recipients or not all(answer.accounts):
            raise TryLater("a recipient is no mailbox here", "4.3.0")

    def abort(self, session: Session) -> None:
        identity = self._slots.pop(session, None)
        if identity is not None:
            self._queue.abort(identity)

    def forget(self, network: int) -> None:
        """That network process has gone, and its slots with it."""
        for session in [session for session in self._slots if session[0] == network]:
            self.abort(session)
