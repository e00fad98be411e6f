"""The delivery process as its parent sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pillarbox import log
from pillarbox.config import Config
from pillarbox.delivery.process import Delivery
from pillarbox.home import Home
from pillarbox.link import Link
from pillarbox.messages import Configure, Drain, Ready, ToParent
from pillarbox.store.queue import DiskQueue, Recovered
from pillarbox.terms import Envelope, TryLater

PATIENCE = 60.0


class Parent:
    """Starts the process in this very loop."""

    def __init__(self, home: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.heard: list[object] = []
        self.delivery = Delivery(theirs, Home(str(home)))
        self.link = Link(ours, ToParent, lambda message, _: self.heard.append(message), lambda: None)
        self.link.send(Configure(msgspec.json.encode(Config())))

    async def wait_ready(self) -> None:
        while Ready() not in self.heard:
            await asyncio.sleep(0)

    async def end(self) -> None:
        self.link.send(Drain(PATIENCE))
        await self.delivery.ended.wait()
        self.link.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one message in its queue. The log of this process stays as it was."""
    monkeypatch.setattr(log, "configure", lambda **options: None)
    queue = DiskQueue(str(tmp_path / "queue"))
    identity, descriptor = queue.open_slot()
    os.close(descriptor)
    queue.commit(identity, Envelope(b"", (b"x@y.test",)))
    return tmp_path


def run(scene: Any) -> None:
    asyncio.run(asyncio.wait_for(scene(), PATIENCE))


def test_it_is_ready_before_the_queue_has_been_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, scan = threading.Event(), DiskQueue.scan

    def slow(queue: DiskQueue) -> Recovered:
        assert go_on.wait(PATIENCE)
        return scan(queue)

    async def scene() -> None:
        parent = Parent(home)
        await parent.wait_ready()
        runner = parent.delivery._runner
        assert runner.retry_all() == 0
        go_on.set()
        while runner.retry_all() == 0:
            await asyncio.sleep(0)
        assert runner.retry_all() == 1
        await parent.end()

    monkeypatch.setattr(DiskQueue, "scan", slow)
    run(scene)


def test_a_queue_that_can_not_be_read_is_read_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.delivery.process.TROUBLED_SECONDS", 0.0)
    scan, troubles = DiskQueue.scan, [TryLater("the disk is asleep")]

    def troubled(queue: DiskQueue) -> Recovered:
        if troubles:
            raise troubles.pop()
        return scan(queue)

    async def scene() -> None:
        parent = Parent(home)
        await parent.wait_ready()
        while parent.delivery._runner.retry_all() == 0:
            await asyncio.sleep(0)
        assert troubles == []
        await parent.end()

    monkeypatch.setattr(DiskQueue, "scan", troubled)
    run(scene)
