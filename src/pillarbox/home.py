"""The home folder of a server: where things lie, who owns them, and who runs on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .terms import Refused, TryLater

if TYPE_CHECKING:
    from .config import Config  # who only looks for a home, such as sendmail, starts without it

VARIABLE = "PILLARBOX_HOME"
ROOT_HOME = "/var/lib/pillarbox"
LAYOUT = {
    "pillarbox.toml",
    "accounts.sqlite3",
    "secret.key",
    "mail",
    "queue",
    "grants",
    "run",
    "public",
    "dkim",
    "tls",
    "ledger",
}

_FLOCK = struct.Struct("@hhqqi")  # struct flock of a 64-bit Linux: type, whence, start, length, pid


def default_folder() -> str:
    """$PILLARBOX_HOME, else the user's data directory; for root /var/lib/pillarbox."""
    if chosen := os.environ.get(VARIABLE):
        return chosen
    if os.geteuid() == 0:
        return ROOT_HOME
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    if not os.path.isabs(data):  # a user without a home: what lies in the working folder is anybody's
        return ROOT_HOME
    return f"{data}/pillarbox"


Identity = tuple[int | None, int | None]  # uid and gid; None: our own


@dataclass(frozen=True, slots=True)
class Identities:
    """Whom our processes become when started as root; otherwise all run as who started them."""

    network: Identity
    queue: Identity
    mail: Identity

    @classmethod
    def of(cls, config: Config) -> Identities:
        """Raises Refused for a user that does not exist, and for root."""
        if os.geteuid() != 0:
            return cls((None, None), (None, None), (None, None))
        users = config.users
        network = _identity("network", users.network)
        queue = _identity("queue", users.queue)
        mail = _identity("mail", users.mail)
        if network[0] in (queue[0], mail[0]):
            raise Refused("users.network meets strangers: it can't be the user of the mail or of the queue")
        return cls(network, queue, mail)


def _identity(role: str, user: str | int) -> Identity:
    if isinstance(user, str):
        try:
            found = pwd.getpwnam(user)
        except KeyError:
            raise Refused(f"users.{role}: there is no user {user}") from None
        uid, gid = found.pw_uid, found.pw_gid
    else:
        uid = gid = user
    if uid == 0:
        raise Refused(f"users.{role} must not be root")
    return uid, gid


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one folder."""

    folder: str

    @property
    def config(self) -> str:
        return f"{self.folder}/pillarbox.toml"

    @property
    def accounts(self) -> str:
        return f"{self.folder}/accounts.sqlite3"

    @property
    def key(self) -> str:
        return f"{self.folder}/secret.key"

    @property
    def mail(self) -> str:
        return f"{self.folder}/mail"

    @property
    def queue(self) -> str:
        return f"{self.folder}/queue"

    @property
    def grants(self) -> str:
        return f"{self.folder}/grants"

    @property
    def ledger(self) -> str:
        return f"{self.folder}/ledger"

    @property
    def ledger_key(self) -> str:
        return f"{self.folder}/ledger.key"

    @property
    def ratchet(self) -> str:
        return f"{self.folder}/ratchet.sqlite3"

    @property
    def run(self) -> str:
        return f"{self.folder}/run"

    @property
    def control(self) -> str:
        """The socket of whoever may command this server: `run` is closed to others."""
        return f"{self.run}/control"

    @property
    def public(self) -> str:
        """What every user of this machine may reach."""
        return f"{self.folder}/public"

    @property
    def send(self) -> str:
        """The socket that takes mail from programs on this machine."""
        return f"{self.public}/send"

    @property
    def dkim(self) -> str:
        """Signing keys: DOMAIN/SELECTOR.pem."""
        return f"{self.folder}/dkim"

    @property
    def tls(self) -> str:
        """The certificate of our own making, and its key."""
        return f"{self.folder}/tls"

    @property
    def option(self) -> str:
        """What a command needs behind it to mean this home; nothing where that is the default one."""
        import shlex

        return "" if self.folder == os.path.abspath(default_folder()) else f" --home {shlex.quote(self.folder)}"

    def exists(self) -> bool:
        """Does a home lie there? Raises Refused when we may not look."""
        try:
            return bool(LAYOUT & set(os.listdir(self.folder)))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError:
            raise self._closed() from None
        except OSError as error:
            raise Refused(f"the home folder {self.folder} can't be read: {error.strerror}") from None

    def must_exist(self) -> None:
        """Raises Refused where no home lies there, or we may not look."""
        if not self.exists():
            raise Refused(
                f"there is no home in {self.folder}: `account add NAME{self.option}` makes one, --home names another"
            )

    def must_be_ours(self) -> None:
        """Raises Refused where no home lies there, or it is another user's."""
        self.must_exist()
        self._check_owner(os.lstat(self.folder))

    def identities(self, config: Config) -> Identities:
        """Whom our processes become. Raises Refused, which names the file and the key."""
        try:
            return Identities.of(config)
        except Refused as error:
            raise Refused(f"{self.config}: {error.why}") from None

    def make(self) -> None:
        """The folder itself, ours alone; as root others may pass through it to what is theirs. Raises Refused.

        A link, somebody else's folder, and a folder that holds other things are left alone.
        """
        ours = 0o711 if os.geteuid() == 0 else 0o700
        umask = os.umask(0o022)
        try:
            os.makedirs(os.path.dirname(self.folder), exist_ok=True)
            if not os.path.lexists(self.folder):
                os.mkdir(self.folder, ours)
            state = os.lstat(self.folder)
            self._check(state)
            if os.geteuid() == 0 and not state.st_mode & stat.S_IXOTH:
                os.chmod(self.folder, ours)
        except OSError as error:
            raise Refused(f"the home folder {self.folder} can't be made: {error.strerror}") from None
        finally:
            os.umask(umask)

    def _check(self, state: os.stat_result) -> None:
        if stat.S_ISLNK(state.st_mode):
            raise Refused(f"the home folder {self.folder} is a link: name the folder that it leads to")
        if not stat.S_ISDIR(state.st_mode):
            raise Refused(f"the home folder {self.folder} is no folder")
        self._check_owner(state)
        if state.st_mode & 0o022:
            raise Refused(f"others may write to the home folder {self.folder}: chmod go-w {self.folder}")
        found = set(os.listdir(self.folder))
        if found and not found & LAYOUT:
            raise Refused(f"{self.folder} holds other things: name an empty folder, or a new one")

    def _check_owner(self, state: os.stat_result) -> None:
        if state.st_uid != os.geteuid():
            raise Refused(f"the home folder {self.folder} belongs to another user (uid {state.st_uid})")

    def prepare(self, identities: Identities) -> None:
        """All folders, each with its owner. Raises Refused."""
        self.make()
        for path, owner in (
            (self.mail, identities.mail),
            (self.queue, identities.queue),
            (self.grants, (None, None)),
            (self.ledger, (None, None)),
            (self.run, (None, None)),
            (self.tls, (None, None)),
            (self.dkim, identities.queue),
        ):
            _folder(path, owner)
        _folder(self.public, (None, None), 0o755)
        self._sync()
        if os.geteuid() == 0:
            self._check_way()

    def _sync(self) -> None:
        """Make the folders durable in ours: as root their owners can't, as they may only pass through."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _check_way(self) -> None:
        """As root our processes lose their uid, and must still reach the mail and the queue."""
        folder = os.path.abspath(self.folder)
        while folder != "/":
            if not os.stat(folder).st_mode & stat.S_IXOTH:
                raise Refused(
                    f"{folder} is closed to others, so mail below it can't be reached: chmod o+x it, or move home"
                )
            folder = os.path.dirname(folder)

    # Who runs here.

    def lock(self) -> int:
        """Become the one server on this home, until the descriptor is closed or the process ends. Raises TryLater, Refused.

        A record lock: the kernel tells who holds it, so that no other process is ever taken for the server. It is lost
        when its process opens and closes the file once more.
        """
        self.make()
        _folder(self.run, (None, None))
        try:
            descriptor = os.open(f"{self.run}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(f"{self.run}/lock can't be opened: {error.strerror}") from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = _holder(descriptor)
            os.close(descriptor)
            raise TryLater(f"a server runs on {self.folder} already (pid {pid}); `stop{self.option}` ends it") from None
        return descriptor

    def running(self) -> int | None:
        """The pid of the server on this home, or None. Raises Refused. Not for the server itself, see `lock`."""
        try:
            descriptor = os.open(f"{self.run}/lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise self._closed() from None
        except OSError as error:
            raise Refused(f"{self.run}/lock can't be opened: {error.strerror}") from None
        try:
            return _holder(descriptor)
        finally:
            os.close(descriptor)

    def _closed(self) -> Refused:
        return Refused(f"the server's folder {self.folder} belongs to {self._owner()}, and is closed to you")

    def _owner(self) -> str:
        try:
            uid = os.stat(self.folder).st_uid
        except OSError:
            return "somebody else"
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    def write_status(self, status: dict[str, object]) -> None:
        """What `pillarbox status` shows."""
        import json

        temporary = f"{self.run}/status.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(status, file)
        os.rename(temporary, f"{self.run}/status.json")

    def read_status(self) -> dict[str, object] | None:
        """What the running server says of itself, or None. It is not fsynced: a power cut can leave an empty file."""
        import json

        try:
            with open(f"{self.run}/status.json", encoding="utf-8") as file:
                status = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
        return status if isinstance(status, dict) else None

    def remove_status(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.run}/status.json")


def _holder(descriptor: int) -> int | None:
    """Who holds the lock on a file, asked without taking it."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def _folder(path: str, owner: Identity, mode: int = 0o700) -> None:
    uid, gid = owner
    try:
        if not os.path.lexists(path):
            os.mkdir(path, mode)
        state = os.lstat(path)
        if not stat.S_ISDIR(state.st_mode):
            raise Refused(f"{path} is no folder")
        wanted = os.geteuid() if uid is None else uid
        if state.st_uid not in (wanted, os.geteuid()) or (state.st_uid != wanted and os.listdir(path)):
            raise Refused(f"{path} belongs to uid {state.st_uid}, not to {wanted}: chown -R {wanted} {path}")
        if uid is not None and gid is not None:
            os.chown(path, uid, gid, follow_symlinks=False)
        if stat.S_IMODE(state.st_mode) != mode:
            os.chmod(path, mode)
    except OSError as error:
        raise Refused(f"{path} can't be made: {error.strerror}") from None
