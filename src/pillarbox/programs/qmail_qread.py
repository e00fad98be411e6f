"""qmail-qread: the messages in the queue, and their recipients.

    qmail-qread

Environment: PILLARBOX_HOME, else /var/lib/pillarbox for root, else the user's data directory. For each message a line
`D Mon YYYY hh:mm:ss GMT  #ID  OCTETS  <SENDER> `, and for each recipient a line with `local` or `remote` between tabs, and
`  done` before those that are settled. Exit status: 0, or 111 where the queue can't be read.

It departs from the original: an ID is a text, as `pillarbox queue` has it; a message that can't be read has a line that
says so; there is no `bouncing`, as a report is a message of its own; and what would steer a terminal is written as `?`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..terms import Refused, TryLater
from .chain import TROUBLE, Environment, die, words, write_all
from .own_queue import opened

if TYPE_CHECKING:
    from ..store.queue_summary import Summary

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def main(arguments: list[bytes], environment: Environment) -> int:
    from ..config import load
    from ..store.queue_summary import summaries

    home, _ = opened("qmail-qread")
    try:
        domains = frozenset(name.encode() for name in load(home.config).domains)
        for summary in summaries(home.queue):
            write_all(1, b"".join(_lines(summary, domains)))
    except (Refused, TryLater) as error:
        die(TROUBLE, f"qmail-qread: fatal: {error.why}")
    except OSError as error:
        die(TROUBLE, f"qmail-qread: fatal: unable to write: {words(error)}")
    return 0


def _lines(summary: Summary, domains: frozenset[bytes]) -> Iterator[bytes]:
    message = summary.message
    if message is None:
        yield b"#%b  %b\n" % (summary.identity.encode(), _CONTROL.sub(b"?", summary.damage.encode()))
        return
    yield b"%b GMT  #%b  %d  <%b> \n" % (
        _date(message.received),
        message.identity.encode("ascii"),
        summary.octets,
        _CONTROL.sub(b"?", message.sender),
    )
    for recipient in message.recipients:
        domain = recipient.address.rpartition(b"@")[2].lower()
        channel = b"local" if domain in domains or b"@" not in recipient.address else b"remote"
        done = b"" if recipient.state == "pending" else b"  done"
        yield b"%b\t%b\t%b\n" % (done, channel, _CONTROL.sub(b"?", recipient.address))


def _date(seconds: float) -> bytes:
    at = datetime.fromtimestamp(int(seconds), UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year:04d} {at:%H:%M:%S}".encode("ascii")
