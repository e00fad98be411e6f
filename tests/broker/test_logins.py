"""A slow hash that can't be started: the client is told, and the brakes hold nobody for it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pillarbox.broker.login import Undecided
from pillarbox.broker.logins import Logins
from pillarbox.config import Config
from pillarbox.messages import Login, LoginRefused
from pillarbox.policy.networks import Networks

HERE, ELSEWHERE = "198.51.100.7", "203.0.113.5"


class Judge:
    """Nobody gets in; what can't be told is put off."""

    def __init__(self) -> None:
        self.told: list[bool | None] = []

    def proves_generated(self, *_: object) -> bool:
        return False

    def verdict(self, _: int, login: Login) -> Undecided:
        return Undecided(login, None, None)

    def decide(self, undecided: Undecided, right: bool | None) -> LoginRefused:
        self.told.append(right)
        return LoginRefused(undecided.login.session, "AUTH", "no", False)

    def deferred(self, login: Login, why: str) -> LoginRefused:
        return LoginRefused(login.session, "SYS/TEMP", why, False)


class Office:
    """To be made within a loop."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.judge = Judge()
        nobody: Any = SimpleNamespace(knows=lambda _: False, get=lambda *_: None)
        networks: Any = {0: SimpleNamespace(send=self.sent.append)}
        loop = asyncio.get_running_loop()
        self.logins = Logins(networks, lambda: self.judge, nobody, nobody, nobody, nobody, loop=loop)  # type: ignore[arg-type, return-value]
        config = msgspec.convert({"domains": ["example.test"]}, Config)
        directory: Any = SimpleNamespace(known=lambda name: None)
        self.logins.brakes.configure(config, Networks(()), directory)

    def log_in(self, session: int, peer: str) -> None:
        self.logins.log_in(0, Login(session, b"alice", b"guess", "USER", b"<c>", True, peer))

    async def answer(self) -> Any:
        while not self.sent:
            await asyncio.sleep(0.001)
        return self.sent.pop()


def test_a_thread_that_can_not_be_started_holds_no_brakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        office = Office()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no)
            office.log_in(1, HERE)
        refused = await office.answer()
        assert (refused.session, refused.code) == (1, "SYS/TEMP") and "can't start new thread" in refused.text
        for session, peer in ((1, HERE), (2, ELSEWHERE)):
            office.log_in(session, peer)
            assert (await office.answer()).code == "AUTH"
        assert office.judge.told == [False, False]
        office.logins.close()

    asyncio.run(asyncio.wait_for(main(), 20))
