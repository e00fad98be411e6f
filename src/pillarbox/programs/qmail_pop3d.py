"""qmail-pop3d: serve a Maildir by POP3 to a client that has logged in.

    qmail-pop3d [--faithful] [--capa] MAILDIR

Runs as the user, in the home folder, behind a checkpassword program. Says `+OK ` first.

Descriptors: 0 and 1 are the client; 2 is for one complaint, that it was started as root.
Exit status: 0, whatever has happened; 1 when started as root. Each read and write may take 1,200 seconds.
At QUIT the messages that were deleted are removed, durably, and those in new move to cur. Without QUIT nothing changes,
except that files in tmp that are older than 36 hours go. No lock: two sessions may serve one Maildir.

Departs from the original: sizes are octets on the wire, and no empty line is added; STAT counts no deleted message; mail of
the current second is listed, and one of the future; the order is that of the file names' times, and stays; numbers are 1
to 10 digits and nothing more; QUIT is answered once; a message that another program has moved is found; a folder or an
unreadable file is not listed; a unique id that POP3 would not take is shown as a digest; a line may have 1,024 octets; what
lies in cur is never overwritten. Root is not served, as notqmail has it, unless with --faithful. With --capa CAPA is
answered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from ..protocol.dot_stuffing import Encoder, Head
from ..protocol.pop3 import Pop3Session, Retrieve, State, Update
from ..protocol.pop3_classic import CLASSIC, CLASSIC_WITH_CAPA, UNBOUNDED
from ..store.maildir import Drop, Maildrops
from ..store.maildir_scan import chunks
from ..terms import Refused, TryLater
from . import chain
from .chain import Environment
from .client import Client, Gone, drain, refuse

SWITCHES = (b"--faithful", b"--capa")


def main(arguments: list[bytes], environment: Environment) -> int:
    """Until the client's session has ended."""
    switches = set[bytes]()
    while arguments[:1] and arguments[0] in SWITCHES:
        switches.add(arguments.pop(0))
    if not os.getuid() and b"--faithful" not in switches:
        chain.complain("qmail-pop3d invoked as uid 0, terminating")
        return 1
    try:
        drop = _maildrop(arguments)
    except Refused as error:
        refuse(error.why)
        return 0
    dialect = CLASSIC_WITH_CAPA if b"--capa" in switches else CLASSIC
    session = Pop3Session.logged_in(drop.listing(), dialect, UNBOUNDED)
    with suppress(Gone):
        _converse(session, drop, Client(by_line=False))
    return 0


def _maildrop(arguments: list[bytes]) -> Drop:
    """The Maildir, which is the working folder from now on. Raises Refused."""
    try:
        os.chdir(arguments[0])
    except (OSError, IndexError):
        raise Refused("this user has no $HOME/Maildir") from None
    try:
        for folder in ("new", "cur"):
            os.scandir(folder).close()
        return Maildrops().load(".")
    except (OSError, TryLater):
        raise Refused("unable to scan $HOME/Maildir") from None


def _converse(session: Pop3Session, drop: Drop, client: Client) -> None:
    """Raises Gone, without a change to the Maildir."""
    while True:
        event, more = session.next_event(), session.held_back
        if isinstance(event, Retrieve):
            _retrieve(event, session, drop, client)
        elif isinstance(event, Update):
            session.updated(drop.remove(event.numbers))
        if session.state is State.CLOSED and session.quit:
            _move_to_cur(session, drop)
        client.write(session.take_output())
        if session.state is State.CLOSED:
            client.flush()
            return drain()
        if event is None and not more:
            session.receive(client.read())


def _retrieve(event: Retrieve, session: Pop3Session, drop: Drop, client: Client) -> None:
    """The reply, and the message. Raises Gone where the message can't be read to its end."""
    try:
        descriptor = drop.open(event.number)
    except OSError:
        return session.refuse("unable to open that message")
    session.message_opened()
    client.write(session.take_output())
    try:
        for piece in _wire(descriptor, session.listing.form(event.number), event.body_lines):
            client.write(piece)
    except OSError:
        raise Gone from None
    finally:
        os.close(descriptor)


def _wire(descriptor: int, form: int, body_lines: int | None) -> Iterator[bytes]:
    """A message as it travels, the final dot included. Raises OSError."""
    encoder = Encoder(form)
    if body_lines is None:
        yield from map(encoder.feed, chunks(descriptor))
    else:
        head = Head(body_lines)
        for chunk in chunks(descriptor):
            yield encoder.feed(head.feed(chunk))
            if head.done:
                break
        yield encoder.feed(head.finish())
    yield encoder.finish()


def _move_to_cur(session: Pop3Session, drop: Drop) -> None:
    """What the user has had a chance to read is not new any more; where it can't be moved, it stays."""
    files = drop.scan.files
    for number in range(1, session.listing.count + 1):
        file = files[number]
        if file.startswith(b"new/") and not session.is_deleted(number):
            target = b"cur/" + file[4:] + b":2,"
            with suppress(OSError):
                if not os.path.lexists(target):
                    os.rename(file, target)
