"""The slot that a message is written to as it comes in: a file whose keeper, another process, makes it durable."""

from __future__ import annotations

import os
import stat

GATHER = 256 << 10  # octets gathered before they are written: a small message is one write


class Slot:
    """Writes into the page cache. What the disk says shows at the keeper's fsync, or in `failure` when it is full."""

    __slots__ = ("_descriptor", "_gathered", "_size", "failure")

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: ours from now on. Raises OSError for what is no file: a write to it could block us."""
        self._descriptor = descriptor
        self._gathered: list[bytes] = []
        self._size = 0
        self.failure: OSError | None = None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self.close()
            raise OSError("a slot is no file")

    def add(self, data: bytes) -> None:
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= GATHER:
            self._write_out()

    def _write_out(self) -> None:
        view = memoryview(b"".join(self._gathered))
        self._gathered, self._size = [], 0
        try:
            while view and self.failure is None:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.failure = error

    def finish(self) -> OSError | None:
        """Everything is written, and the descriptor closed; or what went wrong."""
        self._write_out()
        self.close()
        return self.failure

    def close(self) -> None:
        """Closing again does nothing."""
        self._gathered, self._size = [], 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
