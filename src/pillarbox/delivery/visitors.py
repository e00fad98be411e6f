"""Who comes in over a Unix socket of ours: counted by uid, heard word by word, and shown out when they stall.

Every user of this machine is as untrusted as a stranger from outside, and sits nearer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from .. import local_socket, log
from ..channel import ChannelClosed, RuleBroken
from ..local_messages import NotTaken
from ..local_socket import LocalChannel
from ..messages import Message
from ..tasks import Tasks
from ..terms import TryLater

ACCEPTS_A_TURN = 16  # then the rest of the process gets its turn
EXHAUSTED_PAUSE = 0.5  # seconds without accepting when descriptors have run out
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
SILENCE_SECONDS = 30.0  # until the next word, or until the visitor takes ours
REFUSALS_LOGGED, REFUSALS_SECONDS = 10, 1.0  # so many in so long; a flood must not fill the disk
VISIT_SECONDS = 600.0  # for all of it: a slow drip is no better than silence


class Visitor:
    """One connection."""

    def __init__(self, sock: socket.socket, incoming: object) -> None:
        self.pid, self.uid = local_socket.peer(sock)
        self._loop = asyncio.get_running_loop()
        self._channel: LocalChannel[Message] = LocalChannel(sock, incoming)
        self._arrived: deque[Message] = deque()
        self._leave = self._loop.time() + VISIT_SECONDS
        self._waking: asyncio.Event | None = None
        self._shown_out = False

    async def hear(self) -> Message:
        """The next word. While nobody asks for one nothing is read, so a visitor can't fill our memory.

        Raises ChannelClosed, TimeoutError, and TryLater when we end.
        """
        while not self._arrived:
            if self._shown_out:
                raise TryLater("the server is stopping, try again later", "4.3.2")
            await self._until(self._loop.add_reader, self._loop.remove_reader)
            self._arrived.extend(message for message, _ in self._channel.read())
        return self._arrived.popleft()

    async def say(self, message: Message) -> None:
        """Raises ChannelClosed, and TimeoutError where it is not taken."""
        self._channel.send(message)
        while not self._channel.flush():
            await self._until(self._loop.add_writer, self._loop.remove_writer)

    async def _until(self, watch: Callable[..., Any], forget: Callable[[int], Any]) -> None:
        ready = self._waking = asyncio.Event()
        watch(self._channel.fileno(), ready.set)
        try:
            await asyncio.wait_for(ready.wait(), min(SILENCE_SECONDS, self._leave - self._loop.time()))
        finally:
            self._waking = None
            forget(self._channel.fileno())

    def show_out(self) -> None:
        """We end: wait for no further word. What is being done for the visitor is done, and told."""
        self._shown_out = True
        if self._waking is not None:
            self._waking.set()

    def close(self) -> None:
        self._channel.close()


class Visitors:
    """One listening socket. `serve(visitor)` runs for each; when it returns or raises the connection is closed."""

    def __init__(
        self,
        listener: socket.socket,
        incoming: object,
        serve: Callable[[Visitor], Coroutine[Any, Any, None]],
        *,
        limit: int,
        limit_per_uid: int,
        kept: int = 0,
        apart: Callable[[], Collection[int]] = frozenset,
        limit_apart: int = 0,
    ) -> None:
        """`incoming`: the union of messages that a visitor may send. `kept`: so many places of the `limit` are for root
        and for whoever made the listener. `apart`: uids that speak for many, each with a limit beside all others'.
        Owns the listener; needs a running loop.
        """
        self._listener = listener
        self._incoming = incoming
        self._serve = serve
        self._limit, self._limit_per_uid, self._kept = limit, limit_per_uid, kept
        self._apart, self._limit_apart = apart, limit_apart
        self._hosts = {0, local_socket.peer(listener)[1]}
        self._refusals = 0  # since we began to count anew
        self._uids: Counter[int] = Counter()
        self._here: set[Visitor] = set()
        self._tasks = Tasks("visitor")
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Let nobody else in; who is here may finish."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    async def settled(self) -> None:
        """All who are here have gone; nobody is waited for who still has something to say."""
        for visitor in self._here:
            visitor.show_out()
        await self._tasks.settled()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause()
                return
            self._admit(sock)

    def _pause(self) -> None:
        log.line("accept-paused", why="out of descriptors or memory")
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(EXHAUSTED_PAUSE, self._unpause)

    def _unpause(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _admit(self, sock: socket.socket) -> None:
        visitor = Visitor(sock, self._incoming)
        if self._has_place(visitor.uid):
            self._uids[visitor.uid] += 1
            self._tasks.start(self._visit(visitor))
            return
        self._refused(visitor, "too many connections")
        refusal = NotTaken("4.3.2", "too many connections of yours at once, try again later")
        self._tasks.start(self._turn_away(visitor, refusal))

    def _has_place(self, uid: int) -> bool:
        apart = self._apart()
        if uid in apart:
            return self._uids[uid] < self._limit_apart
        here = self._uids.total() - sum(self._uids[each] for each in apart)
        limit = self._limit - (0 if uid in self._hosts else self._kept)
        return here < limit and self._uids[uid] < self._limit_per_uid

    def _refused(self, visitor: Visitor, why: str) -> None:
        if not self._refusals:
            self._loop.call_later(REFUSALS_SECONDS, self._count_anew)
        self._refusals += 1
        if self._refusals <= REFUSALS_LOGGED:
            log.line("visitor-refused", uid=visitor.uid, pid=visitor.pid, why=why)

    def _count_anew(self) -> None:
        if self._refusals > REFUSALS_LOGGED:
            log.line("visitors-refused", more=self._refusals - REFUSALS_LOGGED)
        self._refusals = 0

    async def _turn_away(self, visitor: Visitor, refusal: NotTaken) -> None:
        """The last word."""
        try:
            await visitor.say(refusal)
        except (ChannelClosed, TimeoutError):
            pass
        finally:
            visitor.close()

    async def _visit(self, visitor: Visitor) -> None:
        self._here.add(visitor)
        try:
            await self._serve(visitor)
        except TryLater as error:
            await self._turn_away(visitor, NotTaken(error.code or "4.3.0", error.why))
        except RuleBroken as error:
            self._refused(visitor, str(error))
        except TimeoutError:
            self._refused(visitor, "stalled")
        except ChannelClosed:
            pass
        finally:
            visitor.close()
            self._here.discard(visitor)
            self._uids[visitor.uid] -= 1
            if not self._uids[visitor.uid]:
                del self._uids[visitor.uid]
