"""SCRAM logins that have begun: what the broker remembers of each between its steps, and the verifiers they need.

An unknown account gets a salt like any other, and whoever fails has cost one computation of a verifier, whether there is
such an account or not, and whether its verifier was at hand or not: neither replies nor time tell who has a mailbox here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as randomness
from collections import OrderedDict
from dataclasses import dataclass, field

from ..messages import Login
from ..protocol import scram
from ..protocol.scram import Proof, ScramVerifier
from ..store.devices import Credential
from ..store.secrets import is_generated
from ..terms import Account, Mechanism, Refused

PATIENCE = 60.0  # seconds from the first message to the last; programs answer at once
CAPACITY = 16_384  # exchanges under way; each costs a connection, and the oldest goes first
VERIFIERS = 4096  # remembered; 300 octets each
_NEVER = b"\x00" * 31  # a verifier's worth of work, where there is no secret

Session = tuple[int, int]


def scram_key(sealing_key: bytes) -> bytes:
    """The key of salts, from the key that seals secrets: knowing the one does not open the other."""
    return hmac.digest(sealing_key, b"pillarbox scram", hashlib.sha256)


@dataclass(slots=True)
class Exchange:
    """One login between its first message and its last."""

    login: Login
    account: Account | None
    credential: Credential | None = field(repr=False)
    began: float
    salt: bytes
    server: scram.ServerScram = field(repr=False)
    verified: bool = False  # our signature is on its way to the client, who still has to say that it has come

    @property
    def usable(self) -> bytes | None:
        """The secret, unless it is empty, or NULs alone, which is what a crash leaves of a file, or becomes so when it is
        prepared: the verifier would be that of no password at all."""
        secret = self.credential.secret if self.credential else b""
        return secret if self.account and scram.prepared(secret).strip(b"\0") else None


class Exchanges:
    """All of them, by session. `now`: monotonic seconds."""

    def __init__(self, key: bytes) -> None:
        """`key`: what salts are made with; the same over restarts, or unknown accounts would be known by theirs."""
        self._key = key
        self._open: OrderedDict[Session, Exchange] = OrderedDict()
        self._verifiers: OrderedDict[bytes, ScramVerifier] = OrderedDict()

    def begin(
        self, session: Session, login: Login, name: str, found: tuple[Account | None, Credential | None], now: float
    ) -> bytes:
        """What to challenge the client with. `name`: what the salt is for. Raises Refused for a message that is wrong."""
        first = scram.read_first(login.proof)
        if first.name != login.name:
            raise Refused("another name than the login's")
        mechanism = Mechanism(login.mechanism)
        scram.check_binding(first, mechanism, offered=bool(login.binding))
        salt = self._salt(name)
        ours = scram.nonce(randomness.token_bytes(scram.NONCE_OCTETS))
        server = scram.ServerScram(first, salt, ours, binding=login.binding, iterations=scram.ITERATIONS)
        self.forget(session)
        self.expire(now)
        if len(self._open) >= CAPACITY:
            self._open.popitem(last=False)
        self._open[session] = Exchange(login, *found, now, salt, server)
        return server.challenge

    def get(self, session: Session, now: float) -> Exchange | None:
        """The one that goes on; None where there is none, or no more."""
        self.expire(now)
        return self._open.get(session)

    def verify(self, exchange: Exchange, response: bytes) -> bytes | None:
        """Our signature, if the client has the secret. Raises Refused for a message that is wrong whatever the secret."""
        signature = self._signature(exchange, response)
        exchange.verified = signature is not None
        return signature

    def proves_generated(self, exchange: Exchange, response: bytes) -> bool:
        """Does it prove a secret that we generated? The exchange stays as it is."""
        try:
            proven = self._signature(exchange, response) is not None
        except Refused:
            return False
        account, credential = exchange.account, exchange.credential
        if not proven or account is None or credential is None:
            return False
        sealed = account.uid is None or bool(credential.label)
        return sealed and is_generated(credential.secret)

    def _signature(self, exchange: Exchange, response: bytes) -> bytes | None:
        proof = exchange.server.read_final(response)
        hash = scram.HASHES[Mechanism(exchange.login.mechanism)]
        signature, worked = self._judge(exchange, proof, hash)
        if signature is None and not worked:
            scram.make_verifier(_NEVER, exchange.salt, hash)
        return signature

    def _judge(self, exchange: Exchange, proof: Proof, hash: str) -> tuple[bytes | None, bool]:
        """The signature, and whether a verifier had to be computed for it."""
        if exchange.usable is None or exchange.account is None:
            return None, False
        fingerprint = self._fingerprint(exchange.account, exchange.usable, exchange.salt, hash)
        verifier = self._verifiers.get(fingerprint)
        worked = verifier is None
        if verifier is None:
            verifier = scram.make_verifier(exchange.usable, exchange.salt, hash)
        signature = scram.judge(proof, verifier)
        if signature is not None:  # a stranger who guesses makes nobody's verifier be remembered, or forgotten
            self._remember(fingerprint, verifier)
        return signature, worked

    def _remember(self, fingerprint: bytes, verifier: ScramVerifier) -> None:
        self._verifiers[fingerprint] = verifier
        self._verifiers.move_to_end(fingerprint)
        if len(self._verifiers) > VERIFIERS:
            self._verifiers.popitem(last=False)

    def _salt(self, name: str) -> bytes:
        return hmac.digest(self._key, b"salt\0" + name.encode(), hashlib.sha256)[: scram.SALT_OCTETS]

    def _fingerprint(self, account: Account, secret: bytes, salt: bytes, hash: str) -> bytes:
        parts = b"verifier", hash.encode(), account.name.encode(), salt, secret
        return hmac.digest(self._key, b"\0".join(parts), hashlib.sha256)

    def forget(self, session: Session) -> None:
        self._open.pop(session, None)

    def forget_network(self, network: int) -> None:
        for session in [session for session in self._open if session[0] == network]:
            del self._open[session]

    def expire(self, now: float) -> None:
        """Forget those that have waited too long; they lie in the order of their beginning."""
        while self._open and now - next(iter(self._open.values())).began > PATIENCE:
            self._open.popitem(last=False)
