"""Logins over the network: the original tcpserver, a stand-in for qmail-popup, and mixtures of ours and the originals."""

from __future__ import annotations

import contextlib
import poplib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ..peers import packages
from .logins import SECRET, among_users, give, users

pytestmark = pytest.mark.root  # logins become users, and /etc is a private one

EXAMPLE = "usr/share/doc/checkpw/examples/selectcheckpw"
SECONDS = 30
CHECKERS = ("checkpw", "checkapoppw")
OTHER = "the secret in post"  # of the folder that envdir names
POPUP = """\
import os, sys
challenge = b"<%d.1@mail.example>" % os.getpid()
os.write(1, b"+OK " + challenge + b"\\r\\n")
auth, login = b"", b""
while not auth:
    line = b""
    while not line.endswith(b"\\n"):
        line += os.read(0, 1) or sys.exit(1)
    verb, _, rest = line.rstrip(b"\\r\\n").partition(b" ")
    if verb == b"USER":
        login = rest
        os.write(1, b"+OK \\r\\n")
    elif verb == b"PASS":
        auth, record = b"pop", login + b"\\0" + rest
    elif verb == b"APOP":
        auth, record = b"apop", rest.replace(b" ", b"\\0")
reader, writer = os.pipe()
os.dup2(reader, 3) if reader != 3 else os.set_inheritable(3, True)
child = os.fork()
if not child:
    writer == 3 or os.close(writer)
    os.environb[b"AUTH"] = auth
    os.execvp(sys.argv[1], sys.argv[1:])
os.close(3)
os.write(writer, record + b"\\0" + challenge + b"\\0")
os.close(writer)
if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
    os.write(1, b"-ERR authorization failed\\r\\n")
"""
POP3D = """#!/bin/sh
printf '+OK %s %s %s\\r\\n' "$USER" "$EXT" "`id -u`.`id -g`.`id -G`.$PWD"
"""


@pytest.fixture
def place(open_folder: Path) -> Path:
    """Users, with a second password file, what envdir says, and the programs before and after the login."""
    work = open_folder / "work"
    work.mkdir()
    users(work)
    give(work / "alice", "post/.password", OTHER.encode() + b"\n")
    (work / "env").mkdir()
    (work / "env" / "MAILDIR").write_text("post\n")
    (work / "popup.py").write_text(POPUP)
    (work / "pop3d").write_text(POP3D)
    (work / "pop3d").chmod(0o755)
    installed = Path("/") / EXAMPLE
    found = installed if installed.exists() else packages.unpacked("checkpw") / EXAMPLE  # images leave such files out
    shutil.copy(found, work / "selectcheckpw")
    (work / "selectcheckpw").chmod(0o755)
    return work


@contextlib.contextmanager
def listening(
    place: Path, envdir: Path, popup: Sequence[str | Path], selectcheckpw: Path, path: str, over: list[tuple[Path, str]]
) -> Iterator[int]:
    """The port."""
    chain = ("env", "/usr/bin/tcpserver", "-1", "-RHl0", "127.0.0.1", "0", *popup)
    server = subprocess.Popen(
        [among_users(envdir, place.parent / "scripts", over), *chain, selectcheckpw, place / "pop3d"],
        cwd=place,
        env={"PATH": path},
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout
        yield int(server.stdout.readline())
    finally:
        server.terminate()
        server.communicate(timeout=SECONDS)


def answer(port: int, secret: str, *, apop: bool, name: str = "alice") -> str:
    client = poplib.POP3("127.0.0.1", port, timeout=SECONDS)
    try:
        if apop:
            return client.apop(name, secret).decode()
        client.user(name)
        return client.pass_(secret).decode()
    except poplib.error_proto as error:
        return str(error.args[0].decode())
    finally:
        client.close()


@pytest.mark.parametrize("checkers", ["originals", "ours"])
@pytest.mark.parametrize("select", ["originals", "ours"])
@pytest.mark.parametrize("popup", ["stand-in", "ours"])
@pytest.mark.parametrize("envdir", ["originals", "ours"])
def test_every_mixture_lets_in_the_same(
    envdir: str, popup: str, select: str, checkers: str, originals: Path, ours: Path, place: Path
) -> None:
    sides = {"originals": originals, "ours": ours}
    front: tuple[str | Path, ...] = (ours / "qmail-popup", "mail.example")
    if popup == "stand-in":
        front = ("/usr/bin/python3", "-IS", place / "popup.py")
    script = place / "selectcheckpw" if select == "originals" else ours / "selectcheckpw"
    over = [((ours / name).resolve(), f"/usr/bin/{name}") for name in CHECKERS if checkers == "ours"]
    path = f"{ours}:/usr/bin:/bin" if select == checkers == "ours" else "/usr/bin:/bin"
    with listening(place, sides[envdir] / "envdir", front, script, path, over) as port:
        home = place / "alice"
        for apop in (True, False):
            assert answer(port, OTHER, apop=apop) == f"+OK alice  5001.5001.5001.{home}"
            assert answer(port, OTHER, apop=apop, name="alice-x") == f"+OK alice x 5001.5001.5001.{home}"
            assert answer(port, SECRET.decode(), apop=apop) == "-ERR authorization failed"
            assert answer(port, OTHER, apop=apop, name="bob") == "-ERR authorization failed"
