"""POP3 sessions as the broker sees them: good logins, the maildrops they wait for or hold, the workers that serve them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping

from .. import log
from ..config import Config
from ..link import Link
from ..messages import LoginRefused, OpenMaildrop, Probe
from ..terms import Account
from .locks import Holder, Locks, Session
from .workers import Worker, Workers


class Sessions:
    """From a good login to the end of its session. `networks`: the links to network processes, by number."""

    def __init__(
        self, networks: Mapping[int, Link], workers: Callable[[], Workers], config: Callable[[], Config]
    ) -> None:
        self._networks = networks
        self._workers = workers
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._locks = Locks()
        self._waiting: dict[Session, Account] = {}  # logins that were judged and have no maildrop yet
        self._serving: dict[Session, Worker] = {}
        self._timers: dict[Session, asyncio.TimerHandle] = {}
        self._logins: dict[Session, tuple[str, str]] = {}  # address and account

    def knows(self, session: Session) -> bool:
        return session in self._waiting or session in self._serving

    def logins(self) -> set[tuple[str, str]]:
        """Address and account of all sessions that last."""
        return set(self._logins.values())

    def begin(self, session: Session, account: Account, peer: str) -> None:
        """A login is good: open its maildrop, or have it wait for that."""
        self._waiting[session] = account
        self._logins[session] = peer, account.name
        if self._config().pop3.sessions == "shared":
            self._open(session)
            return
        holder = Holder(session, peer, time.time())
        if self._locks.take(account.name, holder):
            self._open(session)
        else:
            self._wait(account.name, holder)

    def _open(self, session: Session) -> None:
        """Have the account's worker open it. Where that can't be, the client is told and the maildrop is free again."""
        account = self._waiting.pop(session)
        refusal = LoginRefused(session[1], "SYS/TEMP", "the maildrop can't be opened just now, try again", True)
        try:
            worker = self._workers().of(account)
        except OSError as error:
            log.line("no-worker", user=account.name, why=error.strerror)
            if link := self._networks.get(session[0]):
                link.send(refusal)
            self.ended(session)
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
            self._config().pop3.wait, self._waited_enough, account, waiter.session
        )

    def _waited_enough(self, account: str, session: Session) -> None:
        self._timers.pop(session, None)
        if self._locks.give_up(account, session):
            self._in_use(account, session)

    def _in_use(self, account: str, session: Session) -> None:
        self._forget(session)
        holder, link = self._locks.holder(account), self._networks.get(session[0])
        if holder and link:
            since = time.strftime("%H:%M:%S UTC", time.gmtime(holder.since))
            text = f"the maildrop is in use since {since} by a session from {holder.peer}"
            link.send(LoginRefused(session[1], "IN-USE", text, True))  # its challenge is spent

    def _forget(self, session: Session) -> Account | None:
        self._logins.pop(session, None)
        return self._waiting.pop(session, None)

    def give_up(self, session: Session) -> None:
        """The client has gone while its login waited."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()
            account = self._forget(session)
            assert account is not None
            self._locks.give_up(account.name, session)

    def forget_network(self, network: int) -> None:
        """That network process has gone: none of its clients waits any more."""
        for session in [session for session in self._timers if session[0] == network]:
            self.give_up(session)

    def ended(self, session: Session, worker: Worker | None = None) -> None:
        """A session's maildrop is free: whoever waits for it is next. `worker`: who says so, if it must be its own."""
        if worker is not None and self._serving.get(session) is not worker:
            return
        self._logins.pop(session, None)
        if served_by := self._serving.pop(session, None):
            served_by.sessions -= 1
        following = self._locks.release(session)
        if following is not None:
            session = following[1].session
            if timer := self._timers.pop(session, None):
                timer.cancel()
            self._open(session)

    def worker_lost(self, worker: Worker) -> None:
        for session in list(self._of(worker)):
            self.ended(session)

    def _of(self, worker: Worker) -> Iterator[Session]:
        return (session for session, served_by in list(self._serving.items()) if served_by is worker)
