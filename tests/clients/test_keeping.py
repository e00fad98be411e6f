"""Clients that leave mail on the server fetch nothing twice; those that don't leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from .drivers import CLIENTS, Client, Door
from .post import key, post_all

SECRET = "copper kettle at noon 8"
ACCOUNTS = [f"{purpose}-{client!r}-{apop}".lower() for purpose in "kd" for client in CLIENTS for apop in (True, False)]
COUNT = 12

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts=dict.fromkeys(ACCOUNTS, SECRET)) as running:
        yield running


def _filled(running: Server, purpose: str, client: Client, apop: bool) -> Door:
    name = f"{purpose}-{client!r}-{apop}".lower()
    post_all(running, f"{name}@example.test", [(f"m{n}", b"Subject: x\r\n\r\n%d\r\n" % n) for n in range(COUNT)])
    return Door(running.host, running.pop3_port, name, SECRET, apop)


def _read_by_another_program(maildir: Path) -> None:
    for path in (maildir / "new").iterdir():
        path.rename(maildir / "cur" / f"{path.name}:2,S")


def test_kept_mail_is_not_fetched_again(running: Server, keeper: Client, apop: bool, tmp_path: Path) -> None:
    door = _filled(running, "k", keeper, apop)
    assert len(keeper.fetch(door, tmp_path)) == COUNT
    assert keeper.fetch(door, tmp_path) == []
    _read_by_another_program(running.maildir(door.user))
    assert keeper.fetch(door, tmp_path) == []
    post_all(running, f"{door.user}@example.test", [("late", b"Subject: x\r\n\r\nnew\r\n")])
    assert [key(message) for message in keeper.fetch(door, tmp_path)] == ["late"]


def test_deleted_mail_is_gone(running: Server, client: Client, apop: bool, tmp_path: Path) -> None:
    door = _filled(running, "d", client, apop)
    assert len(client.fetch(door, tmp_path, delete=True)) == COUNT
    assert running.messages(door.user) == []
    assert client.fetch(door, tmp_path) == []
