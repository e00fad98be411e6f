"""Queued messages as a person and as a program see them. What others wrote can't steer the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from ..store.queue_message import PENDING, QueuedMessage, QueuedRecipient
from ..store.queue_summary import Summary
from ..terms import Outcome

HEADS = ("Id", "Age", "Octets", "Sender", "Recipient", "Next try", "Last outcome")
UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def plain(octets: bytes | str) -> str:
    """Printable characters as they are, all others escaped."""
    text = octets.decode("utf-8", "backslashreplace") if isinstance(octets, bytes) else octets
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def span(seconds: float) -> str:
    """As long as that, in its largest unit."""
    for length, unit in UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def rows(summary: Summary, now: float) -> Iterator[tuple[str, ...]]:
    """One for each recipient that still waits; one where none does, or the message is damaged."""
    message = summary.message
    if message is None:
        yield summary.identity, "", str(summary.octets), "", "", "", plain(summary.damage)
        return
    start = (
        summary.identity,
        span(now - message.received),
        str(summary.octets),
        f"<{plain(message.sender)}>",
    )
    for recipient in message.pending():
        yield *start, plain(recipient.address), next_try(message, now), outcome(recipient.outcome)
    if not message.pending():
        yield *start, "", next_try(message, now), "settled; its sender is still to be told"


def next_try(message: QueuedMessage, now: float) -> str:
    if message.held:
        return "held"
    return f"in {span(message.next_try - now)}" if message.next_try > now else "now"


def outcome(found: Outcome | None) -> str:
    """One line: what, who said so, and the words."""
    if found is None:
        return ""
    said = found.reply or " ".join((found.status, found.text)).strip(" ")
    named = not found.mta or (not found.reply and found.text.startswith(f"{found.mta} "))
    return plain(said if named else f"{found.mta}: {said}")


def tree(summary: Summary) -> dict[str, object]:
    """For JSON."""
    message = summary.message
    if message is None:
        return {"id": summary.identity, "octets": summary.octets, "damage": summary.damage}
    return {
        "id": message.identity,
        "octets": summary.octets,
        "sender": _text(message.sender),
        "account": message.account,
        "received": message.received,
        "next_try": message.next_try,
        "tries": message.tries,
        "held": message.held,
        "recipients": [_recipient_tree(recipient) for recipient in message.recipients],
    }


def _recipient_tree(recipient: QueuedRecipient) -> dict[str, object]:
    found = recipient.outcome
    return {
        "address": _text(recipient.address),
        "via": _text(recipient.via),
        "state": recipient.state,
        "outcome": None
        if found is None
        else {"status": found.status, "text": found.text, "mta": found.mta, "reply": found.reply},
    }


def _text(address: bytes) -> str:
    return address.decode("utf-8", "backslashreplace")


def details(message: QueuedMessage, octets: int, now: float) -> Iterator[tuple[str, str]]:
    """All that is known of one message, in pairs."""
    yield "id", message.identity
    yield "sender", f"<{plain(message.sender)}>"
    if message.account:
        yield "account", plain(message.account)
    yield "octets", str(octets)
    yield "age", span(now - message.received)
    yield "tries", str(message.tries)
    if message.pending():
        yield "next try", next_try(message, now)
    if message.envid:
        yield "envelope id", plain(message.envid)
    for recipient in message.recipients:
        state = "waits" if recipient.state == PENDING else recipient.state
        said = outcome(recipient.outcome)
        via = f" by way of {plain(recipient.via)}" if recipient.via else ""
        yield plain(recipient.address), f"{state}{via}" + (f": {said}" if said else "")
