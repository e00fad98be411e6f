"""How many connections stand open, in all and per address, over all network processes.

The counts lie in shared memory made by the parent. Each process writes only its own column, so no lock is needed, and
the parent clears the column of a process that died. Addresses are hashed with a key of this start: two busy addresses
share a cell about once in 65,536, and nobody outside can make them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

CELLS = 1 << 16  # of two octets each, for every process
COLUMN = CELLS + 1


class Crowd:
    """Counts of one kind of key ("address 192.0.2.1", "network 192.0.2.0/24", "") over `processes` columns."""

    def __init__(self, shared: mmap.mmap, processes: int, column: int, key: int) -> None:
        """`shared` has size(processes) octets; `key` is a random number, the same in every process."""
        self._cells = memoryview(shared).cast("H")
        self.processes = processes
        self._column = column
        self._key = key

    @staticmethod
    def size(processes: int) -> int:
        return 2 * COLUMN * processes

    @staticmethod
    def clear(shared: mmap.mmap, column: int) -> None:
        """Forget the connections of a process that has died."""
        shared[2 * COLUMN * column : 2 * COLUMN * (column + 1)] = bytes(2 * COLUMN)

    def count(self, name: str) -> int:
        cell = self._cell(name)
        return sum(self._cells[COLUMN * column + cell] for column in range(self.processes))

    def _cell(self, name: str) -> int:
        """The total ("") has a cell of its own."""
        return hash((self._key, name)) % CELLS if name else CELLS

    def enter(self, names: Iterable[str]) -> None:
        self._add(names, 1)

    def leave(self, names: Iterable[str]) -> None:
        self._add(names, -1)

    def _add(self, names: Iterable[str], change: int) -> None:
        for name in names:
            cell = COLUMN * self._column + self._cell(name)
            self._cells[cell] = min(max(self._cells[cell] + change, 0), 0xFFFF)
