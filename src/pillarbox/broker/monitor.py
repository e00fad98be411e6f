"""The broker: reads secrets, issues challenges, judges every login, and hands the client on to a worker.

It talks to our own processes only, never to a stranger. Started as root, these files run as root: this one, directory,
locks, login, nursery, workers, privilege; store.accounts, store.secrets, store.grants, store.passwd (as the user whose
file it reads); policy; channel, link, log. A user's folder is touched by a worker of that user's uid alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time

import msgspec

from .. import log
from ..channel import close_all
from ..config import Config
from ..home import Home
from ..link import Descriptors, Link, run
from ..messages import (
    BrokerToDelivery,
    Challenges,
    Configure,
    Deliver,
    DeliveryDone,
    DeliveryToBroker,
    Drain,
    Ended,
    FromParent,
    GiveUp,
    Greeted,
    Idle,
    Login,
    LoginRefused,
    Neighbour,
    NetworkToBroker,
    OpenMaildrop,
    OpenSlot,
    Probe,
    Ready,
    Resolve,
    ResolveAll,
    Resolved,
    ResolvedAll,
    SlotRefused,
    Usage,
    WantChallenges,
    WantSlot,
    WorkerToBroker,
)
from ..policy import challenges
from ..policy.networks import Networks
from ..store.accounts import AccountStore
from ..store.grants import Grants
from ..store.passwd import PasswdAccounts
from ..store.secrets import Seal, load_key
from ..terms import Account, TryLater
from . import privilege
from .directory import Directory
from .locks import Holder, Locks, Session
from .login import Judge
from .nursery import Nursery, open_nursery
from .workers import Worker, Workers

TICK_SECONDS = 10.0
DELIVERY = -1  # among the numbers of network processes
TROUBLE = "the mailbox can't be looked up just now, try again later"


class Broker:
    """All that the broker knows: accounts, challenges, who holds which maildrop, which worker serves whom."""

    def __init__(
        self, control: socket.socket, home: Home, nursery: Nursery, mail: tuple[int | None, int | None]
    ) -> None:
        self._home = home
        self._nursery = nursery
        self._mail = mail
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        key = load_key(home.key, create=not os.path.exists(home.accounts))  # a new key would open none of the secrets
        self._store = AccountStore(home.accounts, Seal(key), home.mail)
        self._locks = Locks()
        self._waiting: dict[Session, Account] = {}  # logins that were judged and have no maildrop yet
        self._serving: dict[Session, Worker] = {}
        self._timers: dict[Session, asyncio.TimerHandle] = {}
        self._networks: dict[int, Link] = {}
        self._delivery: Link | None = None
        self._workers: Workers | None = None
        self._parent: Link = Link(control, FromParent, self._from_parent, self.ended.set)
        self._loop.add_reader(nursery.channel.fileno(), self._nursery_gone)
        self._loop.call_later(TICK_SECONDS, self._tick)

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
        trusted = Networks(tuple(config.policy.trusted))
        self._directory = Directory(config, self._store, _passwd)
        self.grants = Grants(config.relay.directory or self._home.grants, config.relay.expiry)
        if self._workers is None:
            self._judge = Judge(config, self._directory, challenges.Challenges(config.hostname), trusted)
            pool = config.processes.workers or max(1, (os.cpu_count() or 1) // 2)
            self._workers = Workers(self._nursery, pool, self._mail, text, self._from_worker, self._worker_lost)
            self._parent.send(Ready())
        else:
            self._judge = Judge(config, self._directory, self._judge.challenges, trusted)
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
        self.workers.attach(number, link)

    def _detach(self, number: int, link: Link) -> None:
        """A network process has died: its challenges are void, and none of its clients waits any more."""
        if self._networks.get(number) is not link:
            return
        del self._networks[number]
        self.workers.detach(number)
        self._judge.challenges.forget_issuer(number)
        for session in [session for session in self._timers if session[0] == number]:
            self._give_up(session)

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()
        self.ended.set()

    def _tick(self) -> None:
        self._loop.call_later(TICK_SECONDS, self._tick)
        if self._workers is not None:
            self._workers.dismiss_idle()
            try:
                self.grants.expire(time.time())
            except OSError as error:
                log.line("grants-trouble", why=str(error))

    # Network processes.

    def _from_network(self, network: int, message: NetworkToBroker) -> None:
        link = self._networks[network]
        match message:
            case Login():
                self._log_in(network, message)
            case WantChallenges(count):
                link.send(Challenges(self._judge.issue(network, count)))
            case Greeted(count):
                self._judge.challenges.greeted(network, count, time.time())
            case GiveUp(session):
                self._give_up((network, session))
            case Resolve():
                self._resolve(network, message)
            case WantSlot(session, name):
                self._open_slot(network, session, name)

    def _log_in(self, network: int, login: Login) -> None:
        session = (network, login.session)
        if session in self._waiting or session in self._serving:
            log.line("login-ignored", network=network, why="that session has logged in already")
            return
        verdict = self._judge.verdict(network, login)
        if isinstance(verdict, LoginRefused):
            self._networks[network].send(verdict)
            return
        self._waiting[session] = verdict
        self._grant(login.peer, verdict.name)
        if self.config.pop3.sessions == "shared":
            self._open_maildrop(session)
            return
        holder = Holder(session, login.peer, time.time())
        if self._locks.take(verdict.name, holder):
            self._open_maildrop(session)
        else:
            self._wait(verdict.name, holder)

    def _grant(self, peer: str, account: str) -> None:
        """POP before SMTP. A grant that can't be written fails closed; the login succeeds all the same."""
        try:
            self.grants.renew(peer, account, time.time())
        except OSError as error:
            log.line("grant-failed", rip=peer, user=account, why=error.strerror)

    def _open_maildrop(self, session: Session) -> None:
        """Have the account's worker open it. Where that can't be, the client is told and the maildrop is free again."""
        account = self._waiting.pop(session)
        refusal = LoginRefused(session[1], "SYS/TEMP", "the maildrop can't be opened just now, try again", True)
        try:
            worker = self.workers.of(account)
        except OSError as error:
            log.line("no-worker", user=account.name, why=error.strerror)
            if link := self._networks.get(session[0]):
                link.send(refusal)
            self._ended(session)
            return
        worker.sessions += 1
        self._serving[session] = worker
        worker.ask(OpenMaildrop(*session, account.name, account.maildir), session[0], refusal)

    def _wait(self, account: str, waiter: Holder) -> None:
        """The login is good, the maildrop is taken: see whether its holder still lives, and wait a while."""
        holder = self._locks.holder(account)
        assert holder is not None
        if not self._locks.wait(account, waiter):
            self._in_use(account, waiter.session)
            return
        if link := self._networks.get(holder.session[0]):
            link.send(Probe(holder.session[1]))
        self._timers[waiter.session] = self._loop.call_later(
            self.config.pop3.wait, self._waited_enough, account, waiter.session
        )

    def _waited_enough(self, account: str, session: Session) -> None:
        self._timers.pop(session, None)
        if self._locks.give_up(account, session):
            self._in_use(account, session)

    def _in_use(self, account: str, session: Session) -> None:
        self._waiting.pop(session, None)
        holder, link = self._locks.holder(account), self._networks.get(session[0])
        if holder and link:
            since = time.strftime("%H:%M:%S UTC", time.gmtime(holder.since))
            text = f"the maildrop is in use since {since} by a session from {holder.peer}"
            link.send(LoginRefused(session[1], "IN-USE", text, True))  # its challenge is spent

    def _give_up(self, session: Session) -> None:
        """The client has gone while its login waited."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()
            self._locks.give_up(self._waiting.pop(session).name, session)

    def _ended(self, session: Session) -> None:
        """A session's maildrop is free: whoever waits for it is next."""
        worker = self._serving.pop(session, None)
        if worker is not None:
            worker.sessions -= 1
        following = self._locks.release(session)
        if following is not None:
            session = following[1].session
            if timer := self._timers.pop(session, None):
                timer.cancel()
            self._open_maildrop(session)

    # Mail that comes in.

    def _resolve(self, network: int, message: Resolve) -> None:
        link, session = self._networks[network], message.session
        try:
            account, local = self._directory.recipient(message.recipient)
            granted = not local and self.grants.find(message.peer, time.time()) is not None
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            link.send(Resolved(session, "", True, False, "4.3.0", TROUBLE))
            return
        if account is None or not self.config.accounts.quota:
            link.send(Resolved(session, account.name if account else "", local, granted))
            return
        usage = Usage(network, session, account.name, account.maildir, message.octets, granted)
        refusal = Resolved(session, "", True, False, "4.3.0", TROUBLE)
        self.workers.of(account).ask(usage, network, refusal)

    def _open_slot(self, network: int, session: int, name: str) -> None:
        account = self._found(name)
        if account is None:
            self._networks[network].send(SlotRefused(session, "4.3.0", TROUBLE))
            return
        question = OpenSlot(network, session, account.name, account.maildir)
        self.workers.of(account).ask(question, network, SlotRefused(session, "4.3.0", TROUBLE))

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
            case Deliver():
                self._deliver(message, descriptors)

    def _resolve_all(self, message: ResolveAll) -> BrokerToDelivery:
        try:
            found = [self._directory.recipient(recipient) for recipient in message.recipients]
            granted = bool(message.peer) and self.grants.find(message.peer, time.time()) is not None
        except TryLater as error:
            log.line("recipient-deferred", why=error.why)
            found, granted = [(None, True)] * len(message.recipients), False
        names = tuple(account.name if account else "" for account, _ in found)
        return ResolvedAll(message.delivery, names, tuple(local for _, local in found), granted)

    def _deliver(self, message: Deliver, descriptors: Descriptors) -> None:
        account = self._found(message.account)
        if account is None:
            close_all(descriptors)
            assert self._delivery is not None
            self._delivery.send(DeliveryDone(message.delivery, "deferred", "no such account just now"))
            return
        located = msgspec.structs.replace(message, maildir=account.maildir)
        lost = DeliveryDone(message.delivery, "deferred", "the worker died")
        self.workers.of(account).ask(located, DELIVERY, lost, descriptors)

    # Workers.

    def _from_worker(self, worker: Worker, message: WorkerToBroker) -> None:
        match message:
            case Ended(network, session):
                if self._serving.get((network, session)) is worker:
                    self._ended((network, session))
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
        for session in [session for session, served_by in self._serving.items() if served_by is worker]:
            self._ended(session)


def _passwd(config: Config) -> PasswdAccounts:
    return PasswdAccounts(config.accounts.password_file, tuple(config.domains), privilege.as_user)


async def _main(control: socket.socket, home: Home, nursery: Nursery, mail: tuple[int | None, int | None]) -> None:
    broker = Broker(control, home, nursery, mail)
    await broker.ended.wait()


def main(control: socket.socket, home: Home, mail: tuple[int | None, int | None]) -> None:
    """Serve until the parent says Drain or has gone. `mail`: uid and gid of virtual mail, None for our own."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)
    nursery = open_nursery()
    privilege.harden()
    run(_main(control, home, nursery, mail))
