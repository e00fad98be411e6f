"""The brakes of the broker: whose networks a login makes known, and what a secret that nobody guesses is spared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest

from pillarbox.broker.brakes import Brakes
from pillarbox.broker.directory import Directory
from pillarbox.config import Config
from pillarbox.messages import Login, LoginRefused, LoginStep
from pillarbox.policy.networks import Networks
from pillarbox.policy.throttle import KNOWN_SECONDS, LOOKS
from pillarbox.terms import Account

HOME, NEIGHBOUR, ROAD = "203.0.113.5", "203.0.113.77", "198.51.100.9"
GENERATED = b"made by us"


class Source:
    """alice, and alice+b, who is somebody else; and bob+b, without a bob."""

    def find(self, name: str) -> Account | None:
        names = [f"{local}@e.test" for local in ("alice", "alice+b", "bob+b")]
        return Account(name, "/mail") if name in names else None


class Gate:
    """Brakes, and what they let through."""

    def __init__(self) -> None:
        self.looks = 0
        self.judged: list[bytes] = []
        self.refused: list[LoginRefused] = []
        loop = asyncio.new_event_loop()
        self.close: Callable[[], None] = loop.close
        self.brakes = Brakes(
            lambda _, message: self.judged.append(proof(message)),
            lambda _, refusal: self.refused.append(refusal),
            self.look,
            loop=loop,
        )
        config = msgspec.convert({"domains": ["e.test"]}, Config)
        directory = Directory(config, Source(), lambda _: None)  # type: ignore[arg-type, return-value]
        self.brakes.configure(config, Networks(("127.0.0.1/32",)), directory)

    def look(self, network: int, message: Login | LoginStep) -> bool:
        self.looks += 1
        return proof(message) == GENERATED

    def knows(self, name: str, peer: str) -> bool:
        return self.brakes.throttle.knows(self.brakes._guess(login(name, peer)), time.monotonic())

    def slow(self, name: str) -> None:
        """Its account, and no other brake."""
        for number in range(30):
            self.brakes.failed(login(name, f"10.0.{number}.1", b"%d" % number))


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.close()


def login(name: str, peer: str = ROAD, proof: bytes = b"x", session: int = 1) -> Login:
    return Login(session, name.encode(), proof, "APOP", b"<c>", False, peer)


def proof(message: Login | LoginStep) -> bytes:
    return message.response if isinstance(message, LoginStep) else message.proof


@pytest.mark.parametrize(
    ("name", "owner", "others"),
    [
        ("alice", "alice", ["alice+b", "bob"]),
        ("alice+phone", "alice", ["alice+b"]),
        ("alice+b", "alice+b", ["alice", "alice+phone"]),
        ("ALICE+B@E.Test", "alice+b", ["alice"]),
        ("alice+b+phone", "alice+b", ["alice"]),
        ("bob+b", "bob+b", ["bob"]),
    ],
)
def test_a_login_makes_its_network_known_for_the_account_that_it_is(
    gate: Gate, name: str, owner: str, others: list[str]
) -> None:
    gate.brakes.succeeded(login(name, HOME))
    assert gate.knows(name, NEIGHBOUR) and gate.knows(owner, NEIGHBOUR)
    assert not any(gate.knows(other, NEIGHBOUR) for other in others)


@pytest.mark.parametrize("name", ["alice", "alice+b", "alice+phone", "alice+nothing", "nobody", "nobody+b"])
def test_how_long_a_name_waits_does_not_tell_what_it_is(gate: Gate, name: str) -> None:
    """Whoever has guessed at alice would learn by a fresh brake that alice+b is an account."""
    gate.slow(name.partition("+")[0])
    gate.brakes.admit(0, login(name))
    assert not gate.judged and not gate.refused
    gate.brakes.throttle.clear()
    gate.slow(name)
    gate.brakes.admit(0, login(name.partition("+")[0], session=2))
    assert not gate.judged


def test_what_was_made_with_a_generated_secret_waits_for_no_account(gate: Gate) -> None:
    gate.slow("alice")
    gate.brakes.admit(0, login("alice", session=1))
    gate.brakes.admit(0, login("alice", proof=GENERATED, session=2))
    gate.brakes.admit(0, login("alice+phone", "192.0.2.1", GENERATED, session=3))
    gate.brakes.admit(0, login("alice", session=4), LoginStep(4, b"wrong"))
    gate.brakes.admit(0, login("alice", "192.0.2.2", session=5), LoginStep(5, GENERATED))
    assert gate.judged == [GENERATED, GENERATED], "one has a neighbour who waits: it is his at the next look"
    gate.brakes._judge_due()
    assert gate.judged == [GENERATED] * 3


def test_nothing_is_looked_at_that_is_judged_at_once(gate: Gate) -> None:
    gate.brakes.succeeded(login("alice", HOME))
    gate.slow("alice")
    gate.brakes.admit(0, login("alice", HOME))
    gate.brakes.admit(0, login("bob", ROAD))
    assert len(gate.judged) == 2 and not gate.looks


def test_a_network_has_so_many_looks_a_minute(gate: Gate) -> None:
    """Each costs a guesser a connection, and us the work of a verdict, which no failure would be counted for."""
    gate.slow("alice")
    for number in range(1000):
        gate.brakes.admit(0, login("alice", f"198.51.100.{number % 250}", b"%d" % number, number))
        gate.brakes.give_up((0, number))
    assert LOOKS / 2 <= gate.looks <= LOOKS
    gate.brakes.admit(0, login("alice", "192.0.2.1", GENERATED, 2000))
    assert gate.judged == [GENERATED]


def test_a_restart_makes_nobody_unknown(gate: Gate) -> None:
    now = time.time()
    earlier = {("alice@e.test", ROAD): now - KNOWN_SECONDS - 60, ("alice+b@e.test", HOME): now - KNOWN_SECONDS + 60}
    gate.brakes.remember({**earlier, ("bob+b@e.test", ROAD): now + 60})
    assert not gate.knows("alice", ROAD) and not gate.knows("alice", HOME)
    assert gate.knows("alice+b", NEIGHBOUR) and gate.knows("bob+b", ROAD)
