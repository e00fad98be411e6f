"""From a login to its answer: slowed by the brakes, judged, at once or after a slow hash, remembered, and led on to its
maildrop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from .. import log
from ..link import Link
from ..messages import Authenticate, Authenticated, Login, LoginRefused, LoginStep
from ..protocol.scram import HASHES as SCRAM
from ..store.devices import Use
from ..terms import TryLater
from .brakes import Brakes
from .exchanges import Exchanges
from .last_use import LastUse
from .locks import Session
from .login import Judge, Success, Undecided, Verdict
from .passwords import Passwords
from .sessions import Sessions
from .standing import Standings

_BEGIN = frozenset(mechanism.value for mechanism in SCRAM)  # what such a login begins with proves nothing


class Logins:
    """One for the broker's life. `networks`: the links to network processes, by number."""

    def __init__(
        self,
        networks: Mapping[int, Link],
        judge: Callable[[], Judge],
        standings: Standings,
        sessions: Sessions,
        exchanges: Exchanges,
        last_use: LastUse,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._networks = networks
        self._judge = judge
        self._standings = standings
        self._sessions = sessions
        self._exchanges = exchanges
        self._last_use = last_use
        self._passwords = Passwords()
        self._undecided: set[Session] = set()  # whose password is being verified
        self.brakes = Brakes(self._judge_now, self._refuse, self._proves_generated, loop=loop)

    def log_in(self, network: int, login: Login) -> None:
        """Where that session has not done so already."""
        session = network, login.session
        if session in self._undecided or self._sessions.knows(session):
            log.line("login-ignored", network=network, why="that session has logged in already")
        elif login.mechanism in _BEGIN:
            self._judge_now(network, login)
        else:
            self.brakes.admit(network, login)

    def go_on(self, network: int, step: LoginStep) -> None:
        """The brakes stand before the step that proves the secret."""
        exchange = self._exchanges.get((network, step.session), time.monotonic())
        if exchange is None or exchange.verified:
            self._judge_now(network, step)
        else:
            self.brakes.admit(network, exchange.login, step)

    def wrong(self, login: Login) -> None:
        """It was judged, and the secret was wrong, or the account is nobody's."""
        self._standings.failed(login)
        self.brakes.failed(login)

    def _proves_generated(self, network: int, message: Login | LoginStep) -> bool:
        return self._judge().proves_generated(network, message)

    def _judge_now(self, network: int, message: Login | LoginStep) -> None:
        judge = self._judge()
        if isinstance(message, LoginStep):
            self._judged(network, judge.go_on(network, message))
        else:
            self._judged(network, judge.verdict(network, message))

    def _judged(self, network: int, verdict: Verdict | Undecided) -> None:
        if isinstance(verdict, Undecided):
            self._verify(network, verdict)
        elif isinstance(verdict, Success):
            self._let_in(network, verdict)
        else:
            self._networks[network].send(verdict)

    def _let_in(self, network: int, success: Success) -> None:
        login, account, credential = success.login, success.account, success.credential
        session = network, login.session
        self.brakes.succeeded(login)
        if credential.label:
            self._last_use.note(account.name, credential.label, Use(time.time(), login.peer, login.mechanism))
        if isinstance(login, Authenticate):
            self._standings.authenticated(session, account.name, credential, login.peer)
            self._networks[network].send(Authenticated(login.session, account.name))
        else:
            self._standings.logged_in(login, account, credential)
            self._sessions.begin(session, account, login.peer)

    def _verify(self, network: int, undecided: Undecided) -> None:
        """Meanwhile the client may go, and so may its network process; its guess counts all the same."""
        login, link = undecided.login, self._networks[network]
        session = network, login.session
        verified = self.brakes.verifying(login)

        def decided(right: bool | None) -> None:
            try:
                verdict = self._judge().decide(undecided, right)
            finally:
                verified()
            if session in self._undecided and self._networks.get(network) is link:
                self._undecided.remove(session)
                self._judged(network, verdict)

        try:
            self._passwords.verify(undecided.verifier, login.proof, decided)
        except TryLater as error:
            verified()
            link.send(self._judge().deferred(login, error.why))
        else:
            self._undecided.add(session)

    def _refuse(self, network: int, refusal: LoginRefused) -> None:
        self._exchanges.forget((network, refusal.session))
        self._networks[network].send(refusal)

    def give_up(self, session: Session) -> None:
        """The client has gone, or has broken its login off."""
        self._undecided.discard(session)
        self._exchanges.forget(session)
        self.brakes.give_up(session)

    def forget_network(self, number: int) -> None:
        """That network process has gone."""
        self._undecided = {session for session in self._undecided if session[0] != number}
        self._exchanges.forget_network(number)
        self.brakes.forget_network(number)

    def close(self) -> None:
        self._passwords.close()
