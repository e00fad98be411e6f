"""What every message between our processes is."""

from __future__ import annotations

from msgspec import Struct


class Message(Struct, frozen=True, array_like=True, tag_field="kind"):
    """Every message; `descriptors` says how many file descriptors travel with it."""

    @property
    def descriptors(self) -> int:
        return 0


class WithDescriptor(Message, frozen=True):
    """One descriptor travels along."""

    @property
    def descriptors(self) -> int:
        return 1
