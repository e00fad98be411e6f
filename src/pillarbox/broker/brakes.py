"""Logins are judged when the throttle allows it. What waits is a message in our memory, and no work: a thousand
guessers cost a look every quarter of a second, and whoever comes from elsewhere is judged at once.

A secret that we generated has 130 bits or more and can't be guessed, so an account's brake does not hold it. Whatever would
have to wait is looked at for that first: a right one goes on at once, and of a wrong one nothing shows, whether the
account has generated secrets, others, or does not exist; it waits like any other. Networks have so many looks a minute.

No failure outlives the broker. What an attacker wins by its death is a score of guesses, and no stranger can bring it
about; known networks are read from the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from .. import log
from ..config import Config
from ..messages import Authenticate, Login, LoginRefused, LoginStep
from ..policy.networks import NO_ADDRESS, Networks, host_of
from ..policy.throttle import Guess, Throttle
from ..policy.waiting_room import WaitingRoom
from ..store.accounts import full_name
from ..store.devices import split_label
from .directory import Directory

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
        generated: Callable[[int, Login | LoginStep], bool],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`judge(network, message)` is called once it may be judged, at once or later; `refuse` where it never will be.

        `generated`: Judge.proves_generated."""
        self._judge = judge
        self._refuse = refuse
        self._generated = generated
        self._loop = loop
        self.throttle = Throttle(os.urandom(KEY_OCTETS))
        self._room: WaitingRoom[Session] = WaitingRoom(self.throttle, random.SystemRandom().random)
        self._logins: dict[Session, tuple[Login, LoginStep | None]] = {}  # those that wait
        self._watched = False
        self._lines, self._counted_since = 0, 0.0

    def configure(self, config: Config, trusted: Networks, directory: Directory) -> None:
        self._domains = config.domains
        self._directory = directory
        self._trusted = trusted
        settings = config.throttle
        self.throttle.limit(settings.longest_delay, settings.network_guesses, settings.account_guesses)

    def remember(self, logins: Mapping[tuple[str, str], float]) -> None:
        """Good logins of earlier, the latest last: Unix times by account and address."""
        now, clock = time.monotonic(), time.time()
        for (account, address), when in logins.items():
            owner = full_name(account, self._domains) or account
            self.throttle.succeeded(self.throttle.guess(address, owner, b""), now - max(0.0, clock - when))

    def named(self, name: bytes) -> str:
        """The account whose brake a login name has, whether there is one or not. What stands behind a plus names a device
        of it, an account of its own, or nothing: it must not give a guesser a fresh brake, nor tell which it is."""
        full = full_name(name, self._domains)
        if full is None:
            return name.decode("utf-8", "surrogateescape")
        local, _, domain = full.rpartition("@")
        return f"{local.partition('+')[0]}@{domain}"

    def _guess(self, login: Login, step: LoginStep | None = None) -> Guess:
        trusted, proof = self._trusted.contains(login.peer), step.response if step else login.proof
        name, owner = self.named(login.name), self._owner(login.name)
        return self.throttle.guess(login.peer, name, proof, trusted=trusted, owner=owner)

    def _owner(self, name: bytes) -> str:
        """The account whose networks count: that of the full name goes before one whose device it would name. Empty: the
        one whose brake it is."""
        full = full_name(name, self._domains) or ""
        if "+" not in full:
            return ""
        return next((meant for meant in (full, split_label(full)[0]) if self._directory.known(meant)), "")

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
        guess, now, message = self._guess(login, step), time.monotonic(), step or login
        if self._room.must_wait(guess, now):
            guess = self._looked_at(network, guess, message, now)
        if not self._room.must_wait(guess, now):
            self._judge(network, message)
            return
        self._logins[session] = login, step
        placeless = self._room.enter(session, guess, now)
        if placeless is not None:
            self._send_away(placeless, "too many wait")
        self._watch()

    def _looked_at(self, network: int, guess: Guess, message: Login | LoginStep, now: float) -> Guess:
        """The same; free of the account's brake where a secret proves it that nobody guesses."""
        if not self.throttle.may_look(guess, now):
            return guess
        if self._generated(network, message):
            return replace(guess, generated=True)
        self.throttle.looked(guess, now)
        return guess

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
