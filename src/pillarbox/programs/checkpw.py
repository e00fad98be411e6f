"""checkpw: let a system user in by a password, and become that user (the checkpassword interface).

    checkpw [--faithful] PROGRAM [ARG ...]

Descriptor 3 is read to its end and closed: login, password and timestamp, each ended by NUL, at most 512 octets in all.
The secret is the first line of Maildir/.password in the user's home folder. If there is no user of that name, what
follows a dash of the login is taken off, from the last dash on, until there is one, and becomes EXT.

Environment, in: MAILDIR, the folder that holds .password instead of Maildir (below the home folder, or absolute); DASH:
where it is set, DASH and EXT are added to that folder's name, if EXT is not empty. Out: USER, EXT, HOME, SHELL; the rest
as it was. The current folder is the home folder, the only group is the user's own. Nothing is ever written to descriptor
2, which is the client's connection under an old qmail-popup.

Exit status 1 refused; 2 called wrongly; 111 a passing trouble: the home folder can't be entered, others may read
.password, PROGRAM can't be run; else PROGRAM's.

Unlike the original:

- .password and the home folder are looked at with the user's rights, and .password is opened once, for there is no gap
  between check and reading that way; so the user must be able to read it.
- .password may not be, or lie behind, a symbolic link, nor have a second name, nor be longer than 4,096 octets.
- Nobody becomes root or gets root's group, whatever the password.
- An EXT with a slash, or that is `..`, is refused: it leads to other folders, and into the scripts that follow.
- An empty login is refused; there the original crashes. A user is looked for behind at most 32 dashes.
- A user may log in as itself without root's help.

`--faithful`, for who needs one of them: the first three are as with the original.
"""

from __future__ import annotations

import os
import pwd
from contextlib import nullcontext

from ..broker import privilege
from ..protocol import checkpassword
from ..store import password_file
from ..store.secrets import matches
from ..terms import Attempt, Mechanism, Misuse, Refused, TryLater
from . import chain
from .chain import TROUBLE, Environment

REFUSED, MISUSED = 1, 2
RECORD = 3  # the descriptor
DASHES = 32  # of a login; each costs a look-up, which a directory service may answer slowly
FAITHFUL = b"--faithful"


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs, or returns why not."""
    return check(Mechanism.USER_PASS, arguments, environment)


def check(mechanism: Mechanism, arguments: list[bytes], environment: Environment) -> int:
    """Execs, or returns why not."""
    faithful = arguments[:1] == [FAITHFUL]
    program = arguments[faithful:]
    if not program:
        return MISUSED
    try:
        attempt = checkpassword.parse(chain.read_all(RECORD, checkpassword.LIMIT), mechanism)
        os.close(RECORD)
        _log_in(attempt, environment, faithful)
        chain.become(program, environment)
    except (password_file.WrongMode, TryLater, OSError):
        return TROUBLE
    except Refused:
        return REFUSED
    except Misuse:
        return MISUSED


def _log_in(attempt: Attempt, environment: Environment, faithful: bool) -> None:
    """Become the user, in its home folder and with its environment; raises what keeps it out."""
    user, extension = _find(attempt.name)
    with nullcontext() if faithful else privilege.as_user(user.pw_uid, user.pw_gid):
        os.chdir(user.pw_dir)
        secret = password_file.read(*_place(environment, extension), user.pw_uid, faithful=faithful)
    if not matches(attempt, secret):
        raise Refused("wrong password, or no password file")
    _become(user.pw_uid, user.pw_gid, faithful)
    environment[b"USER"] = os.fsencode(user.pw_name)
    environment[b"EXT"] = extension
    environment[b"HOME"] = os.fsencode(user.pw_dir)
    environment[b"SHELL"] = os.fsencode(user.pw_shell)


def _find(login: bytes) -> tuple[pwd.struct_passwd, bytes]:
    """The user whose name is the longest beginning of the login that ends before a dash, and what follows the dash."""
    name = login
    for _ in range(1 + DASHES):
        if not name:
            break
        try:
            user = pwd.getpwnam(os.fsdecode(name))
        except KeyError:
            name = name.rpartition(b"-")[0]
            continue
        extension = login[len(name) + 1 :]
        if b"/" in extension or extension == b"..":
            raise Refused("a path for an extension")
        return user, extension
    raise Refused("no such user")


def _place(environment: Environment, extension: bytes) -> tuple[str, list[str]]:
    """Where the password file lies: a folder as the admin names it, and the path from there."""
    maildir = environment.get(b"MAILDIR", b"Maildir")
    if not maildir:
        raise Refused("MAILDIR is empty")
    folder, name = os.path.split(maildir)
    if b"DASH" in environment and extension:
        name += environment[b"DASH"] + extension
    path = [part for part in name.split(b"/") if part]
    return os.fsdecode(folder or b"."), [*map(os.fsdecode, path), ".password"]


def _become(uid: int, gid: int, faithful: bool) -> None:
    if not faithful:
        privilege.become(uid, gid)
        return
    try:
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError:
        raise Refused(f"uid {uid} is out of reach") from None
