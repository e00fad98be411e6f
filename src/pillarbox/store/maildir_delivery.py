"""Durable delivery into a Maildir: tmp, fsync, link into new, fsync of new; only then it is delivered."""

from __future__ import annotations

import os
import time

from ..wire_form import survey
from . import files
from . import maildir_names as names
from .maildir_scan import chunks


class Slot:
    """A message on its way in: write to `fd`, then seal, publish, and sync; or abort."""

    __slots__ = ("_maildir", "_name", "_repeatable", "fd", "form", "name", "octets", "size")

    def __init__(self, maildir: str, name: str | None = None) -> None:
        """Creates tmp/NAME, and the Maildir where there is none. Raises TryLater."""
        self._maildir = maildir
        self._name = name or names.unique(time.time())
        self._repeatable = name is not None
        self.name = ""  # under which it lies in new, once published
        self.size = self.octets = self.form = 0
        self.fd = self._create()

    def _create(self) -> int:
        try:
            return files.create(self._temporary)
        except FileNotFoundError:
            make(self._maildir)
        except FileExistsError:
            files.unlink(self._temporary)  # of an earlier try of the same delivery, which died
        except OSError as error:
            raise files.trouble(error, f"no message can be written into {self._maildir}") from None
        try:
            return files.create(self._temporary)
        except OSError as error:
            raise files.trouble(error, f"no message can be written into {self._maildir}") from None

    @property
    def _temporary(self) -> str:
        return f"{self._maildir}/tmp/{self._name}"

    def seal(self) -> None:
        """Make the content durable and measure it; may run in a thread. Raises TryLater."""
        try:
            files.fsync(self.fd)
            self.size = os.fstat(self.fd).st_size
            self.octets, self.form = survey(chunks(self.fd))
        except OSError as error:
            raise files.trouble(error, f"a message can't be written into {self._maildir}") from None
        finally:
            self.close()
        self.name = names.with_sizes(self._name, self.size, self.octets)

    def publish(self) -> None:
        """Link it into new; durable after `sync`. A name that is there already is this very message. Raises TryLater."""
        try:
            if not self._delivered_before():
                files.link(self._temporary, f"{self._maildir}/new/{self.name}")
        except FileExistsError:
            pass
        except OSError as error:
            raise files.trouble(error, f"a message can't be moved into {self._maildir}/new") from None
        self.abort()

    def _delivered_before(self) -> bool:
        """By an earlier try of the same delivery, whose message a reader has moved to cur and marked since."""
        prefix = self._name + ",S="
        return self._repeatable and any(name.startswith(prefix) for name in os.listdir(f"{self._maildir}/cur"))

    def abort(self) -> None:
        """Forget what lies in tmp."""
        self.close()
        try:
            files.unlink(self._temporary)
        except OSError:
            return  # it will be cleaned away with what else is old in tmp

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def sync(maildir: str) -> None:
    """Make all that was published durable. Raises TryLater."""
    try:
        files.sync_directory(f"{maildir}/new")
    except OSError as error:
        raise files.trouble(error, f"{maildir}/new can't be made durable") from None


def deliver(maildir: str, name: str, head: bytes, source: int) -> Slot:
    """A queued message: header lines `head`, then what lies behind the descriptor. Durable when it returns.

    The same name delivers the same message once, however often it is tried. Raises TryLater.
    """
    slot = Slot(maildir, name)
    try:
        try:
            files.write_all(slot.fd, head)
            for chunk in chunks(source):
                files.write_all(slot.fd, chunk)
        except OSError as error:
            raise files.trouble(error, f"a message can't be written into {maildir}") from None
        slot.seal()
        slot.publish()
    except BaseException:
        slot.abort()
        raise
    sync(maildir)
    return slot


def make(maildir: str) -> None:
    """Create the Maildir, and the folders above it, each durable in its parent. Raises TryLater."""
    try:
        for folder in (maildir, *(f"{maildir}/{name}" for name in ("tmp", "new", "cur"))):
            _make_folder(folder)
    except OSError as error:
        raise files.trouble(error, f"the Maildir {maildir} can't be made") from None


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(os.path.dirname(folder))
        _make_folder(folder)
        return
    files.sync_directory(os.path.dirname(folder))
