"""Taking mail into the queue: a slot, then a commit that many messages share; relaying is decided here once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future

from .. import log
from ..group_commit import GroupCommit
from ..link import Link
from ..messages import Committed, SlotOpened, SlotRefused
from ..messages_delivery import Admit, CommitQueue, Verdict
from ..store.queue import DiskQueue
from ..terms import Envelope, TryLater, Wish
from .questions import Broker

Session = tuple[int, int]

Written = tuple[str, Envelope, str]  # id, envelope and account of a message that has come whole

STOCK = 32  # empty slots made ahead: to make one may wait for the disk
SLOTS_LIMIT = 2000  # open at once; each is a descriptor
TROUBLE = "the queue can't take mail just now, try again later"


class Intake:
    """The slots that are open, and the commits under way."""

    def __init__(
        self,
        queue: DiskQueue,
        disk: Executor,
        broker: Callable[[], Broker | None],
        accepted: Callable[[str], None],
    ) -> None:
        """`disk`: its threads write the queue. `accepted(id)` is called for each message that has become durable."""
        self._queue = queue
        self._broker = broker
        self._accepted = accepted
        self._slots: dict[Session, str] = {}
        self._group: GroupCommit[Written] = GroupCommit(self._commit, disk)
        self._disk = disk
        self._stocking: Future[None] | None = None

    def open(self, link: Link, session: Session) -> None:
        """Answer with SlotOpened and the slot's descriptor, or SlotRefused."""
        self.abort(session)
        try:
            if len(self._slots) >= SLOTS_LIMIT:
                raise TryLater("too many messages are coming in at once", "4.3.2")
            identity, descriptor = self.open_slot()
        except TryLater as error:
            log.line("slot-refused", why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
            return
        self._slots[session] = identity
        link.send(SlotOpened(session[1]), (descriptor,))

    def open_slot(self) -> tuple[str, int]:
        """A slot, mostly from stock. Raises TryLater."""
        slot = self._queue.open_slot()
        if self._queue.stocked < STOCK // 2 and (self._stocking is None or self._stocking.done()):
            self._stocking = self._disk.submit(self._queue.stock, STOCK)
        return slot

    async def commit(self, link: Link, session: Session, message: CommitQueue) -> None:
        """Answer Committed when message and envelope are durable, else SlotRefused; the slot is gone either way."""
        identity = self._slots.pop(session, None)
        if identity is None:
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
            return
        try:
            verdict = await self._admit(session, message)
            if verdict.code:
                self._queue.abort(identity)
                link.send(SlotRefused(session[1], verdict.enhanced, verdict.text, verdict.code))
                return
            await self.make_durable(identity, _envelope(message), verdict.account)
            if verdict.account:
                by = "login" if message.login else "grant"
                log.line("submitted", id=identity, rip=message.peer, user=verdict.account, by=by)
        except TryLater as error:
            self._queue.abort(identity)
            log.line("commit-failed", id=identity, why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
        except Exception as error:
            self._queue.abort(identity)
            log.bug(error, where="commit")
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
        else:
            link.send(Committed(session[1], identity))

    async def _admit(self, session: Session, message: CommitQueue) -> Verdict:
        """Nobody believes its neighbour: the broker decides again, whatever the network process found."""
        if not message.recipients:
            raise TryLater("a message without recipients")
        return await self.admit(
            lambda number: Admit(
                number,
                message.sender,
                message.recipients,
                message.peer,
                session[0],
                message.login,
                message.submission,
            )
        )

    async def admit(self, question: Callable[[int], Admit]) -> Verdict:
        """Raises TryLater where the broker does not answer."""
        broker = self._broker()
        if broker is None:
            raise TryLater("the broker has gone")
        verdict: Verdict = await broker.ask(question)
        return verdict

    async def make_durable(self, identity: str, envelope: Envelope, account: str) -> None:
        """Queue what has been written to that slot. Raises TryLater; it is not queued then."""
        await self._group.join((identity, envelope, account))
        self._accepted(identity)

    def _commit(self, batch: Sequence[Written]) -> list[Exception | None]:
        """In a thread: each message and envelope durable, then all of them queued with the same two fsyncs."""
        outcomes = {written[0]: self._sealed(*written) for written in batch}
        sealed = [identity for identity, trouble in outcomes.items() if trouble is None]
        if sealed:
            outcomes |= dict(zip(sealed, self._queue.publish(sealed), strict=True))
        return [outcomes[identity] for identity, _, _ in batch]

    def _sealed(self, identity: str, envelope: Envelope, account: str) -> Exception | None:
        try:
            self._queue.seal(identity, envelope, account)
        except TryLater as error:
            return error
        return None

    def abort(self, session: Session) -> None:
        identity = self._slots.pop(session, None)
        if identity is not None:
            self._queue.abort(identity)

    def forget(self, network: int) -> None:
        """That network process has gone, and its slots with it."""
        for session in [session for session in self._slots if session[0] == network]:
            self.abort(session)


def _envelope(message: CommitQueue) -> Envelope:
    wishes = tuple(Wish(notify, orcpt) for notify, orcpt in message.wishes)
    if len(wishes) != len(message.recipients):
        wishes = ()
    return Envelope(message.sender, message.recipients, wishes, message.ret, message.envid, message.utf8)
