"""Unix sockets of ours: made, found, and spoken over."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from pillarbox import local_socket
from pillarbox.channel import Channel, ChannelClosed
from pillarbox.local_messages import Command, Done, FromCommander, NotTaken, ToCommander
from pillarbox.local_socket import Caller, LocalChannel
from pillarbox.terms import Refused, TryLater


def test_a_socket_has_its_mode_and_is_found_again(tmp_path: Path) -> None:
    path = f"{tmp_path}/send"
    with local_socket.bind(path, 0o666) as listener:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        with local_socket.connect(path) as client, listener.accept()[0] as server:
            assert local_socket.peer(server) == (os.getpid(), os.getuid()) == local_socket.peer(client)
        assert local_socket.peer(listener) == (os.getpid(), os.getuid())


def test_a_socket_that_a_dead_server_left_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "send"
    local_socket.bind(str(path), 0o600).close()
    with pytest.raises(ConnectionRefusedError):
        local_socket.connect(str(path))
    local_socket.bind(str(path), 0o600).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(Refused, match="send can't be made: Address already in use"):
        local_socket.bind(str(path), 0o600)
    assert path.read_text() == "precious"


def test_a_deep_home_is_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with local_socket.bind(f"{folder}/send", 0o600), local_socket.connect(f"{folder}/send"):
        pass


def test_where_nothing_is_nobody_answers(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/send", f"{tmp_path}/no/send"):
        with pytest.raises(FileNotFoundError):
            local_socket.connect(path)
    with pytest.raises(Refused, match="No such file"):
        local_socket.bind(f"{tmp_path}/no/send", 0o600)


@pytest.fixture
def ends() -> tuple[Caller[ToCommander], LocalChannel[Command]]:
    ours, theirs = socket.socketpair()
    return Caller(ours, ToCommander, 30.0), LocalChannel(theirs, FromCommander)


def test_words_go_both_ways(ends) -> None:
    client, server = ends
    assert client.say(Command("hold", "1"))
    assert [message for message, _ in server.read()] == [Command("hold", "1")]
    server.send(Done("a"))
    server.send(NotTaken("5.0.0", "b"))
    server.flush()
    assert (client.hear(), client.hear()) == (Done("a"), NotTaken("5.0.0", "b"))
    assert list(server.read()) == []
    client.close()
    with pytest.raises(ChannelClosed):
        list(server.read())
    server.close()


def test_what_was_said_before_the_server_went_is_still_heard(ends) -> None:
    client, server = ends
    server.send(NotTaken("5.3.4", "too long"))
    server.flush()
    server.close()
    assert not client.say(Command("hold", "1"))
    assert client.hear() == NotTaken("5.3.4", "too long")
    with pytest.raises(TryLater, match="hung up"):
        client.hear()
    client.close()


def test_a_server_that_is_silent_is_not_waited_for_without_end() -> None:
    ours, theirs = socket.socketpair()
    client: Caller[ToCommander] = Caller(ours, ToCommander, 0.01)
    with pytest.raises(TryLater, match="does not answer"):
        client.hear()
    with pytest.raises(TryLater, match="does not answer"):
        client.say(Command("hold", "x" * (1 << 20)))
    client.close()
    theirs.close()


def test_descriptors_are_not_taken(ends) -> None:
    client, server = ends
    sender: Channel[ToCommander] = Channel(client.sock.dup(), ToCommander)
    sender.send(Command("hold", "1"), (os.open("/dev/null", os.O_RDONLY),))
    sender.flush()
    before = len(os.listdir("/proc/self/fd"))
    assert len(list(server.read())) == 1
    assert len(os.listdir("/proc/self/fd")) == before
    for end in (sender, client, server):
        end.close()
