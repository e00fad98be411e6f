"""The folder of the queue: its places, its files, and who owns them. What the files mean is said in `queue`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from ..terms import TryLater
from . import files
from .queue_envelope import ENVELOPE_LIMIT, parse, render
from .queue_message import QueuedMessage

PLACES = ("tmp", "message", "envelope", "damaged")
READ_OCTETS = 8192  # at once; more than nearly every envelope has

Owner = tuple[int, int]  # uid, gid


class Damaged(TryLater):
    """A queued message's envelope can't be understood: it is to be set aside."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start finds in the queue."""

    due: list[tuple[float, str]]  # Unix time of the next try and id, soonest first: a heap as it is
    held: list[str]  # ids, oldest first
    damaged: list[str]  # paths of what was set aside


class Folder:
    """Paths and single steps; nothing here keeps two callers from the same message."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._owner: Owner | None = None  # whose our files shall be, where that is somebody else

    def prepare(self) -> None:
        """Make what is missing, durably. What root makes here belongs to the folder's owner. Raises TryLater."""
        try:
            os.makedirs(self._path, 0o700, exist_ok=True)
            if os.geteuid() == 0:
                state = os.stat(self._path)
                self._owner = (state.st_uid, state.st_gid) if state.st_uid else None
            for place in PLACES:
                self._make(f"{self._path}/{place}")
            files.sync_directory(self._path)
            with contextlib.suppress(PermissionError):  # then root made our folder, and has seen to it
                files.sync_directory(os.path.dirname(self._path) or ".")
        except OSError as error:
            raise files.trouble(error, f"the queue {self._path}") from None

    def _make(self, path: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            if self._owner:
                os.chown(path, *self._owner, follow_symlinks=False)

    def path(self, place: str, name: str) -> str:
        """Raises FileNotFoundError for a name that leads out of the folder: ids come from the command line, too."""
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise FileNotFoundError(f"no message has the id {name!r}")
        return f"{self._path}/{place}/{name}"

    def names(self, place: str) -> list[str]:
        """Raises TryLater."""
        try:
            return os.listdir(f"{self._path}/{place}")
        except OSError as error:
            raise files.trouble(error, f"{self._path}/{place}") from None

    def create(self, name: str) -> int:
        """A new file in tmp. Raises OSError."""
        path = self.path("tmp", name)
        descriptor = files.create(path)
        try:
            if self._owner:
                os.fchown(descriptor, *self._owner)
        except OSError:
            os.close(descriptor)
            files.unlink(path)
            raise
        return descriptor

    def begin(self, name: str, content: bytes) -> int:
        """A new file in tmp, whole and not durable yet; what an earlier try left under that name goes. Raises OSError."""
        try:
            descriptor = self.create(name)
        except FileExistsError:
            files.unlink(self.path("tmp", name))
            descriptor = self.create(name)
        try:
            files.write_all(descriptor, content)
        except OSError:
            os.close(descriptor)
            self.clear("tmp", name)
            raise
        return descriptor

    def begin_envelope(self, message: QueuedMessage) -> int:
        """The same for an envelope. Raises OSError, and ValueError for one that could not be read back."""
        return self.begin(envelope_name(message.identity), render(message))

    def write_envelope(self, message: QueuedMessage) -> None:
        """Into tmp, durably. Raises OSError, ValueError."""
        descriptor = self.begin_envelope(message)
        try:
            files.fsync(descriptor)
        except OSError:
            self.clear("tmp", envelope_name(message.identity))
            raise
        finally:
            os.close(descriptor)

    def replace_envelope(self, message: QueuedMessage) -> None:
        """From now on this is what is known of the message, durably. Raises OSError, ValueError.

        After an error the old or the new envelope stands: the folder may not be durable.
        """
        self.write_envelope(message)
        try:
            self.move("envelope", envelope_name(message.identity), message.identity)
        except OSError:
            self.clear("tmp", envelope_name(message.identity))
            raise
        self.sync("envelope")

    def read_envelope(self, identity: str) -> QueuedMessage:
        """Raises FileNotFoundError where it is not queued, Damaged, and TryLater where it can't be read just now."""
        path = self.path("envelope", identity)
        try:
            return parse(_read(path), identity)
        except (ValueError, IsADirectoryError) as error:
            raise Damaged(f"{path} is damaged: {error}") from None
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Damaged(f"{path} is damaged: a link") from None
            raise files.trouble(error, path) from None

    def holds(self, identity: str) -> bool:
        """Is there an envelope, whatever is in it?"""
        return os.path.lexists(self.path("envelope", identity))

    def has_message(self, identity: str) -> bool:
        return os.path.lexists(self.path("message", identity))

    def octets(self, identity: str) -> int:
        """The size of the message. Raises OSError."""
        return os.stat(self.path("message", identity), follow_symlinks=False).st_size

    def open_message(self, identity: str) -> int:
        """A readable descriptor, the caller's to close. Raises OSError."""
        return os.open(self.path("message", identity), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def move(self, place: str, temporary: str, identity: str) -> None:
        """From tmp to its place. Raises OSError."""
        files.rename(self.path("tmp", temporary), self.path(place, identity))

    def clear(self, place: str, name: str) -> None:
        """Remove a file that may be gone already; one that stays does no harm."""
        with contextlib.suppress(OSError):
            files.unlink(self.path(place, name))

    def sync(self, place: str) -> None:
        """Raises OSError."""
        files.sync_directory(f"{self._path}/{place}")

    def set_aside(self, identity: str) -> str:
        """The message first: after a crash its envelope would still tell that it is not to be cleared."""
        for place, suffix in (("message", ".message"), ("envelope", "")):
            with contextlib.suppress(OSError):
                files.rename(self.path(place, identity), self.path("damaged", identity + suffix))
        return self.path("damaged", identity)


def slot_name(identity: str) -> str:
    """What a message is called while it is written: its id without the second, which is known only when it is begun."""
    return identity.partition(".")[2]


def close_all(descriptors: Iterable[int]) -> None:
    """Those that are none are passed over."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def envelope_name(identity: str) -> str:
    """Of an envelope in tmp, beside its message."""
    return identity + ".envelope"


def _read(path: str) -> bytes:
    """Up to one octet more than `parse` accepts. Never waits for a pipe, never follows a link. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, READ_OCTETS)
        if len(content) == READ_OCTETS:
            content += os.read(descriptor, ENVELOPE_LIMIT + 1)
        return content
    finally:
        os.close(descriptor)
