"""The other processes, as a network process sees them: it asks, and the answer finds the connection that waits."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol

from .. import log
from ..channel import close_all
from ..link import Descriptors, Link
from ..messages import (
    Abort,
    Authenticated,
    BrokerToNetwork,
    Certificates,
    Challenges,
    Close,
    Committed,
    Greeted,
    LoggedOut,
    LoginChallenge,
    LoginRefused,
    Messages,
    NewWorker,
    Opened,
    Probe,
    Resolved,
    Rules,
    SlotOpened,
    SlotRefused,
    Updated,
    WantChallenges,
    WorkerToNetwork,
)
from ..messages_delivery import DeliveryToNetwork

if TYPE_CHECKING:
    from .process import NetworkProcess

ORPHAN_SECONDS = 10.0  # for the parent to bring a new broker
STOCK = 512  # challenges kept ready, so that a greeting costs no round trip; asked for again at half

Answer = (
    LoginRefused
    | LoginChallenge
    | Authenticated
    | Opened
    | Messages
    | Updated
    | Resolved
    | SlotOpened
    | SlotRefused
    | Committed
)


class Asker(Protocol):
    """A connection that waits for answers."""

    def answered(self, answer: Answer, descriptors: Descriptors, source: Link) -> None: ...

    def neighbour_lost(self, source: Link) -> None: ...

    def probe(self) -> None: ...


class Neighbours:
    """Links to the broker, the delivery process and the workers. Sessions are registered by their number."""

    def __init__(self, process: NetworkProcess) -> None:
        self._process = process
        self.sessions: dict[int, Asker] = {}
        self.broker: Link | None = None
        self.delivery: Link | None = None
        self._workers: dict[int, Link] = {}
        self._stock: deque[bytes] = deque()
        self._asked = 0
        self._greeted = 0

    def attach(self, room: str, sock: socket.socket) -> None:
        """A fresh channel from the parent: the process behind it is new."""
        if room == "broker":
            self._stock.clear()
            self._asked = self._greeted = 0
            broker: Link = Link(sock, BrokerToNetwork, self._from_broker, lambda: self._lost(broker))
            self.broker = broker
            self._restock()
        else:
            delivery: Link = Link(
                sock, DeliveryToNetwork, lambda m, d: self._deliver(m, d, delivery), lambda: self._lost(delivery)
            )
            self.delivery = delivery

    # Challenges.

    def challenge(self) -> bytes | None:
        """One that was never used, or None while the broker has not sent any."""
        if not self._stock:
            self._restock()
            return None
        self._greeted += 1
        challenge = self._stock.popleft()
        if len(self._stock) < STOCK // 2:
            self._restock()
        return challenge

    def _restock(self) -> None:
        if self.broker and not self._asked:
            self._asked = STOCK
            self.broker.send(WantChallenges(STOCK))

    def tell_greeted(self) -> None:
        """Once a second: how many challenges went out, since their age counts from the greeting."""
        if self._greeted and self.broker:
            self.broker.send(Greeted(self._greeted))
            self._greeted = 0

    # What comes.

    def _from_broker(self, message: BrokerToNetwork, descriptors: Descriptors) -> None:
        match message:
            case Challenges(challenges):
                self._stock.extend(challenges)
                self._asked = 0
                self._process.challenges_came()
            case Certificates(pairs):
                self._process.certificates_came(pairs)
            case NewWorker(worker):
                self._new_worker(worker, socket.socket(fileno=descriptors[0]))
            case Rules(protocol, records):
                self._process.take_rules(protocol, records)
            case Probe(session):
                if asker := self.sessions.get(session):
                    asker.probe()
            case _:
                assert self.broker is not None
                self._deliver(message, descriptors, self.broker)

    def _new_worker(self, number: int, sock: socket.socket) -> None:
        def gone() -> None:
            if self._workers.get(number) is link:
                del self._workers[number]
            self._lost(link)

        link: Link = Link(sock, WorkerToNetwork, lambda m, d: self._deliver(m, d, link), gone)
        self._workers[number] = link

    def _deliver(self, message: Answer, descriptors: Descriptors, source: Link) -> None:
        asker = self.sessions.get(message.session)
        if asker is None:
            close_all(descriptors)
            self._decline(message, source)
        else:
            asker.answered(message, descriptors, source)

    def _check_broker(self) -> None:
        """Without a broker this process is of no use: another one in its place gets channels anew."""
        if self.broker is None and not self._process.draining:
            self._process.ended.set()

    def _decline(self, message: Answer, source: Link) -> None:
        """The connection that asked has gone: give back what came for it."""
        if isinstance(message, Opened):
            source.send(Close(message.session))
        elif isinstance(message, SlotOpened):
            source.send(Abort(message.session))
        elif isinstance(message, Authenticated):
            source.send(LoggedOut(message.session))

    def _lost(self, link: Link) -> None:
        """A neighbour has gone: only the sessions that wait for it, or lie with it, end."""
        log.line("neighbour-lost", process=self._process.number)
        if link is self.broker:
            self.broker = None
            self._asked = 0
            self._stock.clear()
            self._process.loop.call_later(ORPHAN_SECONDS, self._check_broker)
        if link is self.delivery:
            self.delivery = None
        for asker in list(self.sessions.values()):
            asker.neighbour_lost(link)
