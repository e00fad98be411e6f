"""A worker: the process that has become the user whose mail it touches. It answers the network processes itself.

What is quick is done in the loop; what may wait for the disk (a first listing, fsync, a removal) in a thread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from .. import log
from ..channel import close_all
from ..config import Config
from ..link import Descriptors, Link, run
from ..messages import (
    Abort,
    AreYouIdle,
    Attach,
    BrokerToWorker,
    Close,
    Commit,
    Configure,
    Deliver,
    DeliveryDone,
    Ended,
    Idle,
    Instruct,
    LoginRefused,
    Message,
    Messages,
    NetworkToWorker,
    Opened,
    OpenMaildrop,
    OpenMessages,
    OpenSlot,
    Ruled,
    Update,
    Updated,
    Usage,
)
from ..store import maildir_delivery
from ..store.maildir import Drop, Maildrops
from ..tasks import Tasks
from ..terms import TryLater
from .handover import INLINE_OCTETS, MemoryFiles
from .instructions import instructed, is_ruled
from .intake import Intake

THREADS = 32  # measured: fsync throughput grows up to about here
OPEN_SECONDS = 0.0005  # spent on opening messages in the loop; then the disk is slow, and a thread goes on
AHEAD_LIMIT = 64  # messages that one request may open

Session = tuple[int, int]


class Worker:
    """All sessions and incoming messages of the maildrops of one uid."""

    def __init__(self, control: socket.socket, config: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS))
        self.ended = asyncio.Event()
        self._maildrops = Maildrops()
        self._memory_files = MemoryFiles()
        self._intake = Intake(self._maildrops)
        self._sessions: dict[Session, Drop] = {}
        self._networks: dict[int, Link] = {}
        self._tasks = Tasks("worker")
        self._configure(config)
        self._broker: Link = Link(control, BrokerToWorker, self._from_broker, self._orphaned)

    def _configure(self, text: bytes) -> None:
        self._config = msgspec.json.decode(text, type=Config)
        log.configure(host=self._config.hostname, to=self._config.log.to, form=self._config.log.format)

    def _orphaned(self) -> None:
        """The broker has dismissed us, or has died: finish what is being written to disk, then end."""
        for link in list(self._networks.values()):
            link.close()
        self._tasks.start(self._end())

    async def _end(self) -> None:
        await self._tasks.settled()
        self.ended.set()

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(None, work, *arguments)

    # The broker.

    def _from_broker(self, message: BrokerToWorker, descriptors: Descriptors) -> None:
        match message:
            case OpenMaildrop():
                self._open_maildrop(message)
            case OpenSlot(network, session, _, maildir):
                if link := self._networks.get(network):
                    self._intake.open(link, (network, session), maildir)
            case Usage():
                self._tasks.start(self._usage(message))
            case Deliver():
                self._tasks.start(self._deliver(message, descriptors[0]))
            case Instruct():
                self._tasks.start(self._instruct(message))
            case Ruled():
                self._tasks.start(self._rule(message))
            case Attach(network):
                self._attach(network, socket.socket(fileno=descriptors[0]))
            case AreYouIdle():
                if not (self._sessions or self._intake.busy or self._tasks.busy):
                    self._broker.send(Idle())
            case Configure(text):
                self._configure(text)

    def _attach(self, network: int, sock: socket.socket) -> None:
        if old := self._networks.get(network):
            old.close()
        link: Link = Link(
            sock,
            NetworkToWorker,
            lambda message, _: self._from_network(network, message),
            lambda: self._detach(network, link),
        )
        self._networks[network] = link

    def _detach(self, network: int, link: Link) -> None:
        """That network process has gone: nothing is removed, its maildrops are free, its slots forgotten."""
        if self._networks.get(network) is link:
            del self._networks[network]
        for session in [session for session in self._sessions if session[0] == network]:
            self._close(session)
        self._intake.forget(network)

    def _from_network(self, network: int, message: NetworkToWorker) -> None:
        session = (network, message.session)
        match message:
            case OpenMessages(_, numbers):
                self._open_messages(session, numbers)
            case Close():
                self._close(session)
            case Update(_, numbers):
                self._tasks.start(self._update(session, numbers))
            case Commit():
                self._tasks.start(self._intake.commit(self._networks[network], session))
            case Abort():
                self._intake.abort(session)

    # Maildrops.

    def _open_maildrop(self, message: OpenMaildrop) -> None:
        drop = self._maildrops.unchanged(message.maildir)
        if drop is not None:
            self._opened(message, drop)
        else:
            self._tasks.start(self._load(message))

    async def _load(self, message: OpenMaildrop) -> None:
        try:
            drop = await self._in_thread(self._maildrops.load, message.maildir)
        except TryLater as error:
            log.line("maildrop-trouble", user=message.account, why=error.why)
            self._refuse(message)
        except Exception as error:
            log.bug(error, where="load")
            self._refuse(message)
        else:
            self._opened(message, drop)

    def _refuse(self, message: OpenMaildrop) -> None:
        """No, and the maildrop is free again."""
        self._sessions.pop((message.network, message.session), None)
        text = "the maildrop can't be opened just now, try again later"
        self._say(message.network, LoginRefused(message.session, "SYS/TEMP", text, True))
        self._broker.send(Ended(message.network, message.session))

    def _opened(self, message: OpenMaildrop, drop: Drop) -> None:
        if message.network not in self._networks:
            self._broker.send(Ended(message.network, message.session))
            return
        self._sessions[message.network, message.session] = drop
        try:
            self._hand_over(message, drop)
        except OSError as error:
            log.line("maildrop-trouble", user=message.account, why=error.strerror)
            self._refuse(message)

    def _hand_over(self, message: OpenMaildrop, drop: Drop) -> None:
        blob = bytes(drop.listing().blob) if len(drop.listing().blob) <= INLINE_OCTETS else b""
        descriptors = () if blob else (self._memory_files.of(drop.listing()),)
        self._say(message.network, Opened(message.session, message.account, blob), descriptors)

    def _open_messages(self, session: Session, numbers: tuple[int, ...]) -> None:
        """In the loop while the file system answers at once; the rest, behind a disk that must seek, in a thread."""
        drop = self._sessions.get(session)
        if drop is None or len(numbers) > AHEAD_LIMIT:
            return
        until = time.monotonic() + OPEN_SECONDS
        opened: dict[int, int] = {}
        place = 0
        while place < len(numbers) and time.monotonic() < until:
            _open(drop, numbers[place], opened)
            place += 1
        self._opened_messages(session, numbers[:place], opened)
        if place < len(numbers):
            self._tasks.start(self._open_slowly(session, drop, numbers[place:]))

    async def _open_slowly(self, session: Session, drop: Drop, numbers: tuple[int, ...]) -> None:
        opened: dict[int, int] = {}
        for number in numbers:
            await self._in_thread(_open, drop, number, opened)
        self._opened_messages(session, numbers, opened)

    def _opened_messages(self, session: Session, numbers: tuple[int, ...], opened: dict[int, int]) -> None:
        missing = tuple(number for number in numbers if number not in opened)
        self._say(session[0], Messages(session[1], tuple(opened), missing), tuple(opened.values()))

    async def _update(self, session: Session, numbers: tuple[int, ...]) -> None:
        drop = self._sessions.get(session)
        if drop is None:
            return
        failed = await self._in_thread(drop.remove, [n for n in numbers if 1 <= n <= drop.listing().count])
        self._close(session)
        self._say(session[0], Updated(session[1], failed))

    def _close(self, session: Session) -> None:
        if self._sessions.pop(session, None) is not None:
            self._broker.send(Ended(*session))

    # Incoming mail.

    async def _usage(self, message: Usage) -> None:
        """Quota: too big for ever, too full for now, or room enough."""
        quota, code, text = self._config.accounts.quota, "", ""
        try:
            used = await self._in_thread(self._maildrops.usage, message.maildir)
        except TryLater as error:
            log.line("maildrop-trouble", user=message.answer.account, why=error.why)
            used, code, text = 0, "4.2.0", "the mailbox can't be looked at just now"
        if message.octets > quota:
            code, text = "5.2.2", "the message is larger than the mailbox may be"
        elif used + message.octets > quota or used >= quota:
            code, text = "4.2.2", "the mailbox is full"
        self._say(message.network, msgspec.structs.replace(message.answer, code=code, text=text))

    async def _rule(self, message: Ruled) -> None:
        found = await self._in_thread(is_ruled, message.home, message.extension)
        self._say(message.network, msgspec.structs.replace(message.answer, deliverable=found))

    async def _instruct(self, message: Instruct) -> None:
        self._broker.send(await self._in_thread(instructed, message, self._config.domains[0]))

    async def _deliver(self, message: Deliver, source: int) -> None:
        try:
            if message.must_exist and not await self._in_thread(os.path.isdir, f"{message.maildir}/tmp"):
                raise TryLater(f"there is no Maildir {message.maildir}", "4.2.1")
            slot = await self._in_thread(maildir_delivery.deliver, message.maildir, message.name, message.head, source)
        except TryLater as error:
            done = DeliveryDone(message.delivery, "deferred", error.why)
        else:
            self._maildrops.remember(message.maildir, slot.name, slot.octets, slot.form)
            done = DeliveryDone(message.delivery, "delivered", "")
        finally:
            os.close(source)
        self._broker.send(done)

    def _say(self, network: int, message: Message, descriptors: Descriptors = ()) -> None:
        if link := self._networks.get(network):
            link.send(message, descriptors)
        else:
            close_all(descriptors)


def _open(drop: Drop, number: int, opened: dict[int, int]) -> None:
    if 1 <= number <= drop.listing().count:
        try:
            opened[number] = drop.open(number)
        except OSError:
            return  # the client learns that it is missing when it asks for it


async def _main(control: socket.socket, config: bytes) -> None:
    worker = Worker(control, config)
    await worker.ended.wait()


def main(control: socket.socket, config: bytes) -> None:
    """Serve until the broker has gone. Privilege is given away by the caller before this."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)
    run(_main(control, config))
