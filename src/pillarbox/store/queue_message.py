"""What the queue knows of a message: values, and how they change."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ..terms import Envelope, Outcome, Refused, Wish

PENDING, DELIVERED, RELAYED, EXPANDED, FAILED = "pending", "delivered", "relayed", "expanded", "failed"
FINAL = {DELIVERED, RELAYED, EXPANDED, FAILED}  # states that are never left; each is the action of its outcome

NO_WISH = Wish()

IDENTITY = re.compile(r"[0-9]{1,10}\.[0-9a-f]{16}(?:\.[a-z][0-9]{1,6}){0,3}")
"""A message's id: the second it came in, 64 random bits; and for one that we made because of another, that other's id
and why, such as ".f3.n1". With the suffix of a delivery it is a file name of at most 60 characters."""

RECIPIENTS_LIMIT = 10_000  # of a message as it comes: its envelope stays readable whatever becomes of them
EXPANDED_LIMIT = RECIPIENTS_LIMIT  # recipients in all, after an expansion: a mailing list has thousands
STATUS_LIMIT, TEXT_LIMIT, MTA_LIMIT, REPLY_LIMIT = 16, 300, 255, 500  # characters; a remote host may say anything


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One recipient, and what has become of it."""

    address: bytes
    state: str = PENDING
    wish: Wish = NO_WISH
    via: bytes = b""  # the address whose forward led here; empty: the sender named this one
    outcome: Outcome | None = None  # of the last try
    reported: bool = False  # whoever shall hear of its final outcome has been told, or nobody shall
    kept: tuple[str, ...] = ()  # of several Maildirs that it leads to: those that have their copy

    def settled(self, outcome: Outcome) -> QueuedRecipient:
        """After a try. A final state stays as it is. Raises ValueError for an action that there is not."""
        if outcome.action not in FINAL and outcome.action != "delayed":
            raise ValueError(f"{outcome.action!r} is no action")
        if self.state != PENDING:
            return self
        return replace(
            self, state=PENDING if outcome.action == "delayed" else outcome.action, outcome=_bounded(outcome)
        )


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One message. Changed copies come from the methods; all raise ValueError for a recipient that it does not have."""

    identity: str
    sender: bytes  # empty: the null sender
    recipients: tuple[QueuedRecipient, ...]  # in the order of the envelope, no two alike; then those of expansions
    received: float  # Unix time, seconds
    next_try: float
    tries: int = 0
    ret: str = ""  # this and envid: of terms.Envelope
    envid: bytes = b""
    utf8: bool = False
    account: str = ""  # who submitted it; "*": whoever runs this host; empty: it came from outside
    held: bool = False  # not tried until it is released
    warned: bool = False  # the sender has been told of the delay

    def pending(self) -> tuple[QueuedRecipient, ...]:
        """Recipients that still wait."""
        return tuple(recipient for recipient in self.recipients if recipient.state == PENDING)

    def unreported(self) -> tuple[QueuedRecipient, ...]:
        """Recipients whose outcome is final, and not yet reported to whoever wants to hear of it."""
        return tuple(each for each in self.recipients if each.state != PENDING and not each.reported)

    def settled(
        self, outcomes: Mapping[bytes, Outcome], *, next_try: float | None = None, finished_try: bool = False
    ) -> QueuedMessage:
        """With what a try, or a part of one, has brought; `finished_try` counts it."""
        self._check(outcomes)
        recipients = tuple(
            each.settled(outcomes[each.address]) if each.address in outcomes else each for each in self.recipients
        )
        return replace(
            self,
            recipients=recipients,
            next_try=self.next_try if next_try is None else next_try,
            tries=self.tries + finished_try,
        )

    def with_copy(self, address: bytes, maildir: str) -> QueuedMessage:
        """One of the Maildirs that the recipient leads to has its copy."""
        self._check((address,))
        recipients = tuple(
            replace(each, kept=(*each.kept, maildir)) if each.address == address and maildir not in each.kept else each
            for each in self.recipients
        )
        return replace(self, recipients=recipients)

    def expanded(self, address: bytes, children: Sequence[QueuedRecipient]) -> QueuedMessage:
        """That recipient, if pending, becomes `expanded`; children are added as pending, once each.

        One that is there already, in whatever state, is not added again, which ends loops. Raises Refused when there
        would be too many.
        """
        self._check((address,))
        if all(each.address != address for each in self.pending()):
            return self
        grown = {each.address: each for each in self.recipients}
        grown[address] = grown[address].settled(Outcome("expanded", "2.0.0"))
        for child in children:
            grown.setdefault(child.address, QueuedRecipient(child.address, wish=child.wish, via=child.via))
        if len(grown) > max(EXPANDED_LIMIT, len(self.recipients)):
            raise Refused(f"aliases and forwards lead to more than {EXPANDED_LIMIT} recipients", "5.5.3")
        return replace(self, recipients=tuple(grown.values()))

    def marked(
        self,
        *,
        reported: Collection[bytes] = (),
        warned: bool | None = None,
        held: bool | None = None,
        next_try: float | None = None,
    ) -> QueuedMessage:
        """With these marks set; None leaves one alone. Raises ValueError for a report on a recipient that still waits."""
        self._check(reported)
        if any(each.address in reported for each in self.pending()):
            raise ValueError(
                f"a recipient of message {self.identity} still waits: its outcome can't have been reported"
            )
        recipients = tuple(
            replace(each, reported=True) if each.address in reported else each for each in self.recipients
        )
        return replace(
            self,
            recipients=recipients,
            warned=self.warned if warned is None else warned,
            held=self.held if held is None else held,
            next_try=self.next_try if next_try is None else next_try,
        )

    def _check(self, addresses: Collection[bytes]) -> None:
        if set(addresses).difference(each.address for each in self.recipients):
            raise ValueError(f"message {self.identity} has no such recipient")


def queued(identity: str, envelope: Envelope, account: str, now: float) -> QueuedMessage:
    """A message as it comes in; a recipient that is named twice is one. Raises ValueError for one that can't be kept."""
    if not IDENTITY.fullmatch(identity):
        raise ValueError(f"{identity!r} is no id of a message")
    if not 0 < len(envelope.recipients) <= RECIPIENTS_LIMIT:
        raise ValueError(f"a message has between 1 and {RECIPIENTS_LIMIT} recipients")
    recipients: dict[bytes, QueuedRecipient] = {}
    wishes = envelope.wishes or (NO_WISH,) * len(envelope.recipients)
    for address, wish in zip(envelope.recipients, wishes, strict=True):
        recipients.setdefault(address, QueuedRecipient(address, wish=wish))
    return QueuedMessage(
        identity,
        envelope.sender,
        tuple(recipients.values()),
        received=now,
        next_try=now,
        ret=envelope.ret,
        envid=envelope.envid,
        utf8=envelope.utf8,
        account=account,
    )


def _bounded(outcome: Outcome) -> Outcome:
    return Outcome(
        outcome.action,
        _printable(outcome.status, STATUS_LIMIT),
        _printable(outcome.text, TEXT_LIMIT),
        _printable(outcome.mta, MTA_LIMIT),
        _printable(outcome.reply, REPLY_LIMIT),
    )


def _printable(text: str, limit: int) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:limit])
