"""What a delivery report tells a person who knows nothing of mail: what happened, and what can be done about it.

The sentences are chosen by the status code (RFC 3463 and the registry of RFC 5248). A stranger's words stand indented
and marked as such, and none of them can end a line.
"""

from __future__ import annotations

import re
import textwrap

from ..terms import Outcome

WIDTH = 72  # columns; RFC 5322 section 2.1.1 wants at most 78
WORDS_LIMIT = 400  # octets of a remote server's words, or of a reason: as much as one SMTP reply line holds, nearly

_DAY, _HOUR = 86400, 3600  # seconds
_BREAK = re.compile(r"[\t\n\r]+")
# Control characters, what ends a line in Unicode, and what turns the direction of writing so that a text reads as another.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffd]")

_ASK = "Check the address letter by letter, or ask the person for the right one in another way."
_DOMAIN = "Check what stands behind the @, letter by letter."
_LATER = "Send it again in a few days, or reach the person in another way."
_THEIRS = "Only the people who run the mail on the other side can mend that; tell the person in another way."
_SMALLER = "Send it without its attachments, in smaller parts, or put the files where the person can fetch them."
_RULE = "If no reason stands below, ask the person in another way."
_OURS = "Show this report to whoever runs your mail; you can't mend it yourself."
_SENDER = "Check the sender's address that is set in your mail program, or show this report to whoever runs your mail."

_NO_MAILBOX = ("There is no mailbox with this address.", _ASK)
_SENDER_REFUSED = ("The other side did not accept the address that you send from.", _SENDER)
_FULL = ("The mailbox is full.", "Reach the person in another way, so that old mail is tidied up; then send it again.")
_TOO_LARGE = ("The message is too large for the other side.", _SMALLER)
_POLICY = ("By a rule of its own the other side does not take this message.", _RULE)
_UNPROVEN = ("The other side finds no proof that your mail comes from where it says it comes from.", _OURS)
_TLS = (
    "The message may only travel encrypted, and no encrypted way to the other side that can be trusted was found.",
    _OURS,
)
_EXPIRED = ("It was tried again and again for {waited}, and there was no getting through.", _LATER)

# Subject and detail of the status -> what happened, what to do. The class (passing or for good) does not change either.
SENTENCES: dict[str, tuple[str, str]] = {
    "1.1": _NO_MAILBOX,
    "1.2": ("The part behind the @ is no place that takes mail: the internet knows no such name.", _DOMAIN),
    "1.3": ("The other side can't make sense of this address.", _ASK),
    "1.4": ("The other side knows several mailboxes that this address could mean.", _ASK),
    "1.6": ("The person has moved, and left no new address.", _ASK),
    "1.7": _SENDER_REFUSED,
    "1.8": _SENDER_REFUSED,
    "1.10": ("Nobody has mail at this domain: it says that it takes none.", _DOMAIN),
    "2.1": ("The mailbox has been switched off, or takes no mail at present.", "Reach the person in another way."),
    "2.2": _FULL,
    "2.3": ("The message is larger than this mailbox takes.", _SMALLER),
    "2.4": ("This address is a list of several people, and it does not work at present.", _THEIRS),
    "3.1": ("The other side has no room for more mail.", _LATER),
    "3.2": ("The other side takes no mail at present.", _LATER),
    "3.4": _TOO_LARGE,
    "4.1": ("The mail server of the other side does not answer.", _LATER),
    "4.2": ("The connection to the other side broke.", _LATER),
    "4.3": ("The directory that says where this address gets its mail (the DNS) did not answer.", _LATER),
    "4.4": ("No way to a mail server for this address was found.", _DOMAIN),
    "4.5": ("The other side has too much to do at present.", _LATER),
    "4.6": ("The message went round in circles: addresses are forwarded to each other.", _THEIRS),
    "4.7": _EXPIRED,
    "5.3": ("The message has too many recipients for the other side.", "Send it to fewer people at once."),
    "6.3": (
        "The other side is so old that it can't take letters and files the way that your mail program packed them.",
        "Send it as plain text, without attachments.",
    ),
    "6.7": (
        "An address has letters outside the English alphabet, and the other side does not understand those.",
        "If you or the person have an address in plain letters too, use that.",
    ),
    "7.1": _POLICY,
    "7.2": ("This address is a list of people, and you may not send to it.", _RULE),
    "7.4": _TLS,
    "7.5": _TLS,
    "7.10": _TLS,
    **{f"7.{detail}": _UNPROVEN for detail in range(20, 27)},  # RFC 7372: DKIM, SPF, reverse DNS
    "7.27": _SENDER_REFUSED,  # RFC 7505: its domain takes no mail
    "7.30": _TLS,  # RFC 8689
}
SUBJECTS: dict[str, tuple[str, str]] = {  # where the detail is not known
    "1": ("There is something wrong with this address.", _ASK),
    "2": ("The mailbox can't take this message.", _LATER),
    "3": ("The mail server of the other side can't take this message.", _LATER),
    "4": ("The other side could not be reached.", _LATER),
    "5": ("Our mail server and the one of the other side did not understand each other.", _OURS),
    "6": ("The other side can't take what is in this message.", "Send it as plain text, without attachments."),
    "7": _POLICY,
}
_UNKNOWN = (
    "The message could not be delivered.",
    "If what stands below tells you nothing, show this report to whoever runs your mail.",
)

HEADINGS = {
    "failed": "It could NOT be delivered to this address, and is not tried again:",
    "delayed": "It could not yet be delivered to this address, and is still being tried:",
    "delivered": "It was delivered to this address:",
    "relayed": "It was passed on for this address:",
    "expanded": "It was passed on to the several people behind this address:",
}
_GOOD_NEWS = {
    "delivered": ("It lies in the mailbox.", "Whether it has been read, nobody knows."),
    "relayed": ("The next mail server took it.", "That one sends no reports of success, so you hear no more of it."),
    "expanded": ("Each of them gets it from here.", "You hear no more of it."),
}


def one_line(text: bytes | str, limit: int) -> str:
    """At most `limit` octets (in UTF-8) of a stranger's text, made such that they can't end a line, or mislead the eye."""
    octets = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return _UNFIT.sub("?", _BREAK.sub(" ", octets[:limit].decode("utf-8", "replace"))).strip(" ")


def introduction(host: str, received: str) -> list[str]:
    """The first lines: who writes, and of what."""
    return _wrapped(
        f"This is the mail server of {host}. It writes to you about a message of yours that came here on {received}."
    )


def paragraph(
    address: str, outcome: Outcome, *, status: str, waited: float, until: str = "", leads_to: str = ""
) -> list[str]:
    """One recipient's lines. `status`: never empty. `waited`: seconds since the message came. `until`: a date, or empty.

    `address`: as the sender knows it. `leads_to`: where it was sent on to, if elsewhere.
    """
    lines = ["", *_wrapped(HEADINGS[outcome.action]), "", f"    <{address}>"]
    if leads_to:
        lines.append(f"    (which leads to <{leads_to}>)")
    happened, advice = _news(outcome.action, status, waited, until)
    lines += ["", *_wrapped(happened, "    ")]
    if reason := one_line(outcome.text, WORDS_LIMIT):
        lines += _wrapped(f"More exactly: {reason}", "    ")
    lines += _wrapped(advice, "    ")
    if words := one_line(outcome.reply, WORDS_LIMIT):
        mta = one_line(outcome.mta, WORDS_LIMIT)
        lines += [
            "",
            *_wrapped(f"The other side's own words ({mta}):" if mta else "The other side's own words:", "    "),
        ]
        lines += _wrapped(words, "      ")
    return lines


def farewell(host: str, identity: str) -> list[str]:
    """The last lines: for whoever shall look into it."""
    return [
        "",
        *_wrapped(
            f"The rest of this report is for programs, and for whoever runs your mail: what is said above in codes, and "
            f"what the message began with. In the logs of {host} the message is called {identity}."
        ),
    ]


def duration(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds >= 2 * _DAY:
        return f"{round(seconds / _DAY)} days"
    if seconds >= 2 * _HOUR:
        return f"{round(seconds / _HOUR)} hours"
    return "some time"


def _news(action: str, status: str, waited: float, until: str) -> tuple[str, str]:
    """What happened, and what to do about it."""
    if action in _GOOD_NEWS:
        return _GOOD_NEWS[action]
    _, subject, detail = status.split(".")
    happened, advice = SENTENCES.get(f"{subject}.{detail}") or SUBJECTS.get(subject) or _UNKNOWN
    if action == "delayed":
        advice = "You need do nothing: it is tried again and again" + (f" until {until}. " if until else ". ")
        advice += "If it still can't be delivered then, you will be told."
    return happened.format(waited=duration(waited)), advice


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
