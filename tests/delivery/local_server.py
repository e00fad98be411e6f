"""The server's side of a local socket, on a loop in a thread; the test is the client."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pillarbox import local_messages, local_socket
from pillarbox.config import Config
from pillarbox.delivery.injection import Decision, Injection
from pillarbox.local_socket import Caller
from pillarbox.terms import Envelope

PATIENCE = 30.0  # seconds; a test that needs them has failed


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In the loop's thread; its result, awaited where it is to be."""

        async def run() -> Any:
            result = function(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def served(path: str, make: Callable[..., Any]) -> Iterator[Any]:
    """make(listener), an Injection or a Control, serves the socket at that path."""
    loop = Loop()
    service = loop.call(make, local_socket.bind(path, 0o600))
    try:
        yield service
    finally:
        loop.call(service.close)
        loop.call(service.settled)
        loop.end()


class Mail:
    """What the queue and the broker would do, in memory and a folder; each part can be replaced."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.folder = folder
        self.committed: list[tuple[str, Envelope, str]] = []
        self.aborted: list[str] = []
        self.came: list[str] = []
        self.asked: list[tuple[int, bytes | None, tuple[bytes, ...]]] = []
        self.config = Config(hostname="mx.home.test", domains=["home.test", "other.test"])
        self.config = msgspec.structs.replace(self.config, limits=msgspec.structs.replace(self.config.limits, **limits))
        self.count = 0

    def open_slot(self) -> tuple[str, int]:
        self.count += 1
        identity = f"17.{self.count}"
        return identity, os.open(self.folder / identity, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    async def decide(self, uid: int, sender: bytes | None, recipients: tuple[bytes, ...], came: str = "") -> Decision:
        self.came.append(came)
        self.asked.append((uid, sender, recipients))
        return Decision(b"me@home.test" if sender is None else sender, "me@home.test")

    async def commit(self, identity: str, envelope: Envelope, account: str) -> None:
        self.committed.append((identity, envelope, account))

    def abort(self, identity: str) -> None:
        self.aborted.append(identity)
        (self.folder / identity).unlink(missing_ok=True)

    def content(self, identity: str) -> bytes:
        return (self.folder / identity).read_bytes()

    def injection(self, listener: Any) -> Injection:
        return Injection(
            listener,
            open_slot=lambda: self.open_slot(),
            decide=lambda *arguments: self.decide(*arguments),
            commit=lambda *arguments: self.commit(*arguments),
            abort=self.abort,
            config=lambda: self.config,
        )


def caller(path: str) -> Caller[local_messages.ToSender]:
    return Caller(local_socket.connect(path), local_messages.ToSender, PATIENCE)
