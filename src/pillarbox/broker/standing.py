"""Who may send through us: by a login where mail is handed in, or by a grant that a POP3 login left (POP before SMTP)."""

from __future__ import annotations

import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .. import log
from ..config import Config
from ..messages import Login
from ..policy import relaying
from ..policy.networks import Networks
from ..policy.sharing import Sightings, may_mint, why_shared
from ..store.accounts import full_name
from ..store.devices import Credential
from ..store.grant_key import KEY_OCTETS, fingerprint_of, monotonic
from ..store.grants import Grants, StoredGrant
from ..terms import Account, Mechanism, TryLater
from .directory import Directory

SILENT_SECONDS = 60.0  # after a refusal; whoever looks shared stays so for a day, and gets no new grant meanwhile
REMEMBERED = 65_536  # addresses that were refused
NO_GRANT = "no grant: nobody has fetched mail by POP3 from this address lately"
NOT_OWNED = "the sender is no address of the account that may send"
SPENT = "the grant is used up"
VOID = "the secret that this connection logged in with is void by now, or the account is gone"

Session = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a peer may do, as policy.relaying asks for it."""

    kind: relaying.Standing = ""
    account: str = ""  # on whose behalf; empty: nobody's
    owned: bool = False
    left: bool = True
    why: str = ""  # for the log: what keeps the peer from sending; names nobody, as strangers' processes hear it, too


NONE = Standing()


class Standings:
    """Logins where mail is handed in, grants, and what has been seen of each address. One for the broker's life."""

    def __init__(self, key: bytes, boot: str) -> None:
        """`key`, `boot`: see store.grants."""
        self._key = key
        self._boot = boot
        self._logins: dict[Session, tuple[str, bytes]] = {}  # account, and the fingerprint of what it logged in with
        self._login_key = os.urandom(KEY_OCTETS)  # a rotation voids grants, and no connection
        self._sightings = Sightings()
        self._refused: OrderedDict[str, tuple[str, float]] = OrderedDict()  # by address: why, and when that was told
        self.relays: Callable[[str], bool] = lambda _: False  # may this peer relay by the rules of policy.rules_smtp?
        self._folder = ""
        self._grants: Grants  # in that folder

    def configure(self, config: Config, directory: Directory, folder: str, trusted: Networks) -> None:
        relay = config.relay
        self._directory = directory
        self._trusted = trusted
        self._shared, self._unshared = Networks(tuple(relay.shared)), Networks(tuple(relay.unshared))
        self._classic = relay.style == "classic"
        expiry, messages, recipients = relay.expiry, relay.messages, relay.recipients
        self._expiry = expiry
        if folder == self._folder:  # its keeper remembers what it wrote
            self._grants.limit(expiry=expiry, messages=messages, recipients=recipients, classic=self._classic)
            return
        self._folder = folder
        self._grants = Grants(
            folder,
            key=self._key,
            boot=self._boot,
            expiry=expiry,
            messages=messages,
            recipients=recipients,
            classic=self._classic,
        )

    def rekey(self, key: bytes) -> None:
        """See Grants.rekey; once configured."""
        self._key = key
        self._grants.rekey(key)

    # Logins.

    def logged_in(self, login: Login, account: Account, credential: Credential) -> None:
        """A good POP3 login: a grant, where the address is not shared and the device may send. One that can't be written
        fails closed.
        """
        self._sightings.logged_in(login.peer, account.name, monotonic())
        if not credential.sends:
            return
        why = self._why_not(login, account.name)
        if why:
            self._refuse(login.peer, account.name, why)
            return
        try:
            fingerprint = fingerprint_of(credential.secret, account.name, self._key)
            self._grants.mint(login.peer, account.name, login.mechanism, fingerprint, time.time(), monotonic())
        except (OSError, TryLater) as error:
            log.line("grant-failed", rip=login.peer, user=account.name, why=str(error))

    def _refuse(self, address: str, account: str, why: str) -> None:
        """Say so, and end what was granted there; of a crowd behind one address not for each login anew."""
        now = monotonic()
        before, told = self._refused.get(address, ("", 0.0))
        if why == before and now - told < SILENT_SECONDS:
            return
        self._refused[address] = why, now
        self._refused.move_to_end(address)
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)
        log.line("grant-refused", rip=address, user=account, why=why)
        self._end_what_was_granted(address)

    def _end_what_was_granted(self, address: str) -> None:
        """To an account that is not alone there any more. It is said once, as no grant is left to be ended again."""
        try:
            for stored in self._grants.find(address, time.time(), monotonic()):
                account = stored.grant.account
                if why := self._why_shared(address, account):
                    log.line("grant-ended", rip=address, user=account, why=why)
                    self._grants.revoke(address, account)
        except (OSError, TryLater) as error:
            log.line("grant-failed", rip=address, why=str(error))

    def _is_shared(self, address: str, account: str) -> bool:
        return bool(self._why_shared(address, account))

    def _why_shared(self, address: str, account: str) -> str:
        """Why nobody may have a grant at this address, by whatever login; empty: an account may."""
        if self._classic:
            return ""
        sighted = self._sightings.looks_shared(address, account, monotonic())
        return why_shared(address, shared=self._shared, unshared=self._unshared, sighted=sighted)

    def _why_not(self, login: Login, account: str) -> str:
        if self._classic:
            return ""
        return may_mint(
            login.peer,
            Mechanism(login.mechanism),
            secured=login.secured,
            trusted=self._trusted.contains(login.peer),
            shared=self._shared,
            unshared=self._unshared,
            sighted=self._sightings.looks_shared(login.peer, account, monotonic()),
        )

    def failed(self, login: Login) -> None:
        """A login with a wrong secret, or for nobody."""
        name = full_name(login.name, self._directory.domains) or login.name.decode("utf-8", "replace")
        self._sightings.failed(login.peer, name, monotonic())
        self._end_what_was_granted(login.peer)

    def prolong(self, address: str, account: str) -> None:
        """The session that made a grant still lasts."""
        if self._is_shared(address, account):
            return
        try:
            self._grants.prolong(address, account, time.time(), monotonic())
        except (OSError, TryLater) as error:
            log.line("grant-failed", rip=address, user=account, why=str(error))

    def expire(self) -> None:
        """Remove what no longer counts."""
        try:
            self._grants.expire(time.time())
        except (OSError, TryLater) as error:
            log.line("grants-trouble", why=str(error))

    def authenticated(self, session: Session, account: str, credential: Credential, peer: str) -> None:
        """A good login where mail is handed in; it lasts as long as its connection, and its secret."""
        self._logins[session] = account, fingerprint_of(credential.secret, account, self._login_key)
        self._sightings.logged_in(peer, account, monotonic())
        self._end_what_was_granted(peer)

    def logged_out(self, session: Session) -> None:
        self._logins.pop(session, None)

    def forget(self, network: int) -> None:
        """That network process has gone."""
        for session in [session for session in self._logins if session[0] == network]:
            del self._logins[session]

    # Sending.

    def of(
        self, peer: str, session: Session, sender: bytes, recipients: int = 1, *, submission: bool = False
    ) -> Standing:
        """The standing of a peer that sends as `sender` to so many recipients. Raises TryLater for its account.

        `submission`: it came to the submission port, where the rules say nothing.
        """
        if login := self._logins.get(session):
            return self._of_login(*login, sender)
        if not submission and self.relays(peer):
            return Standing("classic")
        try:
            found = self._grants.find(peer, time.time(), monotonic())
        except TryLater as error:
            log.line("grants-trouble", rip=peer, why=error.why)
            return Standing("unknown", why=error.why)
        standing = Standing()
        for stored in filter(self._holds, found):
            grant = stored.grant
            if self._classic:
                return Standing("classic", grant.account)
            left = grant.messages >= 1 and grant.recipients >= recipients
            if self._is_shared(peer, grant.account):
                continue
            owned = self._directory.owns(grant.account, sender)
            why = SPENT if owned and not left else "" if owned or not sender else NOT_OWNED
            standing = Standing("grant", grant.account, owned, left, why)
            if standing.owned:
                break
        return standing if standing.kind else Standing(why=self._why_none(peer, found))

    def _of_login(self, account: str, fingerprint: bytes, sender: bytes) -> Standing:
        if not self._has(account, fingerprint, self._login_key):
            return Standing(why=VOID)
        owned = self._directory.owns(account, sender)
        return Standing("login", account, owned, why="" if owned or not sender else NOT_OWNED)

    def _why_none(self, peer: str, found: Sequence[StoredGrant]) -> str:
        """Why the peer has no grant that counts; `found`: those that would be live."""
        for stored in found:
            if not self._holds(stored):
                return "the account that the grant was given to has another secret now, or is gone"
            if shared := self._why_shared(peer, stored.grant.account):
                return shared
        if ended := self._grants.expired(peer, time.time()):
            return f"the grant expired at {datetime.fromtimestamp(ended, UTC):%Y-%m-%dT%H:%M:%SZ}"
        why, told = self._refused.get(peer, ("", 0.0))
        if why and monotonic() - told < max(self._expiry, SILENT_SECONDS):
            return f"the login left no grant: {why}"
        return NO_GRANT

    def _holds(self, stored: StoredGrant) -> bool:
        """A grant is void as soon as the secret it was made with is gone, by whatever way it was changed or revoked."""
        if self._classic:
            return True
        return self._has(stored.grant.account, stored.fingerprint, self._key)

    def _has(self, account: str, fingerprint: bytes, key: bytes) -> bool:
        """Has the account that credential still, and may send with it?"""
        _, credentials = self._directory.credentials(account.encode())
        return any(
            credential.sends and hmac.compare_digest(fingerprint_of(credential.secret, account, key), fingerprint)
            for credential in credentials
        )

    def spend(self, address: str, account: str, recipients: int) -> bool:
        """Take one message to so many recipients off that grant; False where it has not enough left. Raises TryLater."""
        return self._grants.spend(address, account, recipients, time.time(), monotonic())
