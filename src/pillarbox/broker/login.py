"""Judging a login: challenge, policy, account, secret, in that order; what the client learns is the same for every no.

Most are judged at once. SCRAM goes on: its first message begins an exchange, and its steps come back here.
"""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable, Sequence
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
from ..store.devices import DEVICES_LIMIT, Credential, split_label
from ..store.secrets import PASSWORDS, matching
from ..terms import Account, Attempt, Mechanism, Refused, TryLater
from .directory import Directory
from .exchanges import Exchange, Exchanges, Session
from .tls_only import TlsOnly

CHALLENGES_LIMIT = 4096  # in one request
REFUSED = "authentication failed"
TLS_ONLY = "this account logs in under TLS only: choose SSL/TLS in the mail program"  # said to who has the secret alone
MAY_NOT_SEND = "this device may fetch mail, and not send"
WORK = 1 + DEVICES_LIMIT  # secrets that each login is judged against


@dataclass(frozen=True, slots=True)
class Success:
    """A good login."""

    login: Login
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

    def verdict(self, network: int, login: Login) -> Verdict | Undecided:
        """Who it is, or what to tell the client."""
        self.exchanges.forget((network, login.session))
        if self.challenges.spend(network, login.challenge, time.monotonic()) is None:
            return self._refused(login, "challenge", final=True)
        try:
            mechanism = Mechanism(login.mechanism)
            attempt = Attempt(login.name, login.proof, mechanism, login.challenge, login.secured)
            if not self._offered(login).holds(mechanism):
                return self._refused(login, "policy", final=True)
            account, credentials = self.directory.credentials(login.name)
            quick = [credential for credential in credentials if not credential.hashed]
            if mechanism in SCRAM:
                return self._begin((network, login.session), login, account, quick)
            found = matching(attempt, [credential.secret for credential in quick], WORK)
            slow = found is None and mechanism in PASSWORDS and self.directory.has_passwords()
        except ValueError:
            return self._refused(login, "mechanism", final=True)
        except TryLater as error:
            return self.deferred(login, error.why)
        if found is None and account is not None:
            self._explain(login, account, quick)
        if slow:
            return Undecided(login, account, next((one for one in credentials if one.hashed), None))
        return self._judged(login, account, quick[found] if found is not None else None)

    def proves_generated(self, network: int, message: Login | LoginStep) -> bool:
        """Was it made with a secret that we generated? Nothing is spent, counted or written down, and the work is the
        same for every no."""
        try:
            if isinstance(message, LoginStep):
                exchange = self.exchanges.get((network, message.session), time.monotonic())
                return exchange is not None and self.exchanges.proves_generated(exchange, message.response)
            mechanism = Mechanism(message.mechanism)
            attempt = Attempt(message.name, message.proof, mechanism, message.challenge, message.secured)
            return matching(attempt, self.directory.generated(message.name), WORK) is not None
        except (ValueError, TryLater):
            return False

    def decide(self, undecided: Undecided, right: bool | None) -> Verdict:
        """The hash has told; None: it could not."""
        login, account, credential = undecided.login, undecided.account, undecided.credential
        if right is None:
            return self.deferred(login, "a password can't be verified: no memory, or a verifier that is damaged")
        try:
            good = right and self._holds(login, account, credential)
        except TryLater as error:
            return self.deferred(login, error.why)
        return self._judged(login, account, credential if good else None)

    def _holds(self, login: Login, account: Account | None, credential: Credential | None) -> bool:
        """Has the account it still? What was read when the login began may have been revoked meanwhile."""
        now, credentials = self.directory.credentials(login.name)
        return now == account and (credential is None or credential in credentials)

    def deferred(self, login: Login, why: str) -> LoginRefused:
        """Nobody can tell just now."""
        log.line("login-deferred", rip=login.peer, why=why)
        self.record(login, "deferred")
        return LoginRefused(login.session, "SYS/TEMP", "logins are not possible just now, try again later", False)

    def _judged(self, login: Login, account: Account | None, credential: Credential | None) -> Success | LoginRefused:
        """`credential`: what the attempt was made with."""
        if account is None or credential is None:
            return self._wrong(login, "badcred")
        if refusal := self._right(login, account, credential):
            return refusal
        self.challenges.succeeded(login.challenge)
        return Success(login, account, credential)

    def _right(self, login: Login, account: Account, credential: Credential) -> LoginRefused | None:
        """The secret was right: the ledger hears of it, unless something else speaks against the login."""
        if credential.networks and not Networks(credential.networks).contains(login.peer):
            return self._wrong(login, "network")
        if isinstance(login, Authenticate) and not credential.sends:
            return self._refused(login, "device", final=True, text=MAY_NOT_SEND)
        if self.tls_only.refuses(account.name, login):
            return self._refused(login, "ratchet", final=True, text=TLS_ONLY)
        self.record(login, "", account.name, credential.label)
        return None

    def _wrong(self, login: Login, reason: str) -> LoginRefused:
        self.wrong(login)
        return self._failed(login, reason)

    # SCRAM.

    def _begin(
        self, session: Session, login: Login, account: Account | None, credentials: Sequence[Credential]
    ) -> LoginChallenge | LoginRefused:
        """The salt is that of one secret: the account's own, or of the device whose label the name has."""
        name = full_name(login.name, self.directory.domains) or login.name.decode("utf-8", "replace")
        wanted = "", split_label(name)[1]
        credential = next((one for one in credentials if one.label in wanted), None)
        try:
            challenge = self.exchanges.begin(session, login, name, (account, credential), time.monotonic())
        except Refused as error:
            return self._failed(login, error.why)
        return LoginChallenge(login.session, challenge)

    def go_on(self, network: int, step: LoginStep) -> Verdict:
        """The same for a login that has begun."""
        session = network, step.session
        exchange = self.exchanges.get(session, time.monotonic())
        if exchange is None:
            return LoginRefused(step.session, "AUTH", "that login has waited for too long, begin again", False)
        try:
            holds = self._holds(exchange.login, exchange.account, exchange.credential)
            verdict = self._verdict(exchange, step.response, holds=holds)
        except TryLater as error:
            verdict = self.deferred(exchange.login, error.why)
        if not isinstance(verdict, LoginChallenge):
            self.exchanges.forget(session)
        return verdict

    def _verdict(self, exchange: Exchange, response: bytes, *, holds: bool) -> Verdict:
        if not holds:
            exchange.credential = None  # from here on as for nobody
        login, account, credential = exchange.login, exchange.account, exchange.credential
        if exchange.verified:
            if account is None or credential is None:
                return self._failed(login, "revoked")
            if response:
                return self._failed(login, "a response behind the last")
            self.challenges.succeeded(login.challenge)
            return Success(login, account, credential)
        proven = replace(login, proof=response)  # what differs with each guess
        try:
            signature = self.exchanges.verify(exchange, response)
        except Refused as error:
            return self._failed(login, error.why)
        if signature is None or account is None or credential is None:
            return self._wrong(proven, "badcred")
        return self._right(proven, account, credential) or LoginChallenge(login.session, signature)

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

    def _explain(self, login: Login, account: Account, credentials: Sequence[Credential]) -> None:
        """Log what is wrong with a system user's own file, however right the client's secret is."""
        name = full_name(login.name, self.directory.domains) or ""
        named = split_label(name)[0] == account.name != name  # by account+label, where the file was not looked at
        if named or any(credential.label for credential in credentials):  # the file is not needed
            return
        secret = credentials[0].secret if credentials else None
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
