"""The delivery process: owns the queue, takes in what comes, and delivers what is due: to mailboxes here by workers of
their uid, to other hosts by itself. It alone dials out. It runs as the queue's own uid and reads no secret but its
signing keys.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import msgspec

from .. import log
from ..channel import close_all
from ..config import Config
from ..home import Home
from ..link import Descriptors, Link, run
from ..local_messages import Came
from ..messages import Abort, Configure, Drain, FromParent, Listen, Neighbour, Ready
from ..messages_delivery import Admit, CommitQueue, Flush, NetworkToDelivery, WantQueueSlot
from ..store.queue import DiskQueue
from ..tasks import Tasks
from ..terms import Refused, TryLater
from .attempt import Attempts
from .control import Control
from .injection import Decision, Injection
from .intake import Intake
from .local import must_be_ruled
from .notices import Notices
from .questions import Broker
from .remote import Remote
from .runner import TROUBLED_SECONDS, Runner
from .signing import Signer
from .verbs import brake_verbs, verbs

THREADS = 6  # for what may take a while: signing, big messages, changes of envelopes
# That write the queue. Measured: what they do takes longer the more of them there are, for they wait for one another at
# the interpreter's lock and at the folders'; two keep a removal from waiting for a batch of acceptances.
DISK_THREADS = 2


class Delivery:
    """The queue, the neighbours, and what is under way."""

    def __init__(self, control: socket.socket, home: Home) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS))
        self.ended = asyncio.Event()
        self._home = home
        self._config = Config()
        self._queue = DiskQueue(home.queue)
        self._broker: Broker | None = None
        self._networks: dict[int, Link] = {}
        self._disk = ThreadPoolExecutor(DISK_THREADS)
        self._intake = Intake(
            self._queue, self._disk, lambda: self._broker, lambda identity: self._runner.accepted(identity)
        )
        self._remote: Remote | None = None
        self._local: list[Injection | Control] = []
        self._tasks = Tasks("delivery")
        self._recovery = Tasks("delivery")  # nobody waits for its end
        self._ending: asyncio.Task[None] | None = None
        self._parent: Link = Link(control, FromParent | Flush, self._from_parent, self.ended.set)

    def _from_parent(self, message: FromParent | Flush, descriptors: Descriptors) -> None:
        match message:
            case Configure(text):
                self._configure(msgspec.json.decode(text, type=Config))
            case Neighbour("broker"):
                self._broker = Broker(socket.socket(fileno=descriptors[0]))
            case Neighbour(_, number):
                self._attach(number, socket.socket(fileno=descriptors[0]))
            case Listen(("send", "control")):
                self._listen(*(socket.socket(fileno=descriptor) for descriptor in descriptors))
            case Drain(grace):
                self._ending = self._loop.create_task(self._end(grace))
            case Flush() if self._remote is not None:
                self._remote.forget_trouble()
                log.line("flushed", messages=self._runner.retry_all())
            case _:
                close_all(descriptors)

    def _configure(self, config: Config) -> None:
        self._config = config
        log.configure(host=config.hostname, to=config.log.to, form=config.log.format)
        if self._remote is not None:
            self._remote.reconfigure(config)
            return
        signer = Signer(self._home.dkim)
        self._remote = Remote(config, signer)
        notices = Notices(self._queue, lambda: self._config, lambda identity: self._runner.accepted(identity))
        attempts = Attempts(self._queue, self._disk, self._remote, notices, lambda: self._config, signer.holds_keys)
        self._runner = Runner(self._queue, attempts, lambda: self._broker)
        self._queue.sweep()
        self._parent.send(Ready())
        self._recovery.start(self._recover())

    async def _recover(self) -> None:
        """What lies in the queue is tried too. Mail is accepted and delivered meanwhile: 100,000 take a while to read."""
        try:
            found = await self._loop.run_in_executor(None, self._queue.scan)
        except TryLater as error:
            log.line("queue-trouble", why=error.why, what="what lies there is not tried yet; it is looked for again")
            self._loop.call_later(TROUBLED_SECONDS, lambda: self._recovery.start(self._recover()))
            return
        for damaged in found.damaged:
            log.line("queue-damaged", file=damaged, what="set aside in queue/damaged; look at it")
        if found.due:
            log.line("queue", messages=len(found.due))
        self._runner.begin(found.due)

    # Network processes.

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

    # This machine's programs.

    def _listen(self, send: socket.socket, control: socket.socket) -> None:
        for served in self._local:
            served.close()
        injection = Injection(
            send,
            open_slot=self._intake.open_slot,
            decide=self._decide,
            commit=self._intake.make_durable,
            abort=self._queue.abort,
            config=lambda: self._config,
        )
        assert self._remote is not None, "the parent sends Configure first"
        obeyed = {**verbs(self._runner, self._remote), **brake_verbs(lambda: self._broker)}
        self._local = [injection, Control(control, obeyed)]

    async def _decide(self, uid: int, sender: bytes | None, recipients: tuple[bytes, ...], came: Came) -> Decision:
        named = sender is not None
        verdict = await self._intake.admit(
            lambda number: Admit(number, sender or b"", recipients, "", 0, 0, True, uid, named, came)
        )
        if verdict.code:
            raise Refused(verdict.text, verdict.enhanced)
        if self._broker is not None:
            await must_be_ruled(self._broker, verdict.unsure)
        return Decision(verdict.sender, verdict.account, verdict.received)

    async def _end(self, grace: float) -> None:
        """Finish what is under way, for so many seconds; the queue keeps the rest, and a peer that stalls is left."""
        try:
            await asyncio.wait_for(self._finish(), grace)
        except TimeoutError:
            log.line("delivery-cut", what="some tries had not ended; they are made again")
        finally:
            self.ended.set()

    async def _finish(self) -> None:
        if self._remote is not None:
            self._runner.close()
            self._remote.drain()
        for served in self._local:
            served.close()
            await served.settled()
        await self._tasks.settled()
        if self._remote is not None:
            await self._runner.settled()
            await self._remote.close()


async def _main(control: socket.socket, home: Home) -> None:
    delivery = Delivery(control, home)
    await delivery.ended.wait()


def preload() -> None:
    """What is loaded only when it is needed, and can't be any more after the uid is given away."""
    import encodings.idna
    import encodings.punycode  # noqa: F401
    import importlib.metadata  # noqa: F401

    import aiosmtplib  # noqa: F401
    import dns.asyncresolver  # noqa: F401


def main(control: socket.socket, home: Home) -> None:
    """Serve until the parent says Drain or has gone. Privilege is given away by the caller before this."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)
    run(_main(control, home))
