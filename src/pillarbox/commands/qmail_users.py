"""Who gets mail on a qmail host: the users' .qmail files, the alias user's, and users/assign.

Homes are read as their users. What a .qmail file asks for and does not get here is told, so that nobody's mail is
deferred by surprise.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..broker.privilege import as_user
from ..protocol import dot_qmail
from ..store.control import Controls
from ..store.dot_qmail import find
from ..terms import Refused, TryLater
from .qmail_translation import Left, left, refusal

ALIAS = "alias"  # the user that qmail asks for all names that are no user's
ASSIGN_FIELDS = 7  # qmail-users(5): name, user, uid, gid, home, dash, extension
Aliases = dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Users:
    """The user database."""

    by_name: Mapping[str, pwd.struct_passwd]

    @classmethod
    def of_this_system(cls) -> Users:
        return cls({user.pw_name: user for user in pwd.getpwall()})

    def with_mail(self) -> Iterator[pwd.struct_passwd]:
        """By qmail-getpw's rule: not root, and the home folder is the user's own; the alias user's may be root's."""
        for user in self.by_name.values():
            with contextlib.suppress(OSError):
                if user.pw_uid and os.path.isabs(user.pw_dir) and os.stat(user.pw_dir).st_uid in owners(user):
                    yield user


def owners(user: pwd.struct_passwd) -> set[int]:
    """Whose the home folder may be."""
    return {user.pw_uid, 0} if user.pw_name == ALIAS else {user.pw_uid}


def _as(uid: int, gid: int) -> AbstractContextManager[None]:
    return contextlib.nullcontext() if uid in (0, os.geteuid()) else as_user(uid, gid)


# .qmail files.


def obstacles(users: Users, domain: str) -> list[Left]:
    """What the .qmail files of all users ask for and don't get. Only root can read them all."""
    found: list[Left] = []
    closed = []
    for user in users.with_mail():
        try:
            with _as(user.pw_uid, user.pw_gid):
                found += _of_home(user.pw_dir, domain)
        except Refused:
            closed.append(user.pw_name)
    if closed:
        why = "their .qmail files can be read by root alone"
        found.append(left("home folders", ", ".join(closed), why, "import as root"))
    return found


def _of_home(home: str, domain: str) -> Iterator[Left]:
    try:
        names = sorted(name for name in os.listdir(home) if name == ".qmail" or name.startswith(".qmail-"))
        find(home, (), 0)
    except TryLater as error:
        yield left(home, "", error.why, "all its mail will be deferred until that is mended")
        return
    except OSError as error:
        yield left(home, "", f"it can't be read: {error.strerror}", "its mail will be deferred: mend that")
        return
    for name in names:
        path = f"{home}/{name}"
        if name.endswith("-owner") and name.removesuffix("-owner") in names:
            why = "what a list sends on keeps the sender of the message: bounces go there, not to the list's owner"
            yield left(path, "", why, "keep such a list at a list manager of its own")
        try:
            said = _read(home, name, domain)
        except TryLater as error:
            yield left(path, "", error.why, "its mail will be deferred until that is mended")
            continue
        for obstacle in said.obstacles if said else ():
            text = obstacle.text.decode("utf-8", "replace")
            yield left(f"{path}, line {obstacle.line}", text, obstacle.why, _advice(obstacle.why))


def _read(home: str, name: str, domain: str) -> dot_qmail.Instructions | None:
    """None: the file is empty, or a link to nothing. Raises TryLater."""
    found = find(home, (name,), dot_qmail.FILE_LIMIT)
    if found is None:
        return None
    return dot_qmail.parse(found.content, home=home, domain=domain, forward_only=found.forward_only)


def _advice(why: str) -> str:
    waits = "its mail will be deferred until the line is gone"
    return {
        dot_qmail.PROGRAM: f"{waits}; the program can read the Maildir instead",
        dot_qmail.MBOX: f"{waits}; put a Maildir (with a slash at its end) in its place",
        dot_qmail.OUTSIDE: f"{waits}; put a Maildir below the home folder in its place",
    }.get(why, f"{waits}, or mended")


# The alias user.


def alias_names(folder: str, users: Users, domains: list[str]) -> tuple[Aliases, list[Left]]:
    """Its files go on to be read where the system has that user, with that home; else they become aliases."""
    home, user = f"{folder}/alias", users.by_name.get(ALIAS)
    with contextlib.suppress(OSError):
        if user is not None and os.path.samefile(user.pw_dir, home):
            return {}, [*_whose(home, user), *_postmaster(home, os.path.lexists(f"{home}/.qmail-postmaster"))]
    if not os.path.isdir(home):
        return {}, _postmaster(home, False)
    state = os.stat(home)
    aliases: Aliases = {}
    with _as(state.st_uid, state.st_gid) if os.geteuid() == 0 else contextlib.nullcontext():
        reports = [*_of_home(home, domains[0]), *_as_aliases(home, domains[0], aliases)]
    reports += _nobodys(home, domains[0], users, aliases)
    return aliases, reports + _postmaster(home, "postmaster" in aliases or f"@{domains[0]}" in aliases)


def _whose(home: str, user: pwd.struct_passwd) -> Iterator[Left]:
    owner = os.stat(home).st_uid
    if owner not in owners(user):
        why = f"the folder belongs to uid {owner}, so the .qmail files of `{ALIAS}` count for nothing"
        yield left(home, "", why, f"chown {ALIAS} {home}, or give it to root")


def _postmaster(home: str, there: bool) -> list[Left]:
    if there:
        return []
    why = "postmaster leads to nobody, and must (RFC 5321 section 4.5.1)"
    return [left(f"{home}/.qmail-postmaster", "", why, "write that file, or name somebody in `aliases`")]


def _nobodys(home: str, domain: str, users: Users, aliases: Aliases) -> Iterator[Left]:
    """Targets that have no mailbox, such as root: qmail's alias user had files for these."""
    known = {user.pw_name for user in users.by_name.values() if user.pw_uid}
    for name, targets in aliases.items():
        for target in targets:
            local, _, host = target.lower().partition("@")
            if host == domain and not {local, local.partition("-")[0]} & (known | aliases.keys()):
                yield left(f"{home}: {name}", target, "there is no such mailbox or alias", "name another in `aliases`")


def _as_aliases(home: str, domain: str, aliases: Aliases) -> Iterator[Left]:
    """What only forwards can become an alias; `aliases` gets it."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # told already
        names = sorted(os.listdir(home))
    for name in names:
        local = name.removeprefix(".qmail-").replace(":", ".")
        if name == local or name.startswith(".qmail-.") or not local:
            continue
        with contextlib.suppress(TryLater):  # told already
            said = _read(home, name, domain)
            targets = [address.decode("ascii") for address in said.forwards] if said else []
            alias = f"@{domain}" if local == "default" else local
            if (
                not targets
                or (said and said.maildirs)
                or local.endswith("-default")
                or refusal("aliases", {alias: targets})
            ):
                why = "there is no system user `alias`, and only a file of forwards can become an alias"
                yield left(f"{home}/{name}", "", why, f"make the user `alias` with the home {home}, and import anew")
            else:
                aliases[alias] = targets


# users/assign.


def assigned(folder: str, users: Users) -> tuple[Aliases, list[Left]]:
    """Names that it gives to users of the system become aliases."""
    control = Controls(f"{folder}/users")
    lines, compiled = control.lines("assign"), control.content("cdb") is not None
    if lines is None:
        why = "the text that it was made from is not there"
        return {}, [left("users/cdb", "", why, "put users/assign back, and import anew")] if compiled else []
    if not compiled:
        why = "qmail does not read it until qmail-newu has made users/cdb"
        return {}, [left("users/assign", "", why, "nothing", counts=False)]
    aliases: Aliases = {}
    reports = []
    for line in lines:
        text = line.decode("latin-1")
        if text == ".":
            break
        if why := _assign(text, users, aliases):
            reports.append(left("users/assign", text, why, "name the address in `aliases`, if that can say it"))
    return aliases, reports


def _assign(line: str, users: Users, aliases: Aliases) -> str:
    """Why it can't be carried over; empty: it was."""
    kind, fields = line[:1], line[1:].split(":")
    if kind not in ("=", "+") or len(fields) < ASSIGN_FIELDS:
        return "it is no assignment"
    name, user, uid, _, home, dash, extension = fields[:ASSIGN_FIELDS]
    if (kind, name, user, dash, extension) == ("+", "", ALIAS, "-", ""):
        return ""  # as everywhere: see alias_names
    known = users.by_name.get(user)
    if known is None or str(known.pw_uid) != uid or os.path.normpath(known.pw_dir) != os.path.normpath(home):
        return "its user is none of this system's, or has another uid or home there"
    target = f"{user}{dash}{extension}"
    if kind == "+":
        return "" if name == target == f"{user}-" else "all names that begin so can't be led to one user"
    if name.lower() != target:
        if refusal("aliases", {name: target}) or not name:
            return "it is no name that an alias can have"
        aliases[name.lower()] = target
    return ""
