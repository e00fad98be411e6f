"""Commands to the running server: who may give them, and how each ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox import local_socket
from pillarbox.delivery.control import Control
from pillarbox.local_messages import Begin, Command, Done, NotTaken, ToCommander
from pillarbox.local_socket import Caller
from pillarbox.terms import Refused, TryLater

from .local_server import PATIENCE, served


async def hold(identity: str) -> str:
    if identity == "gone":
        raise Refused("no such message is queued", "5.1.1")
    if identity == "later":
        raise TryLater("the disk is full", "4.3.1")
    if identity == "bug":
        raise ZeroDivisionError
    return f"{identity} is held"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    place = f"{tmp_path}/control"
    with served(place, lambda listener: Control(listener, {"hold": hold})):
        yield place


@pytest.fixture
def client(path: str) -> Iterator[Caller[ToCommander]]:
    caller: Caller[ToCommander] = Caller(local_socket.connect(path), ToCommander, PATIENCE)
    yield caller
    caller.close()


def test_commands_are_obeyed_one_after_another(client: Caller[ToCommander]) -> None:
    for identity in ("17.1", "17.2"):
        client.say(Command("hold", identity))
        assert client.hear() == Done(f"{identity} is held")


@pytest.mark.parametrize(
    ("argument", "code"), [("gone", "5.1.1"), ("later", "4.3.1"), ("bug", "4.3.0")], ids=["refused", "later", "bug"]
)
def test_a_command_that_fails_says_so_and_the_next_is_heard(
    client: Caller[ToCommander], argument: str, code: str
) -> None:
    client.say(Command("hold", argument))
    answer = client.hear()
    assert isinstance(answer, NotTaken) and answer.code == code
    client.say(Command("hold", "17.1"))
    assert client.hear() == Done("17.1 is held")


def test_an_unknown_verb_is_told(client: Caller[ToCommander]) -> None:
    client.say(Command("__class__", ""))
    answer = client.hear()
    assert isinstance(answer, NotTaken) and answer.code == "5.5.1"


def test_what_is_no_command_ends_the_connection_and_nothing_else(path: str, client: Caller[ToCommander]) -> None:
    client.say(Begin(None, ()))
    with pytest.raises(TryLater):
        client.hear()
    other: Caller[ToCommander] = Caller(local_socket.connect(path), ToCommander, PATIENCE)
    other.say(Command("hold", "17.1"))
    assert other.hear() == Done("17.1 is held")
    other.close()


def test_another_user_is_refused_even_if_the_socket_were_open(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, 12345))
    caller: Caller[ToCommander] = Caller(local_socket.connect(path), ToCommander, PATIENCE)
    answer = caller.hear()
    assert isinstance(answer, NotTaken) and answer.code == "5.7.1"
    caller.close()
