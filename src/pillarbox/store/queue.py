"""Accepted mail that is not settled yet. The law: a message is queued if and only if its envelope file exists.

    tmp/       what is being written        message/ID   header and body, as stored lines
    damaged/   what could not be read       envelope/ID  JSON: who sent it, who shall get it, what has become of that

Order of an acceptance: message written, fsynced, renamed in, directory fsynced; envelope written, fsynced, renamed in,
directory fsynced; then 250. A removal goes the other way round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..terms import Envelope, TryLater
from . import files

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
ENVELOPE_LIMIT = 1 << 20  # octets; a hundred recipients take a tenth of that
VERSION = 1


class QueuedMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message's envelope as it lies on disk. Addresses are octets, kept as Latin-1 text."""

    version: int
    identity: str
    received: float  # Unix time, seconds
    next_try: float
    tries: int
    from_: str
    outcomes: dict[str, str]

    @property
    def sender(self) -> bytes:
        return self.from_.encode("latin-1")

    @property
    def recipients(self) -> tuple[bytes, ...]:
        return tuple(recipient.encode("latin-1") for recipient in self.outcomes)

    def pending(self) -> tuple[bytes, ...]:
        """Recipients that still wait, in the order of the envelope."""
        return tuple(r.encode("latin-1") for r, outcome in self.outcomes.items() if outcome == PENDING)


class DiskQueue:
    """The queue below one folder; one process owns it."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        for name in ("tmp", "message", "envelope", "damaged"):
            os.makedirs(f"{folder}/{name}", 0o700, exist_ok=True)

    def _path(self, place: str, identity: str) -> str:
        return f"{self._folder}/{place}/{identity}"

    # Acceptance.

    def open_slot(self) -> tuple[str, int]:
        """A new message's id, and a descriptor to write it to, the caller's to close. Raises TryLater."""
        identity = f"{int(time.time())}.{os.urandom(8).hex()}"
        try:
            return identity, files.create(self._path("tmp", identity))
        except OSError as error:
            raise files.trouble(error, "a new message can't be written to the queue") from None

    def seal(self, identity: str) -> None:
        """Make the message's content durable; may run in a thread. Raises TryLater."""
        try:
            descriptor = os.open(self._path("tmp", identity), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                files.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise files.trouble(error, "a message can't be written to the queue") from None

    def publish(self, sealed: Sequence[tuple[str, Envelope]]) -> list[Exception | None]:
        """Queue sealed messages, all with the same few fsyncs. What went wrong with each, or None: it is queued.

        Raises TryLater where a directory can't be made durable: none of them counts as queued then.
        """
        outcomes = [self._attempt(self._move_in, identity) for identity, _ in sealed]
        try:
            files.sync_directory(f"{self._folder}/message")
            for place, (identity, envelope) in enumerate(sealed):
                outcomes[place] = outcomes[place] or self._attempt(self._write_envelope, identity, envelope)
            files.sync_directory(f"{self._folder}/envelope")
        except OSError as error:
            for identity, _ in sealed:
                self.abort(identity)
            raise files.trouble(error, "the queue can't be made durable") from None
        return outcomes

    def _attempt(self, step: object, *arguments: object) -> Exception | None:
        try:
            step(*arguments)  # type: ignore[operator]
        except OSError as error:
            return files.trouble(error, "a message can't be queued")
        return None

    def _move_in(self, identity: str) -> None:
        files.rename(self._path("tmp", identity), self._path("message", identity))

    def _write_envelope(self, identity: str, envelope: Envelope) -> None:
        outcomes = {recipient.decode("latin-1"): PENDING for recipient in envelope.recipients}
        now = time.time()
        self._put(QueuedMessage(VERSION, identity, now, now, 0, envelope.sender.decode("latin-1"), outcomes))

    def _put(self, message: QueuedMessage) -> None:
        temporary = self._path("tmp", message.identity + ".envelope")
        descriptor = files.create(temporary)
        try:
            files.write_all(descriptor, msgspec.json.encode(message))
            files.fsync(descriptor)
            files.rename(temporary, self._path("envelope", message.identity))
        except BaseException:
            _unlink(temporary)
            raise
        finally:
            os.close(descriptor)

    def commit(self, identity: str, envelope: Envelope) -> None:
        """seal and publish one message. Raises TryLater; the message is then not queued."""
        self.seal(identity)
        (error,) = self.publish([(identity, envelope)])
        if error is not None:
            self.abort(identity)
            raise error

    def abort(self, identity: str) -> None:
        """Forget a message that was not queued."""
        for place in ("envelope", "message", "tmp"):
            _unlink(self._path(place, identity))

    # What is queued.

    def pending(self) -> Iterator[str]:
        """The ids of all queued messages, oldest first: an id begins with its second."""
        yield from sorted(os.listdir(f"{self._folder}/envelope"))

    def load(self, identity: str) -> QueuedMessage:
        """Raises TryLater when the envelope can't be read, and FileNotFoundError when there is none."""
        path = self._path("envelope", identity)
        try:
            with open(path, "rb") as file:
                message = msgspec.json.decode(file.read(ENVELOPE_LIMIT), type=QueuedMessage)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TryLater(f"{path} is damaged: {error}") from None
        if message.version != VERSION or message.identity != identity:
            raise TryLater(f"{path} is damaged: it names version {message.version} and id {message.identity}")
        return message

    def open_message(self, identity: str) -> int:
        """A readable descriptor of the message, the caller's to close. Raises OSError."""
        return os.open(self._path("message", identity), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def settle(self, identity: str, outcomes: Mapping[bytes, str], next_try: float) -> None:
        """Record what has become of recipients, durably. Raises OSError."""
        message = self.load(identity)
        known = {recipient.decode("latin-1"): outcome for recipient, outcome in outcomes.items()}
        self._put(
            msgspec.structs.replace(
                message, outcomes={**message.outcomes, **known}, next_try=next_try, tries=message.tries + 1
            )
        )
        files.sync_directory(f"{self._folder}/envelope")

    def remove(self, identity: str) -> None:
        """The message is settled: envelope first, durably, then the message. Raises OSError."""
        files.unlink(self._path("envelope", identity))
        files.sync_directory(f"{self._folder}/envelope")
        _unlink(self._path("message", identity))

    def recover(self) -> list[str]:
        """At start: clear what was not accepted, set damaged envelopes aside. The damaged ones' paths."""
        for name in os.listdir(f"{self._folder}/tmp"):
            _unlink(self._path("tmp", name))
        damaged = [identity for identity in os.listdir(f"{self._folder}/envelope") if not self._sound(identity)]
        for identity in damaged:
            self._set_aside(identity)
        queued = set(os.listdir(f"{self._folder}/envelope"))
        for identity in os.listdir(f"{self._folder}/message"):
            if identity not in queued:
                _unlink(self._path("message", identity))
        return [self._path("damaged", identity) for identity in damaged]

    def _sound(self, identity: str) -> bool:
        try:
            self.load(identity)
        except (TryLater, OSError):
            return False
        return os.path.exists(self._path("message", identity))

    def _set_aside(self, identity: str) -> None:
        for place, suffix in (("message", ".message"), ("envelope", "")):
            try:
                files.rename(self._path(place, identity), self._path("damaged", identity + suffix))
            except FileNotFoundError:
                continue


def _unlink(path: str) -> None:
    try:
        files.unlink(path)
    except FileNotFoundError:
        return
