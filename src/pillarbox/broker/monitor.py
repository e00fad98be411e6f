"""The broker: reads secrets, issues challenges, judges every login, and hands the client on to a worker.

It talks to our own processes only, never to a stranger. Started as root, these files run as root: this one, admission,
attempts, brakes, certificates, connection_rules, directory, exchanges, for_delivery, last_use, locks, login, logins,
nursery, passwords, sessions, standing, tls_only, workers, privilege; protocol.scram, credentials, saslprep;
store.accounts, store.database, store.devices, store.cdb, store.certificates, store.ledger*, store.password_hash,
store.ratchet, store.secrets, store.grants, store.passwd (as the user whose file it reads); policy; channel, link, log. A
user's folder is touched by a worker of that user's uid alone, and so are its .qmail files.
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
    Challenges,
    Configure,
    DeliveryDone,
    Drain,
    Ended,
    FromParent,
    GiveUp,
    Greeted,
    Idle,
    Instructed,
    LoggedOut,
    Login,
    LoginStep,
    Neighbour,
    NetworkToBroker,
    OpenSlot,
    Ready,
    Resolve,
    Resolved,
    Ruled,
    SlotRefused,
    Usage,
    WantChallenges,
    WantSlot,
    WorkerToBroker,
)
from ..policy import challenges
from ..policy.networks import Networks
from ..store.accounts import AccountStore
from ..store.grant_key import boot_id, grant_key
from ..store.secrets import load_key, seal_of
from ..terms import Refused, TryLater
from . import privilege
from .admission import Admission
from .attempts import Attempts
from .certificates import WATCH_SECONDS, Certificates
from .connection_rules import ConnectionRules
from .directory import NO_POSTMASTER, Directory, lacks_postmaster, system_users
from .exchanges import Exchanges, scram_key
from .for_delivery import Books, ForDelivery
from .last_use import LastUse
from .login import Judge
from .logins import Logins
from .nursery import Nursery, open_nursery
from .sessions import Sessions
from .standing import NONE, Standing, Standings
from .tls_only import TlsOnly
from .workers import Worker, Workers

TICK_SECONDS = 10.0
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
        self._key = key = load_key(
            home.key, create=not os.path.exists(home.accounts)
        )  # a new key would open none of the secrets
        self._standings = Standings(grant_key(key), boot_id())
        self._attempts = Attempts(home)
        self._tls_only = TlsOnly(home.ratchet)
        self._exchanges = Exchanges(scram_key(key))
        self._rules = ConnectionRules()
        self._standings.relays = self._rules.relays
        self._store = AccountStore(home.accounts, (seal := seal_of(home.key, create=False)), home.mail)
        self._last_use = LastUse(home.accounts, seal)
        self._networks: dict[int, Link] = {}
        self._sessions = Sessions(self._networks, lambda: self.workers, lambda: self.config)
        self._logins = Logins(
            self._networks,
            lambda: self._judge,
            self._standings,
            self._sessions,
            self._exchanges,
            self._last_use,
            loop=self._loop,
        )
        self._delivery: ForDelivery | None = None
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
                self._delivery = ForDelivery(
                    sock, lambda: Books(self._directory, self._admission, self.workers, self._logins.brakes)
                )
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
        if not self._may_go_on(config):
            return
        self._directory = Directory(config, self._store, system_users)
        if lacks_postmaster(config):
            log.line("warning", what=NO_POSTMASTER)
        self._standings.configure(config, self._directory, config.relay.directory or self._home.grants, trusted)
        self._admission = Admission(self._standings, self._directory, config.relay.recipients, config.queue.smtpd_users)
        self._challenges = self._challenges or challenges.Challenges(config.hostname)
        self._challenges.rename(config.hostname)
        self._attempts.configure(config, self._directory)
        self._tls_only.configure(config.policy.ratchet_days, trusted)
        self._logins.brakes.configure(config, trusted, self._directory)
        wrong, record = self._logins.wrong, self._attempts.record
        self._judge = Judge(
            config, self._directory, self._challenges, trusted, wrong, self._tls_only, record, self._exchanges
        )
        if self._workers is None:
            self._logins.brakes.remember(self._attempts.last_logins())
            pool = config.processes.workers or max(1, (os.cpu_count() or 1) // 2)
            self._workers = Workers(self._nursery, pool, self._mail, text, self._from_worker, self._worker_lost)
            self._parent.send(Ready())
        else:
            self._workers.configure(text)

    def _may_go_on(self, config: Config) -> bool:
        """A server does not start without the rules that it was told of; a running one keeps those that it has."""
        good = self._rules.configure(config.policy)
        if not good and self._workers is None:
            self.close()
            return False
        self._tell_rules()
        return True

    def _read_rules(self) -> None:
        if self._rules.changed():
            self._tell_rules()

    def _tell_rules(self) -> None:
        for link in self._networks.values():
            self._rules.tell(link)

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
        self._rules.tell(link)
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
        self._logins.forget_network(number)

    def close(self) -> None:
        self._last_use.write()
        self._logins.close()
        if self._workers is not None:
            self._workers.close()
        self._attempts.close()
        self.ended.set()

    def _tick(self) -> None:
        often = min(TICK_SECONDS, self.config.relay.expiry / 3) if self._workers else TICK_SECONDS
        self._loop.call_later(often, self._tick)
        self._last_use.write()
        if self._workers is not None:
            self._follow_key()
            self._workers.dismiss_idle()
            if self._delivery is not None:
                self._delivery.give_up()
            self._standings.expire()
            self._read_rules()
            for address, account in self._sessions.logins():
                self._standings.prolong(address, account)

    def _follow_key(self) -> None:
        """After a rotation the grants are those of the new key, for us and for the command line."""
        try:
            key = load_key(self._home.key, create=False)
        except (Refused, TryLater) as error:
            log.line("warning", what=error.why)
            return
        if key != self._key:
            self._key = key
            self._standings.rekey(grant_key(key))
            log.line("key-changed")

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
            case LoginStep():
                self._logins.go_on(network, message)
            case LoggedOut(session):
                self._standings.logged_out((network, session))
            case Login():
                self._logins.log_in(network, message)
            case WantChallenges(count):
                link.send(Challenges(self._judge.issue(network, count)))
            case Greeted(count):
                self._judge.challenges.greeted(network, count, time.monotonic())
            case GiveUp(session):
                self._logins.give_up((network, session))
                self._sessions.give_up((network, session))
            case Resolve():
                self._resolve(network, message)
            case WantSlot(session, name):
                self._open_slot(network, session, name)

    # Mail that comes in.

    def _resolve(self, network: int, message: Resolve) -> None:
        link, session = self._networks[network], message.session
        try:
            resolution = self._directory.glance(message.recipient)
            asked = message.submission or not resolution.local  # who brings us our mail needs no standing
            standing = self._standing(network, message) if asked else NONE
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
            why=standing.why,
        )
        refusal = Resolved(session, "", True, code="4.3.0", text=TROUBLE)
        if resolution.needs_a_file and (user := resolution.instructed):
            question: Usage | Ruled = Ruled(network, user.home, resolution.extension, answer)
        elif account is not None and self.config.accounts.quota:
            user, question = account, Usage(network, account.maildir, message.octets, answer)
        else:
            link.send(answer)
            return
        if worker := self.workers.at_hand(user, at_door=True):
            worker.ask(question, network, refusal)
        else:
            link.send(refusal)

    def _standing(self, network: int, message: Resolve) -> Standing:
        session = network, message.login
        return self._standings.of(message.peer, session, message.sender, submission=message.submission)

    def _open_slot(self, network: int, session: int, name: str) -> None:
        account = self._directory.known(name)
        worker = self.workers.at_hand(account) if account else None
        refusal = SlotRefused(session, "4.3.0", TROUBLE)
        if account is None or worker is None:
            self._networks[network].send(refusal)
            return
        worker.ask(OpenSlot(network, session, account.name, account.maildir), network, refusal)

    # Workers.

    def _from_worker(self, worker: Worker, message: WorkerToBroker) -> None:
        match message:
            case Ended(network, session):
                self._sessions.ended((network, session), worker)
            case Idle():
                self.workers.dismiss(worker)
            case DeliveryDone() | Instructed():
                if not worker.settles(message):
                    log.line("answer-ignored", uid=worker.uid, why="that worker was not asked this")
                elif self._delivery is not None:
                    self._delivery.link.send(message)

    def _worker_lost(self, worker: Worker) -> None:
        """Whoever may still wait for its answer is told; whoever has it, takes no notice."""
        for asker, refusal in worker.asked:
            if link := self._networks.get(asker):
                link.send(refusal)
        if self._delivery is not None:
            for owed in worker.owed.values():
                self._delivery.link.send(owed)
        self._sessions.worker_lost(worker)


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
