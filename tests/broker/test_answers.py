"""Whose answers the broker hands on to the delivery process: those of the worker that was asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pillarbox.broker.monitor import Broker
from pillarbox.broker.workers import Worker
from pillarbox.messages import DeliveryDone, Instruct, Instructed

ALICE, BOB = "alice@ours.test", "bob@ours.test"
REFUSAL = Instructed(42, BOB, code="4.3.0")
ANSWER = Instructed(42, BOB, ("",), (b"carol@ours.test",))


@pytest.fixture
def handed_on() -> list[object]:
    return []


@pytest.fixture
def broker(handed_on: list[object]) -> Any:
    return SimpleNamespace(
        _delivery=SimpleNamespace(link=SimpleNamespace(send=handed_on.append)),
        _networks={},
        _sessions=SimpleNamespace(worker_lost=lambda worker: None),
    )


def worker(uid: int, *refusals: DeliveryDone | Instructed) -> Worker:
    """Asked these questions."""
    made = Worker(uid, uid, uid)
    made.link = SimpleNamespace(send=lambda *words: None)  # type: ignore[assignment]
    for refusal in refusals:
        made.ask_for_delivery(Instruct(refusal.delivery, b""), refusal)
    return made


def test_what_a_worker_was_asked_is_handed_on_once(broker: Any, handed_on: list[object]) -> None:
    bobs = worker(1002, REFUSAL)
    for _ in range(2):
        Broker._from_worker(broker, bobs, ANSWER)
    assert handed_on == [ANSWER]


def test_no_worker_answers_for_another_users(broker: Any, handed_on: list[object]) -> None:
    worker(1002, REFUSAL)
    Broker._from_worker(broker, worker(1001), ANSWER)
    Broker._from_worker(broker, worker(1001, Instructed(41, ALICE)), ANSWER)
    assert handed_on == []


@pytest.mark.parametrize("answer", [DeliveryDone(42, "delivered", ""), Instructed(42, ALICE)], ids=["kind", "account"])
def test_an_answer_is_to_the_question(answer: DeliveryDone | Instructed, broker: Any, handed_on: list[object]) -> None:
    bobs = worker(1002, REFUSAL)
    Broker._from_worker(broker, bobs, answer)
    assert handed_on == []
    Broker._from_worker(broker, bobs, ANSWER)
    assert handed_on == [ANSWER]


def test_when_a_worker_dies_only_what_it_still_owes_is_refused(broker: Any, handed_on: list[object]) -> None:
    lost = DeliveryDone(43, "deferred", "the worker died")
    bobs = worker(1002, REFUSAL, lost)
    Broker._from_worker(broker, bobs, ANSWER)
    Broker._worker_lost(broker, bobs)
    assert handed_on == [ANSWER, lost]
