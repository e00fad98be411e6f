"""How our processes speak: length-prefixed frames on a stream socket, and descriptors beside them (SCM_RIGHTS).

Everything said in one turn of the loop leaves in one send. A frame is a u32 length and a msgpack array; the
descriptors of a frame travel with it or before it, in order. A neighbour is as untrusted as a stranger: what does not
decode, is too long, or brings a wrong number of descriptors ends the channel, and nothing else.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from .messages import Message

FRAME_LIMIT = 4 << 20  # a listing of 16,000 messages is sent inline; longer ones go as a descriptor
READ_SIZE = 1 << 16  # below malloc's threshold for a mapping of its own
DESCRIPTORS_LIMIT = 253  # SCM_MAX_FD: the kernel takes no more in one send
UNCLAIMED_LIMIT = 2 * DESCRIPTORS_LIMIT  # descriptors whose frame is still to come
BACKLOG_LIMIT = 64 << 20  # a neighbour that reads nothing for so long is gone or hostile

_LENGTH = struct.Struct("<I")
_CTRUNC = int(socket.MSG_CTRUNC)  # as an enum it costs half a microsecond each time
_ENCODER = msgspec.msgpack.Encoder()

Incoming = TypeVar("Incoming", bound=Message)


class ChannelClosed(Exception):
    """The neighbour has gone."""


class RuleBroken(ChannelClosed):
    """The neighbour sent what may not be sent, or reads nothing: the channel is of no more use."""


class Channel(Generic[Incoming]):
    """One end of a socket pair, never blocking. The caller watches `fileno()` and calls `read` and `flush`."""

    def __init__(self, sock: socket.socket, incoming: Any) -> None:
        """`incoming`: the union of messages (see messages) that the neighbour may send."""
        sock.setblocking(False)
        self.sock = sock
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._input = bytearray()
        self._received: deque[int] = deque()
        self._output: list[tuple[bytes, tuple[int, ...]]] = []
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._backlog = 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Queue a message. The descriptors are duplicated by the kernel at flush, and closed here by then."""
        frame = _ENCODER.encode(message)
        self._output.append((_LENGTH.pack(len(frame)) + frame, descriptors))

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent."""
        return not self._output and not self._unsent

    def flush(self) -> bool:
        """Send what is queued, in as few calls as can be. True: all gone; False: call again when writable.

        Raises ChannelClosed when the neighbour has gone, or has read nothing for too long.
        """
        if self._output:
            self._pack()
        while self._unsent:
            data, descriptors = self._unsent[0]
            try:
                sent = self._send(data, descriptors)
            except BlockingIOError:
                if self._backlog > BACKLOG_LIMIT:
                    raise RuleBroken("the neighbour does not read") from None
                return False
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            close_all(descriptors)
            self._backlog -= sent
            if sent < len(data):
                self._unsent[0] = (data[sent:], ())
            else:
                self._unsent.popleft()
        return True

    def _send(self, data: bytes, descriptors: tuple[int, ...]) -> int:
        if not descriptors:
            return self.sock.send(data)
        rights = array.array("i", descriptors)
        return self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def _pack(self) -> None:
        """Join queued frames, so many that their descriptors still fit in one call."""
        frames: list[bytes] = []
        descriptors: tuple[int, ...] = ()
        output, self._output = self._output, []
        for frame, passed in output:
            if len(descriptors) + len(passed) > DESCRIPTORS_LIMIT:
                self._enqueue(frames, descriptors)
                frames, descriptors = [], ()
            frames.append(frame)
            descriptors += passed
        self._enqueue(frames, descriptors)

    def _enqueue(self, frames: list[bytes], descriptors: tuple[int, ...]) -> None:
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self._backlog += len(data)
        self._unsent.append((data, descriptors))

    def read(self) -> Iterator[tuple[Incoming, tuple[int, ...]]]:
        """The messages that have come, each with its descriptors, which are now the caller's to close.

        Raises ChannelClosed at the end of the stream, and for anything that may not be sent.
        """
        data = self._receive()
        if self._input:
            self._input += data
            data = bytes(self._input)
            self._input.clear()
        start, end = 0, len(data)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            if length > FRAME_LIMIT:
                raise RuleBroken("a frame is too long")
            stop = start + _LENGTH.size + length
            if stop > end:
                break
            yield self._decoded(data[start + _LENGTH.size : stop])
            start = stop
        self._input += data[start:]

    def _receive(self) -> bytes:
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                READ_SIZE, socket.CMSG_SPACE(4 * DESCRIPTORS_LIMIT), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._received.extend(array.array("i", rights[: len(rights) // 4 * 4]))
        if flags & _CTRUNC:
            raise RuleBroken("descriptors were lost: out of descriptors")
        if len(self._received) > UNCLAIMED_LIMIT:
            raise RuleBroken("descriptors came that no message asks for")
        if not data:
            raise ChannelClosed("the neighbour has gone")
        return data

    def _decoded(self, frame: bytes) -> tuple[Incoming, tuple[int, ...]]:
        try:
            message: Incoming = self._decode(frame)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RuleBroken(f"a frame does not decode: {type(error).__name__}") from None
        wanted = message.descriptors
        if not wanted:
            return message, ()
        if wanted > len(self._received):
            raise RuleBroken("descriptors are missing")
        return message, tuple(self._received.popleft() for _ in range(wanted))

    def close(self) -> None:
        """Close the socket, and every descriptor still on its way."""
        for _, descriptors in (*self._output, *self._unsent):
            close_all(descriptors)
        close_all(tuple(self._received))
        self._output.clear()
        self._unsent.clear()
        self._received.clear()
        self.sock.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends for a channel, with room for a good many frames."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ends


def close_all(descriptors: tuple[int, ...]) -> None:
    """Descriptors that came, or were to go, and are not wanted."""
    for descriptor in descriptors:
        os.close(descriptor)
