"""Who may send, against a model of the promise: random logins, failures, pauses and messages."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.broker import standing

from .test_directory import full
from .test_standing import ALICE, BOB, DAY, HOME, OTHER, Office

ADDRESSES = st.sampled_from([HOME, HOME, HOME, OTHER])
STEPS = st.one_of(
    st.tuples(st.just("login"), st.sampled_from(["alice", "alice", "alice", "bob"]), ADDRESSES),
    st.tuples(st.just("fail"), st.sampled_from(["alice", "alice", "alice", "x"]), ADDRESSES),
    st.tuples(st.just("sleep"), st.sampled_from(["30", "400", "90000"]), st.just("")),
    *[st.tuples(st.just("send"), st.sampled_from([ALICE, ALICE, BOB, b"a@sender.test"]), ADDRESSES)] * 3,
)


@settings(max_examples=100)
@given(st.lists(STEPS, min_size=10, max_size=40))
def test_whoever_sends_had_a_grant_of_its_own(steps: list[tuple[str, str | bytes, str]]) -> None:
    """Two accounts, two addresses: a message leaves where the model says so, and nowhere else."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        office, model = Office(folder, messages=2), Model()
        patched.setattr(standing, "time", SimpleNamespace(time=lambda: office.wall))
        patched.setattr(standing, "monotonic", lambda: office.clock)
        for verb, what, address in steps:
            office.sleep(30)  # more than it takes until a login writes its grant anew
            match verb:
                case "login":
                    office.login(str(what), address)
                    model.login(full(str(what)), address, office.clock)
                case "fail":
                    office.fail(str(what), address)
                    model.failed(full(str(what)), address, office.clock)
                case "sleep":
                    office.sleep(float(what))
                case _:
                    assert isinstance(what, bytes)
                    sent = office.send(sender=what, peer=address).code == 0
                    assert sent == model.sends(what.decode(), address, office.clock)


class Model:
    """What the promise says, in its plainest words."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str, bool]] = []
        self.grants: dict[tuple[str, str], tuple[float, int]] = {}

    def login(self, account: str, address: str, now: float) -> None:
        self.seen.append((now, account, address, True))
        self.grants[address, account] = now + 900, 2
        self.end_where_shared(address, now)

    def failed(self, account: str, address: str, now: float) -> None:
        self.seen.append((now, account, address, False))
        self.end_where_shared(address, now)

    def end_where_shared(self, address: str, now: float) -> None:
        recent = [(who, good) for when, who, where, good in self.seen if where == address and now - when < DAY]
        for account in ("alice@example.test", "bob@example.test"):
            if any(who != account for who, _ in recent) or recent.count((account, False)) > 2:
                self.grants.pop((address, account), None)

    def sends(self, account: str, address: str, now: float) -> bool:
        until, left = self.grants.get((address, account), (0.0, 0))
        if now >= until or not left:
            return False
        self.grants[address, account] = until, left - 1
        return True
