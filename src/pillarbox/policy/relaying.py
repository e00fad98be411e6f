"""May this message go to this recipient? Asked for each RCPT, and once more before the queue accepts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

# What lets a peer send to the world: nothing; its address's grant (POP before SMTP), bound to an account, or relay-ctrl's
# plain one, bound to none; a login by SMTP AUTH; the store of grants can't tell.
Standing = Literal["", "grant", "classic", "login", "unknown"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No: SMTP reply code, RFC 3463 code, text for the client."""

    code: int
    enhanced: str
    text: str


UNKNOWN = Refusal(550, "5.1.1", "no such mailbox here")
NO_STANDING = Refusal(
    550,
    "5.7.1",
    "relaying denied: fetch your mail by POP3 from this address first, or log in on the submission port;"
    " if you have just fetched it, this address looks shared, or your POP3 goes over IPv6 and your SMTP over IPv4:"
    " the log here says which",
)
NOT_LOGGED_IN = Refusal(530, "5.7.0", "authentication required")  # RFC 4954 section 6
CANT_TELL = Refusal(451, "4.3.0", "whether you may send can't be told just now, try again later")
SPENT = Refusal(
    450,
    "4.7.1",
    "your login allows no more messages or recipients: fetch your mail again, or log in on the submission port",
)
NO_SENDER = Refusal(
    550, "5.7.1", "mail without a sender (<>) goes to other hosts only after a login on the submission port"
)

BAD_SENDER = Refusal(553, "5.7.1", "mail from that sender is not taken here")

SHOWN = 256  # octets of a sender in a reply: the longest path of RFC 5321 section 4.5.3.1.3; a reply has 512

_FULL = ("4.2.2", "5.2.2", "4.3.1", "5.3.4")  # RFC 3463: mailbox full, system storage full, message too big


def is_refused(sender: bytes, refused: Collection[str]) -> bool:
    """Is the reverse-path one of these, whatever its case? "@domain" is all of that domain's (qmail's badmailfrom)."""
    if not refused or not sender:
        return False
    folded = sender.decode("latin-1").lower()
    return any(folded == each.lower() or (each[0] == "@" and folded.endswith(each.lower())) for each in refused)


def may_send(
    *,
    local: bool,
    deliverable: bool,
    standing: Standing,
    owned: bool,
    left: bool,
    submission: bool,
    sender: bytes,
    code: str = "",
    text: str = "",
) -> Refusal | None:
    """None: yes, take it.

    `local`: the recipient's domain is ours. `deliverable`: it leads to somebody. `owned`: `sender`, the reverse-path, is
    an address of the account that the standing is bound to. `left`: its grant has a message and a recipient left; True
    where nothing is counted. `submission`: it came to the submission port, where nobody is a stranger (RFC 6409 section
    4.3). `code` (RFC 3463, 4.x or 5.x) and `text`: what keeps the mailbox from taking it, if anything does. Elsewhere
    the peer's standing neither opens nor closes a mailbox of ours.
    """
    if submission or not local:
        refusal = _standing_trouble(standing, owned, left or local, submission, sender)
        if refusal is not None or not local:
            return refusal
    if code:
        return _trouble(code, text)
    return None if deliverable else UNKNOWN


def _standing_trouble(standing: Standing, owned: bool, left: bool, submission: bool, sender: bytes) -> Refusal | None:
    match standing:
        case "classic":
            return None
        case "login" | "grant":
            if not sender:
                # anybody at the address could use it without knowing whose grant it is; a login is one person's
                return None if standing == "login" else NO_SENDER
            if not owned:
                return _not_owned(sender)
            return None if left else SPENT
        case "unknown":
            return CANT_TELL
        case _:
            return NOT_LOGGED_IN if submission else NO_STANDING


def _not_owned(sender: bytes) -> Refusal:
    shown = "".join(chr(octet) if 0x21 <= octet <= 0x7E else "?" for octet in sender[:SHOWN])
    what = "is not an address of the account that logged in; send as one of its own addresses"
    return Refusal(550, "5.7.1", f"{shown} {what}")


def _trouble(code: str, text: str) -> Refusal:
    """The reply code that goes with an RFC 3463 code (RFC 5321 section 4.2.3)."""
    full = code in _FULL
    if code.startswith("5."):
        return Refusal(552 if full else 550, code, text)
    return Refusal(452 if full else 451, code, text)
