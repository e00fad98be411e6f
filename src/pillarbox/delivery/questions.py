"""Questions to the broker, and the answers by their number."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from ..channel import close_all
from ..link import Descriptors, Link
from ..messages import Message
from ..messages_delivery import BrokerToDelivery
from ..terms import TryLater

ANSWER_SECONDS = 120.0  # a mailbox that is silent for so long is broken: try again later


class Broker:
    """The delivery process's link to the broker."""

    def __init__(self, sock: socket.socket) -> None:
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self._link: Link = Link(sock, BrokerToDelivery, self._answered, self._lost)

    async def ask(self, question: Callable[[int], Message], descriptors: Descriptors = ()) -> Any:
        """Send question(number) and return its answer. Raises TryLater when none comes."""
        if self._link.closed:
            close_all(descriptors)
            raise TryLater("the broker has gone")
        self._last += 1
        number = self._last
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._link.send(question(number), descriptors)
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
        future = self._waiting.pop(message.delivery, None)
        if future is not None and not future.done():
            future.set_result(message)

    def _lost(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(TryLater("the broker has gone"))
