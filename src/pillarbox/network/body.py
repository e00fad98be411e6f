"""A message on its way from its descriptor to the client: read without waiting for the disk, converted, stuffed."""

from __future__ import annotations

import errno
import os

from ..protocol.dot_stuffing import Encoder, Head, encode
from ..wire_form import UNKNOWN

READ_SIZE = 128 << 10  # a whole ordinary message in one read; a big one in pieces that the socket can take

_buffer = bytearray(READ_SIZE)
_views = [memoryview(_buffer)]
NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)


class Body:
    """One RETR or TOP. `next` gives wire octets, b"" at the end, or None where the disk would be waited for."""

    __slots__ = ("_descriptor", "_encoder", "_form", "_head", "_offset", "_size", "done")

    def __init__(self, descriptor: int, form: int, body_lines: int | None) -> None:
        """Owns the descriptor from now on; `close` it."""
        self._descriptor = descriptor
        self._form = form
        self._offset = 0
        self._size = os.fstat(descriptor).st_size
        self._head = None if body_lines is None else Head(body_lines)
        self._encoder: Encoder | None = None
        self.done = False

    def next(self) -> bytes | None:
        """The next wire octets, from the page cache alone; None: `read` in a thread, then `feed` what it gave."""
        try:
            count = os.preadv(self._descriptor, _views, self._offset, NO_WAIT) if self._offset < self._size else 0
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return None  # a file system that can't tell
            raise
        return self.feed(bytes(_views[0][:count]))

    def read(self) -> bytes:
        """The next stored octets, waiting for the disk: for a thread."""
        return os.pread(self._descriptor, READ_SIZE, self._offset)

    def feed(self, chunk: bytes) -> bytes:
        """Stored octets in, wire octets out; an empty chunk is the end of the file."""
        self._offset += len(chunk)
        if self._encoder is None and self._head is None and self._offset >= self._size and chunk:
            self.done = True
            return encode(chunk, self._form)
        return self._piece(chunk)

    def _piece(self, chunk: bytes) -> bytes:
        if self._encoder is None:
            self._encoder = Encoder(UNKNOWN if self._head else self._form)
        ended = not chunk
        if self._head is not None:
            chunk = self._head.feed(chunk) if chunk else self._head.finish()
            ended = ended or self._head.done
        wire = self._encoder.feed(chunk)
        if ended:
            self.done = True
            wire += self._encoder.finish()
        return wire

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
