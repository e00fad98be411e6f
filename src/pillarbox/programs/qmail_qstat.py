"""qmail-qstat: how many messages are in the queue.

    qmail-qstat

Environment: PILLARBOX_HOME, else /var/lib/pillarbox for root, else the user's data directory. Two lines, as the original
prints them; a message of ours is never `not yet preprocessed`. Exit status: 0, or 111 where the queue can't be read.
"""

from __future__ import annotations

import os

from ..home import Home, default_folder
from .chain import TROUBLE, Environment, die, words, write_all


def main(arguments: list[bytes], environment: Environment) -> int:
    queue = Home(os.path.abspath(default_folder())).queue
    try:
        count = len(os.listdir(f"{queue}/envelope"))
    except OSError as error:
        die(TROUBLE, f"qmail-qstat: fatal: unable to read {queue}: {words(error)}")
    text = f"messages in queue: {count}\nmessages in queue but not yet preprocessed: 0\n"
    try:
        write_all(1, text.encode("ascii"))
    except OSError as error:
        die(TROUBLE, f"qmail-qstat: fatal: unable to write: {words(error)}")
    return 0
