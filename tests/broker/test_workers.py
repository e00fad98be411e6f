"""Who gets a worker: strangers that only ask cost no login and no delivery theirs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from pillarbox.broker import workers as module
from pillarbox.broker.workers import DOOR_LIMIT, SILENT_SECONDS, Workers
from pillarbox.channel import Channel, ChannelClosed
from pillarbox.messages import AreYouIdle, BrokerToWorker, DeliveryDone, Idle
from pillarbox.terms import Account


class Nursery:
    """Workers that say that they are idle whenever they are asked."""

    def __init__(self) -> None:
        self.workers: list[Channel[Any]] = []

    def spawn(self, uid: int | None, gid: int | None, config: bytes, end: socket.socket) -> None:
        self.workers.append(Channel(end, BrokerToWorker))

    def answer(self) -> None:
        for worker in self.workers:
            with suppress(ChannelClosed):
                for message, _ in worker.read():
                    if isinstance(message, AreYouIdle):
                        worker.send(Idle())
                worker.flush()


def user(number: int) -> Account:
    return Account(f"user{number}@ours.test", "/nowhere", uid=10_000 + number, gid=100)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    yield now


def run(scene: Callable[[Workers, Nursery], Any]) -> None:
    async def main() -> None:
        nursery = Nursery()
        made: Workers = Workers(
            nursery,  # type: ignore[arg-type]
            0,
            (None, None),
            b"{}",
            lambda worker, _: made.dismiss(worker),
            lambda _: None,
        )
        result = scene(made, nursery)
        if asyncio.iscoroutine(result):
            await result
        made.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_strangers_that_only_ask_have_few_workers_started() -> None:
    def scene(workers: Workers, nursery: Nursery) -> None:
        for number in range(DOOR_LIMIT):
            assert workers.at_hand(user(number), at_door=True)
        assert workers.at_hand(user(DOOR_LIMIT), at_door=True) is None
        assert workers.at_hand(user(0), at_door=True)  # one that is there answers
        assert len(nursery.workers) == DOOR_LIMIT

    run(scene)


def test_a_login_or_a_delivery_is_never_turned_away_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USERS_LIMIT", 4)

    def scene(workers: Workers, nursery: Nursery) -> None:
        for number in range(DOOR_LIMIT):
            workers.at_hand(user(number), at_door=True)
        for number in (0, 101, 102, 103):  # the first of them is there already
            assert workers.at_hand(user(number))
        assert workers.at_hand(user(104)) is None
        assert workers.at_hand(user(1)) is None  # it would be one more at work

    run(scene)


def test_who_was_started_for_a_question_alone_ends_soon(clock: list[float]) -> None:
    async def scene(workers: Workers, nursery: Nursery) -> None:
        kept = workers.at_hand(user(0))
        assert kept is not None
        kept.used = clock[0]  # a default value is bound to the true clock
        for number in range(1, DOOR_LIMIT + 1):
            assert workers.at_hand(user(number), at_door=True)
        clock[0] += 5.0
        assert workers.at_hand(user(99), at_door=True) is None
        while len(workers._of_uid) > 1:
            nursery.answer()
            await asyncio.sleep(0.01)
        assert workers.at_hand(user(99), at_door=True)
        assert workers.of(user(0)) is kept

    run(scene)


def test_strangers_questions_prolong_no_workers_stay(clock: list[float]) -> None:
    def scene(workers: Workers, nursery: Nursery) -> None:
        worker = workers.of(user(0))
        clock[0] += 30.0
        worker.used = before = 970.0
        workers.of(user(0), at_door=True)
        assert worker.used == before

    run(scene)


def test_a_worker_that_owes_and_is_silent_is_waited_for_no_longer(clock: list[float]) -> None:
    """Its user may have stopped it, or its disk hang: mail for one mailbox must not take the places of all others'."""

    def scene(made: Workers, _: Nursery) -> None:
        stopped, busy = made.of(user(1)), made.of(user(2))
        for worker, numbers in ((stopped, (1, 2)), (busy, (3, 4))):
            for number in numbers:
                worker.ask_for_delivery(AreYouIdle(), DeliveryDone(number, "deferred", ""))
        clock[0] += SILENT_SECONDS - 1
        assert busy.settles(DeliveryDone(3, "delivered", ""))
        assert made.given_up() == []
        clock[0] += 2
        assert [answer.delivery for answer in made.given_up()] == [1, 2]
        assert busy.takes_more and stopped.takes_more  # one question finds out whether it goes on
        stopped.ask_for_delivery(AreYouIdle(), DeliveryDone(5, "deferred", ""))
        assert not stopped.takes_more
        assert stopped.settles(DeliveryDone(5, "delivered", "")) and stopped.takes_more

    run(scene)
