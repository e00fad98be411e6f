"""Logins are judged when the throttle allows it. What waits is a message in our memory, and no work: a thousand
guessers cost a look every quarter of a second, and whoever comes from elsewhere is judged at once.

Nothing outlives the broker. What an attacker wins by its death is a score of guesses, and no stranger can bring it about;
known networks are learnt again with the next logins there, most clients' within minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable

from .. import log
from ..config import Config
from ..messages import Authenticate, Login, LoginRefused, LoginStep
from ..policy.networks import NO_ADDRESS, Networks, host_of
from ..policy.throttle import Guess, Throttle
from ..policy.waiting_room import WaitingRoom
from ..store.accounts import full_name

LOOK_SECONDS = 0.25  # between two looks at who waits
KEY_OCTETS = 32
LINES = 10  # about attempts sent away, in LINES_SECONDS; a flood must not fill the disk
LINES_SECONDS = 1.0
LATER = "too many failed logins just now, try again later"

Session = tuple[int, int]  # network process, and its number for the connection


class Brakes:
    """One for the broker's life."""

    def __init__(
        self,
        judge: Callable[[int, Login | LoginStep], None],
        refuse: Callable[[int, LoginRefused], None],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`judge(network, message)` is called once it may be judged, at once or later; `refuse` where it never will be."""
        self._judge = judge
        self._refuse = refuse
        self._loop = loop
        self.throttle = Throttle(os.urandom(KEY_OCTETS))
        self._room: WaitingRoom[Session] = WaitingRoom(self.throttle)
        self._logins: dict[Session, tuple[Login, LoginStep | None]] = {}  # those that wait
        self._watched = False
        self._lines, self._counted_since = 0, 0.0

    def configure(self, config: Config, trusted: Networks) -> None:
        self._domains = config.domains
        self._trusted = trusted
        settings = config.throttle
        self.throttle.limit(settings.longest_delay, settings.network_guesses, settings.account_guesses)

    def named(self, name: bytes) -> str:
        """The account that a login name is meant for, whether there is one or not. What stands behind a plus names a
        device of it, or nothing: it must not give a guesser a fresh brake."""
        full = full_name(name, self._domains)
        if full is None:
            return name.decode("utf-8", "surrogateescape")
        local, _, domain = full.rpartition("@")
        return f"{local.partition('+')[0]}@{domain}"

    def _guess(self, login: Login, step: LoginStep | None = None) -> Guess:
        trusted, proof = self._trusted.contains(login.peer), step.response if step else login.proof
        return self.throttle.guess(login.peer, self.named(login.name), proof, trusted=trusted)

    # A person's commands.

    def command(self, verb: str, argument: str) -> str:
        """What a person is told; "show" is answered with a JSON object. `argument`: an address, an account, or nothing."""
        return self._clear(argument) if verb == "clear" else self._show(argument)

    def _show(self, argument: str) -> str:
        address, name = self._meant(argument)
        slowed = self.throttle.slowed(time.monotonic(), address, name)
        found: dict[str, object] = {"waiting": len(self._logins)}
        for kind, word in (("addresses", "address"), ("networks", "network"), ("accounts", "account")):
            found[kind] = [
                {
                    word: one.name,
                    **({"failures": round(one.failures, 1)} if one.failures else {}),
                    "wait": round(one.wait, 1),
                }
                for one in slowed[kind]
            ]
        return json.dumps(found)

    def _clear(self, argument: str) -> str:
        address, name = self._meant(argument)
        if not argument:
            self.throttle.clear()
            return "all failures are forgotten"
        there = self.throttle.clear_address(address) if address else self.throttle.clear_account(name)
        return f"{address or name} is not slowed any more" if there else f"{address or name} had no failures"

    def _meant(self, argument: str) -> tuple[str, str]:
        """The address, or the account; an argument of one kind leaves the other empty."""
        if not argument or host_of(argument) != NO_ADDRESS:
            return argument, ""
        return "", self.named(argument.encode("utf-8", "surrogateescape"))

    # Attempts.

    def admit(self, network: int, login: Login, step: LoginStep | None = None) -> None:
        """Have it judged as soon as that may be. `step`: what proves the secret, in a login of several steps."""
        session = network, login.session
        if session in self._room:
            log.line("login-ignored", network=network, why="that session has a login waiting already")
            return
        guess, now = self._guess(login, step), time.monotonic()
        if not self._room.must_wait(guess, now):
            self._judge(network, step or login)
            return
        self._logins[session] = login, step
        placeless = self._room.enter(session, guess, now)
        if placeless is not None:
            self._send_away(placeless, "too many wait")
        self._watch()

    def failed(self, login: Login) -> None:
        """It was judged, and the secret was wrong, or the account is nobody's."""
        self.throttle.failed(self._guess(login), time.monotonic())

    def succeeded(self, login: Login) -> None:
        self.throttle.succeeded(self._guess(login), time.monotonic())

    def verifying(self, login: Login) -> Callable[[], None]:
        """Its verdict takes a while, and whoever it might slow waits for that. To be called: once it is there."""
        brakes = self.throttle.brakes(self._guess(login), time.monotonic())
        self.throttle.verifying(brakes)

        def verified() -> None:
            self.throttle.verified(brakes)
            if self._logins:
                self._loop.call_soon(self._judge_due)

        return verified

    def give_up(self, session: Session) -> None:
        """The client has gone."""
        self._room.leave(session)
        self._logins.pop(session, None)

    def forget_network(self, network: int) -> None:
        """That network process has gone, and its clients with it."""
        for session in [session for session in self._logins if session[0] == network]:
            self.give_up(session)

    # Those that wait.

    def _watch(self) -> None:
        if self._logins and not self._watched:
            self._watched = True
            self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._watched = False
        try:
            self._judge_due()
        finally:
            self._watch()

    def _judge_due(self) -> None:
        now = time.monotonic()
        for session, guess, judged in self._room.due(now):
            if judged:
                login, step = self._logins.pop(session)
                self._judge(session[0], step or login)
            else:
                self._send_away(session, self.throttle.why(guess, now))

    def _send_away(self, session: Session, why: str) -> None:
        """It was not judged, so no reply that tells anything of the account; nor an auth-fail line: an owner whom others
        keep waiting is not to be banned for it."""
        login, _ = self._logins.pop(session)
        if self._may_tell():
            proto = "submission" if isinstance(login, Authenticate) else "pop3"
            log.line("login-held-off", rip=login.peer, proto=proto, mech=login.mechanism, why=why)
        self._refuse(session[0], LoginRefused(login.session, "SYS/TEMP", LATER, True))

    def _may_tell(self) -> bool:
        now = time.monotonic()
        if now - self._counted_since >= LINES_SECONDS:
            if self._lines > LINES:
                log.line("logins-held-off", more=self._lines - LINES)
            self._lines, self._counted_since = 0, now
        self._lines += 1
        return self._lines <= LINES
