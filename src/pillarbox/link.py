"""A channel bound to the event loop, and the loop that every process of ours runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from . import log
from .channel import Channel, ChannelClosed, RuleBroken, close_all
from .messages import Message

Descriptors = tuple[int, ...]

YOUNG_OBJECTS = 20_000  # made before the collector looks for cycles; a connection makes some dozens, and few cycles


class Link:
    """Hands each message that comes to `on_message(message, descriptors)`, which owns the descriptors from then on.

    What is sent in one turn of the loop leaves together in the next. `on_closed` is called once, when the neighbour
    has gone or has broken the rules.
    """

    def __init__(
        self,
        sock: socket.socket,
        incoming: Any,
        on_message: Callable[[Any, Descriptors], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._channel: Channel[Message] = Channel(sock, incoming)
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._writing = False
        self.closed = False
        self._loop.add_reader(self._channel.fileno(), self._readable)

    def send(self, message: Message, descriptors: Descriptors = ()) -> None:
        """Queue a message; its descriptors are closed here once on their way. Nothing happens on a closed link."""
        if self.closed:
            close_all(descriptors)
            return
        self._channel.send(message, descriptors)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self.closed:
            return
        try:
            done = self._channel.flush()
        except ChannelClosed:
            self.close()
            return
        if done and self._writing:
            self._writing = False
            self._loop.remove_writer(self._channel.fileno())
        elif not done and not self._writing:
            self._writing = True
            self._loop.add_writer(self._channel.fileno(), self._flush)

    def _readable(self) -> None:
        try:
            for message, descriptors in self._channel.read():
                self._handle(message, descriptors)
                if self.closed:
                    return
        except ChannelClosed as error:
            if isinstance(error, RuleBroken):
                log.line("neighbour-refused", why=str(error))
            self.close()

    def _handle(self, message: Message, descriptors: Descriptors) -> None:
        try:
            self._on_message(message, descriptors)
        except Exception as error:
            log.bug(error, where=type(message).__name__)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._channel.fileno())
        if self._writing:
            self._loop.remove_writer(self._channel.fileno())
        with contextlib.suppress(ChannelClosed):
            self._channel.flush()
        self._channel.close()
        self._on_closed()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main coroutine, on uvloop where it is installed."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(_unforeseen)
        runner.run(main)


def _unforeseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.bug(error, where=str(context.get("message", "loop")))
    else:
        log.line("bug", where="loop", error=str(context.get("message")))
