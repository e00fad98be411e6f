"""The queue that qmail-qread and qmail-qstat tell of: that of Pillarbox, even beside an old qmail."""

from __future__ import annotations

import os

from ..home import Home, default_folder
from .chain import TROUBLE, die, words


def opened(program: str) -> tuple[Home, list[str]]:
    """The home, and the ids of its messages. Ends `program` with a complaint where there is no queue to be read."""
    home = Home(os.path.abspath(default_folder()))
    try:
        return home, os.listdir(f"{home.queue}/envelope")
    except FileNotFoundError:
        why = (
            f"there is no queue of Pillarbox in {home.folder}; PILLARBOX_HOME names another home,"
            f" and the queue of a qmail is read by its own /var/qmail/bin/{program}"
        )
    except OSError as error:
        why = f"unable to read {home.queue}: {words(error)}"
    die(TROUBLE, f"{program}: fatal: {why}")
