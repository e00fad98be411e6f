"""Is a message to be taken? Asked once more before the queue has it, as nobody believes its neighbour."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable

from .. import log
from ..messages_delivery import ANYBODY, Admit, Verdict
from ..policy import relaying
from ..store.users import uid_of, uids_of
from ..terms import Account
from .directory import Directory, Resolution
from .standing import Standings


class Admission:
    """Whatever the network process has found at RCPT."""

    def __init__(
        self,
        standings: Standings,
        directory: Directory,
        recipients_limit: int,
        smtpd_users: Iterable[str | int] = (),
    ) -> None:
        """`recipients_limit`: elsewhere, of one message that a grant lets out. `smtpd_users`: names or uids of those who
        may say that what they hand in came over SMTP."""
        smtpd_users = tuple(smtpd_users)
        self._smtpd_uids = uids_of(smtpd_users)
        for user in smtpd_users:
            if uid_of(user) is None:
                log.line("warning", what=f"queue.smtpd_users: there is no user {user}")
        self._standings = standings
        self._directory = directory
        self._recipients_limit = recipients_limit

    def admit(self, message: Admit) -> Verdict:
        """What a grant allows is counted down here. Raises TryLater."""
        found = [self._directory.glance(recipient) for recipient in message.recipients]
        elsewhere = sum(not resolution.local for resolution in found)
        if message.uid >= 0:
            return self._admit_local(message, found)
        session = message.network, message.login
        standing = self._standings.of(message.peer, session, message.sender, elsewhere, submission=message.submission)
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
        if standing.kind == "grant" and elsewhere > self._recipients_limit:
            limit = self._recipients_limit
            text = f"a message has at most {limit} recipients here; with more, log in on the submission port"
            return Verdict(message.delivery, "", 550, "5.5.3", text)
        spends = standing.kind == "grant" and elsewhere
        if spends and not self._standings.spend(message.peer, standing.account, elsewhere):
            spent = relaying.SPENT  # by another message, between RCPT and now
            return Verdict(message.delivery, "", spent.code, spent.enhanced, spent.text)
        # Whoever may write to the folder may say whose a classic grant is: it makes nobody an author.
        account = "" if standing.kind == "classic" else standing.account
        return Verdict(message.delivery, account, sender=message.sender)

    def _admit_local(self, message: Admit, found: list[Resolution]) -> Verdict:
        """Mail from a program on this machine: its uid says who sends."""
        nobody = [resolution.local and not resolution.deliverable for resolution in found]
        if any(nobody):
            wrong = message.recipients[nobody.index(True)].decode("utf-8", "replace")
            return Verdict(message.delivery, "", 550, "5.1.1", f"there is no mailbox {wrong} here")
        trusted = message.uid in (0, os.geteuid())
        if message.came and (trusted or message.uid in self._smtpd_uids):
            return self._admit_received(message, found)
        name = _name_of(message.uid)
        own = f"{name}@{self._directory.domains[0]}"
        sender = message.sender if message.named else own.encode()
        if trusted:
            return Verdict(message.delivery, ANYBODY, sender=sender)
        account = self._account_of(message.uid, own)
        allowed = sender == own.encode()
        if not allowed and (account is None or (sender and not self._directory.owns(account.name, sender))):
            text = f"{name} may not send as <{sender.decode('utf-8', 'replace')}>, which is no address of {own}"
            if message.came:  # likely a server that is not configured yet: strangers' mail shall wait, not come back
                return Verdict(message.delivery, "", 451, "4.7.1", f"{text}; is {name} to be in queue.smtpd_users?")
            return Verdict(message.delivery, "", 550, "5.7.1", text)
        return Verdict(message.delivery, account.name if account else "", sender=sender)

    def _admit_received(self, message: Admit, found: list[Resolution]) -> Verdict:
        """Mail that a program of this machine took in over SMTP: from anybody, and on nobody's behalf."""
        if message.came != "relay" and not all(resolution.local for resolution in found):
            return Verdict(message.delivery, "", 550, "5.7.1", "a recipient is elsewhere, and RELAYCLIENT was not set")
        pairs = zip(message.recipients, found, strict=True)
        unsure = tuple(recipient for recipient, resolution in pairs if resolution.needs_a_file)
        return Verdict(message.delivery, sender=message.sender, received=True, unsure=unsure)

    def _account_of(self, uid: int, name: str) -> Account | None:
        """That user's own. A virtual account of the same name may be a stranger's, even where the user is `backup`."""
        account = self._directory.account(name)
        return account if account is not None and account.uid == uid else None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid{uid}"
