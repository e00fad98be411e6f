"""What a store promises; tests/contract runs one suite against every implementation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..listing import Listing
from ..terms import Account, Envelope, Grant


class Maildrop(Protocol):
    """One account's messages, as one POP3 session sees them."""

    def listing(self) -> Listing:
        """Taken once, at login; numbers below are this listing's. Raises TryLater."""

    def open(self, number: int) -> int:
        """A readable descriptor of the message. Raises FileNotFoundError when it is gone."""

    def remove(self, numbers: Sequence[int]) -> int:
        """Remove these messages; durable when it returns. How many could not be removed; one already gone is no failure."""


class Accounts(Protocol):
    """Who has a mailbox here."""

    def find(self, name: str) -> Account | None:
        """The account of that full name (local@domain in lower case)."""

    def secret(self, name: str) -> bytes | None:
        """The account's secret in the clear, or None where it has none. Raises TryLater when the store can't tell."""


class Grants(Protocol):
    """Which addresses may relay for a while."""

    def renew(self, address: str, account: str, now: float) -> None: ...

    def find(self, address: str, now: float) -> Grant | None:
        """The live grant of this address. Raises TryLater when the store can't tell: the caller then fails closed."""

    def expire(self, now: float) -> None:
        """Remove what is no longer live."""


class Queue(Protocol):
    """Accepted mail that is not settled yet. A message is queued if and only if its envelope file exists."""

    def open_slot(self) -> tuple[str, int]:
        """A new message's id, and a descriptor to write it to. Raises TryLater."""

    def commit(self, identity: str, envelope: Envelope) -> None:
        """Make the message durable and queued. Raises TryLater; the message is then not queued."""

    def abort(self, identity: str) -> None: ...

    def pending(self) -> Iterator[str]:
        """The ids of all queued messages, oldest first."""
