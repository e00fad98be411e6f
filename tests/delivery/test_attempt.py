"""One try: what is done is not done twice, whatever the disk says meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillarbox.config import Config
from pillarbox.delivery.attempt import Attempts
from pillarbox.delivery.letter import Outgoing
from pillarbox.delivery.local import Place
from pillarbox.delivery.notices import Notices
from pillarbox.delivery.remote import STOPPING
from pillarbox.store.queue import DiskQueue, QueuedMessage
from pillarbox.terms import Envelope, Outcome, TryLater

NEAR, FAR, LATE = b"x@near.test", b"x@far.test", b"x@late.test"


class Elsewhere:
    """Takes what is sent, and counts it; `late` is never ready."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def lane(self, recipient: bytes) -> Hashable:
        return recipient

    async def deliver(self, outgoing: Outgoing) -> dict[bytes, Outcome]:
        (recipient,) = outgoing.recipients
        if recipient == LATE:
            return {LATE: Outcome("delayed", "4.4.1", "no answer")}
        self.sent.append(recipient)
        return {recipient: Outcome("relayed", "2.0.0")}


class Office:
    """A queue with one message, and what tries it."""

    def __init__(self, folder: Path) -> None:
        self.queue = DiskQueue(str(folder / "queue"))
        self.remote = Elsewhere()
        notices = Notices(self.queue, Config, lambda identity: None)
        disk = ThreadPoolExecutor(1)
        remote: Any = self.remote
        self.attempts = Attempts(self.queue, disk, remote, notices, Config, lambda: False)

    def accept(self, *recipients: bytes) -> str:
        identity, _ = self.queue.open_slot()
        self.queue.commit(identity, Envelope(b"alice@ours.test", recipients))
        return identity

    async def attempt(self, identity: str, age: float = 0.0) -> float | None:
        nobody: Any = None  # no recipient is ours, so the broker is not asked
        message = self.queue.load(identity)
        return await self.attempts.attempt(nobody, replace(message, received=message.received - age))


def failing(times: int, work: Any) -> Any:
    """`work`, after it has failed so often."""
    left = [times]

    def tried(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise TryLater("the disk is full", "4.3.1")
        return work(*arguments, **options)

    return tried


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_message_that_all_have_is_gone(office: Office) -> None:
    async def main() -> None:
        assert await office.attempt(office.accept(NEAR, FAR)) is None

    asyncio.run(main())
    assert sorted(office.remote.sent) == [FAR, NEAR]
    assert list(office.queue.pending()) == []


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_the_disk_does_not_take_is_not_sent_again(
    office: Office, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(office.queue, "settle", failing(times, office.queue.settle))

    async def main() -> None:
        identity = office.accept(NEAR, FAR, LATE)
        for _ in range(times):
            try:
                assert await office.attempt(identity) is not None
            except TryLater:
                continue
        await office.attempt(identity)
        states = {each.address: each.state for each in office.queue.load(identity).recipients}
        assert states == {NEAR: "relayed", FAR: "relayed", LATE: "pending"}

    asyncio.run(main())
    assert sorted(office.remote.sent) == [FAR, NEAR]


def test_what_can_not_be_removed_is_not_sent_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = failing(1, office.queue._folder.sync)

    def sync_or_not(place: str) -> None:
        try:
            sync(place)
        except TryLater:
            raise OSError(5, "Input/output error") from None

    async def main() -> None:
        identity = office.accept(NEAR)
        with monkeypatch.context() as broken:
            broken.setattr(office.queue._folder, "sync", sync_or_not)
            with pytest.raises(TryLater):
                await office.attempt(identity)
        if identity in office.queue.pending():
            assert await office.attempt(identity) is None

    asyncio.run(main())
    assert office.remote.sent == [NEAR]


def test_a_job_that_breaks_leaves_the_others_to_their_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver = office.remote.deliver

    async def breaking(outgoing: Outgoing) -> dict[bytes, Outcome]:
        if outgoing.recipients == (NEAR,):
            raise RuntimeError("a bug")
        await asyncio.sleep(0)
        return await deliver(outgoing)

    monkeypatch.setattr(office.remote, "deliver", breaking)

    async def main() -> None:
        identity = office.accept(NEAR, FAR)
        assert await office.attempt(identity) is not None
        states = {each.address: each.state for each in office.queue.load(identity).recipients}
        assert states == {NEAR: "pending", FAR: "relayed"}

    asyncio.run(main())
    assert office.remote.sent == [FAR]


def test_a_long_list_is_written_down_as_it_goes(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after so many transactions repeats one of them, not all."""
    many = tuple(b"%d@near.test" % number for number in range(250))
    written: list[int] = []
    settle = office.queue.settle

    def noting(identity: str, outcomes: Any, **options: Any) -> Any:
        written.append(len(outcomes))
        return settle(identity, outcomes, **options)

    async def deliver(outgoing: Outgoing) -> dict[bytes, Outcome]:
        office.remote.sent += outgoing.recipients
        return dict.fromkeys(outgoing.recipients, Outcome("relayed", "2.0.0"))

    monkeypatch.setattr(office.queue, "settle", noting)
    monkeypatch.setattr(office.remote, "lane", lambda recipient: "near")
    monkeypatch.setattr(office.remote, "deliver", deliver)

    async def main() -> None:
        assert await office.attempt(office.accept(*many)) is None

    asyncio.run(main())
    assert written == [100, 100]
    assert sorted(office.remote.sent) == sorted(many)


def breaking_at(number: int, deliver: Any) -> Any:
    """`deliver`, but the call of that number, from 1, meets a bug."""
    calls = [0]

    async def broken(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            raise RuntimeError("a bug")
        return await deliver(*arguments)

    return broken


@pytest.mark.parametrize("full", [False, True])
def test_a_bug_in_one_transaction_is_nothing_to_the_others(
    office: Office, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Even where the disk did not take what the first had done."""
    many = tuple(b"%d@near.test" % number for number in range(250))

    async def deliver(outgoing: Outgoing) -> dict[bytes, Outcome]:
        office.remote.sent += outgoing.recipients
        return dict.fromkeys(outgoing.recipients, Outcome("relayed", "2.0.0"))

    monkeypatch.setattr(office.remote, "lane", lambda recipient: "near")
    monkeypatch.setattr(office.remote, "deliver", breaking_at(2, deliver))
    monkeypatch.setattr(office.queue, "settle", failing(1 if full else 0, office.queue.settle))

    async def main() -> None:
        identity = office.accept(*many)
        assert await office.attempt(identity) is not None
        assert await office.attempt(identity) is None

    asyncio.run(main())
    assert sorted(office.remote.sent) == sorted(many)


@pytest.mark.parametrize("full", [False, True])
def test_a_bug_with_one_lot_of_mailboxes_is_nothing_to_the_others(
    office: Office, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    many = [b"%d@ours.test" % number for number in range(120)]
    kept: list[bytes] = []

    async def follow(_: Any, message: QueuedMessage) -> Any:
        return message, {each.address: Place((each.address.decode(),)) for each in message.pending()}

    async def deliver(_: Any, message: QueuedMessage, places: Any) -> dict[bytes, Outcome]:
        kept.extend(places)
        return dict.fromkeys(places, Outcome("delivered", "2.0.0"))

    monkeypatch.setattr(office.attempts, "_is_ours", lambda address: True)
    monkeypatch.setattr(office.attempts._local, "follow", follow)
    monkeypatch.setattr(office.attempts._local, "deliver", breaking_at(2, deliver))
    monkeypatch.setattr(office.queue, "settle", failing(1 if full else 0, office.queue.settle))

    async def main() -> None:
        identity = office.accept(*many)
        assert await office.attempt(identity) is not None
        assert await office.attempt(identity) is None

    asyncio.run(main())
    assert sorted(kept) == sorted(many)


def test_after_a_transaction_that_nobody_got_there_is_no_next(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(b"%d@near.test" % number for number in range(250))
    tried: list[int] = []

    async def deliver(outgoing: Outgoing) -> dict[bytes, Outcome]:
        tried.append(len(outgoing.recipients))
        return dict.fromkeys(outgoing.recipients, Outcome("delayed", "4.3.2", "come back later"))

    monkeypatch.setattr(office.remote, "lane", lambda recipient: "near")
    monkeypatch.setattr(office.remote, "deliver", deliver)

    async def main() -> None:
        identity = office.accept(*many)
        assert await office.attempt(identity) is not None
        outcomes = {each.outcome.text for each in office.queue.load(identity).recipients if each.outcome}
        assert outcomes == {"come back later"}

    asyncio.run(main())
    assert tried == [100]


@pytest.mark.parametrize("others", [(), (LATE,)])
def test_a_stop_of_the_server_is_no_try(
    office: Office, monkeypatch: pytest.MonkeyPatch, others: tuple[bytes, ...]
) -> None:
    deliver = office.remote.deliver

    async def stopping(outgoing: Outgoing) -> dict[bytes, Outcome]:
        return {NEAR: STOPPING} if outgoing.recipients == (NEAR,) else await deliver(outgoing)

    monkeypatch.setattr(office.remote, "deliver", stopping)
    identity = office.accept(NEAR, *others)
    asyncio.run(office.attempt(identity))
    message = office.queue.load(identity)
    assert message.tries == 0 and message.next_try <= time.time()


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (STOPPING, "pending"),
        (Outcome("delayed", "4.4.5", "too many messages wait for it already", "mx.near.test", tried=False), "pending"),
        (Outcome("delayed", "4.4.1", "no answer", "mx.near.test"), "failed"),
    ],
)
def test_an_old_message_is_not_given_up_before_it_is_tried(
    office: Office, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, state: str
) -> None:
    async def deliver(outgoing: Outgoing) -> dict[bytes, Outcome]:
        return dict.fromkeys(outgoing.recipients, outcome if outgoing.recipients == (NEAR,) else STOPPING)

    monkeypatch.setattr(office.remote, "deliver", deliver)
    identity = office.accept(NEAR, FAR)
    asyncio.run(office.attempt(identity, age=2 * Config().delivery.lifetime))
    states = {each.address: each.state for each in office.queue.load(identity).recipients}
    assert states == {NEAR: state, FAR: "pending"}
