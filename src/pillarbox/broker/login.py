"""Judging a login: challenge, policy, account, secret, in that order; what the client learns is the same for every no.

Most are judged at once. SCRAM goes on: its first message begins an exchange, and its steps come back here.
"""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from .. import log
from ..config import Config
from ..messages import Authenticate, Login, LoginChallenge, LoginRefused, LoginStep
from ..policy import mechanisms
from ..policy.challenges import Challenges
from ..policy.networks import Networks
from ..protocol.scram import HASHES as SCRAM
from ..store.accounts import full_name
from ..store.secrets import matches
from ..terms import Account, Attempt, Mechanism, Refused, TryLater
from .directory import Directory
from .exchanges import Exchange, Exchanges, Session
from .tls_only import TlsOnly

CHALLENGES_LIMIT = 4096  # in one request
REFUSED = "authentication failed"
TLS_ONLY = "this account logs in under TLS only: choose SSL/TLS in the mail program"  # said to who has the secret alone


@dataclass(frozen=True, slots=True)
class Success:
    """A good login."""

    login: Login
    account: Account
    secret: bytes = field(repr=False)


Verdict = Success | LoginChallenge | LoginRefused


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
    exchanges: Exchanges

    def issue(self, network: int, count: int) -> tuple[bytes, ...]:
        """Fresh challenges for that network process."""
        now, stamp = time.monotonic(), int(time.time())
        count = min(max(count, 0), CHALLENGES_LIMIT)
        return tuple(self.challenges.issue(network, randomness.token_bytes(16), now, stamp) for _ in range(count))

    def verdict(self, network: int, login: Login) -> Verdict:
        """Who it is, or what to tell the client."""
        self.exchanges.forget((network, login.session))
        if self.challenges.spend(network, login.challenge, time.monotonic()) is None:
            return self._refused(login, "challenge", final=True)
        try:
            mechanism = Mechanism(login.mechanism)
            attempt = Attempt(login.name, login.proof, mechanism, login.challenge, login.secured)
            if not self._offered(login).holds(mechanism):
                return self._refused(login, "policy", final=True)
            account, secret = self.directory.login(login.name)
            if mechanism in SCRAM:
                return self._begin((network, login.session), login, (account, secret))
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
            return self._failed(login, "badcred")
        if refusal := self._right(login, account):
            return refusal
        self.challenges.succeeded(login.challenge)
        return Success(login, account, secret or b"")

    def _right(self, login: Login, account: Account) -> LoginRefused | None:
        """The secret was right: the ledger hears of it, unless something else speaks against the login."""
        if self.tls_only.refuses(account.name, login):
            return self._refused(login, "ratchet", final=True, text=TLS_ONLY)
        self.record(login, "", account.name)
        return None

    # SCRAM.

    def _begin(
        self, session: Session, login: Login, found: tuple[Account | None, bytes | None]
    ) -> LoginChallenge | LoginRefused:
        name = full_name(login.name, self.directory.domains) or login.name.decode("utf-8", "replace")
        try:
            challenge = self.exchanges.begin(session, login, name, found, time.monotonic())
        except Refused as error:
            return self._failed(login, error.why)
        return LoginChallenge(login.session, challenge)

    def go_on(self, network: int, step: LoginStep) -> Verdict:
        """The same for a login that has begun."""
        session = network, step.session
        exchange = self.exchanges.get(session, time.monotonic())
        if exchange is None:
            return LoginRefused(step.session, "AUTH", "that login has waited for too long, begin again", False)
        verdict = self._verdict(exchange, step.response)
        if not isinstance(verdict, LoginChallenge):
            self.exchanges.forget(session)
        return verdict

    def _verdict(self, exchange: Exchange, response: bytes) -> Verdict:
        login = exchange.login
        if exchange.verified:
            if response or exchange.account is None:
                return self._failed(login, "a response behind the last")
            self.challenges.succeeded(login.challenge)
            return Success(login, exchange.account, exchange.secret or b"")
        try:
            signature = self.exchanges.verify(exchange, response)
        except Refused as error:
            return self._failed(login, error.why)
        if signature is None or exchange.account is None:
            self.wrong(replace(login, proof=response))
            return self._failed(login, "badcred")
        return self._right(login, exchange.account) or LoginChallenge(login.session, signature)

    def _offered(self, login: Login) -> mechanisms.Offer:
        policy = self.config.policy
        return mechanisms.offered(
            policy.profile,
            policy.plaintext,
            trusted=self.trusted.contains(login.peer),
            secured=login.secured,
            bound=bool(login.binding),
            submission=isinstance(login, Authenticate),
        )

    def _failed(self, login: Login, reason: str) -> LoginRefused:
        """The attempt is spent: how many are left?"""
        return self._refused(login, reason, final=self.challenges.failed(login.challenge) <= 0)

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
