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
from ..store.secrets import matches
from ..terms import Account, Attempt, Exposure, Mechanism, TryLater
from .directory import Directory
from .tls_only import TlsOnly

CHALLENGES_LIMIT = 4096  # in one request
REFUSED = "authentication failed"
TLS_ONLY = "this account logs in under TLS only: choose SSL/TLS in the mail program"  # said to who has the secret alone


@dataclass(frozen=True, slots=True)
class Success:
    """A good login."""

    account: Account
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Judge:
    """The one place where a login is decided."""

    config: Config
    directory: Directory
    challenges: Challenges
    trusted: Networks
    wrong: Callable[[Login], None]  # hears of each attempt with a wrong secret, or for nobody
    tls_only: TlsOnly
    record: Callable[..., None]  # Attempts.record: hears of every attempt

    def issue(self, network: int, count: int) -> tuple[bytes, ...]:
        """Fresh challenges for that network process."""
        now, stamp = time.monotonic(), int(time.time())
        count = min(max(count, 0), CHALLENGES_LIMIT)
        return tuple(self.challenges.issue(network, randomness.token_bytes(16), now, stamp) for _ in range(count))

    def verdict(self, network: int, login: Login) -> Success | LoginRefused:
        """Who it is, or what to tell the client."""
        if self.challenges.spend(network, login.challenge, time.monotonic()) is None:
            return self._refused(login, "challenge", final=True)
        try:
            mechanism = Mechanism(login.mechanism)
            attempt = Attempt(login.name, login.proof, mechanism, login.challenge, login.secured)
            if of(attempt) is Exposure.PASSWORD and not self._plaintext_allowed(login):
                return self._refused(login, "policy", final=True)
            account, secret = self.directory.login(login.name)
        except ValueError:
            return self._refused(login, "mechanism", final=True)
        except TryLater as error:
            log.line("login-deferred", rip=login.peer, why=error.why)
            self.record(login, "deferred")
            return LoginRefused(login.session, "SYS/TEMP", "logins are not possible just now, try again later", False)
        if not matches(attempt, secret) or account is None:
            if account is not None:
                self._explain(account, secret)
            self.wrong(login)
            left = self.challenges.failed(login.challenge)
            return self._refused(login, "badcred", final=left <= 0)
        if self.tls_only.refuses(account.name, login):
            return self._refused(login, "ratchet", final=True, text=TLS_ONLY)
        self.challenges.succeeded(login.challenge)
        self.record(login, "", account.name)
        return Success(account, secret or b"")

    def _plaintext_allowed(self, login: Login) -> bool:
        policy = self.config.policy.plaintext
        return plaintext_allowed(policy, trusted=self.trusted.contains(login.peer), secured=login.secured)

    def _explain(self, account: Account, secret: bytes | None) -> None:
        """Log what is wrong with a system user's own file, however right the client's secret is."""
        if account.uid is None or not (secret is None or secret.endswith(b"\r")):
            return
        what = "is not there" if secret is None else "ends its first line with CR LF, and the CR counts: end it with LF"
        path = f"{account.home}/{self.config.accounts.password_file}"
        log.line("secret-refused", user=account.name, why=f"{path} {what}")

    def _refused(self, login: Login, reason: str, *, final: bool, text: str = REFUSED) -> LoginRefused:
        self.record(login, reason)
        user = login.name.decode("utf-8", "surrogateescape")
        proto = "submission" if isinstance(login, Authenticate) else "pop3"
        log.line("auth-fail", rip=login.peer, proto=proto, mech=login.mechanism, reason=reason, user=user)
        return LoginRefused(login.session, "AUTH", text, final)
