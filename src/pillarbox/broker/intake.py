"""Mail on its way into the Maildir of its one local recipient: a slot in tmp, and a commit that many share."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence

from .. import log
from ..group_commit import GroupCommit
from ..link import Link
from ..messages import Committed, SlotOpened, SlotRefused
from ..store import maildir_delivery
from ..store.maildir import Maildrops
from ..store.maildir_delivery import Slot
from ..terms import TryLater

Session = tuple[int, int]

SLOTS_LIMIT = 2000  # open at once; each is a descriptor
TROUBLE = "the mailbox can't take mail just now, try again later"


class Intake:
    """The slots that are open, and the commits under way."""

    def __init__(self, maildrops: Maildrops) -> None:
        self._maildrops = maildrops
        self._slots: dict[Session, tuple[str, Slot]] = {}
        self._groups: dict[str, GroupCommit[Slot]] = {}
        self._under_way: defaultdict[str, int] = defaultdict(int)  # commits, by Maildir

    @property
    def busy(self) -> bool:
        """Slots are open, or commits under way."""
        return bool(self._slots or self._under_way)

    def open(self, link: Link, session: Session, maildir: str) -> None:
        """Answer with SlotOpened and the slot's descriptor, or SlotRefused."""
        self.abort(session)
        try:
            if len(self._slots) >= SLOTS_LIMIT:
                raise TryLater("too many messages are coming in at once", "4.3.2")
            slot = Slot(maildir)
        except TryLater as error:
            log.line("slot-refused", maildir=maildir, why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
            return
        self._slots[session] = maildir, slot
        link.send(SlotOpened(session[1]), (os.dup(slot.fd),))

    async def commit(self, link: Link, session: Session) -> None:
        """Answer Committed when the message is durable in new, else SlotRefused; the slot is gone either way."""
        if session not in self._slots:
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
            return
        maildir, slot = self._slots.pop(session)
        try:
            await self._make_durable(maildir, slot)
        except TryLater as error:
            slot.abort()
            log.line("commit-failed", maildir=maildir, why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
        except Exception as error:
            slot.abort()
            log.bug(error, where="commit")
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
        else:
            self._maildrops.remember(maildir, slot.name, slot.octets, slot.form)
            link.send(Committed(session[1], slot.name))

    async def _make_durable(self, maildir: str, slot: Slot) -> None:
        """Alone: all steps in one go, in one thread. With others for the same Maildir: they share the directory's fsync."""
        loop = asyncio.get_running_loop()
        others = self._under_way[maildir]
        self._under_way[maildir] += 1
        try:
            if not others:
                await loop.run_in_executor(None, _commit_alone, maildir, slot)
            else:
                await loop.run_in_executor(None, slot.seal)
                await self._group(maildir).join(slot)
        finally:
            self._under_way[maildir] -= 1
            if not self._under_way[maildir]:
                del self._under_way[maildir]
                self._groups.pop(maildir, None)

    def _group(self, maildir: str) -> GroupCommit[Slot]:
        if maildir not in self._groups:
            self._groups[maildir] = GroupCommit(lambda slots: _publish(maildir, slots))
        return self._groups[maildir]

    def abort(self, session: Session) -> None:
        if session in self._slots:
            self._slots.pop(session)[1].abort()

    def forget(self, network: int) -> None:
        """That network process has gone, and its slots with it."""
        for session in [session for session in self._slots if session[0] == network]:
            self.abort(session)


def _commit_alone(maildir: str, slot: Slot) -> None:
    slot.seal()
    slot.publish()
    maildir_delivery.sync(maildir)


def _publish(maildir: str, slots: Sequence[Slot]) -> list[Exception | None]:
    outcomes: list[Exception | None] = []
    for slot in slots:
        try:
            slot.publish()
            outcomes.append(None)
        except TryLater as error:
            outcomes.append(error)
    maildir_delivery.sync(maildir)
    return outcomes
