"""The workers as the broker sees them: a fixed pool for virtual accounts, and one for each system user at work."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from .. import log
from ..channel import pair
from ..link import Descriptors, Link
from ..messages import (
    AreYouIdle,
    Attach,
    Configure,
    DeliveryDone,
    Instructed,
    Message,
    NewWorker,
    WorkerToBroker,
)
from ..terms import Account
from .nursery import Nursery

LINGER_SECONDS = 60.0  # a system user's worker stays for the next login or message
ASKED_LIMIT = 1000  # questions remembered of a worker: more than can be under way between its death and our notice
OWED_LIMIT = 10_000  # the same, of the delivery process: those that nobody waits for any more are few
DOOR_LIMIT = 16  # more of these, that strangers alone have had started: for RCPT, and no message has come yet
DOOR_LINGER_SECONDS = 2.0  # such a one stays for the next RCPT
SILENT_SECONDS = 30.0  # without an answer that is owed; a user may stop their own worker, and a disk may hang
USERS_LIMIT = 256  # system users at work at once, a process each; who comes then tries again later
RESPAWN_SECONDS = 1.0  # between two starts of a worker that dies at once


@dataclass(eq=False, slots=True)
class Worker:
    """One process of one uid."""

    number: int
    uid: int | None
    gid: int | None
    link: Link = field(init=False)
    started: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    needed: bool = True  # False: it was started for a question at RCPT, and has done nothing else
    sessions: int = 0  # POP3 sessions that it serves
    asked: deque[tuple[int, Message]] = field(default_factory=lambda: deque(maxlen=ASKED_LIMIT))
    owed: dict[int, DeliveryDone | Instructed] = field(default_factory=dict)  # to the delivery process, by number
    heard: float = 0.0  # when it last answered the delivery process, or was asked with nothing owed
    silent: bool = False  # it has not answered for SILENT_SECONDS, nor since

    @property
    def takes_more(self) -> bool:
        """Of one that is silent a single question finds out whether it still is."""
        return not (self.silent and self.owed)

    def ask(self, question: Message, asker: int, refusal: Message, descriptors: Descriptors = ()) -> None:
        """Send a question whose answer goes past us; `refusal` is what `asker` is told if the worker dies over it."""
        self.asked.append((asker, refusal))
        self.link.send(question, descriptors)

    def ask_for_delivery(
        self, question: Message, refusal: DeliveryDone | Instructed, descriptors: Descriptors = ()
    ) -> None:
        """Send a question of the delivery process's; `refusal`: its answer if the worker dies over it."""
        if not self.owed:
            self.heard = time.monotonic()
        if len(self.owed) >= OWED_LIMIT:
            del self.owed[next(iter(self.owed))]
        self.owed[refusal.delivery] = refusal
        self.link.send(question, descriptors)

    def settles(self, answer: DeliveryDone | Instructed) -> bool:
        """Was this worker asked that? Once: an answer of one user's worker must not pass for another's."""
        self.heard, self.silent = time.monotonic(), False
        owed = self.owed.get(answer.delivery)
        if type(owed) is not type(answer):
            return False
        if isinstance(owed, Instructed) and isinstance(answer, Instructed) and owed.account != answer.account:
            return False
        del self.owed[answer.delivery]
        return True


class Workers:
    """Makes, finds and replaces workers. `on_message(worker, message)` gets what they say."""

    def __init__(
        self,
        nursery: Nursery,
        pool: int,
        mail: tuple[int | None, int | None],
        config: bytes,
        on_message: Callable[[Worker, WorkerToBroker], None],
        on_lost: Callable[[Worker], None],
    ) -> None:
        """`mail`: uid and gid of the virtual accounts' mail; None: our own. `config`: JSON, for the workers."""
        self._nursery = nursery
        self._config = config
        self._on_message = on_message
        self._on_lost = on_lost
        self._networks: dict[int, Link] = {}
        self._of_uid: dict[int, Worker] = {}
        self._closing = False
        self._last_number = pool - 1
        self._pool: list[Worker] = []
        for number in range(pool):
            self._pool.append(self._make(Worker(number, *mail)))

    def of(self, account: Account, *, at_door: bool = False) -> Worker:
        """The worker that serves this account: always the same one, so that one process knows a maildrop.

        `at_door`: a stranger asks, who may never send anything; that costs no login and no delivery its worker.
        Raises OSError where there can be no further one now.
        """
        if account.uid is None:
            worker = self._pool[crc32(account.name.encode()) % len(self._pool)]
        else:
            worker = self._of_user(account, account.uid, at_door=at_door)
        if not (at_door and worker.needed):
            worker.used = time.monotonic()
        return worker

    def _of_user(self, account: Account, uid: int, *, at_door: bool) -> Worker:
        worker = self._of_uid.get(uid)
        if worker is None or not (worker.needed or at_door):
            needed = sum(each.needed for each in self._of_uid.values())
            if not at_door and needed >= USERS_LIMIT:
                self._make_room()
            if at_door and len(self._of_uid) - needed >= DOOR_LIMIT:
                self.dismiss_idle()
                raise OSError(errno.EAGAIN, "strangers ask about too many system users at once")
        if worker is None:
            self._last_number += 1
            worker = Worker(self._last_number, account.uid, account.gid, needed=not at_door)
            self._of_uid[uid] = self._make(worker)
        worker.needed = worker.needed or not at_door
        return worker

    def at_hand(self, account: Account, *, at_door: bool = False) -> Worker | None:
        """`of`, or None where there can be none; the log says why."""
        try:
            return self.of(account, at_door=at_door)
        except OSError as error:
            log.line("no-worker", user=account.name, why=error.strerror)
            return None

    def attach(self, network: int, link: Link) -> None:
        """A network process is new: every worker gets a channel to it."""
        self._networks[network] = link
        for worker in self._all():
            self._introduce(worker, network, link)

    def detach(self, network: int) -> None:
        self._networks.pop(network, None)

    def configure(self, config: bytes) -> None:
        self._config = config
        for worker in self._all():
            worker.link.send(Configure(config))

    def given_up(self) -> list[DeliveryDone | Instructed]:
        """What those owe that have been silent for too long: the delivery process waits for it no longer.

        Mail for one mailbox that hangs must not take the places of all others' mail.
        """
        found: list[DeliveryDone | Instructed] = []
        for worker in self._all():
            if worker.owed and worker.heard < time.monotonic() - SILENT_SECONDS:
                log.line("worker-silent", uid=worker.uid, owed=len(worker.owed))
                worker.silent = True
                found += worker.owed.values()
                worker.owed.clear()
        return found

    def dismiss_idle(self) -> None:
        """Ask the system users' workers that were not needed for a while whether they have nothing to do."""
        for worker in self._of_uid.values():
            if self._unused(worker):
                worker.link.send(AreYouIdle())

    def _make_room(self) -> None:
        """Whoever serves no session, and has been needed longest ago, is asked to go; somebody may come in a moment."""
        for worker in sorted(self._of_uid.values(), key=lambda worker: worker.used):
            if worker.needed and not worker.sessions:
                worker.used = 0.0
                worker.link.send(AreYouIdle())
                break
        raise OSError(errno.EAGAIN, "too many system users are at work")

    def dismiss(self, worker: Worker) -> None:
        """It says that it has nothing to do."""
        if self._unused(worker) and worker.uid is not None and self._of_uid.get(worker.uid) is worker:
            worker.link.close()

    def _unused(self, worker: Worker) -> bool:
        linger = LINGER_SECONDS if worker.needed else DOOR_LINGER_SECONDS
        return not worker.sessions and worker.used < time.monotonic() - linger

    def close(self) -> None:
        self._closing = True
        for worker in self._all():
            worker.link.close()

    def _all(self) -> list[Worker]:
        return [*self._pool, *self._of_uid.values()]

    def _make(self, worker: Worker, wait: float = 0.0) -> Worker:
        """Its channels stand at once: what is said to it waits there until it has started."""
        ours, theirs = pair()
        if wait:
            asyncio.get_running_loop().call_later(wait, self._spawn, worker, theirs)
        else:
            self._spawn(worker, theirs)
        worker.link = Link(
            ours, WorkerToBroker, lambda message, _: self._on_message(worker, message), lambda: self._lost(worker)
        )
        for network, link in self._networks.items():
            self._introduce(worker, network, link)
        return worker

    def _spawn(self, worker: Worker, end: socket.socket) -> None:
        self._nursery.spawn(worker.uid, worker.gid, self._config, end)

    def _introduce(self, worker: Worker, network: int, link: Link) -> None:
        ours, theirs = pair()
        worker.link.send(Attach(network), (ours.detach(),))
        link.send(NewWorker(worker.number), (theirs.detach(),))

    def _lost(self, worker: Worker) -> None:
        """Another one stands in its place before those who waited for it are told: they may be handed on to it."""
        if worker.uid is not None and self._of_uid.get(worker.uid) is worker:
            del self._of_uid[worker.uid]
        elif not self._closing:
            log.line("worker-lost", number=worker.number)
            wait = RESPAWN_SECONDS if time.monotonic() - worker.started < RESPAWN_SECONDS else 0.0
            self._pool[worker.number] = self._make(Worker(worker.number, worker.uid, worker.gid), wait)
        self._on_lost(worker)


def located(maildir: str, account: Account) -> str:
    """Where a Maildir that is the account's own (empty), or below its home, lies; empty: the queue may not ask for it."""
    if not maildir:
        return account.maildir
    below = account.uid is not None and not maildir.startswith("/") and ".." not in maildir.split("/")
    return f"{account.home}/{maildir}" if below else ""
