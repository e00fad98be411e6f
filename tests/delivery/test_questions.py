"""The delivery process's questions to the broker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from pillarbox.delivery.questions import Broker
from pillarbox.link import Link
from pillarbox.messages import Instructed, Message
from pillarbox.messages_delivery import DeliveryToBroker, Owned, Owns
from pillarbox.terms import TryLater


def asked(answer: Callable[[Owns], Message], times: int = 1) -> list[object]:
    """What comes of a question that is answered so: the answer, or the TryLater."""

    async def scene() -> list[object]:
        ours, theirs = socket.socketpair()
        link: Link = Link(theirs, DeliveryToBroker, lambda message, _: link.send(answer(message)), lambda: None)
        broker = Broker(ours)
        questions = [broker.ask(lambda number: Owns(number, "a@ours.test", b"a@ours.test")) for _ in range(times)]
        found = await asyncio.wait_for(asyncio.gather(*questions, return_exceptions=True), 20)
        broker.close()
        link.close()
        return found

    return asyncio.run(scene())


def test_an_answer_of_another_kind_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    (found,) = asked(lambda question: Instructed(question.delivery, forwards=(b"mallory@ours.test",)))
    assert isinstance(found, TryLater)
    assert "Instructed is no answer to what was asked" in capfd.readouterr().err


def test_nobody_guesses_the_number_of_a_question() -> None:
    numbers: list[int] = []

    def answer(question: Owns) -> Owned:
        numbers.append(question.delivery)
        return Owned(question.delivery, True)

    assert [found.owned for found in asked(answer, 5) if isinstance(found, Owned)] == [True] * 5
    assert len(set(numbers)) == 5 and max(numbers) > 1 << 32
