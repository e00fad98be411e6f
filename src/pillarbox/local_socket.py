"""The Unix sockets on which programs of this machine reach the server: made, found, and spoken over.

A path of a socket has 107 octets at most; a home may lie deeper. So a socket is bound and found through its folder's
descriptor.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from typing import TypeVar

from .channel import READ_SIZE, Channel, ChannelClosed, RuleBroken
from .messages import Message
from .terms import Refused, TryLater

BACKLOG = 128  # connections that wait to be accepted
FRAME_LIMIT = 1 << 20  # octets: an envelope of some thousand recipients; so much memory may one visitor hold
CHUNK = 128 << 10  # octets of a message in one frame

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid

Incoming = TypeVar("Incoming", bound=Message)


class LocalChannel(Channel[Incoming]):
    """A channel with a stranger: short frames, and never a descriptor, which a plain recv has the kernel close."""

    def _receive(self) -> bytes:
        if len(self._input) > FRAME_LIMIT:
            raise RuleBroken("a frame is too long")
        try:
            data = self.sock.recv(READ_SIZE)
        except (BlockingIOError, TimeoutError):
            return b""
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not data:
            raise ChannelClosed("the other side has gone")
        return data


def bind(path: str, mode: int) -> socket.socket:
    """A listening socket there, in place of one that an earlier server left. `mode`: who may connect to it.

    Only for who holds the home's lock: a living server's socket would be replaced too. Raises Refused.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o777)  # nobody comes in before the mode is set
    try:
        with _through_folder(path) as short:
            if _is_socket(short):
                os.unlink(short)
            sock.bind(short)
            os.chmod(short, mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise Refused(f"the socket {path} can't be made: {error.strerror}") from None
    finally:
        os.umask(umask)
    return sock


def connect(path: str) -> socket.socket:
    """A connection to the server whose socket that is. Raises OSError: FileNotFoundError and ConnectionRefusedError say
    that no server runs there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _through_folder(path) as short:
            sock.connect(short)
    except OSError:
        sock.close()
        raise
    return sock


def peer(sock: socket.socket) -> tuple[int, int]:
    """Pid and uid of who connected; of a listening socket: of who made it."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


class Caller(LocalChannel[Incoming]):
    """The client's end: it waits for each word. `close` it."""

    def __init__(self, sock: socket.socket, incoming: object, seconds: float) -> None:
        """`seconds`: how long the server may be silent."""
        super().__init__(sock, incoming)
        sock.settimeout(seconds)
        self._heard: list[Incoming] = []

    def say(self, message: Message) -> bool:
        """False: the server has gone; what it said before can still be heard. Raises TryLater when it does not read."""
        self.send(message)
        self._pack()
        while self._unsent:
            try:
                self.sock.sendall(self._unsent.popleft()[0])
            except TimeoutError:
                raise TryLater("the server does not answer") from None
            except OSError:
                return False
        return True

    def hear(self) -> Incoming:
        """The server's next word. Raises TryLater when none comes."""
        try:
            while not self._heard:
                self._heard += [message for message, _ in self.read()]
        except ChannelClosed:
            raise TryLater("the server has hung up; its log says why") from None
        return self._heard.pop(0)

    def _receive(self) -> bytes:
        data = super()._receive()
        if not data:  # the time is over
            raise TryLater("the server does not answer")
        return data


@contextlib.contextmanager
def _through_folder(path: str) -> Iterator[str]:
    """A short name of the same file."""
    folder, name = os.path.split(path)
    descriptor = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
