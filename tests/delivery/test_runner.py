"""When messages are tried: one that can't even be begun stops nobody."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import cast

import pytest

from pillarbox.delivery.attempt import Attempts
from pillarbox.delivery.questions import Broker
from pillarbox.delivery.runner import LANE_SHARE, Runner
from pillarbox.store.queue import DiskQueue, QueuedMessage
from pillarbox.terms import Envelope

POISON = b"poison@x.test"


class Tried:
    """In place of Attempts; it stumbles over one recipient."""

    def __init__(self, *, vain: bool = False) -> None:
        self.identities: list[str] = []
        self.vain = vain  # each try waits for `go_on`, and is to be repeated
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    def lanes(self, message: QueuedMessage) -> set[Hashable]:
        if message.recipients[0].address == POISON:
            raise LookupError("unknown encoding: punycode")
        return {message.recipients[0].address}

    def stays_here(self, message: QueuedMessage) -> bool:
        return False

    async def attempt(self, broker: Broker, message: QueuedMessage, without: Collection[Hashable] = ()) -> float | None:
        self.identities.append(message.identity)
        if self.vain:
            self.begun.set()
            await self.go_on.wait()
            return time.time() + 1000
        return None


def put(queue: DiskQueue, recipient: bytes) -> str:
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.commit(identity, Envelope(b"", (recipient,)), "")
    return identity


def test_a_message_that_can_not_be_begun_is_accepted_and_stops_nobody(tmp_path: Path) -> None:
    async def scene() -> None:
        tried = Tried()
        runner = Runner(queue, cast(Attempts, tried), lambda: cast(Broker, object()))
        runner.accepted(poison)  # who has brought it is to be told that it is queued, whatever becomes of it
        runner.accepted(good)
        await runner.drain()
        assert tried.identities == [good]
        assert runner.retry_all() == 1, "it waits, to be tried again"

    queue = DiskQueue(str(tmp_path / "queue"))
    queue.recover()
    poison, good = put(queue, POISON), put(queue, b"good@x.test")
    asyncio.run(scene())


@pytest.mark.parametrize("everything", [False, True])
def test_who_wants_a_retry_amid_a_try_gets_another_try(tmp_path: Path, everything: bool) -> None:
    async def scene() -> None:
        tried = Tried(vain=True)
        runner = Runner(queue, cast(Attempts, tried), lambda: cast(Broker, object()))
        runner.accepted(identity)
        await tried.begun.wait()
        tried.begun.clear()
        if everything:
            assert runner.retry_all() == 1
        else:
            runner.retry(identity)
        assert tried.identities == [identity], "not two at once"
        tried.go_on.set()
        await asyncio.wait_for(tried.begun.wait(), 30)
        await runner.drain()
        assert tried.identities == [identity, identity]

    queue = DiskQueue(str(tmp_path / "queue"))
    queue.recover()
    identity = put(queue, b"good@x.test")
    asyncio.run(scene())


@pytest.mark.parametrize("gone", ["removed", "held", "retried"])
def test_nobody_is_left_waiting_for_room_in_a_lane(tmp_path: Path, gone: str) -> None:
    """Behind a full lane wait messages that want it no more, or stand there twice, and others after them."""

    async def scene() -> None:
        tried = Tried(vain=True)
        runner = Runner(queue, cast(Attempts, tried), lambda: cast(Broker, object()))
        for identity in first + second:
            runner.accepted(identity)
        if gone == "retried":
            runner.retry_all()
        for identity in second if gone != "retried" else ():
            runner.remove(identity) if gone == "removed" else runner.hold(identity)
        for identity in third:
            runner.accepted(identity)
        assert tried.identities == [], "the loop has not turned yet"
        await tried.begun.wait()
        tried.go_on.set()
        async with asyncio.timeout(60):
            while not set(third) <= set(tried.identities):
                await asyncio.sleep(0)
        await runner.drain()
        assert all(tried.identities.count(identity) <= 1 for identity in second + third)

    queue = DiskQueue(str(tmp_path / "queue"))
    queue.recover()
    first, second, third = ([put(queue, b"x@x.test") for _ in range(LANE_SHARE)] for _ in range(3))
    asyncio.run(scene())
