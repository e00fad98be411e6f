"""What the delivery process asks the broker: who an address leads to, who may send, and a worker for a mailbox."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from .. import log
from ..channel import close_all
from ..link import Descriptors, Link
from ..messages import NOBODY_LOOKS, Deliver, DeliveryDone, Instruct, Instructed
from ..messages_delivery import Admit, Brake, Braked, DeliveryToBroker, Owned, Owns, ResolveAll, ResolvedAll, Verdict
from ..terms import TryLater
from .admission import Admission
from .brakes import Brakes
from .directory import Directory
from .workers import Workers, located

TROUBLE = "the mailbox can't be looked up just now, try again later"


@dataclass(frozen=True, slots=True)
class Books:
    """What the broker knows, as of the latest configuration."""

    directory: Directory
    admission: Admission
    workers: Workers
    brakes: Brakes


class ForDelivery:
    """The channel to the delivery process; workers that were asked on its behalf answer over it, too."""

    def __init__(self, sock: socket.socket, books: Callable[[], Books]) -> None:
        self._books = books
        self.link: Link = Link(sock, DeliveryToBroker, self._heed, lambda: None)

    def give_up(self) -> None:
        """Answer for workers that do not: see Workers.given_up."""
        for answer in self._books().workers.given_up():
            self.link.send(answer)

    def _heed(self, message: DeliveryToBroker, descriptors: Descriptors) -> None:
        match message:
            case ResolveAll():
                self.link.send(self._resolve_all(message))
            case Admit():
                self.link.send(self._admit(message))
            case Owns():
                self.link.send(self._owned(message))
            case Deliver():
                self._deliver(message, descriptors)
            case Instruct():
                self._instruct(message)
            case Brake(number, verb, argument):
                self.link.send(Braked(number, self._books().brakes.command(verb, argument)))

    def _resolve_all(self, message: ResolveAll) -> ResolvedAll:
        try:
            found = [self._books().directory.resolve(recipient) for recipient in message.recipients]
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            return ResolvedAll(message.delivery, (), (), (), False)
        return ResolvedAll(
            message.delivery,
            tuple(resolution.local for resolution in found),
            tuple(tuple(account.name for account in resolution.accounts) for resolution in found),
            tuple(tuple(name.encode() for name in resolution.forwards) for resolution in found),
            instructed=tuple(resolution.instructed is not None for resolution in found),
        )

    def _instruct(self, message: Instruct) -> None:
        """A worker of the user's reads the files, and answers."""
        unknown = Instructed(message.delivery, code=NOBODY_LOOKS, text="nobody can look at the .qmail files just now")
        try:
            found = self._books().directory.resolve(message.recipient)
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            self.link.send(unknown)
            return
        user = found.instructed
        worker = self._books().workers.at_hand(user, at_door=message.at_door) if user else None
        if user is None or worker is None or not worker.takes_more:
            self.link.send(unknown)
            return
        question = msgspec.structs.replace(message, account=user.name, home=user.home, extension=found.extension)
        worker.ask_for_delivery(question, msgspec.structs.replace(unknown, account=user.name))

    def _admit(self, message: Admit) -> Verdict:
        try:
            return self._books().admission.admit(message)
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            return Verdict(message.delivery, "", 451, "4.3.0", TROUBLE)

    def _owned(self, message: Owns) -> Owned:
        try:
            return Owned(message.delivery, self._books().directory.owns(message.account, message.address))
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            return Owned(message.delivery, False)

    def _deliver(self, message: Deliver, descriptors: Descriptors) -> None:
        account = self._books().directory.known(message.account)
        maildir = located(message.maildir, account) if account else ""
        worker = self._books().workers.at_hand(account) if account and maildir else None
        if account is None or worker is None or not worker.takes_more:
            close_all(descriptors)
            self.link.send(DeliveryDone(message.delivery, "deferred", "nobody can deliver for it just now"))
            return
        complete = msgspec.structs.replace(message, maildir=maildir)
        lost = DeliveryDone(message.delivery, "deferred", "the worker died")
        worker.ask_for_delivery(complete, lost, descriptors)
