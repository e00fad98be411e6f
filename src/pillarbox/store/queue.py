"""Accepted mail that is not settled yet. The law: a message is queued if and only if its envelope file exists.

    tmp/       what is being written        message/ID   header and body, as stored lines
    damaged/   what could not be read       envelope/ID  JSON: who sent it, who shall get it, what has become of that

Order of an acceptance: message and envelope written, message renamed in; both fsynced, and the message's folder; envelope
renamed in, its folder fsynced; then 250. Of many messages each step is done for all before the next, since one commit
of a file system's journal then serves all of them. A removal goes the other way round. So no crash leaves an envelope
without its message, and a message without an envelope was never acknowledged. A change writes a new envelope and renames
it over the old one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..terms import Envelope, Outcome, TryLater
from . import files
from .queue_folder import Damaged, Folder, Recovered, close_all, envelope_name, slot_name
from .queue_message import (
    DELIVERED,
    EXPANDED,
    EXPANDED_LIMIT,
    FAILED,
    IDENTITY,
    PENDING,
    RELAYED,
    QueuedMessage,
    QueuedRecipient,
    queued,
)
from .queue_summary import Summary, summaries

__all__ = [
    "DELIVERED",
    "EXPANDED",
    "EXPANDED_LIMIT",
    "FAILED",
    "IDENTITY",
    "PENDING",
    "RELAYED",
    "Damaged",
    "DiskQueue",
    "QueuedMessage",
    "QueuedRecipient",
    "Recovered",
    "Summary",
    "summaries",
]

SYNCS_AT_ONCE = 8  # threads, where the disk is slow; where it is fast they would only wait for one another
SLOW_SECONDS = 0.002  # for the fsyncs of one message
_SYNCERS = ThreadPoolExecutor(SYNCS_AT_ONCE)  # begins no thread before it is needed
LOCKS = 64  # messages share them; twice as many as threads that change messages


class DiskQueue:
    """The queue below one folder; one process owns it, and may call from any of its threads."""

    def __init__(self, folder: str) -> None:
        """Raises TryLater where the folder can't be made or used."""
        self._folder = Folder(folder)
        self._ready: deque[tuple[str, int]] = deque()  # empty files in tmp: name and descriptor
        self._slots: dict[str, int] = {}  # our own descriptors: fsync reports to them what went wrong since
        self._coming: set[str] = set()  # ids of messages that are not queued yet
        self._sealed: dict[str, tuple[int, int]] = {}  # of message and envelope; -1: there is none yet
        self._locks = tuple(threading.Lock() for _ in range(LOCKS))
        self._folder.prepare()

    def _lock(self, identity: str) -> threading.Lock:
        """Held while the message's envelope changes. Never two at once."""
        return self._locks[hash(identity) % LOCKS]

    # Acceptance.

    def stock(self, count: int) -> None:
        """Have so many empty files ready for `open_slot`: to make one can wait for the disk. Raises nothing."""
        with contextlib.suppress(OSError):
            while len(self._ready) < count:
                name = os.urandom(8).hex()
                self._ready.append((name, self._folder.create(name)))

    @property
    def stocked(self) -> int:
        """How many are ready."""
        return len(self._ready)

    def open_slot(self) -> tuple[str, int]:
        """A new message's id, and a descriptor to write it to, the caller's to close. Raises TryLater."""
        identity = ""
        try:
            if not self._ready:
                name = os.urandom(8).hex()
                self._ready.append((name, self._folder.create(name)))
            name, descriptor = self._ready.popleft()
            identity = f"{int(time.time())}.{name}"
            self._slots[identity] = descriptor
            self._coming.add(identity)
            return identity, os.dup(descriptor)
        except OSError as error:
            if identity:
                self.abort(identity)
            raise files.trouble(error, "a new message can't be written to the queue") from None

    def seal(self, identity: str, envelope: Envelope, account: str = "") -> None:
        """The message is whole: write its envelope. Nothing is durable yet, and nothing in sight: see `publish`.

        `account`: who submitted it; empty: from outside. Raises TryLater.
        """
        try:
            descriptor = self._slots.pop(identity, None)
            if descriptor is None:
                raise TryLater(f"no message {identity} is being written")
            self._sealed[identity] = descriptor, -1
            message = queued(identity, envelope, account, time.time())
            self._sealed[identity] = descriptor, self._folder.begin_envelope(message)
        except OSError as error:
            raise files.trouble(error, "a message can't be written to the queue") from None
        except ValueError as error:
            raise TryLater(f"the envelope of message {identity} can't be kept: {error}", "4.5.0") from None

    def publish(self, identities: Sequence[str]) -> list[Exception | None]:
        """Queue sealed messages, durably. What went wrong with each, or None: it is queued.

        A failed fsync is never repeated. Raises TryLater where a folder can't be made durable: none of them is queued then.
        """
        try:
            outcomes: list[Exception | None] = [
                self._move("message", slot_name(identity), identity) for identity in identities
            ]
            synced = self._sync_all(identities)
            self._folder.sync("message")
            for place, identity in enumerate(identities):
                outcomes[place] = (
                    outcomes[place] or synced[place] or self._move("envelope", envelope_name(identity), identity)
                )
            self._folder.sync("envelope")
        except OSError as error:
            for identity in identities:
                self.abort(identity)
            raise files.trouble(error, "the queue can't be made durable") from None
        self._coming.difference_update(identities)
        return outcomes

    def _sync_all(self, identities: Sequence[str]) -> list[Exception | None]:
        """One after the other; or, where the first has to wait long for its disk, the others side by side."""
        began = time.monotonic()
        first = [self._sync(identity) for identity in identities[:1]]
        others = identities[1:]
        if time.monotonic() - began < SLOW_SECONDS:
            return first + [self._sync(identity) for identity in others]
        return first + list(_SYNCERS.map(self._sync, others))

    def _sync(self, identity: str) -> Exception | None:
        """Message and envelope, whatever their names are now."""
        descriptors = self._sealed.pop(identity, ())
        try:
            for descriptor in descriptors:
                files.fsync(descriptor)
        except OSError as error:
            return files.trouble(error, "a message can't be made durable")
        finally:
            close_all(descriptors)
        return None if descriptors else TryLater(f"message {identity} is not sealed")

    def _move(self, place: str, temporary: str, identity: str) -> Exception | None:
        try:
            self._folder.move(place, temporary, identity)
        except OSError as error:
            return files.trouble(error, "a message can't be queued")
        return None

    def commit(self, identity: str, envelope: Envelope, account: str = "") -> None:
        """seal and publish one message. Raises TryLater; the message is then not queued."""
        try:
            self.seal(identity, envelope, account)
            self._publish(identity)
        except TryLater:
            self.abort(identity)
            raise

    def _publish(self, identity: str) -> None:
        (error,) = self.publish([identity])
        if error is not None:
            raise error

    def abort(self, identity: str) -> None:
        """Forget a message that was not queued. What can't be removed now is cleared by `recover`."""
        close_all((self._slots.pop(identity, -1), *self._sealed.pop(identity, ())))
        for place in ("envelope", "message"):
            self._folder.clear(place, identity)
        for name in (slot_name(identity), envelope_name(identity)):
            self._folder.clear("tmp", name)
        self._coming.discard(identity)

    def add(self, identity: str, envelope: Envelope, content: bytes, account: str = "") -> bool:
        """Queue a message of our own under an id that its reason gives (see IDENTITY), durably; `content`: stored lines.

        False: it is queued already, and stays as it is. Raises TryLater: it is not queued; ValueError for a bad id.
        """
        message = queued(identity, envelope, account, time.time())
        with self._lock(identity):
            if self._folder.holds(identity):
                return False
            self._coming.add(identity)
            try:
                written = self._folder.begin(slot_name(identity), content)
                self._sealed[identity] = written, -1
                self._sealed[identity] = written, self._folder.begin_envelope(message)
                self._publish(identity)
            except OSError as error:
                self.abort(identity)
                raise files.trouble(error, "a message of our own can't be queued") from None
            except TryLater:
                self.abort(identity)
                raise
        return True

    # What is queued.

    def pending(self) -> Iterator[str]:
        """The ids of all queued messages, oldest first: an id begins with its second. Raises TryLater."""
        yield from sorted(self._folder.names("envelope"))

    def load(self, identity: str) -> QueuedMessage:
        """Raises FileNotFoundError where it is not queued, Damaged, or TryLater where it can't be read just now."""
        return self._folder.read_envelope(identity)

    def open_message(self, identity: str) -> int:
        """A readable descriptor of the message, the caller's to close. Raises OSError."""
        return self._folder.open_message(identity)

    def octets(self, identity: str) -> int:
        """The size of the message as stored. Raises OSError."""
        return self._folder.octets(identity)

    def content(self, identity: str, limit: int) -> bytes:
        """The message as stored, at most so many octets of it. Raises OSError."""
        with open(self.open_message(identity), "rb") as file:
            return file.read(limit)

    def header(self, identity: str, limit: int) -> bytes:
        """The message's header, whole lines, at most so many octets. Raises OSError."""
        head = self.content(identity, limit)
        if head.startswith(b"\n"):
            return b""
        end = head.find(b"\n\n")
        return head[: (end if end >= 0 else head.rfind(b"\n")) + 1]

    # Changes: each is one atomic, durable replacement of the envelope. All return the message as it is now, and raise
    # FileNotFoundError where it is not queued, Damaged, TryLater, and ValueError for a recipient that it does not have.
    # After TryLater it is unchanged, or changed but perhaps not durably: the change may be repeated.

    def settle(
        self,
        identity: str,
        outcomes: Mapping[bytes, Outcome],
        *,
        next_try: float | None = None,
        finished_try: bool = False,
    ) -> QueuedMessage:
        """Record what has become of recipients; of one that is settled already nothing changes.

        A try may do this in parts; the last says `finished_try`, which counts it.
        """
        return self._change(
            identity, lambda message: message.settled(outcomes, next_try=next_try, finished_try=finished_try)
        )

    def expand(self, identity: str, recipient: bytes, children: Sequence[QueuedRecipient]) -> QueuedMessage:
        """The recipient becomes `expanded`; those of the children that are not there yet are added, pending.

        A copy that the recipient keeps itself is no child: deliver it first. Raises Refused beyond EXPANDED_LIMIT.
        """
        return self._change(identity, lambda message: message.expanded(recipient, children))

    def keep(self, identity: str, recipient: bytes, maildir: str) -> QueuedMessage:
        """One of several Maildirs that the recipient leads to has its copy: it gets no other, however often it is tried."""
        return self._change(identity, lambda message: message.with_copy(recipient, maildir))

    def mark(
        self,
        identity: str,
        *,
        reported: Collection[bytes] = (),
        warned: bool | None = None,
        held: bool | None = None,
        next_try: float | None = None,
    ) -> QueuedMessage:
        """Set these marks; None leaves one alone. A recipient that still waits can't be `reported`: ValueError."""
        return self._change(
            identity,
            lambda message: message.marked(reported=reported, warned=warned, held=held, next_try=next_try),
        )

    def _change(self, identity: str, change: Callable[[QueuedMessage], QueuedMessage]) -> QueuedMessage:
        with self._lock(identity):
            message = change(self._folder.read_envelope(identity))
            try:
                self._folder.replace_envelope(message)
            except OSError as error:
                raise files.trouble(error, f"the envelope of message {identity} can't be written") from None
            return message

    # The end.

    def remove(self, identity: str) -> None:
        """The message is settled: envelope first, durably, then the message. Gone already is well. Raises TryLater."""
        (error,) = self.remove_all([identity])
        if error is not None:
            raise error

    def remove_all(self, identities: Sequence[str]) -> list[Exception | None]:
        """Remove messages, all with the same fsync. What went wrong with each, or None: it is gone.

        Raises TryLater where the folder can't be made durable: they may be back after a crash, whole.
        """
        outcomes = [self._unlink(identity) for identity in identities]
        try:
            self._folder.sync("envelope")
        except OSError as error:
            raise files.trouble(error, "the queue can't be made durable") from None
        for identity, outcome in zip(identities, outcomes, strict=True):
            if outcome is None:
                self._folder.clear("message", identity)
        return outcomes

    def _unlink(self, identity: str) -> Exception | None:
        try:
            with self._lock(identity), contextlib.suppress(FileNotFoundError):
                files.unlink(self._folder.path("envelope", identity))
        except OSError as error:
            return files.trouble(error, f"message {identity} can't be removed from the queue")
        return None

    def set_aside(self, identity: str) -> str:
        """A damaged message leaves the queue for `damaged`, where a person may look at it: its path there."""
        with self._lock(identity):
            return self._folder.set_aside(identity)

    # After a crash.

    def recover(self) -> Recovered:
        """At start: clear what was not accepted, set aside what is damaged, and go on. Raises TryLater."""
        self.sweep()
        return self.scan()

    def sweep(self) -> None:
        """Clear what was being written when an earlier process ended; before anything is accepted. Raises TryLater."""
        for name in self._folder.names("tmp"):
            self._folder.clear("tmp", name)

    def scan(self) -> Recovered:
        """All that is queued; mail may be accepted and delivered meanwhile, and may be found too. Raises TryLater.

        Due at once is a message that waits for no recipient, only to be reported and removed; and one that can't be
        read just now.
        """
        envelopes = sorted(self._folder.names("envelope"))  # before the messages: each of these has one by now
        messages = set(self._folder.names("message"))
        found = Recovered([], [], [])
        for identity in envelopes:
            self._find(identity, identity in messages, found)
        for identity in messages.difference(envelopes):
            if identity not in self._coming and not self._folder.holds(identity):
                self._folder.clear("message", identity)
        found.due.sort()
        return found

    def _find(self, identity: str, has_message: bool, found: Recovered) -> None:
        try:
            message = self._folder.read_envelope(identity)
        except FileNotFoundError:
            return  # delivered since
        except Damaged:
            message = None
        except TryLater:
            found.due.append((0.0, identity))  # the disk may do better later; the mail stays where it is
            return
        if message is None or not (has_message or self._folder.has_message(identity)):
            if self._folder.holds(identity):
                found.damaged.append(self.set_aside(identity))
        elif message.held:
            found.held.append(identity)
        else:
            found.due.append((message.next_try if message.pending() else 0.0, identity))
