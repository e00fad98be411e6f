"""System users that exist while a program runs, and logins of theirs: a private /etc in a mount namespace.

Only for root.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .sides import Case, Result

SECRET = b"the secret"
CHALLENGE = b"<1.2@mail.example>"
USERS = {  # name: uid, gid, home below the working folder, shell; no home: none is named
    "root": (0, 0, "root", "/bin/bash"),
    "alice": (5001, 5001, "alice", "/bin/sh"),
    "bob": (5002, 5002, "bob", "/bin/false"),
    "bob-sales": (5003, 5003, "bob-sales", ""),
    "wheel": (5004, 0, "wheel", "/bin/sh"),
    "gone": (5005, 5005, "gone", "/bin/sh"),
    "nohome": (5006, 5006, "", "/bin/sh"),
}
HOMELESS = ("gone", "nohome")
UID = USERS["alice"][0]
SHOW = (
    "sh",
    "-c",
    'id -u; id -g; id -G; pwd; echo "$USER|$EXT|$HOME|$SHELL|$KEPT|$AUTH"; [ -e /proc/$$/fd/3 ] && echo 3 is open; exit 7',
)
Prepare = Callable[[Path], None]
Record = Callable[..., bytes]


def password(name: bytes = b"alice", secret: bytes = SECRET) -> bytes:
    """What is on descriptor 3 for checkpw."""
    return name + b"\0" + secret + b"\0" + CHALLENGE + b"\0"


def digest(name: bytes = b"alice", secret: bytes = SECRET, challenge: bytes = CHALLENGE) -> bytes:
    """What is on descriptor 3 for checkapoppw."""
    return name + b"\0" + hashlib.md5(challenge + secret).hexdigest().encode() + b"\0" + challenge + b"\0"


def users(folder: Path) -> None:
    """The folder that becomes /etc, and every user's home with a password file."""
    lines = []
    for name, (uid, gid, home, shell) in USERS.items():
        lines.append(f"{name}:x:{uid}:{gid}::{folder / home if home else ''}:{shell}\n")
        if name not in HOMELESS:
            give(folder / home, "Maildir/.password", SECRET + b"\n", uid, gid)
    (folder / "etc").mkdir()
    (folder / "etc" / "passwd").write_text("".join(lines))
    (folder / "etc" / "nsswitch.conf").write_text("passwd: files\ngroup: files\n")


def give(home: Path, path: str, content: bytes, uid: int = UID, gid: int = UID, mode: int = 0o600) -> None:
    """A file of the user's below the home, with the folders above it."""
    file = home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    for each in (file, *file.relative_to(home).parents):
        os.chown(home / each, uid, gid)


def alice(
    content: bytes = SECRET + b"\n", mode: int = 0o600, uid: int = UID, path: str = "Maildir/.password"
) -> Prepare:
    """The users, and this password file of alice."""

    def prepare(folder: Path) -> None:
        users(folder)
        give(folder / "alice", path, content, mode=mode)
        os.chown(folder / "alice" / path, uid, uid)

    return prepare


def then(change: Callable[[Path], object]) -> Prepare:
    """The users, and then this is done to alice's home."""

    def prepare(folder: Path) -> None:
        users(folder)
        change(folder / "alice")

    return prepare


def among_users(program: Path, scripts: Path, over: Iterable[tuple[Path, str]] = ()) -> Path:
    """A program of the same name in `scripts`, which runs that one where ./etc is /etc. (A mount on
    /etc/passwd alone is lost when somebody adds a user to the machine, and the file is replaced.)

    `over`: files and folders, and what else each of them is mounted over there.
    """
    mount, unshare = shutil.which("mount"), shutil.which("unshare")
    places = [*((str(source), target) for source, target in over), ("./etc", "/etc")]
    commands = [f"{mount} --bind {shlex.quote(source)} {shlex.quote(target)}" for source, target in places]
    inner = " && ".join([*commands, 'exec "$@"'])
    scripts.mkdir(exist_ok=True)
    script = scripts / program.name
    script.write_text(f'#!/bin/sh\nexec {unshare} --mount /bin/sh -c {shlex.quote(inner)} sh {program} "$@"\n')
    script.chmod(0o755)
    return script


def as_user(name: str, program: Path, scripts: Path) -> Path:
    """A program of the same name in `scripts`, which runs that one as an ordinary user."""
    scripts.mkdir(exist_ok=True)
    script = scripts / program.name
    script.write_text(f'#!/bin/sh\nexec /usr/bin/setuidgid {name} {program} "$@"\n')
    script.chmod(0o755)
    return script


def status(wanted: int) -> Callable[[Result], bool]:
    """It ends so, and says nothing."""
    return lambda result: (result.status, result.out, result.err) == (wanted, b"", b"")


def becomes_alice(result: Result) -> bool:
    """It ran the next program as her."""
    return result.status == 7 and result.out.startswith(b"5001\n5001\n5001\n")


def link(home: Path) -> None:
    """Her password file is a link to one beside it."""
    (home / "Maildir/.password").rename(home / "Maildir/kept")
    (home / "Maildir/.password").symlink_to("kept")


def link_above(home: Path) -> None:
    """Her Maildir is a link to a folder beside it."""
    (home / "Maildir").rename(home / "kept")
    (home / "Maildir").symlink_to("kept")


def pipe(home: Path) -> None:
    """Her password file is a named pipe."""
    (home / "Maildir/.password").unlink()
    os.mkfifo(home / "Maildir/.password", 0o600)
    os.chown(home / "Maildir/.password", UID, UID)


def folder_instead(uid: int) -> Callable[[Path], None]:
    """Her password file is a folder of that user's."""

    def change(home: Path) -> None:
        (home / "Maildir/.password").unlink()
        (home / "Maildir/.password").mkdir(mode=0o700)
        os.chown(home / "Maildir/.password", uid, uid)

    return change


def closed(home: Path) -> None:
    """Her home is root's alone."""
    os.chown(home, 0, 0)
    home.chmod(0o700)


ROOT_LESS = "nobody becomes root by a password that travels"
LINKED = "the file is read with the user's rights, and no link or second name can lead to, or away from, another file"
READABLE = "the file is read with the user's rights, so the user must be allowed to read it"


def shared(record: Record) -> tuple[Case, ...]:
    """What checkpw and checkapoppw have in common. `record(name, secret)`: what is on descriptor 3."""

    def login(
        title: str, name: bytes = b"alice", secret: bytes = SECRET, prepare: Prepare = users, **rest: Any
    ) -> Case:
        return Case(title, rest.pop("arguments", SHOW), record=record(name, secret), prepare=prepare, **rest)

    other = b"another secret"
    return (
        login("a login; what the next program then is, sees, and ends with", environment={"KEPT": "yes", "AUTH": "x"}),
        login(
            "USER, EXT, HOME and SHELL that were there are replaced",
            environment={"USER": "root", "EXT": "x", "HOME": "/", "SHELL": "/x"},
        ),
        login("another user", b"bob"),
        login("a user with a dash in the name, and without a shell", b"bob-sales"),
        login("an extension behind that user", b"bob-sales-x"),
        login("an extension", b"alice-lists"),
        login("an extension with a dash in it", b"alice-a-b"),
        login("an empty extension", b"alice-"),
        login("an extension of one dash", b"alice--"),
        login("an unknown name", b"zoe"),
        login("an unknown name with a dash", b"zoe-x"),
        login("a dash alone", b"-"),
        login("a dash before the name", b"-alice"),
        login("the name in capitals", b"ALICE"),
        login("a name that is no UTF-8", b"al\xffice"),
        login("an empty name", b"", mended="the original crashes", ours=status(1)),
        login(
            "200 dashes",
            b"alice" + b"-x" * 100,
            mended="each dash costs a look-up in the user database; 32 are enough",
            ours=status(1),
        ),
        login("a wrong secret", secret=other),
        login("an empty secret", secret=b""),
        login("a secret of which the file has the beginning", secret=SECRET + b"x"),
        login("root", b"root", mended=ROOT_LESS, ours=status(1)),
        login("a user whose group is root's", b"wheel", mended=ROOT_LESS, ours=status(1)),
        login("a home that is not there", b"gone"),
        login("a user without a home", b"nohome"),
        login(
            "a home that only root may enter",
            prepare=then(closed),
            mended="the home is entered with the user's rights",
            ours=status(111),
        ),
        login("no program", arguments=()),
        login("a program that is not there", arguments=("none",)),
        login("an empty name of a program", arguments=("",)),
        login(
            "a program in the user's home",
            arguments=("./own",),
            prepare=then(lambda home: give(home, "own", b"#!/bin/sh\nexit 9\n", mode=0o755)),
        ),
        login("a program, where PATH is empty", arguments=("sh", "-c", "exit 3"), environment={"PATH": ""}),
        Case("no descriptor 3", SHOW, prepare=users),
        Case("an empty descriptor 3", SHOW, record=b"", prepare=users),
        Case("a login without an end", SHOW, record=b"alice", prepare=users),
        Case("a login alone", SHOW, record=b"alice\0", prepare=users),
        Case(
            "a proof without an end", SHOW, record=record(b"alice", SECRET).split(b"\0" + CHALLENGE)[0], prepare=users
        ),
        Case("more behind the timestamp", SHOW, record=record(b"alice", SECRET) + b"more\0", prepare=users),
        Case("512 octets", SHOW, record=record(b"alice", SECRET).ljust(512, b"x"), prepare=users),
        Case("513 octets", SHOW, record=record(b"alice", SECRET).ljust(513, b"x"), prepare=users),
        Case("much more, and no NUL in it", SHOW, record=b"x" * 100_000, prepare=users),
        login("no password file", prepare=then(lambda home: (home / "Maildir/.password").unlink())),
        login("no Maildir", prepare=then(lambda home: shutil.rmtree(home / "Maildir"))),
        login("no end of line in the file", prepare=alice(SECRET)),
        login("a second line in the file", prepare=alice(SECRET + b"\nmore\n")),
        login("a NUL behind the secret in the file", prepare=alice(SECRET + b"\0more\n")),
        login("a CR behind the secret in the file", prepare=alice(SECRET + b"\r\n")),
        login("a CR behind the secret in the file, and sent", secret=SECRET + b"\r", prepare=alice(SECRET + b"\r\n")),
        login("a blank behind the secret in the file", prepare=alice(SECRET + b" \n")),
        login("a secret in UTF-8", secret="秘密".encode(), prepare=alice("秘密\n".encode())),
        login("a secret in Latin-1", secret=b"\xe9\xff", prepare=alice(b"\xe9\xff\n")),
        login(
            "a file of more than 4,096 octets",
            prepare=alice(SECRET + b"\n" + b"x" * 5000),
            mended="what is no password file should not pass for one",
            ours=status(1),
        ),
        *(
            login(f"mode {mode:o} of the file", prepare=alice(mode=mode))
            for mode in (0o400, 0o600, 0o700, 0o1600, 0o4600)
        ),
        *(
            login(f"mode {mode:o} of the file", prepare=alice(mode=mode), mended=READABLE, ours=status(111))
            for mode in (0, 0o200)
        ),
        *(
            login(f"mode {mode:o} of the file", prepare=alice(mode=mode))
            for mode in (0o601, 0o610, 0o620, 0o640, 0o644)
        ),
        login("a wrong secret, and others may read the file", secret=other, prepare=alice(mode=0o644)),
        login("a file that belongs to root", prepare=alice(uid=0)),
        login("a file that belongs to root, and others may read it", prepare=alice(uid=0, mode=0o644)),
        login("a file that belongs to another user", prepare=alice(uid=5002)),
        login("the file is a link", prepare=then(link), mended=LINKED, ours=status(1)),
        login("the Maildir is a link", prepare=then(link_above), mended=LINKED, ours=status(1)),
        login(
            "the file has a second name",
            mended=LINKED,
            ours=status(1),
            prepare=then(lambda home: (home / "second").hardlink_to(home / "Maildir/.password")),
        ),
        login("the file is a folder", prepare=then(folder_instead(UID))),
        login("the file is a folder of root's", prepare=then(folder_instead(0))),
        login("the file is a named pipe", prepare=then(pipe)),
        login(
            "MAILDIR", secret=other, environment={"MAILDIR": "in/side"}, prepare=alice(other, path="in/side/.password")
        ),
        login(
            "MAILDIR, and the secret of the Maildir",
            environment={"MAILDIR": "in/side"},
            prepare=alice(other, path="in/side/.password"),
        ),
        login(
            "MAILDIR with a slash at its end",
            secret=other,
            environment={"MAILDIR": "side/"},
            prepare=alice(other, path="side/.password"),
        ),
        login("MAILDIR that leads out of the home", environment={"MAILDIR": "../bob/Maildir"}),
        login("MAILDIR that leads out of the home and back", environment={"MAILDIR": "../alice/Maildir"}),
        login("MAILDIR is empty", environment={"MAILDIR": ""}, prepare=alice(path=".password")),
        login("MAILDIR is not there", environment={"MAILDIR": "/none/such"}),
        login(
            "an extension, and DASH",
            b"alice-x",
            other,
            environment={"DASH": "-"},
            prepare=alice(other, path="Maildir-x/.password"),
        ),
        login("an extension, and DASH, and no folder of that name", b"alice-x", environment={"DASH": "-"}),
        login("DASH, and no extension", environment={"DASH": "-"}),
        login("DASH, and an empty extension", b"alice-", environment={"DASH": "-"}),
        login(
            "an extension, and an empty DASH",
            b"alice-x",
            other,
            environment={"DASH": ""},
            prepare=alice(other, path="Maildirx/.password"),
        ),
        login(
            "an extension, and a DASH that is a slash",
            b"alice-x",
            other,
            environment={"DASH": "/"},
            prepare=alice(other, path="Maildir/x/.password"),
        ),
        login(
            "an extension, DASH and MAILDIR",
            b"alice-x",
            other,
            environment={"DASH": "+", "MAILDIR": "side"},
            prepare=alice(other, path="side+x/.password"),
        ),
        login(
            "an extension that leads elsewhere",
            b"alice-x/../Maildir",
            environment={"DASH": "-"},
            prepare=then(lambda home: (home / "Maildir-x").mkdir()),
            mended="an extension is part of one name, and never a path",
            ours=status(1),
        ),
        login(
            "an extension of two dots",
            b"alice-..",
            prepare=users,
            mended="an extension is part of one name, and never a path",
            ours=status(1),
        ),
    )


def faithful(record: Record) -> tuple[tuple[str, Case], ...]:
    """Logins that the original lets in and ours only with --faithful; each with the name of what it shows."""

    def login(prepare: Prepare, name: bytes = b"alice") -> Case:
        return Case(name.decode(), SHOW, record=record(name, SECRET), prepare=prepare)

    return (
        ("a link", login(then(link))),
        ("a link above", login(then(link_above))),
        ("a closed home", login(then(closed))),
        ("mode 0", login(alice(mode=0))),
        ("a long file", login(alice(SECRET + b"\n" + b"x" * 5000))),
        ("root", login(users, b"root")),
        ("root's group", login(users, b"wheel")),
    )
