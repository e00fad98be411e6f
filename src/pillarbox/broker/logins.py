"""From a login to its answer: judged, at once or after a slow hash, remembered, and led on to its maildrop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from .. import log
from ..link import Link
from ..messages import Authenticate, Authenticated, Login, LoginRefused
from ..store.devices import Use
from .last_use import LastUse
from .locks import Session
from .login import Judge, Success, Undecided
from .passwords import Passwords
from .sessions import Sessions
from .standing import Standings


class Logins:
    """One for the broker's life. `networks`: the links to network processes, by number."""

    def __init__(
        self,
        networks: Mapping[int, Link],
        judge: Callable[[], Judge],
        standings: Standings,
        sessions: Sessions,
        last_use: LastUse,
    ) -> None:
        self._networks = networks
        self._judge = judge
        self._standings = standings
        self._sessions = sessions
        self._last_use = last_use
        self._passwords = Passwords()
        self._undecided: set[Session] = set()  # whose password is being verified

    def log_in(self, network: int, login: Login) -> None:
        """Where that session has not done so already."""
        session = network, login.session
        if session in self._undecided or (not isinstance(login, Authenticate) and self._sessions.knows(session)):
            log.line("login-ignored", network=network, why="that session has logged in already")
            return
        self._judged(network, login, self._judge().verdict(network, login))

    def _judged(self, network: int, login: Login, verdict: Success | Undecided | LoginRefused) -> None:
        if isinstance(verdict, Undecided):
            self._verify(network, verdict)
        elif isinstance(verdict, LoginRefused):
            self._networks[network].send(verdict)
        else:
            self._let_in(network, login, verdict)

    def _let_in(self, network: int, login: Login, success: Success) -> None:
        session, account, credential = (network, login.session), success.account, success.credential
        if credential.label:
            self._last_use.note(account.name, credential.label, Use(time.time(), login.peer, login.mechanism))
        if isinstance(login, Authenticate):
            self._standings.authenticated(session, account.name, login.peer)
            self._networks[network].send(Authenticated(login.session, account.name))
        else:
            self._standings.logged_in(login, account, credential)
            self._sessions.begin(session, account, login.peer)

    def _verify(self, network: int, undecided: Undecided) -> None:
        """Meanwhile the client may go, and so may its network process."""
        login, link = undecided.login, self._networks[network]
        session = network, login.session

        def decided(right: bool) -> None:
            if session in self._undecided and self._networks.get(network) is link:
                self._undecided.remove(session)
                self._judged(network, login, self._judge().decide(undecided, right))

        if self._passwords.verify(undecided.verifier, login.proof, decided):
            self._undecided.add(session)
        else:
            link.send(self._judge().deferred(login, "too many passwords wait to be verified"))

    def give_up(self, session: Session) -> None:
        """The client has gone while its password was verified."""
        self._undecided.discard(session)

    def forget_network(self, number: int) -> None:
        """That network process has gone."""
        self._undecided = {session for session in self._undecided if session[0] != number}

    def close(self) -> None:
        self._passwords.close()
