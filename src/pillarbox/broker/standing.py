"""Who may send through us: by a login where mail is handed in, or by a grant that a POP3 login left (POP before SMTP)."""

from __future__ import annotations

import hmac
import os
import pwd
import time
from collections import OrderedDict
from dataclasses import dataclass

from .. import log
from ..config import Config
from ..messages import Login
from ..messages_delivery import ANYBODY, Admit, Verdict
from ..policy import relaying
from ..policy.networks import Networks
from ..policy.sharing import Sightings, may_mint
from ..store.accounts import full_name
from ..store.grants import Grants, StoredGrant, fingerprint_of, monotonic
from ..terms import Account, Mechanism, TryLater
from .directory import Directory

SILENT_SECONDS = 60.0  # after a refusal; whoever looks shared stays so for a day, and gets no new grant meanwhile
REMEMBERED = 65_536  # addresses that were refused

Session = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a peer may do, as policy.relaying asks for it."""

    kind: relaying.Standing = ""
    account: str = ""  # on whose behalf; empty: nobody's
    owned: bool = False
    left: bool = True


NONE = Standing()


class Standings:
    """Logins where mail is handed in, grants, and what has been seen of each address. One for the broker's life."""

    def __init__(self, key: bytes, boot: str) -> None:
        """`key`, `boot`: see store.grants."""
        self._key = key
        self._boot = boot
        self._logins: dict[Session, str] = {}
        self._sightings = Sightings()
        self._refused: OrderedDict[str, tuple[str, float]] = OrderedDict()  # by address: why, and when that was told
        self._wanted: object = None

    def configure(self, config: Config, directory: Directory, folder: str, trusted: Networks) -> None:
        relay = config.relay
        self._directory = directory
        self._trusted = trusted
        self._shared, self._unshared = Networks(tuple(relay.shared)), Networks(tuple(relay.unshared))
        self._classic = relay.style == "classic"
        self._recipients = relay.recipients
        wanted = (folder, relay.expiry, relay.messages, relay.recipients, self._classic)
        if wanted != self._wanted:  # a keeper that stays the same remembers what it wrote
            self._wanted = wanted
            self._grants = Grants(
                folder,
                key=self._key,
                boot=self._boot,
                expiry=relay.expiry,
                messages=relay.messages,
                recipients=relay.recipients,
                classic=self._classic,
            )

    # Logins.

    def logged_in(self, login: Login, account: Account, secret: bytes) -> None:
        """A good POP3 login: a grant, where the address is not shared. One that can't be written fails closed."""
        self._sightings.logged_in(login.peer, account.name, monotonic())
        why = self._why_not(login, account.name)
        if why:
            self._refuse(login.peer, account.name, why)
            return
        try:
            fingerprint = fingerprint_of(secret, account.name, self._key)
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
        self._end_if_shared(address, account)

    def _end_if_shared(self, address: str, account: str) -> None:
        """What others there were given before we knew."""
        if not self._is_shared(address, account):
            return
        try:
            self._grants.revoke(address)
        except (OSError, TryLater) as error:
            log.line("grant-failed", rip=address, user=account, why=str(error))

    def _is_shared(self, address: str, account: str) -> bool:
        if self._classic:
            return False
        sighted = self._sightings.looks_shared(address, account, monotonic())
        return self._shared.contains(address) or bool(sighted and not self._unshared.contains(address))

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

    def authenticated(self, session: Session, account: str, peer: str) -> None:
        """A good login where mail is handed in; it lasts as long as its connection."""
        self._logins[session] = account
        self._sightings.logged_in(peer, account, monotonic())
        self._end_if_shared(peer, account)

    def logged_out(self, session: Session) -> None:
        self._logins.pop(session, None)

    def forget(self, network: int) -> None:
        """That network process has gone."""
        for session in [session for session in self._logins if session[0] == network]:
            del self._logins[session]

    # Sending.

    def of(self, peer: str, session: Session, sender: bytes, recipients: int = 1) -> Standing:
        """The standing of a peer that sends as `sender` to so many recipients. Raises TryLater for its account."""
        if account := self._logins.get(session):
            return Standing("login", account, self._directory.owns(account, sender))
        try:
            found = self._grants.find(peer, time.time(), monotonic())
        except TryLater as error:
            log.line("grants-trouble", rip=peer, why=error.why)
            return Standing("unknown")
        standing = Standing()
        for stored in filter(self._holds, found):
            grant = stored.grant
            if self._classic:
                return Standing("classic", grant.account)
            left = grant.messages >= 1 and grant.recipients >= recipients
            standing = Standing("grant", grant.account, self._directory.owns(grant.account, sender), left)
            if standing.owned:
                break
        return standing

    def _holds(self, stored: StoredGrant) -> bool:
        """A grant is void as soon as its account's secret is another, by whatever way it was changed."""
        if self._classic:
            return True
        name = stored.grant.account
        account, secret = self._directory.login(name.encode())
        if account is None or not secret:
            return False
        return hmac.compare_digest(fingerprint_of(secret, name, self._key), stored.fingerprint)

    def admit(self, message: Admit) -> Verdict:
        """Nobody believes its neighbour: is this message to be taken, whatever the network process found?

        What a grant allows is counted down here. Raises TryLater.
        """
        found = [self._directory.resolve(recipient) for recipient in message.recipients]
        elsewhere = sum(not resolution.local for resolution in found)
        if message.uid >= 0:
            return self._admit_local(message, [resolution.local and not resolution.deliverable for resolution in found])
        standing = self.of(message.peer, (message.network, message.login), message.sender, elsewhere)
        for resolution in found:
            refusal = relaying.may_send(
                local=resolution.local,
                deliverable=resolution.deliverable,
                standing=standing.kind,
                owned=standing.owned,
                left=standing.left,
                submission=message.submission,
                sender=message.sender,
            )
            if refusal is not None:
                return Verdict(message.delivery, "", refusal.code, refusal.enhanced, refusal.text)
        if not elsewhere and not message.submission:
            return Verdict(message.delivery, sender=message.sender)  # mail from outside for us
        if standing.kind == "grant" and elsewhere > self._recipients:
            text = f"a message has at most {self._recipients} recipients here; with more, log in on the submission port"
            return Verdict(message.delivery, "", 550, "5.5.3", text)
        if standing.kind == "grant" and elsewhere:
            now, clock = time.time(), monotonic()
            if not self._grants.spend(message.peer, standing.account, elsewhere, now, clock):
                spent = relaying.SPENT  # by another message, between RCPT and now
                return Verdict(message.delivery, "", spent.code, spent.enhanced, spent.text)
        # Whoever may write to the folder may say whose a classic grant is: it makes nobody an author.
        account = "" if standing.kind == "classic" else standing.account
        return Verdict(message.delivery, account, sender=message.sender)

    def _admit_local(self, message: Admit, nobody: list[bool]) -> Verdict:
        """Mail from a program on this machine: its uid says who sends."""
        if any(nobody):
            wrong = message.recipients[nobody.index(True)].decode("utf-8", "replace")
            return Verdict(message.delivery, "", 550, "5.1.1", f"there is no mailbox {wrong} here")
        name = self._name_of(message.uid)
        own = f"{name}@{self._directory.domains[0]}"
        account = self._directory.account(own)
        sender = message.sender if message.named else own.encode()
        if message.uid in (0, os.geteuid()):
            return Verdict(message.delivery, ANYBODY, sender=sender)
        allowed = sender == own.encode()
        if not allowed and (account is None or (sender and not self._directory.owns(account.name, sender))):
            text = f"{name} may not send as <{sender.decode('utf-8', 'replace')}>, which is no address of {own}"
            return Verdict(message.delivery, "", 550, "5.7.1", text)
        return Verdict(message.delivery, account.name if account else own, sender=sender)

    def _name_of(self, uid: int) -> str:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid{uid}"
