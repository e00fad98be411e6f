"""What a store promises; tests/contract runs one suite against every implementation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from ..listing import Listing
from ..terms import Account, Envelope, Outcome
from .grant_file import StoredGrant
from .queue_message import QueuedMessage, QueuedRecipient


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
    """Which accounts may send from which addresses for a while. `now`: Unix time; `monotonic`: seconds since boot."""

    def mint(
        self, address: str, account: str, mechanism: str, fingerprint: bytes, now: float, monotonic: float
    ) -> None: ...

    def prolong(self, address: str, account: str, now: float, monotonic: float) -> None: ...

    def find(self, address: str, now: float, monotonic: float) -> tuple[StoredGrant, ...]:
        """All live grants of this address. Raises TryLater when the store can't tell: the caller then fails closed."""

    def spend(self, address: str, account: str, recipients: int, now: float, monotonic: float) -> bool: ...

    def revoke(self, address: str, account: str = "") -> bool: ...

    def every(self, now: float, monotonic: float) -> Iterator[StoredGrant]: ...

    def expire(self, now: float) -> None:
        """Remove what is no longer live."""


class Queue(Protocol):
    """Accepted mail that is not settled yet. A message is queued if and only if its envelope file exists."""

    def open_slot(self) -> tuple[str, int]:
        """A new message's id, and a descriptor to write it to. Raises TryLater."""

    def commit(self, identity: str, envelope: Envelope, account: str = "") -> None:
        """Make the message durable and queued. Raises TryLater; the message is then not queued."""

    def abort(self, identity: str) -> None: ...

    def add(self, identity: str, envelope: Envelope, content: bytes, account: str = "") -> bool:
        """Queue a whole message under a given id, durably; False: it is queued already. Raises TryLater."""

    def pending(self) -> Iterator[str]:
        """The ids of all queued messages, oldest first."""

    def load(self, identity: str) -> QueuedMessage:
        """Raises FileNotFoundError where it is not queued, TryLater where it can't be read."""

    def open_message(self, identity: str) -> int:
        """A readable descriptor of the message, the caller's to close. Raises OSError."""

    # Changes are atomic and durable, and no two of one message lose each other, from whatever threads they come. They
    # raise what `load` raises, and ValueError for a recipient that the message does not have.

    def settle(
        self,
        identity: str,
        outcomes: Mapping[bytes, Outcome],
        *,
        next_try: float | None = None,
        finished_try: bool = False,
    ) -> QueuedMessage:
        """Record what has become of recipients; a recipient that is settled stays so."""

    def expand(self, identity: str, recipient: bytes, children: Sequence[QueuedRecipient]) -> QueuedMessage:
        """Others take the recipient's place, each once in a message. Raises Refused for too many."""

    def mark(
        self,
        identity: str,
        *,
        reported: Collection[bytes] = (),
        warned: bool | None = None,
        held: bool | None = None,
        next_try: float | None = None,
    ) -> QueuedMessage: ...

    def remove_all(self, identities: Sequence[str]) -> list[Exception | None]:
        """The messages leave the queue, durably. For each what went wrong, or None; one already gone is no failure."""
