"""Mail on its way into the Maildir of its one local recipient: a slot in tmp, and a commit that many share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial

from .. import log
from ..group_commit import GroupCommit
from ..link import Link
from ..messages import Committed, Message, SlotOpened, SlotRefused
from ..store import maildir_delivery
from ..store.maildir import Maildrops
from ..store.maildir_delivery import Slot
from ..terms import TryLater

Session = tuple[int, int]

FULL = "4.3.1"
TROUBLE = "the mailbox can't take mail just now, try again later"


class Intake:
    """The slots that are open, and the commits under way."""

    def __init__(self, maildrops: Maildrops) -> None:
        self._maildrops = maildrops
        self._slots: dict[Session, tuple[str, Slot]] = {}
        self._commits: dict[str, GroupCommit[Slot]] = {}

    async def open(self, link: Link[Message], session: Session, maildir: str) -> None:
        """Answer with SlotOpened and the slot's descriptor, or SlotRefused."""
        self.abort(session)
        loop = asyncio.get_running_loop()
        try:
            slot = await loop.run_in_executor(None, _open, maildir)
        except TryLater as error:
            log.line("slot-refused", maildir=maildir, why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.2.0", TROUBLE))
            return
        self._slots[session] = maildir, slot
        link.send(SlotOpened(session[1]), (os.dup(slot.fd),))

    async def commit(self, link: Link[Message], session: Session, quota: int) -> None:
        """Answer Committed when the message is durable in new, else SlotRefused; the slot is gone either way."""
        if session not in self._slots:
            link.send(SlotRefused(session[1], "4.3.0", TROUBLE))
            return
        maildir, slot = self._slots.pop(session)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, maildir_delivery.seal, slot)
            await self._group(maildir).join(slot)
        except TryLater as error:
            slot.abort()
            log.line("commit-failed", maildir=maildir, why=error.why)
            link.send(SlotRefused(session[1], error.code or "4.3.0", TROUBLE))
        else:
            self._maildrops.remember(maildir, slot.name, slot.octets, slot.form)
            link.send(Committed(session[1], slot.name))
        finally:
            self._drop_idle(maildir)
