"""Passwords are verified beside the loop, and no more than a few wait."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pillarbox.broker import passwords
from pillarbox.broker.passwords import WAITING_LIMIT, Passwords
from pillarbox.store.password_hash import hashed
from pillarbox.terms import TryLater


def test_the_loop_goes_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(passwords, "verifies", lambda verifier, password: go.wait(10))

    async def main() -> list[bool | None]:
        told: list[bool | None] = []
        keeper = Passwords()
        for _ in range(WAITING_LIMIT):
            keeper.verify(None, b"x", told.append)
        with pytest.raises(TryLater, match="too many"):
            keeper.verify(None, b"x", told.append)
        await asyncio.sleep(0)
        assert told == []
        go.set()
        while len(told) < WAITING_LIMIT:
            await asyncio.sleep(0.001)
        keeper.verify(None, b"x", told.append)
        keeper.close()
        return told

    assert asyncio.run(main())[:WAITING_LIMIT] == [True] * WAITING_LIMIT


async def ask(verifier: str | None, password: bytes) -> bool | None:
    told = asyncio.get_running_loop().create_future()
    keeper = Passwords()
    keeper.verify(verifier, password, told.set_result)
    answer: bool | None = await told
    keeper.close()
    return answer


def test_right_is_right_and_trouble_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = hashed(b"my own password")
    assert asyncio.run(ask(verifier, b"my own password")) is True
    assert asyncio.run(ask(verifier, b"wrong")) is False
    assert asyncio.run(ask(None, b"my own password")) is False
    assert asyncio.run(ask("no verifier", b"my own password")) is None

    def broken(verifier: str | None, password: bytes) -> bool:
        raise MemoryError

    monkeypatch.setattr(passwords, "verifies", broken)
    assert asyncio.run(ask(verifier, b"my own password")) is None


def test_the_library_is_there_before_the_first_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may have a user's uid, who can't read it."""
    order: list[str] = []
    monkeypatch.setattr(passwords, "load", lambda: order.append("load"))
    monkeypatch.setattr(passwords, "verifies", lambda *_: order.append("verify") or True)
    assert asyncio.run(ask(None, b"x"))
    assert order == ["load", "verify"]


def test_without_a_thread_nothing_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[bytes] = []
    monkeypatch.setattr(passwords, "verifies", lambda _, password: bool(verified.append(password)))
    start = threading.Thread.start

    def no(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        told: list[bool | None] = []
        keeper = Passwords()
        monkeypatch.setattr(threading.Thread, "start", no)
        for _ in range(WAITING_LIMIT + 1):
            with pytest.raises(TryLater, match="can't start new thread"):
                keeper.verify(None, b"lost", told.append)
        monkeypatch.setattr(threading.Thread, "start", start)
        keeper.verify(None, b"next", told.append)
        while not told:
            await asyncio.sleep(0.001)
        keeper.close()
        assert (told, verified) == ([False], [b"next"])

    asyncio.run(main())
