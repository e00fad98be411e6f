"""A machine of the how-to's time, for as long as a test runs: namespaces in which /etc, /var, /home, /dev and the folders
of programs are our own, with users, service names, a syslog, and the loopback's ports from 1 on.

    unshare --mount --net --pid --fork --kill-child --mount-proc PYTHON -m tests.classic.howto_chain ...

Only for root. Nothing of it is left when its first process ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

UNSHARE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
LOCAL = Path("/usr/local/bin")
QMAIL = Path("/var/qmail")
SPOOL = Path("/var/spool/relay-ctrl")
DEVICES = ("null", "zero", "full", "random", "urandom")
USERS = {"qmaild": (8001, 8001, "/var/qmail"), "alice": (8010, 8010, "/home/alice"), "bob": (8011, 8011, "/home/bob")}


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def furnish(ours: Path) -> None:
    """`ours`: the folder of links, as an admin's `pillarbox link` makes them. Their places are those of the how-to."""
    mount("--make-rprivate", "/")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    store = Path("/mnt")
    mount("-t", "tmpfs", "none", store)
    _devices(store)
    _etc(store)
    for folder in ("/var", "/home", str(LOCAL)):
        mount("-t", "tmpfs", "-o", "mode=0755", "none", folder)
    _homes()
    _spool()
    (QMAIL / "bin").mkdir(parents=True)
    (QMAIL / "control").mkdir()
    for link in ours.iterdir():
        for folder in (LOCAL, QMAIL / "bin"):
            (folder / link.name).symlink_to(link.resolve())
    _program(store, "selectcheckpw", (ours / "selectcheckpw").resolve())


def _devices(store: Path) -> None:
    devices = store / "dev"
    devices.mkdir()
    for name in DEVICES:
        (devices / name).touch()
        mount("--bind", f"/dev/{name}", devices / name)
    (devices / "fd").symlink_to("/proc/self/fd")
    (devices / "shm").mkdir(mode=0o1777)
    (devices / "shm").chmod(0o1777)
    mount("--rbind", devices, "/dev")


def _etc(store: Path) -> None:
    shutil.copytree("/etc", store / "etc", symlinks=True, ignore_dangling_symlinks=True)
    etc = store / "etc"
    with (etc / "passwd").open("a") as passwd, (etc / "group").open("a") as group:
        for name, (uid, gid, home) in USERS.items():
            passwd.write(f"{name}:x:{uid}:{gid}::{home}:/bin/sh\n")
            group.write(f"{name}:x:{gid}:\n")
    with (etc / "services").open("a") as services:  # an image may have none; the first of two counts
        services.write("smtp\t25/tcp\npop3\t110/tcp\n")
    mount("--bind", etc, "/etc")


def _homes() -> None:
    for name, (uid, gid, home) in USERS.items():
        if home == f"/home/{name}":
            Path(home).mkdir(mode=0o700)
            os.chown(home, uid, gid)


def _spool() -> None:
    SPOOL.mkdir(parents=True, mode=0o700)
    (SPOOL / "allow").mkdir()
    (SPOOL / "allow").chmod(0o777)
    Path("/etc/relay-ctrl").mkdir()
    Path("/etc/relay-ctrl/RELAY_CTRL_DIR").write_text(f"{SPOOL}/allow\n")


def _program(store: Path, name: str, target: Path) -> None:
    """One more program in /bin, which is /usr/bin: all others are reached through links."""
    kept, shown = store / "programs", store / "bin"
    kept.mkdir()
    shown.mkdir()
    mount("--bind", "/usr/bin", kept)
    for entry in os.listdir(kept):
        (shown / entry).symlink_to(kept / entry)
    (shown / name).unlink(missing_ok=True)
    (shown / name).symlink_to(target)
    mount("--bind", shown, "/usr/bin")


class Syslog:
    """What arrives on /dev/log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("/dev/log")
        os.chmod("/dev/log", 0o666)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self.lines.append(self._socket.recv(65536).decode("utf-8", "replace"))
