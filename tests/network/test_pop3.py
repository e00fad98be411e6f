"""What a neighbour makes up, or a bug of ours, ends the one session that it concerns."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from pillarbox.config import Config
from pillarbox.listing import Entry, Listing
from pillarbox.messages import Close, GiveUp, LoginRefused, Messages, Opened, OpenMessages, Update, Updated
from pillarbox.network.pop3 import Pop3Connection

APOP = b"APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n"
LISTING = bytes(Listing.render([Entry(b"one", 3, 0), Entry(b"two", 3, 0)]).blob)


class Link:
    """Remembers what it is asked to send."""

    closed = False

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


class Poller:
    def watch(self, descriptor: int, wanted: int, ready: object) -> None: ...

    def change(self, descriptor: int, wanted: int) -> None: ...

    def forget(self, descriptor: int) -> None: ...


@dataclass
class Neighbours:
    broker: Link = field(default_factory=Link)


class Trusting:
    def contains(self, address: str) -> bool:
        return True


class AtOnce:
    """A loop whose threads are done before they began: memory files can't be probed without waiting."""

    def run_in_executor(self, _: object, work: Callable[[], bytes]) -> Future[bytes]:
        done: Future[bytes] = Future()
        done.set_result(work())
        return done


@dataclass
class Process:
    """What a connection knows of the network process that it lives in."""

    config: Config = field(default_factory=Config)
    neighbours: Neighbours = field(default_factory=Neighbours)
    trusted: Trusting = field(default_factory=Trusting)
    poller: Poller = field(default_factory=Poller)
    loop: AtOnce = field(default_factory=AtOnce)
    draining: bool = False
    contexts: dict[str, Any] = field(default_factory=dict)
    opened_ahead: int = 0
    ahead_limit: int = 100
    bugs: list[BaseException] = field(default_factory=list)
    clock: float = 0.0

    def now(self) -> float:
        return self.clock

    def forget(self, connection: object) -> None: ...

    def release(self, number: int) -> None: ...

    def bug(self, error: BaseException, where: str) -> None:
        self.bugs.append(error)


class Session:
    """One connection, its client, and the worker that has its mail."""

    def __init__(self) -> None:
        ours, self.client = socket.socketpair()
        ours.setblocking(False)
        self.client.settimeout(5)
        self.process, self.worker = Process(), Link()
        unreal: Any = self.process
        self.connection = Pop3Connection(unreal, ours, "127.0.0.1", 7, b"<1.2@example.test>")
        self.connection.pump()

    def says(self, data: bytes) -> bytes:
        """What comes at once when the client says this."""
        self.connection.guarded(self.connection.received, data)
        return self.heard()

    def heard(self) -> bytes:
        heard = b""
        while select.select([self.client], [], [], 0)[0] and (data := self.client.recv(65536)):
            heard += data
        return heard

    def told(self, answer: Any, descriptors: tuple[int, ...] = ()) -> bytes:
        worker: Any = self.worker
        self.connection.answered(answer, descriptors, worker)
        return self.heard()

    def logged_in(self) -> Session:
        self.says(APOP)
        assert self.told(Opened(7, "alice", LISTING)).startswith(b"+OK 2 messages")
        return self


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    session.heard()
    yield session
    session.connection.close("test")
    session.client.close()


def memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("listing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    return descriptor


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("blob", [b"x", LISTING[:-1], b"PBL1" + b"\xff" * 100])
def test_a_listing_that_is_none_ends_the_session_and_frees_the_maildrop(session: Session, blob: bytes) -> None:
    session.says(APOP)
    session.told(Opened(7, "alice", blob))
    assert session.connection.closed
    assert [type(bug) for bug in session.process.bugs] == [ValueError]
    assert session.worker.sent == [Close(7)]


def test_a_listing_that_may_still_shrink_is_not_mapped(session: Session) -> None:
    session.says(APOP)
    descriptor = memory_file(LISTING)
    session.told(Opened(7, "alice", b""), (descriptor,))
    assert session.connection.closed and not is_open(descriptor)
    assert session.worker.sent == [Close(7)]


def test_lines_that_overlap_end_the_session(session: Session) -> None:
    many = Listing.render([Entry(b"%030d" % number, 1, 0) for number in range(100)])
    blob = bytearray(many.blob)
    column = blob.rindex(sum(map(len, many.uidl_lines())).to_bytes(4, "little")) - 400
    for number in range(101):
        blob[column + 4 * number : column + 4 * number + 4] = (3_000 * (number % 2)).to_bytes(4, "little")
    session.says(APOP)
    session.told(Opened(7, "alice", bytes(blob)))
    session.says(b"".join(b"DELE %d\r\n" % number for number in range(2, 101, 2)))
    assert not session.connection.closed
    session.says(b"UIDL\r\n")
    assert session.connection.closed and [type(bug) for bug in session.process.bugs] == [ValueError]


@pytest.mark.parametrize(
    "answer", [Updated(7, 0), LoginRefused(7, "no", "AUTH", True), Opened(7, "mallory", LISTING), Messages(7, ())]
)
@pytest.mark.parametrize("waits_for", [b"", b"RETR 1\r\n"])
def test_an_answer_that_nobody_asked_for(session: Session, waits_for: bytes, answer: Any) -> None:
    session.logged_in().says(waits_for)
    assert session.told(answer) == b""
    assert session.connection.closed == bool(session.process.bugs)
    session.connection.close("eof")
    assert session.worker.sent[-1] == Close(7)


def test_messages_that_nobody_asked_for_are_closed(session: Session) -> None:
    session.logged_in()
    descriptor = memory_file(b"x\n")
    session.told(Messages(7, (1,)), (descriptor,))
    assert not is_open(descriptor)


def test_a_message_is_sent_and_its_descriptor_closed(session: Session) -> None:
    session.logged_in()
    assert session.says(b"RETR 1\r\n") == b""
    assert session.worker.sent == [OpenMessages(7, (1, 2))]
    descriptors = (memory_file(b"x\n"), memory_file(b".\n"))
    assert session.told(Messages(7, (1, 2)), descriptors) == b"+OK 3 octets\r\nx\r\n.\r\n"
    assert session.says(b"TOP 2 0\r\n") == b"+OK\r\n..\r\n.\r\n"
    assert not any(map(is_open, descriptors)) and session.process.opened_ahead == 0


def test_a_message_that_is_gone(session: Session) -> None:
    session.logged_in().says(b"RETR 2\r\n")
    assert session.told(Messages(7, (), (2,))).startswith(b"-ERR [SYS/TEMP] ")
    assert session.says(b"NOOP\r\n") == b"+OK\r\n"


def test_update(session: Session) -> None:
    session.logged_in().says(b"DELE 2\r\nQUIT\r\n")
    assert session.worker.sent == [Update(7, (2,))]
    assert session.told(Updated(7, 0)) == b"+OK goodbye, 1 removed\r\n"
    assert session.connection.closed and session.worker.sent == [Update(7, (2,))]


def test_a_client_that_leaves_during_its_login_is_given_up(session: Session) -> None:
    session.says(APOP)
    session.connection.close("eof")
    assert isinstance(session.process.neighbours.broker.sent[-1], GiveUp)
