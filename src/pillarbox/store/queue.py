"""Accepted mail that is not settled yet. The law: a message is queued if and only if its envelope file exists.

    tmp/       what is being written        message/ID   header and body, as stored lines
    damaged/   what could not be read       envelope/ID  JSON: who sent it, who shall get it, what has become of that

Order of an acceptance: message and envelope written and fsynced; message renamed in, its folder fsynced; envelope
renamed in, its folder fsynced; then 250. A removal goes the other way round. So no crash leaves an envelope without its
message, and a message without an envelope was never acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from ..terms import Envelope, TryLater
from . import files
from .queue_envelope import DELIVERED, FAILED, PENDING, QueuedMessage, parse, render

__all__ = ["DELIVERED", "FAILED", "PENDING", "DiskQueue", "QueuedMessage"]

ENVELOPE_LIMIT = 1 << 20  # octets; a hundred recipients take a twentieth of that


class DiskQueue:
    """The queue below one folder; one process owns it. `seal` may run in many threads at once, the rest in one."""

    def __init__(self, folder: str) -> None:
        """Raises TryLater where the folder can't be made or used."""
        self._folder = folder
        self._messages = f"{folder}/message"
        self._envelopes = f"{folder}/envelope"
        self._slots: dict[str, int] = {}  # our own descriptors: fsync reports to them what went wrong since
        try:
            for place in ("tmp", "message", "envelope", "damaged"):
                os.makedirs(f"{folder}/{place}", 0o700, exist_ok=True)
            files.sync_directory(folder)
            with contextlib.suppress(PermissionError):  # then root made our folder, and has seen to it
                files.sync_directory(os.path.dirname(folder) or ".")
        except OSError as error:
            raise files.trouble(error, f"the queue {folder}") from None

    def _path(self, place: str, identity: str) -> str:
        return f"{self._folder}/{place}/{identity}"

    # Acceptance.

    def open_slot(self) -> tuple[str, int]:
        """A new message's id, and a descriptor to write it to, the caller's to close. Raises TryLater."""
        identity = f"{int(time.time())}.{os.urandom(8).hex()}"
        try:
            descriptor = files.create(self._path("tmp", identity))
            self._slots[identity] = descriptor
            return identity, os.dup(descriptor)
        except OSError as error:
            self.abort(identity)
            raise files.trouble(error, "a new message can't be written to the queue") from None

    def seal(self, identity: str, envelope: Envelope) -> None:
        """Make message and envelope durable, still out of sight. Raises TryLater; a failed fsync is never repeated."""
        now = time.time()
        pending = dict.fromkeys(envelope.recipients, PENDING)
        try:
            descriptor = self._slots.pop(identity, None)
            if descriptor is None:
                raise TryLater(f"no message {identity} is being written")
            try:
                files.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._write_envelope(QueuedMessage(identity, envelope.sender, pending, received=now, next_try=now))
        except OSError as error:
            raise files.trouble(error, "a message can't be written to the queue") from None

    def publish(self, identities: Sequence[str]) -> list[Exception | None]:
        """Queue sealed messages, all with the same two fsyncs. What went wrong with each, or None: it is queued.

        Raises TryLater where a folder can't be made durable: none of them is queued then.
        """
        try:
            outcomes: list[Exception | None] = [self._move("message", identity, identity) for identity in identities]
            files.sync_directory(self._messages)
            for place, identity in enumerate(identities):
                outcomes[place] = outcomes[place] or self._move("envelope", _envelope_name(identity), identity)
            files.sync_directory(self._envelopes)
        except OSError as error:
            for identity in identities:
                self.abort(identity)
            raise files.trouble(error, "the queue can't be made durable") from None
        return outcomes

    def _move(self, place: str, temporary: str, identity: str) -> Exception | None:
        try:
            files.rename(self._path("tmp", temporary), self._path(place, identity))
        except OSError as error:
            return files.trouble(error, "a message can't be queued")
        return None

    def commit(self, identity: str, envelope: Envelope) -> None:
        """seal and publish one message. Raises TryLater; the message is then not queued."""
        try:
            self.seal(identity, envelope)
            (error,) = self.publish([identity])
            if error is not None:
                raise error
        except TryLater:
            self.abort(identity)
            raise

    def abort(self, identity: str) -> None:
        """Forget a message that was not queued. What can't be removed now is cleared by `recover`."""
        descriptor = self._slots.pop(identity, None)
        if descriptor is not None:
            os.close(descriptor)
        leftovers = ("envelope", identity), ("message", identity), ("tmp", identity), ("tmp", _envelope_name(identity))
        for place, name in leftovers:
            self._clear(place, name)

    def _clear(self, place: str, name: str) -> None:
        with contextlib.suppress(OSError):
            files.unlink(self._path(place, name))

    def _write_envelope(self, message: QueuedMessage) -> None:
        """Into tmp, durably. Raises OSError."""
        temporary = self._path("tmp", _envelope_name(message.identity))
        descriptor = files.create(temporary)
        try:
            files.write_all(descriptor, render(message))
            files.fsync(descriptor)
        except OSError:
            files.unlink(temporary)
            raise
        finally:
            os.close(descriptor)

    # What is queued.

    def pending(self) -> Iterator[str]:
        """The ids of all queued messages, oldest first: an id begins with its second. Raises TryLater."""
        yield from sorted(self._names("envelope"))

    def _names(self, place: str) -> list[str]:
        try:
            return os.listdir(f"{self._folder}/{place}")
        except OSError as error:
            raise files.trouble(error, f"{self._folder}/{place}") from None

    def load(self, identity: str) -> QueuedMessage:
        """Raises FileNotFoundError where it is not queued, TryLater where its envelope is damaged or can't be read."""
        path = self._path("envelope", identity)
        try:
            return parse(self._read(path), identity)
        except ValueError as error:
            raise TryLater(f"{path} is damaged: {error}") from None
        except FileNotFoundError:
            raise
        except OSError as error:
            raise files.trouble(error, path) from None

    def _read(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, ENVELOPE_LIMIT)
        finally:
            os.close(descriptor)

    def open_message(self, identity: str) -> int:
        """A readable descriptor of the message, the caller's to close. Raises OSError."""
        return os.open(self._path("message", identity), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def settle(self, identity: str, outcomes: Mapping[bytes, str], next_try: float) -> None:
        """Record after a try what has become of these recipients, durably. Raises OSError or TryLater: nothing changed."""
        self._write_envelope(self.load(identity).settled(outcomes, next_try))
        try:
            files.rename(self._path("tmp", _envelope_name(identity)), self._path("envelope", identity))
        except OSError:
            self._clear("tmp", _envelope_name(identity))
            raise
        files.sync_directory(self._envelopes)

    def remove(self, identity: str) -> None:
        """The message is settled: envelope first, durably, then the message. Gone already is well. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            files.unlink(self._path("envelope", identity))
        files.sync_directory(self._envelopes)
        self._clear("message", identity)

    # After a crash.

    def recover(self) -> list[str]:
        """At start: clear what was not accepted, set aside what is damaged, and go on. The paths of the damaged."""
        for name in self._names("tmp"):
            self._clear("tmp", name)
        messages = set(self._names("message"))
        damaged = [name for name in self._names("envelope") if not self._is_sound(name, name in messages)]
        set_aside = [self._set_aside(identity) for identity in damaged]
        for identity in messages.difference(self._names("envelope")):
            self._clear("message", identity)
        return set_aside

    def _is_sound(self, identity: str, has_message: bool) -> bool:
        try:
            parse(self._read(self._path("envelope", identity)), identity)
        except (ValueError, IsADirectoryError):
            return False
        except OSError:
            return has_message  # the disk may do better later; the mail stays where it is
        return has_message

    def _set_aside(self, identity: str) -> str:
        """The message first: after another crash its envelope would still tell that it is not to be cleared."""
        for place, suffix in (("message", ".message"), ("envelope", "")):
            with contextlib.suppress(OSError):
                files.rename(self._path(place, identity), self._path("damaged", identity + suffix))
        return self._path("damaged", identity)


def _envelope_name(identity: str) -> str:
    return identity + ".envelope"
