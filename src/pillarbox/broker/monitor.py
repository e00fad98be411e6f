"""The broker: reads secrets, issues challenges, judges every login, and hands the client on to a worker.

It talks to our own processes only, never to a stranger. Started as root, these files run as root: this one, admission,
certificates, directory, locks, login, nursery, sessions, standing, workers, privilege; store.accounts,
store.certificates, store.secrets, store.grants, store.passwd (as the user whose file it reads); policy; channel, link,
log. A user's folder is touched by a worker of that user's uid alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import Any

import msgspec

from .. import log
from ..channel import close_all
from ..config import Config
from ..home import Home
from ..link import Descriptors, Link, run
from ..messages import (
    Authenticate,
    Authenticated,
    Challenges,
    Configure,
    Deliver,
    DeliveryDone,
    Drain,
    Ended,
    FromParent,
    GiveUp,
    Greeted,
    Idle,
    LoggedOut,
    Login,
    Neighbour,
    NetworkToBroker,
    OpenSlot,
    Ready,
    Resolve,
    Resolved,
    SlotRefused,
    Usage,
    WantChallenges,
    WantSlot,
    WorkerToBroker,
)
from ..messages_delivery import Admit, DeliveryToBroker, Owned, Owns, ResolveAll, ResolvedAll, Verdict
from ..policy import challenges
from ..policy.networks import Networks
from ..store.accounts import AccountStore
from ..store.grants import boot_id, grant_key
from ..store.passwd import PasswdAccounts
from ..store.secrets import Seal, load_key
from ..terms import Account, TryLater
from . import privilege
from .admission import Admission
from .certificates import WATCH_SECONDS, Certificates
from .directory import Directory
from .login import Judge, Success
from .nursery import Nursery, open_nursery
from .sessions import Sessions
from .standing import NONE, Standings
from .workers import Worker, Workers

TICK_SECONDS = 10.0
DELIVERY = -1  # among the numbers of network processes
NO_POSTMASTER = "postmaster leads to nobody, and must (RFC 5321 section 4.5.1): name somebody in `aliases`"
TROUBLE = "the mailbox can't be looked up just now, try again later"


class Broker:
    """All that the broker knows: accounts, challenges, who holds which maildrop, which worker serves whom."""

    def __init__(
        self,
        control: socket.socket,
        home: Home,
        nursery: Nursery,
        mail: tuple[int | None, int | None],
        certificates: Certificates,
    ) -> None:
        self._certificates = certificates
        self._home = home
        self._nursery = nursery
        self._mail = mail
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        key = load_key(home.key, create=not os.path.exists(home.accounts))  # a new key would open none of the secrets
        self._standings = Standings(grant_key(key), boot_id())
        self._store = AccountStore(home.accounts, Seal(key), home.mail)
        self._networks: dict[int, Link] = {}
        self._sessions = Sessions(self._networks, lambda: self.workers, lambda: self.config)
        self._delivery: Link | None = None
        self._workers: Workers | None = None
        self._challenges: challenges.Challenges | None = None  # those that are out stay good over a reload
        self._parent: Link = Link(control, FromParent, self._from_parent, self.ended.set)
        self._loop.add_reader(nursery.channel.fileno(), self._nursery_gone)
        self._loop.call_later(TICK_SECONDS, self._tick)
        self._loop.call_later(WATCH_SECONDS, self._watch_certificates)

    # The parent.

    def _from_parent(self, message: FromParent, descriptors: Descriptors) -> None:
        match message:
            case Configure(text):
                self._configure(text)
            case Neighbour("delivery"):
                sock = socket.socket(fileno=descriptors[0])
                self._delivery = Link(sock, DeliveryToBroker, self._from_delivery, lambda: None)
            case Neighbour(_, number):
                self._attach(number, socket.socket(fileno=descriptors[0]))
            case Drain():
                self.close()
            case _:
                close_all(descriptors)

    def _configure(self, text: bytes) -> None:
        config = msgspec.json.decode(text, type=Config)
        log.configure(host=config.hostname, to=config.log.to, form=config.log.format)
        self.config = config
        if self._certificates.configure(config):
            self._tell_certificates()
        trusted = Networks(tuple(config.policy.trusted))
        self._directory = Directory(config, self._store, _passwd)
        if "local" not in config.accounts.source and "postmaster" not in config.aliases:
            log.line("warning", what=NO_POSTMASTER)
        self._standings.configure(config, self._directory, config.relay.directory or self._home.grants, trusted)
        self._admission = Admission(self._standings, self._directory, config.relay.recipients)
        self._challenges = self._challenges or challenges.Challenges(config.hostname)
        self._challenges.rename(config.hostname)
        self._judge = Judge(config, self._directory, self._challenges, trusted, self._standings.failed)
        if self._workers is None:
            pool = config.processes.workers or max(1, (os.cpu_count() or 1) // 2)
            self._workers = Workers(self._nursery, pool, self._mail, text, self._from_worker, self._worker_lost)
            self._parent.send(Ready())
        else:
            self._workers.configure(text)

    def _nursery_gone(self) -> None:
        """It says nothing while it lives. Without it no worker can be made: the parent shall bring a new broker."""
        log.line("nursery-lost")
        self._loop.remove_reader(self._nursery.channel.fileno())
        self.close()

    @property
    def workers(self) -> Workers:
        assert self._workers is not None, "the parent sends Configure first"
        return self._workers

    def _attach(self, number: int, sock: socket.socket) -> None:
        if old := self._networks.get(number):
            old.close()
        link: Link = Link(
            sock,
            NetworkToBroker,
            lambda message, _: self._from_network(number, message),
            lambda: self._detach(number, link),
        )
        self._networks[number] = link
        link.send(self._certificates.message)
        self.workers.attach(number, link)

    def _detach(self, number: int, link: Link) -> None:
        """A network process has died: its challenges are void, and none of its clients waits any more."""
        if self._networks.get(number) is not link:
            return
        del self._networks[number]
        self.workers.detach(number)
        self._judge.challenges.forget_issuer(number)
        self._standings.forget(number)
        self._sessions.forget_network(number)

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
        self.ended.set()

    def _tick(self) -> None:
        often = min(TICK_SECONDS, self.config.relay.expiry / 3) if self._workers else TICK_SECONDS
        self._loop.call_later(often, self._tick)
        if self._workers is not None:
            self._workers.dismiss_idle()
            self._standings.expire()
            for address, account in self._sessions.logins():
                self._standings.prolong(address, account)

    # Certificates.

    def _watch_certificates(self) -> None:
        self._loop.call_later(WATCH_SECONDS, self._watch_certificates)
        if self._certificates.look():
            self._tell_certificates()

    def _tell_certificates(self) -> None:
        for link in self._networks.values():
            link.send(self._certificates.message)

    # Network processes.

    def _from_network(self, network: int, message: NetworkToBroker) -> None:
        link = self._networks[network]
        match message:
            case Authenticate():
                self._authenticate(network, message)
            case LoggedOut(session):
                self._standings.logged_out((network, session))
            case Login():
                self._log_in(network, message)
            case WantChallenges(count):
                link.send(Challenges(self._judge.issue(network, count)))
            case Greeted(count):
                self._judge.challenges.greeted(network, count, time.monotonic())
            case GiveUp(session):
                self._sessions.give_up((network, session))
            case Resolve():
                self._resolve(network, message)
            case WantSlot(session, name):
                self._open_slot(network, session, name)

    def _log_in(self, network: int, login: Login) -> None:
        session = network, login.session
        if self._sessions.knows(session):
            log.line("login-ignored", network=network, why="that session has logged in already")
            return
        if verdict := self._verdict(network, login):
            self._standings.logged_in(login, verdict.account, verdict.secret)
            self._sessions.begin(session, verdict.account, login.peer)

    def _authenticate(self, network: int, login: Authenticate) -> None:
        if verdict := self._verdict(network, login):
            self._standings.authenticated((network, login.session), verdict.account.name, login.peer)
            self._networks[network].send(Authenticated(login.session, verdict.account.name))

    def _verdict(self, network: int, login: Login) -> Success | None:
        """None: the client has been told no."""
        verdict = self._judge.verdict(network, login)
        if isinstance(verdict, Success):
            return verdict
        self._networks[network].send(verdict)
        return None

    # Mail that comes in.

    def _resolve(self, network: int, message: Resolve) -> None:
        link, session = self._networks[network], message.session
        try:
            resolution = self._directory.glance(message.recipient)
            asked = message.submission or not resolution.local  # who brings us our mail needs no standing
            standing = self._standings.of(message.peer, (network, message.login), message.sender) if asked else NONE
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            link.send(Resolved(session, "", True, code="4.3.0", text=TROUBLE))
            return
        account = resolution.mailbox
        answer = Resolved(
            session,
            account.name if account else "",
            resolution.local,
            resolution.deliverable,
            standing.kind,
            standing.owned,
            standing.left,
        )
        if account is None or not self.config.accounts.quota:
            link.send(answer)
            return
        refusal = Resolved(session, "", True, code="4.3.0", text=TROUBLE)
        if worker := self._worker(account):
            worker.ask(Usage(network, account.maildir, message.octets, answer), network, refusal)
        else:
            link.send(refusal)

    def _worker(self, account: Account) -> Worker | None:
        try:
            return self.workers.of(account)
        except OSError as error:
            log.line("no-worker", user=account.name, why=error.strerror)
            return None

    def _open_slot(self, network: int, session: int, name: str) -> None:
        account = self._found(name)
        worker = self._worker(account) if account else None
        refusal = SlotRefused(session, "4.3.0", TROUBLE)
        if account is None or worker is None:
            self._networks[network].send(refusal)
            return
        worker.ask(OpenSlot(network, session, account.name, account.maildir), network, refusal)

    def _found(self, name: str) -> Account | None:
        try:
            return self._directory.account(name)
        except TryLater:
            return None

    def _from_delivery(self, message: DeliveryToBroker, descriptors: Descriptors) -> None:
        assert self._delivery is not None
        match message:
            case ResolveAll():
                self._delivery.send(self._resolve_all(message))
            case Admit():
                self._delivery.send(self._admit(message))
            case Owns():
                self._delivery.send(self._owned(message))
            case Deliver():
                self._deliver(message, descriptors)

    def _resolve_all(self, message: ResolveAll) -> ResolvedAll:
        try:
            found = [self._directory.resolve(recipient) for recipient in message.recipients]
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            return ResolvedAll(message.delivery, (), (), (), False)
        return ResolvedAll(
            message.delivery,
            tuple(resolution.local for resolution in found),
            tuple(tuple(account.name for account in resolution.accounts) for resolution in found),
            tuple(tuple(name.encode() for name in resolution.forwards) for resolution in found),
        )

    def _admit(self, message: Admit) -> Verdict:
        try:
            return self._admission.admit(message)
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            return Verdict(message.delivery, "", 451, "4.3.0", TROUBLE)

    def _owned(self, message: Owns) -> Owned:
        try:
            return Owned(message.delivery, self._directory.owns(message.account, message.address))
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            return Owned(message.delivery, False)

    def _deliver(self, message: Deliver, descriptors: Descriptors) -> None:
        account = self._found(message.account)
        worker = self._worker(account) if account else None
        if account is None or worker is None:
            close_all(descriptors)
            assert self._delivery is not None
            self._delivery.send(DeliveryDone(message.delivery, "deferred", "nobody can deliver for it just now"))
            return
        located = msgspec.structs.replace(message, maildir=account.maildir)
        lost = DeliveryDone(message.delivery, "deferred", "the worker died")
        worker.ask(located, DELIVERY, lost, descriptors)

    # Workers.

    def _from_worker(self, worker: Worker, message: WorkerToBroker) -> None:
        match message:
            case Ended(network, session):
                self._sessions.ended((network, session), worker)
            case Idle():
                self.workers.dismiss(worker)
            case DeliveryDone():
                if self._delivery is not None:
                    self._delivery.send(message)

    def _worker_lost(self, worker: Worker) -> None:
        """Whoever may still wait for its answer is told; whoever has it, takes no notice."""
        for asker, refusal in worker.asked:
            link = self._delivery if asker == DELIVERY else self._networks.get(asker)
            if link is not None:
                link.send(refusal)
        self._sessions.worker_lost(worker)


def _passwd(config: Config) -> PasswdAccounts:
    return PasswdAccounts(config.accounts.password_file, tuple(config.domains), privilege.as_user)


async def _main(*arguments: Any) -> None:
    broker = Broker(*arguments)
    await broker.ended.wait()


def main(control: socket.socket, home: Home, mail: tuple[int | None, int | None], first: Config | None) -> None:
    """Serve until the parent says Drain or has gone. `mail`: uid and gid of virtual mail, None for our own.

    `first`: the configuration, where the server starts; Refused is raised for its certificates. None: a broker in the
    place of a dead one, which only logs what is wrong with them.
    """
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)
    nursery = open_nursery()
    privilege.harden()
    certificates = Certificates(home)
    if first is not None:
        certificates.check(first)
    run(_main(control, home, nursery, mail, certificates))
