"""May this message go to this recipient? Asked for each RCPT, and once more before the queue accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """SMTP reply code, RFC 3463 code, text."""

    code: int
    enhanced: str
    text: str


UNKNOWN = Refusal(550, "5.1.1", "no such mailbox here")
NO_STANDING = Refusal(
    550,
    "5.7.1",
    "relaying denied: this host takes mail for its own mailboxes; to send elsewhere, fetch your mail first",
)
NOT_YET = Refusal(451, "4.3.0", "relaying is not built yet, try again later")


def may_send(*, local: bool, account: str, granted: bool, code: str = "", text: str = "") -> Refusal | None:
    """None: yes. `local`: the domain is ours; `account`: whose mailbox it is, empty for nobody's.

    `granted`: the peer has a live POP-before-SMTP grant. `code` and `text`: why the mailbox can't take it, if so.
    """
    if not local:
        return NOT_YET if granted else NO_STANDING
    if code:
        return Refusal(552 if code.startswith("5") else 452 if code == "4.2.2" else 451, code, text)
    return None if account else UNKNOWN
