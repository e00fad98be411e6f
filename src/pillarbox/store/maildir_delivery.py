"""Durable delivery into a Maildir: tmp, fsync, link into new, fsync of new; only then it is delivered."""

from __future__ import annotations

import errno
import os
import re
import threading
import time

from ..terms import TryLater
from ..wire_form import survey
from . import files
from . import maildir_names as names
from .maildir_scan import chunks

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}  # of file systems without hard links

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")  # no way out of the folder, no flags, room for sizes

_making = threading.Lock()


class Slot:
    """A message on its way in: write to `fd`, then seal, publish, and sync; or abort."""

    __slots__ = ("_maildir", "_name", "_repeatable", "_temporary", "fd", "form", "name", "octets", "size")

    def __init__(self, maildir: str, name: str | None = None) -> None:
        """Creates a file in tmp, and the Maildir where there is none. Raises TryLater.

        `name`: of a delivery that may be repeated, in new; without it, one that nobody else makes. In tmp it has a name
        of its own each time: whoever gave up an earlier try may not have ended it.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise TryLater(f"{name!r} is no name for a message")
        self._maildir = maildir
        unique = names.unique(time.time())
        self._name = name or unique
        self._repeatable = name is not None
        self._temporary = f"{maildir}/tmp/{unique}"
        self.name = ""  # under which it lies in new, once published
        self.size = self.octets = self.form = 0
        self.fd = self._create()

    def _create(self) -> int:
        try:
            try:
                return files.create(self._temporary)
            except FileNotFoundError:
                make(self._maildir)
            return files.create(self._temporary)
        except OSError as error:
            raise files.trouble(error, f"no message can be written into {self._maildir}") from None

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
        """Put it into new; durable after `sync`. Raises TryLater.

        A repeated delivery finds its message there, or where a reader has moved and marked it since: then that is it.
        """
        try:
            if not (self._repeatable and self._delivered_before()):
                self._link(f"{self._maildir}/new/{self.name}")
        except FileExistsError as error:
            if not self._repeatable:
                raise files.trouble(error, f"a message can't be moved into {self._maildir}/new") from None
            # another try of the same delivery has just put it there; `sync` makes it durable
        except OSError as error:
            raise files.trouble(error, f"a message can't be moved into {self._maildir}/new") from None
        self.abort()

    def _delivered_before(self) -> bool:
        wanted = os.fsencode(self._name)
        for folder in ("new", "cur"):
            try:
                found = os.listdir(os.fsencode(f"{self._maildir}/{folder}"))
            except FileNotFoundError:
                continue
            if any(name.startswith(wanted) and names.base(name).partition(b",S=")[0] == wanted for name in found):
                files.sync_directory(f"{self._maildir}/{folder}")  # whoever put it there may have died before this
                return True
        return False

    def _link(self, target: str) -> None:
        try:
            files.link(self._temporary, target)
        except FileNotFoundError:  # somebody has removed new
            make(self._maildir)
            files.link(self._temporary, target)
        except OSError as error:
            if error.errno not in NO_LINKS or os.path.lexists(target):
                raise
            files.rename(self._temporary, target)  # the name is ours alone, so nothing can come in between

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
    """Create the Maildir, and the folders above it. Raises TryLater.

    tmp comes last: whoever finds it may rely on all the rest being durable.
    """
    try:
        with _making:
            _make_folder(maildir)
            for name in ("new", "cur"):
                _make_folder(f"{maildir}/{name}")
            files.sync_directory(maildir)
            _sync_above(maildir)
            _make_folder(f"{maildir}/tmp")
    except OSError as error:
        raise files.trouble(error, f"the Maildir {maildir} can't be made") from None


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        above = os.path.dirname(folder)
        _make_folder(above)
        files.sync_directory(os.path.dirname(above))
        _make_folder(folder)


def _sync_above(maildir: str) -> None:
    """The folder of the domain and the one above it: another process may have made them, and not got further."""
    above = os.path.dirname(maildir)
    files.sync_directory(above)
    try:
        files.sync_directory(os.path.dirname(above))
    except PermissionError:
        return  # what holds home folders was made by others, long ago
