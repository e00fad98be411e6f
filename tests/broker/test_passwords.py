"""Passwords are verified beside the loop, and no more than a few wait."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pillarbox.broker import passwords
from pillarbox.broker.passwords import WAITING_LIMIT, Passwords
from pillarbox.store.password_hash import hashed


def test_the_loop_goes_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(passwords, "verifies", lambda verifier, password: go.wait(10))

    async def main() -> list[bool]:
        told: list[bool] = []
        keeper = Passwords()
        assert all(keeper.verify(None, b"x", told.append) for _ in range(WAITING_LIMIT))
        assert not keeper.verify(None, b"x", told.append), "one more must come later"
        await asyncio.sleep(0)
        assert told == []
        go.set()
        while len(told) < WAITING_LIMIT:
            await asyncio.sleep(0.001)
        assert keeper.verify(None, b"x", told.append)
        keeper.close()
        return told

    assert asyncio.run(main())[:WAITING_LIMIT] == [True] * WAITING_LIMIT


def test_right_is_right_and_trouble_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(verifier: str | None, password: bytes) -> bool:
        told = asyncio.get_running_loop().create_future()
        keeper = Passwords()
        keeper.verify(verifier, password, told.set_result)
        answer: bool = await told
        keeper.close()
        return answer

    verifier = hashed(b"my own password")
    assert asyncio.run(ask(verifier, b"my own password"))
    assert not asyncio.run(ask(verifier, b"wrong"))
    assert not asyncio.run(ask(None, b"my own password"))

    def broken(verifier: str | None, password: bytes) -> bool:
        raise MemoryError

    monkeypatch.setattr(passwords, "verifies", broken)
    assert not asyncio.run(ask(verifier, b"my own password"))
