"""`pillarbox queue`: accepted mail that still waits. `list` and `show` read the files, and need no server."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

from cyclopts import App, Parameter

from ..home import Home
from ..store.queue import DiskQueue
from ..store.queue_folder import Folder
from ..store.queue_message import QueuedMessage
from ..store.queue_summary import summaries
from ..terminal import say, table
from ..terms import Misuse, Refused, TryLater
from .commanding import ask
from .options import HomeOption, JsonOption, home_of
from .queue_view import HEADS, details, plain, rows, tree

HEADER_LIMIT = 64 << 10  # octets of a header that `show` prints

IdArgument = Annotated[str, Parameter(name="ID")]
USAGE = "Usage: pillarbox queue {} [OPTIONS]"

app = App(
    name="queue", help="Accepted mail that still waits. An ID may be shortened as long as it fits only one message."
)


@app.command(name="list")
def list_(*, json_: JsonOption = False, home: HomeOption = "") -> int:
    """All queued messages, the oldest first: a line for each recipient that still waits.

    Columns: id, age, octets, sender, recipient, next try, last outcome. Without a terminal there are no headings, and
    tabs between the columns.
    """
    place = _place(home)
    if json_:
        print(json.dumps({"messages": [tree(one) for one in summaries(place.queue)]}))
        return 0
    now = time.time()
    found = [row for one in summaries(place.queue) for row in rows(one, now)]
    if found:
        table(HEADS, found)
    else:
        print("the queue is empty", file=sys.stderr)
    return 0


@app.command
def show(id_: IdArgument, /, *, home: HomeOption = "") -> None:
    """One message: who sent it, what has become of each recipient, and its header."""
    place = _place(home)
    identity = _resolve(place, id_)
    try:
        message, octets, header = _read(Folder(place.queue), identity)
    except FileNotFoundError:
        raise Refused(_gone(identity)) from None
    table(("", ""), list(details(message, octets, time.time())))
    say()
    for line in header.split(b"\n"):
        print(plain(line.replace(b"\t", b"    ")))


@app.command(usage=USAGE.format("retry [ID ...]"))
def retry(*ids: IdArgument, home: HomeOption = "") -> int:
    """Try these messages now, or all of them."""
    place = _place(home)
    for identity in [_resolve(place, one) for one in ids] or [""]:
        text = ask(place, "retry", identity)
        if text is None:
            raise TryLater(_none_runs(place))
        say(text or f"{identity or 'the whole queue'} is tried now")
    return 0


@app.command
def flush(*, home: HomeOption = "") -> int:
    """Try all messages now, even at hosts that did not answer lately."""
    place = _place(home)
    text = ask(place, "flush", "")
    if text is None:
        raise TryLater(_none_runs(place))
    say(text or "the whole queue is tried now")
    return 0


@app.command(usage=USAGE.format("hold ID ..."))
def hold(*ids: IdArgument, home: HomeOption = "") -> None:
    """Try these messages no more until they are released. They are kept however long that takes."""
    for identity in _changed(home, "hold", ids):
        say(f"{identity} is held")


@app.command(usage=USAGE.format("release ID ..."))
def release(*ids: IdArgument, home: HomeOption = "") -> None:
    """Try held messages again."""
    for identity in _changed(home, "release", ids):
        say(f"{identity} is released")


@app.command(usage=USAGE.format("remove ID ..."))
def remove(*ids: IdArgument, home: HomeOption = "") -> None:
    """Remove these messages for good. Nobody is told, neither sender nor recipients; nothing is asked."""
    place = _place(home)
    known = {identity: _told(Folder(place.queue), identity) for identity in (_resolve(place, one) for one in ids)}
    for identity in _changed(home, "remove", ids):
        say(f"{identity} is removed{known.get(identity, '')}")


def _read(folder: Folder, identity: str) -> tuple[QueuedMessage, int, bytes]:
    """The message, its octets, and its header without the last line end. Raises FileNotFoundError, OSError, TryLater."""
    message, octets = folder.read_envelope(identity), folder.octets(identity)
    with open(folder.open_message(identity), "rb") as file:
        head = b"\n" + file.read(HEADER_LIMIT)
    return message, octets, head.partition(b"\n\n")[0].strip(b"\n")


def _told(folder: Folder, identity: str) -> str:
    """Whose message that was, behind `removed`; nothing where it can't be read."""
    try:
        message = folder.read_envelope(identity)
    except (FileNotFoundError, TryLater):
        return ""
    waiting = ", ".join(plain(recipient.address) for recipient in message.pending()) or "nobody any more"
    return f": from <{plain(message.sender)}>, it waited for {waiting}"


def _gone(identity: str) -> str:
    return f"message {identity} has just left the queue"


def _place(home: str) -> Home:
    """The home, which is there, and open to us. Raises Refused."""
    place = home_of(home)
    place.must_exist()
    place.running()
    if not os.path.isdir(f"{place.queue}/envelope"):
        if not os.access(place.folder, os.X_OK) or (os.path.isdir(place.queue) and not os.access(place.queue, os.X_OK)):
            raise Refused(f"the queue {place.queue} is closed to you")
        raise Refused(f"no server has run on {place.folder} yet: there is no queue")
    return place


def _resolve(place: Home, text: str) -> str:
    """The one id that begins so. Raises Refused."""
    found = [name for name in os.listdir(f"{place.queue}/envelope") if name.startswith(text)]
    if text in found:
        return text
    if not found or not text:
        there = f"`queue list{place.option}` shows those that there are"
        raise Refused(f'no queued message has the id "{plain(text)}"; {there}')
    if len(found) > 1:
        raise Refused(f'{len(found)} messages have ids that begin with "{plain(text)}": say more of it')
    return found[0]


def _none_runs(place: Home) -> str:
    return f"no server runs on {place.folder}: it tries all that is due when it starts"


def _changed(home: str, verb: str, ids: Sequence[str]) -> Iterator[str]:
    """Obey for each id, by the server where one runs, else here: each id in full, once it is done."""
    place = home_of(home)
    if not ids:
        raise Misuse(f"`queue {verb}` needs an ID; `queue list{place.option}` shows those that there are")
    place = _place(home)
    for identity in [_resolve(place, one) for one in ids]:
        if ask(place, verb, identity) is None:
            with _own(place) as queue:
                _change(queue, verb, identity)
        yield identity


@contextlib.contextmanager
def _own(place: Home) -> Iterator[DiskQueue]:
    """The queue, while no server can start. Raises TryLater."""
    lock = place.lock()
    try:
        yield DiskQueue(place.queue)
    finally:
        os.close(lock)


def _change(queue: DiskQueue, verb: str, identity: str) -> None:
    try:
        if verb == "remove":
            queue.remove(identity)
        else:
            queue.mark(identity, held=verb == "hold", next_try=time.time() if verb == "release" else None)
    except FileNotFoundError:
        raise Refused(_gone(identity)) from None
