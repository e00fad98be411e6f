"""The delivery process: owns the queue, takes in what the network processes bring, and delivers what is due.

In this version recipients are local: a worker of the recipient's uid puts the message into the Maildir. It runs as the
queue's own uid and reads no secret.
"""

from __future__ import annotations

import asyncio
import heapq
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from .. import log
from ..channel import close_all
from ..config import Config
from ..home import Home
from ..link import Descriptors, Link, run
from ..messages import (
    Abort,
    CommitQueue,
    Configure,
    Drain,
    FromParent,
    Neighbour,
    NetworkToDelivery,
    Ready,
    WantQueueSlot,
)
from ..store.queue import DiskQueue
from ..tasks import Tasks
from . import local
from .intake import Intake
from .questions import Broker

THREADS = 32  # measured: fsync throughput grows up to about here
TRIES_AT_ONCE = 20  # messages being delivered; each holds a descriptor and little else
TROUBLED_SECONDS = 60.0  # before a message is tried again whose envelope could not be read or written
TICK_SECONDS = 1.0


class Runner:
    """The queue, the neighbours, and when each message is due: only ids are kept in memory."""

    def __init__(self, control: socket.socket, home: Home) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS))
        self.ended = asyncio.Event()
        self._queue = DiskQueue(home.queue)
        self._broker: Broker | None = None
        self._networks: dict[int, Link] = {}
        self._intake = Intake(self._queue, lambda: self._broker, self._accepted)
        self._due: list[tuple[float, str]] = []
        self._trying: set[str] = set()
        self._tasks = Tasks("delivery")
        self._draining = False
        self._ready = False
        self._parent: Link = Link(control, FromParent, self._from_parent, self.ended.set)

    def _from_parent(self, message: FromParent, descriptors: Descriptors) -> None:
        match message:
            case Configure(text):
                config = msgspec.json.decode(text, type=Config)
                log.configure(host=config.hostname, to=config.log.to, form=config.log.format)
                self._get_ready()
            case Neighbour("broker"):
                self._broker = Broker(socket.socket(fileno=descriptors[0]))
            case Neighbour(_, number):
                self._attach(number, socket.socket(fileno=descriptors[0]))
            case Drain():
                self._draining = True
                self._tasks.start(self._end())
            case _:
                close_all(descriptors)

    def _get_ready(self) -> None:
        if self._ready:
            return
        self._ready = True
        for damaged in self._queue.recover():
            log.line("queue-damaged", file=damaged, what="set aside in queue/damaged; look at it")
        now = time.time()
        self._due = [(now, identity) for identity in self._queue.pending()]
        heapq.heapify(self._due)
        if self._due:
            log.line("queue", messages=len(self._due))
        self._parent.send(Ready())
        self._tick()

    def _attach(self, number: int, sock: socket.socket) -> None:
        if old := self._networks.get(number):
            old.close()

        def gone() -> None:
            if self._networks.get(number) is link:
                del self._networks[number]
                self._intake.forget(number)

        link: Link = Link(sock, NetworkToDelivery, lambda message, _: self._from_network(number, message), gone)
        self._networks[number] = link

    def _from_network(self, network: int, message: NetworkToDelivery) -> None:
        link, session = self._networks[network], (network, message.session)
        match message:
            case WantQueueSlot():
                self._intake.open(link, session)
            case CommitQueue():
                self._tasks.start(self._intake.commit(link, session, message))
            case Abort():
                self._intake.abort(session)

    # Running.

    def _accepted(self, identity: str) -> None:
        heapq.heappush(self._due, (time.time(), identity))
        self._try_due()

    def _tick(self) -> None:
        self._loop.call_later(TICK_SECONDS, self._tick)
        self._try_due()

    def _try_due(self) -> None:
        now = time.time()
        while (
            self._due
            and self._due[0][0] <= now
            and len(self._trying) < TRIES_AT_ONCE
            and not self._draining
            and self._broker is not None
        ):
            _, identity = heapq.heappop(self._due)
            self._trying.add(identity)
            self._tasks.start(self._try(self._broker, identity))

    async def _try(self, broker: Broker, identity: str) -> None:
        when: float | None = time.time() + TROUBLED_SECONDS
        try:
            when = await local.attempt(self._queue, broker, identity)
        except Exception as error:
            log.line("try-failed", id=identity, why=str(error))
        finally:
            self._trying.discard(identity)
            if when is not None:
                heapq.heappush(self._due, (when, identity))
            self._loop.call_soon(self._try_due)

    async def _end(self) -> None:
        """Finish the tries and commits under way; the queue keeps the rest."""
        await self._tasks.settled()
        self.ended.set()


async def _main(control: socket.socket, home: Home) -> None:
    runner = Runner(control, home)
    await runner.ended.wait()


def main(control: socket.socket, home: Home) -> None:
    """Serve until the parent says Drain or has gone. Privilege is given away by the caller before this."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)
    run(_main(control, home))
