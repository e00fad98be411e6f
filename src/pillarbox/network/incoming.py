"""One message on its way in: the slot it is written to, and whoever keeps that slot and makes it durable."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from .. import log, messages
from ..link import Link
from ..messages import Message, SlotRefused
from ..messages_delivery import CommitQueue, WantQueueSlot
from ..protocol.smtp_events import BeginMessage
from ..protocol.submission import Completion
from ..protocol.trace import delivered_to_field, received_field, return_path_field
from ..terms import Envelope
from .slot import Slot

if TYPE_CHECKING:
    from .smtp import SmtpConnection

ID_OCTETS = 8  # of the id in a Received field; our own numbers are nobody's business
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Incoming:
    """For one mailbox: straight into its Maildir. All else: into the queue, which can retry some recipients."""

    __slots__ = (
        "_begin",
        "_completion",
        "_connection",
        "_process",
        "_queued",
        "_slot",
        "_submitted",
        "keeper",
        "number",
    )

    def __init__(self, connection: SmtpConnection, begin: BeginMessage, *, submitted: bool) -> None:
        """`submitted`: handed in by an account of ours, not brought by another host."""
        self._connection = connection
        self._process = connection.process
        self._begin = begin
        self._submitted = submitted
        self._completion: Completion | None = None
        self._queued = False  # the slot is in the queue, not in a Maildir
        self._slot: Slot | None = None
        self.keeper: Link | None = None  # who holds our slot
        self.number = 0  # names our slot to its keeper; each slot has another

    def want_slot(self, mailbox: str) -> None:
        """`mailbox`: the account, where the message is for one mailbox alone; else empty."""
        if len(self._begin.envelope.recipients) > 1 or not mailbox:
            self._want_queue_slot()
        else:
            self.number = self._process.enlist(self._connection)
            self._connection.ask(self._process.neighbours.broker, messages.WantSlot(self.number, mailbox))

    def _want_queue_slot(self) -> None:
        self._queued = True
        self._process.release(self.number)
        self.number = self._process.enlist(self._connection)
        self._connection.ask(self._process.neighbours.delivery, WantQueueSlot(self.number))

    def refused(self, answer: SlotRefused) -> bool:
        """A Maildir that takes none: the queue does, and tries again (False). A queue that takes none: it is over."""
        if self._slot is None and not self._queued:
            self._want_queue_slot()
            return False
        return True

    def opened(self, keeper: Link, descriptor: int) -> None:
        """Begin to write. Raises OSError for what is no slot."""
        self.keeper = keeper
        self._slot = Slot(descriptor)
        begin, envelope, now = self._begin, self._begin.envelope, time.time()
        config = self._process.config
        host, identity = config.hostname.encode(), os.urandom(ID_OCTETS).hex()
        if self._submitted:
            self._completion = Completion(host, identity, now)
        trace = received_field(
            helo=begin.helo,
            peer=self._connection.peer,
            host=host,
            protocol=begin.protocol,
            identity=identity,
            now=now,
            recipient=envelope.recipients[0] if len(envelope.recipients) == 1 else b"",
            hidden=self._submitted and config.submission.hide_client,
        )
        self._slot.add(trace if self._queued else _delivery_fields(envelope) + trace)

    def add(self, data: bytes) -> None:
        assert self._slot is not None
        self._slot.add(data if self._completion is None else self._completion.feed(data))

    def finish(self) -> OSError | None:
        """All has come: write the rest. What went wrong, or None."""
        assert self._slot is not None
        if self._completion is not None:
            self._slot.add(self._completion.finish())
        return self._slot.finish()

    def commit(self, login: int, *, submission: bool) -> None:
        """Have it made durable. `login`: the session of an Authenticated login, else 0."""
        envelope = self._begin.envelope
        question: Message = messages.Commit(self.number)
        if self._queued:
            question = CommitQueue(
                self.number,
                envelope.sender,
                envelope.recipients,
                self._connection.peer,
                tuple((wish.notify, wish.orcpt) for wish in envelope.wishes),
                envelope.ret,
                envelope.envid,
                envelope.utf8,
                login,
                submission,
            )
        self._queued = True  # a refusal from now on is final: the client tries again
        self._connection.ask(self.keeper, question)

    def committed(self, name: str, account: str) -> None:
        envelope = self._begin.envelope
        self.keeper = None
        log.line(
            "message",
            rip=self._connection.peer,
            proto=self._connection.proto,
            id=name,
            user=account or None,
            sender=f"<{envelope.sender.decode('utf-8', 'replace')}>",
            to=",".join(recipient.decode("utf-8", "replace") for recipient in envelope.recipients),
        )

    def forget(self) -> None:
        """Where a keeper still holds the slot, it shall throw that away."""
        if self._slot is not None:
            self._slot.close()
        if self.keeper is not None:
            self.keeper.send(messages.Abort(self.number))
            self.keeper = None
        self._process.release(self.number)


def _delivery_fields(envelope: Envelope) -> bytes:
    """What final delivery puts on top: who sent it, and which address of the mailbox's owner it came to."""
    return return_path_field(envelope.sender) + delivered_to_field(envelope.recipients[0])


def trouble(failure: OSError) -> tuple[int, str, str]:
    """The reply for a message that can't be written."""
    full = failure.errno in FULL
    return (452 if full else 451), ("4.3.1" if full else "4.3.0"), "the message can't be stored just now"
