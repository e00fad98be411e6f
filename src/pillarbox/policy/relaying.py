"""May this message go to this recipient? Asked for each RCPT, and once more before the queue accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """No: SMTP reply code, RFC 3463 code, text for the client."""

    code: int
    enhanced: str
    text: str


UNKNOWN = Refusal(550, "5.1.1", "no such mailbox here")
NO_STANDING = Refusal(550, "5.7.1", "relaying denied: this host takes mail for its own mailboxes only")
NOT_YET = Refusal(451, "4.3.0", "relaying is not built yet")

_FULL = ("4.2.2", "5.2.2", "4.3.1", "5.3.4")  # RFC 3463: mailbox full, system storage full, message too big


def may_send(*, local: bool, account: str, granted: bool, code: str = "", text: str = "") -> Refusal | None:
    """None: yes, deliver it. `local`: the recipient's domain is ours. `account`: whose mailbox it is; empty: nobody's.

    `granted`: the peer holds a live grant. `code` (RFC 3463, 4.x or 5.x) and `text`: what keeps the mailbox from taking
    it, if anything does. The peer's standing never opens or closes a mailbox of ours.
    """
    if not local:
        return NOT_YET if granted else NO_STANDING
    if code:
        return _trouble(code, text)
    return None if account else UNKNOWN


def _trouble(code: str, text: str) -> Refusal:
    """The reply code that goes with an RFC 3463 code (RFC 5321 section 4.2.3)."""
    full = code in _FULL
    if code.startswith("5."):
        return Refusal(552 if full else 550, code, text)
    return Refusal(452 if full else 451, code, text)
