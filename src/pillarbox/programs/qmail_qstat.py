"""qmail-qstat: how many messages are in the queue.

    qmail-qstat

Environment: PILLARBOX_HOME, else /var/lib/pillarbox for root, else the user's data directory. Two lines, as the original
prints them; a message of ours is never `not yet preprocessed`. Exit status: 0, or 111 where the queue can't be read.
"""

from __future__ import annotations

from .chain import TROUBLE, Environment, die, words, write_all
from .own_queue import opened


def main(arguments: list[bytes], environment: Environment) -> int:
    _, identities = opened("qmail-qstat")
    text = f"messages in queue: {len(identities)}\nmessages in queue but not yet preprocessed: 0\n"
    try:
        write_all(1, text.encode("ascii"))
    except OSError as error:
        die(TROUBLE, f"qmail-qstat: fatal: unable to write: {words(error)}")
    return 0
