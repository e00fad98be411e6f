"""Judging a login: challenge, policy, account, secret, in that order; what the client learns is the same for every no."""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .. import log
from ..config import Config
from ..messages import Authenticate, Login, LoginRefused
from ..policy.challenges import Challenges
from ..policy.exposure import of, plaintext_allowed
from ..policy.networks import Networks
from ..store.devices import DEVICES_LIMIT, Credential
from ..store.secrets import PASSWORDS, matching
from ..terms import Account, Attempt, Exposure, Mechanism, TryLater
from .directory import Directory

CHALLENGES_LIMIT = 4096  # in one request
REFUSED = "authentication failed"
MAY_NOT_SEND = "this device may fetch mail, and not send"
WORK = 1 + DEVICES_LIMIT  # secrets that each login is judged against


@dataclass(frozen=True, slots=True)
class Success:
    """A good login."""

    account: Account
    credential: Credential


@dataclass(frozen=True, slots=True)
class Undecided:
    """Only a slow hash can tell: broker.passwords, and then Judge.decide."""

    login: Login
    account: Account | None
    credential: Credential | None = field(repr=False)  # None: nobody's, which costs the same work

    @property
    def verifier(self) -> str | None:
        return self.credential.secret.decode() if self.credential else None


@dataclass(frozen=True, slots=True)
class Judge:
    """The one place where a login is decided."""

    config: Config
    directory: Directory
    challenges: Challenges
    trusted: Networks
    wrong: Callable[[Login], None]  # hears of each attempt with a wrong secret, or for nobody

    def issue(self, network: int, count: int) -> tuple[bytes, ...]:
        """Fresh challenges for that network process."""
        now, stamp = time.monotonic(), int(time.time())
        count = min(max(count, 0), CHALLENGES_LIMIT)
        return tuple(self.challenges.issue(network, randomness.token_bytes(16), now, stamp) for _ in range(count))

    def verdict(self, network: int, login: Login) -> Success | Undecided | LoginRefused:
        """Who it is, or what to tell the client."""
        if self.challenges.spend(network, login.challenge, time.monotonic()) is None:
            return self._refused(login, "challenge", final=True)
        try:
            mechanism = Mechanism(login.mechanism)
            attempt = Attempt(login.name, login.proof, mechanism, login.challenge, login.secured)
            if of(attempt) is Exposure.PASSWORD and not self._plaintext_allowed(login):
                return self._refused(login, "policy", final=True)
            account, credentials = self.directory.credentials(login.name)
            quick = [credential for credential in credentials if not credential.hashed]
            found = matching(attempt, [credential.secret for credential in quick], WORK)
            slow = found is None and mechanism in PASSWORDS and self.directory.has_passwords()
        except ValueError:
            return self._refused(login, "mechanism", final=True)
        except TryLater as error:
            return self.deferred(login, error.why)
        if slow:
            return Undecided(login, account, next((one for one in credentials if one.hashed), None))
        return self._judged(login, account, quick[found] if found is not None else None)

    def decide(self, undecided: Undecided, right: bool) -> Success | LoginRefused:
        """The hash has told."""
        return self._judged(undecided.login, undecided.account, undecided.credential if right else None)

    def deferred(self, login: Login, why: str) -> LoginRefused:
        """Nobody can tell just now."""
        log.line("login-deferred", rip=login.peer, why=why)
        return LoginRefused(login.session, "SYS/TEMP", "logins are not possible just now, try again later", False)

    def _judged(self, login: Login, account: Account | None, credential: Credential | None) -> Success | LoginRefused:
        """`credential`: what the attempt was made with."""
        if account is None or credential is None:
            return self._wrong(login, "badcred")
        if credential.networks and not Networks(credential.networks).contains(login.peer):
            return self._wrong(login, "network")
        if isinstance(login, Authenticate) and not credential.sends:
            return self._refused(login, "device", final=True, text=MAY_NOT_SEND)
        self.challenges.succeeded(login.challenge)
        return Success(account, credential)

    def _wrong(self, login: Login, reason: str) -> LoginRefused:
        self.wrong(login)
        left = self.challenges.failed(login.challenge)
        return self._refused(login, reason, final=left <= 0)

    def _plaintext_allowed(self, login: Login) -> bool:
        policy = self.config.policy.plaintext
        return plaintext_allowed(policy, trusted=self.trusted.contains(login.peer), secured=login.secured)

    def _refused(self, login: Login, reason: str, *, final: bool, text: str = REFUSED) -> LoginRefused:
        user = login.name.decode("utf-8", "surrogateescape")
        proto = "submission" if isinstance(login, Authenticate) else "pop3"
        log.line("auth-fail", rip=login.peer, proto=proto, mech=login.mechanism, reason=reason, user=user)
        return LoginRefused(login.session, "AUTH", text, final)
