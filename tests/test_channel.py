"""Channels between processes: framing, batching, descriptors, and what a hostile neighbour may not do."""

import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox import messages
from pillarbox.channel import FRAME_LIMIT, Channel, ChannelClosed, RuleBroken, pair


@pytest.fixture
def ends():
    ours, theirs = pair()
    one, other = Channel(ours, messages.NetworkToWorker), Channel(theirs, messages.WorkerToNetwork)
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_in_order_in_one_send(ends):
    one, other = ends
    for session in range(100):
        other.send(messages.Updated(session, 0))
    assert other.flush()
    assert [message.session for message, _ in one_reader(one, messages.WorkerToNetwork)] == list(range(100))


def one_reader(channel, incoming):
    reader = Channel(channel.sock.dup(), incoming)
    try:
        return list(reader.read())
    finally:
        reader.close()


def test_descriptors_travel_with_their_message():
    ours, theirs = pair()
    sender, receiver = Channel(ours, messages.NetworkToWorker), Channel(theirs, messages.WorkerToNetwork)
    pipes = [os.pipe() for _ in range(3)]
    sender.send(messages.Messages(1, (7, 8)), (pipes[0][0], pipes[1][0]))
    sender.send(messages.Updated(2, 0))
    sender.send(messages.SlotOpened(3), (pipes[2][0],))
    sender.flush()
    got = list(receiver.read())
    assert [len(descriptors) for _, descriptors in got] == [2, 0, 1]
    for (_, writer), descriptor in zip(pipes, [d for _, ds in got for d in ds], strict=True):
        os.write(writer, b"x")
        assert os.read(descriptor, 1) == b"x"
        os.close(descriptor)
        os.close(writer)
    for reader, _ in pipes:
        with pytest.raises(OSError):
            os.fstat(reader)  # the sender's copy is closed
    sender.close()
    receiver.close()


def test_more_descriptors_than_one_send_takes():
    ours, theirs = pair()
    sender, receiver = Channel(ours, messages.NetworkToWorker), Channel(theirs, messages.WorkerToNetwork)
    count = 400
    for number in range(count // 10):
        sender.send(
            messages.Messages(number, tuple(range(10))), tuple(os.open("/dev/null", os.O_RDONLY) for _ in range(10))
        )
    got = []
    while len(got) < count // 10:
        sender.flush()
        got += list(receiver.read())
    assert all(len(descriptors) == 10 for _, descriptors in got)
    for _, descriptors in got:
        for descriptor in descriptors:
            os.close(descriptor)
    sender.close()
    receiver.close()


def test_a_long_message_comes_in_pieces():
    ours, theirs = pair()
    sender, receiver = Channel(ours, messages.NetworkToWorker), Channel(theirs, messages.WorkerToNetwork)
    sender.send(messages.Opened(1, "alice", b"x" * 3_000_000))
    got = []
    while not got:
        sender.flush()
        got = list(receiver.read())
    assert len(got[0][0].listing) == 3_000_000
    sender.close()
    receiver.close()


def refused(raw: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs, messages.NetworkToBroker)
    ours.sendall(raw)
    ours.close()
    with pytest.raises(ChannelClosed):
        for _ in range(3):
            list(channel.read())
    channel.close()


def test_a_message_of_another_link_ends_the_channel():
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours, messages.NetworkToWorker), Channel(theirs, messages.NetworkToBroker)
    sender.send(messages.Ended(1, 2))
    sender.flush()
    with pytest.raises(RuleBroken):
        list(receiver.read())
    sender.close()
    receiver.close()


def test_missing_descriptors_end_the_channel():
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours, messages.NetworkToWorker), Channel(theirs, messages.WorkerToNetwork)
    sender.send(messages.SlotOpened(3))
    sender.flush()
    with pytest.raises(RuleBroken):
        list(receiver.read())
    sender.close()
    receiver.close()


def test_a_frame_over_the_limit_ends_the_channel():
    refused(struct.pack("<I", FRAME_LIMIT + 1))


@given(st.binary(max_size=200))
def test_arbitrary_octets_never_raise_anything_else(raw):
    refused(raw)


def test_proofs_are_not_printed():
    login = messages.Login(1, b"alice", b"hunter2", "USER", b"<1@h>", False, "192.0.2.1")
    assert "hunter2" not in repr(login)
