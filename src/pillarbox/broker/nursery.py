"""The small warm process that workers are forked from: it has loaded what they need, holds no secret, and runs no loop.

Started as root it runs as root, and does nothing but fork and give the child's privilege away.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import socket
import time

from msgspec import Struct

from .. import log
from ..channel import Channel, ChannelClosed
from ..messages import Message
from . import privilege, worker

REAP_SECONDS = 1.0
FAREWELL_SECONDS = 5.0  # that workers may take to end behind the broker; their own users can stop them


class Spawn(Message, frozen=True, tag=90):
    """(broker -> nursery) A worker of this uid at the other end of the channel that travels along."""

    uid: int  # -1: the nursery's own
    gid: int
    config: bytes

    @property
    def descriptors(self) -> int:
        return 1


class Nursery(Struct):
    """The broker's end."""

    channel: Channel[Message]

    def spawn(self, uid: int | None, gid: int | None, config: bytes, end: socket.socket) -> None:
        """Have a worker made. Its death shows as the end of its channel."""
        self.channel.send(Spawn(-1 if uid is None else uid, -1 if gid is None else gid, config), (end.detach(),))
        with contextlib.suppress(ChannelClosed):
            self.channel.flush()  # the broker notices by itself when the nursery has gone


def open_nursery() -> Nursery:
    """Fork the nursery; called before the broker has read a secret or runs a loop."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        privilege.name_process("pbx-nursery")
        _serve(theirs)
        os._exit(0)
    theirs.close()
    return Nursery(Channel(ours, Message))


def _serve(sock: socket.socket) -> None:
    channel: Channel[Spawn] = Channel(sock, Spawn)
    children: set[int] = set()
    with contextlib.suppress(ChannelClosed):
        while True:
            if select.select([sock], [], [], REAP_SECONDS)[0]:
                for message, (descriptor,) in channel.read():
                    _fork(message, descriptor, channel, children)
            _reap(children)
    _see_off(children)


def _see_off(children: set[int]) -> None:
    """Nobody outlives the broker."""
    end = time.monotonic() + FAREWELL_SECONDS
    while children and time.monotonic() < end:
        time.sleep(0.05)
        _reap(children)
    for child in children:
        os.kill(child, signal.SIGKILL)


def _fork(message: Spawn, descriptor: int, channel: Channel[Spawn], children: set[int]) -> None:
    try:
        child = os.fork()
    except OSError as error:  # out of processes or memory: the broker sees the channel end, and tries again
        log.line("no-worker", why=error.strerror)
        child = -1
    if not child:
        channel.close()
        try:
            _become(message)
            worker.main(socket.socket(fileno=descriptor), message.config)
        except Exception as error:
            log.bug(error, where="worker")
        finally:
            os._exit(0)
    if child > 0:
        children.add(child)
    os.close(descriptor)


def _become(message: Spawn) -> None:
    signal.set_wakeup_fd(-1)
    privilege.name_process("pbx-worker")
    if message.uid >= 0:
        privilege.become(message.uid, message.gid, _groups(message.uid, message.gid))
    privilege.harden()


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def _reap(children: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while child := os.waitpid(-1, os.WNOHANG)[0]:
            children.discard(child)
