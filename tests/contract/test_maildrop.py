"""What every maildrop promises (store.contract.Maildrop)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pillarbox.listing import Listing
from pillarbox.protocol.dot_stuffing import encode
from pillarbox.store.contract import Maildrop
from pillarbox.store.maildir import Maildrops
from pillarbox.store.maildir_delivery import Slot, sync
from pillarbox.store.memory import MemoryMaildrops

MESSAGES = [
    b"",
    b"\n",
    b"no line end",
    b"Subject: LF\n\none\n.two\n",
    b"Subject: CRLF\r\n\r\none\r\n.two\r\n",
    b"Subject: mixed\r\n\none\n\r\ntwo",
    b"a bare \r in a line\n\r",
    b"NUL \0 and 8-bit \xff\n",
    b".\n..\n",
    b"x" * 200_000,
]


class Store:
    """Two verbs that every implementation has in some way of its own."""

    def __init__(self, deliver: Callable[[bytes], object], session: Callable[[], Maildrop]) -> None:
        self.deliver = deliver
        self.session = session


def in_memory(folder: Path) -> Store:
    maildrops = MemoryMaildrops()
    return Store(maildrops.deliver, maildrops.session)


def in_maildir(folder: Path) -> Store:
    path = str(folder / "Maildir")
    maildrops = Maildrops()

    def deliver(message: bytes) -> None:
        slot = Slot(path)
        os.write(slot.fd, message)
        slot.seal()
        slot.publish()
        sync(path)

    return Store(deliver, lambda: maildrops.unchanged(path) or maildrops.load(path))


@pytest.fixture(params=[in_memory, in_maildir], ids=["memory", "maildir"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    made: Store = request.param(tmp_path)
    return made


def read(descriptor: int) -> bytes:
    """Where its position stands does not matter to a reader."""
    pieces, offset = [], 0
    while piece := os.pread(descriptor, 1 << 16, offset):
        pieces.append(piece)
        offset += len(piece)
    os.close(descriptor)
    return b"".join(pieces)


def uidls(listing: Listing) -> list[bytes]:
    return [listing.uidl(number) for number in range(1, listing.count + 1)]


def test_a_new_maildrop_is_empty(store: Store) -> None:
    listing = store.session().listing()
    assert (listing.count, listing.octets) == (0, 0)
    assert store.session().remove([]) == 0


def test_messages_come_in_the_order_of_delivery(store: Store) -> None:
    for message in MESSAGES:
        store.deliver(message)
    maildrop = store.session()
    assert [read(maildrop.open(number)) for number in range(1, len(MESSAGES) + 1)] == MESSAGES


def test_octets_are_those_on_the_wire(store: Store) -> None:
    for message in MESSAGES:
        store.deliver(message)
    listing = store.session().listing()
    for number, message in enumerate(MESSAGES, 1):
        wire = encode(message)[: -len(b".\r\n")]
        stuffing = wire.count(b"\n..") + wire.startswith(b"..")
        assert listing.size(number) == len(wire) - stuffing
        assert encode(message, listing.form(number)) == encode(message)
    assert listing.octets == sum(listing.size(number) for number in range(1, listing.count + 1))


def test_a_session_sees_what_was_there_when_it_began(store: Store) -> None:
    store.deliver(b"one\n")
    maildrop = store.session()
    store.deliver(b"two\n")
    assert maildrop.listing().count == 1
    assert store.session().listing().count == 2


def test_unique_ids_stay_and_are_never_used_again(store: Store) -> None:
    for message in (b"one\n", b"two\n", b"three\n"):
        store.deliver(message)
    before = uidls(store.session().listing())
    assert len(set(before)) == 3
    assert store.session().remove([2]) == 0
    store.deliver(b"two\n")
    after = uidls(store.session().listing())
    assert after[:2] == [before[0], before[2]]
    assert after[2] not in before


def test_what_was_removed_is_gone_for_later_sessions(store: Store) -> None:
    for message in (b"one\n", b"two\n", b"three\n"):
        store.deliver(message)
    assert store.session().remove([1, 3]) == 0
    maildrop = store.session()
    assert maildrop.listing().count == 1
    assert read(maildrop.open(1)) == b"two\n"


def test_what_another_session_has_removed_is_gone_and_removing_it_again_is_no_failure(store: Store) -> None:
    store.deliver(b"one\n")
    store.deliver(b"two\n")
    first, second = store.session(), store.session()
    assert first.remove([1]) == 0
    with pytest.raises(FileNotFoundError):
        second.open(1)
    assert read(second.open(2)) == b"two\n"
    assert second.remove([1, 2]) == 0
    assert store.session().listing().count == 0


def test_an_open_message_outlives_its_removal(store: Store) -> None:
    store.deliver(b"one\n")
    maildrop = store.session()
    descriptor = maildrop.open(1)
    assert maildrop.remove([1]) == 0
    assert read(descriptor) == b"one\n"


def test_a_message_may_be_open_twice(store: Store) -> None:
    store.deliver(b"one\n")
    maildrop = store.session()
    first, second = maildrop.open(1), maildrop.open(1)
    assert read(first) == b"one\n"
    assert read(second) == b"one\n"
