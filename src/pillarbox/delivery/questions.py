"""Questions to the broker, and the answers by their number."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Any

from .. import log
from ..channel import close_all
from ..link import Descriptors, Link
from ..messages import Deliver, DeliveryDone, Instruct, Instructed, Message
from ..messages_delivery import Admit, Brake, Braked, BrokerToDelivery, Owned, Owns, ResolveAll, ResolvedAll, Verdict
from ..terms import TryLater

ANSWER_SECONDS = 120.0  # a mailbox that is silent for so long is broken: try again later
NUMBER_BITS = 62  # random ones: an answer to a question of our predecessor's finds nobody
ANSWERS: dict[type[Message], type[Message]] = {
    ResolveAll: ResolvedAll,
    Admit: Verdict,
    Owns: Owned,
    Deliver: DeliveryDone,
    Instruct: Instructed,
    Brake: Braked,
}


class Broker:
    """The delivery process's link to the broker."""

    def __init__(self, sock: socket.socket) -> None:
        self._waiting: dict[int, tuple[type[Message], asyncio.Future[Any]]] = {}  # type of the answer, and who waits
        self._link: Link = Link(sock, BrokerToDelivery, self._answered, self._lost)

    async def ask(self, question: Callable[[int], Message], descriptors: Descriptors = ()) -> Any:
        """Send question(number) and return its answer. Raises TryLater when none comes."""
        if self._link.closed:
            close_all(descriptors)
            raise TryLater("the broker has gone")
        number = secrets.randbits(NUMBER_BITS)
        asked = question(number)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = ANSWERS[type(asked)], future
        self._link.send(asked, descriptors)
        try:
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        except TimeoutError:
            raise TryLater("no answer from the broker or a worker") from None
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        self._link.close()

    def _answered(self, message: BrokerToDelivery, descriptors: Descriptors) -> None:
        close_all(descriptors)
        wanted, future = self._waiting.pop(message.delivery, (None, None))
        if wanted is None or future is None or future.done():
            return
        if isinstance(message, wanted):
            future.set_result(message)
        else:
            log.line("neighbour-refused", why=f"{type(message).__name__} is no answer to what was asked")
            future.set_exception(TryLater("a wrong answer from the broker"))

    def _lost(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(TryLater("the broker has gone"))
