"""A worker: the process that has become the user whose mail it touches. It answers the network processes itself.

What is quick is done in the loop; what may wait for the disk (a first listing, fsync, a removal) in a thread.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from .. import log
from ..config import Config
from ..link import Descriptors, Link, close_all, run
from ..listing import Listing
from ..messages import (
    Abort,
    Attach,
    BrokerToWorker,
    Close,
    Commit,
    Configure,
    Deliver,
    DeliveryDone,
    Ended,
    LoginRefused,
    Message,
    Messages,
    NetworkToWorker,
    Opened,
    OpenMaildrop,
    OpenMessages,
    OpenSlot,
    Resolved,
    Update,
    Updated,
    Usage,
)
from ..store.maildir import Drop, Maildrops
from ..terms import TryLater
from .intake import Intake

THREADS = 32  # measured: fsync throughput grows up to about here
INLINE_LISTING = 64 << 10  # octets; a longer listing goes as a sealed memory file
OPEN_SECONDS = 0.0003  # spent on opening messages in the loop; then the disk is slow, and a thread goes on
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

Session = tuple[int, int]


class PopSession:
    """One logged-in client's view of its maildrop."""

    __slots__ = ("busy", "drop")

    def __init__(self, drop: Drop) -> None:
        self.drop = drop
        self.busy = False


class Worker:
    """All sessions and incoming messages of the maildrops of one uid."""

    def __init__(self, control: socket.socket, config: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._pool = ThreadPoolExecutor(THREADS)
        self._loop.set_default_executor(self._pool)
        self._maildrops = Maildrops()
        self._sessions: dict[Session, Drop] = {}
        self._networks: dict[int, Link[NetworkToWorker]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory_files: dict[int, tuple[Listing, int]] = {}
        self._configure(config)
        self._intake = Intake(self._maildrops)
        self._broker: Link[BrokerToWorker] = Link(control, BrokerToWorker, self._from_broker, self._orphaned)

    def _configure(self, text: bytes) -> None:
        self._config = msgspec.json.decode(text, type=Config)
        log.configure(host=self._config.hostname, to=self._config.log.to, form=self._config.log.format)

    def _orphaned(self) -> None:
        """The broker has dismissed us, or has died: finish what is being written to disk, then end."""
        for link in list(self._networks.values()):
            link.close()
        self._start(self._end())

    async def _end(self) -> None:
        others = self._tasks - {asyncio.current_task()}  # type: ignore[arg-type]
        if others:
            await asyncio.wait(others)
        self.ended.set()

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.bug(error, where="worker")

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._pool, work, *arguments)

    # The broker.

    def _from_broker(self, message: BrokerToWorker, descriptors: Descriptors) -> None:
        match message:
            case OpenMaildrop():
                self._open_maildrop(message)
            case OpenSlot(network, session, _, maildir):
                if link := self._networks.get(network):
                    self._start(self._intake.open(link, (network, session), maildir))
            case Usage():
                self._start(self._usage(message))
            case Deliver():
                self._start(self._deliver(message, descriptors[0]))
            case Attach(network):
                self._attach(network, socket.socket(fileno=descriptors[0]))
            case Configure(text):
                self._configure(text)

    def _attach(self, network: int, sock: socket.socket) -> None:
        link: Link[NetworkToWorker] = Link(
            sock,
            NetworkToWorker,
            lambda message, _: self._from_network(network, message),
            lambda: self._detach(network, link),
        )
        self._networks[network] = link

    def _detach(self, network: int, link: Link[NetworkToWorker]) -> None:
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
                self._start(self._update(session, numbers))
            case Commit():
                self._start(self._intake.commit(self._networks[network], session))
            case Abort():
                self._intake.abort(session)

    # Maildrops.

    def _open_maildrop(self, message: OpenMaildrop) -> None:
        drop = self._maildrops.unchanged(message.maildir)
        if drop is not None:
            self._opened(message, drop)
        else:
            self._start(self._load(message))

    async def _load(self, message: OpenMaildrop) -> None:
        try:
            drop = await self._in_thread(self._maildrops.load, message.maildir)
        except TryLater as error:
            log.line("maildrop-trouble", user=message.account, why=error.why)
            refusal = LoginRefused(message.session, "SYS/TEMP", "the maildrop can't be opened just now", True)
            self._say(message.network, refusal)
            self._broker.send(Ended(message.network, message.session))
        else:
            self._opened(message, drop)

    def _opened(self, message: OpenMaildrop, drop: Drop) -> None:
        session = (message.network, message.session)
        if message.network not in self._networks:
            self._broker.send(Ended(*session))
            return
        self._sessions[session] = drop
        blob = bytes(drop.listing.blob) if len(drop.listing.blob) <= INLINE_LISTING else b""
        descriptors = () if blob else (os.dup(self._memory_file(drop.listing)),)
        self._say(message.network, Opened(message.session, message.account, blob), descriptors)

    def _memory_file(self, listing: Listing) -> int:
        """A sealed file of a long listing, made once for all sessions that see it."""
        known = self._memory_files.get(id(listing))
        if known is not None:
            return known[1]
        descriptor = os.memfd_create("listing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(listing.blob)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        self._memory_files[id(listing)] = listing, descriptor
        return descriptor

    def _forget_memory_files(self) -> None:
        """Close those of listings that no session sees, and that the cache has given up."""

    def _say(self, network: int, message: Message, descriptors: Descriptors = ()) -> None:
        if link := self._networks.get(network):
            link.send(message, descriptors)
        else:
            close_all(descriptors)
