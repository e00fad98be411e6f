"""A power cut on a real file system: what was acknowledged is there when the power comes back.

An ext4 image of our own, mounted with a lazy journal; EXT4_IOC_SHUTDOWN stops it dead without writing anything more.
"""

import ctypes
import fcntl
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pillarbox.home import Home

from .conversations import Pop, Smtp
from .test_kill_everything import kill_all

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = struct.pack("I", 2)
CLONE_NEWNS = 0x20000  # linux/sched.h
CUTS = 6
SECRETS = {"alice": "secret of alice, quite long", "bob": "secret of bob, quite long"}

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a file system"),
    pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="needs mkfs.ext4 (Debian: e2fsprogs)"),
]


@pytest.fixture
def own_mounts():
    """Our mounts are in no other namespace: one that a program keeps as a copy would keep the dead file system, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    try:
        assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        yield
        assert libc.setns(before, CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)


@pytest.fixture
def disk(tmp_path, own_mounts):
    """A mount point whose file system is ext4, 64 MiB, with five minutes between commits of its own accord."""
    image, mount = tmp_path / "image", Path("/var/tmp") / f"pillarbox-cut-{os.getpid()}"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount.mkdir()
    disk = SimpleNamespace(image=image, mount=mount)
    attach(disk)
    yield disk
    subprocess.run(["umount", mount], check=False)
    mount.rmdir()


def attach(disk):
    subprocess.run(["mount", "-o", "loop,commit=300", disk.image, disk.mount], check=True)


def cut_power(disk):
    descriptor = os.open(disk.mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH)
    finally:
        os.close(descriptor)


def pillarbox(home, *arguments, **options):
    command = [sys.executable, "-m", "pillarbox", *arguments, "--home", home]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, **options)


def start(home):
    """A server on that home; where it listens."""
    os.makedirs(home, 0o711, exist_ok=True)
    with open(f"{home}/pillarbox.toml", "w") as file:
        file.write(
            'hostname = "mail.example.test"\ndomains = ["example.test"]\n'
            '[listen]\npop3 = ["127.0.0.1:0"]\nsmtp = ["127.0.0.1:0"]\nsubmission = []\n'
            "pop3s = []\nsubmissions = []\n[processes]\nnetwork = 1\n"
        )
    with open(f"{os.path.dirname(home)}/log", "ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "pillarbox", "serve", "--home", home], stderr=log)
    end = time.monotonic() + 20
    while (state := Home(home).read_status()) is None or state["pid"] != process.pid:
        assert time.monotonic() < end and process.poll() is None, "the server does not start"
        time.sleep(0.02)
    ports = {name: int(addresses[0].rpartition(":")[2]) for name, addresses in state["listen"].items() if addresses}
    return SimpleNamespace(
        host="127.0.0.1",
        pop3_port=ports["pop3"],
        smtp_port=ports["smtp"],
        process=process,
        domain="example.test",
        home=home,
    )


def subjects(mail, name):
    with Pop(mail) as pop:
        assert pop.apop(name, SECRETS[name]).startswith(b"+OK")
        pop.say(b"STAT")
        pop.say(b"UIDL")
        count = len(pop.lines())
        found = []
        for number in range(1, count + 1):
            assert pop.say(b"RETR %d" % number).startswith(b"+OK")
            message = b"\r\n".join(pop.lines())
            found.append(re.search(rb"^Subject: (\S+)\r?$", message, re.MULTILINE)[1].decode())
            assert message.endswith(b"end of " + found[-1].encode()), "a message is torn"
        return found


def end(mail, disk):
    kill_all(mail.process.pid)
    mail.process.wait()
    for _ in range(50):
        if subprocess.run(["umount", disk.mount], capture_output=True).returncode == 0:
            break
        time.sleep(0.1)
    attach(disk)


def test_acknowledged_mail_and_acknowledged_removals_survive_power_cuts(disk):
    home = f"{disk.mount}/home"
    mail = start(home)
    for name, secret in SECRETS.items():
        pillarbox(home, "account", "add", name, "--secret-stdin", input=secret + "\n")
    acknowledged = {"alice": set(), "bob": set()}
    removed = set()
    for cut in range(CUTS):
        with Smtp(mail) as smtp:
            smtp.ehlo()
            for number in range(5):
                names = ("alice", "bob") if number == 4 else ("alice",)
                subject = f"cut{cut}-{number}"
                content = f"Subject: {subject}\r\n\r\n{'x' * 70}\r\nend of {subject}\r\n".encode()
                assert smtp.message(content, *(f"{name}@example.test" for name in names)).startswith(b"250")
                for name in names:
                    acknowledged[name].add(subject)
        if cut % 2:
            with Pop(mail) as pop:
                assert pop.apop("alice", SECRETS["alice"]).startswith(b"+OK")
                assert pop.say(b"RETR 1").startswith(b"+OK")
                subject = re.search(rb"Subject: (\S+)", b"\n".join(pop.lines()))[1].decode()
                assert pop.say(b"DELE 1").startswith(b"+OK")
                assert pop.say(b"QUIT").startswith(b"+OK")
                removed.add(subject)
        cut_power(disk)
        end(mail, disk)
        mail = start(home)
        wait_for_queue(home)
        for name in SECRETS:
            found = subjects(mail, name)
            wanted = acknowledged[name] - (removed if name == "alice" else set())
            assert set(found) >= wanted, f"{name} has lost {wanted - set(found)} at cut {cut}"
            assert len(found) == len(set(found)), "a message is there twice"
        assert not removed & set(subjects(mail, "alice")), "a removed message came back"
    pillarbox(home, "stop")
    mail.process.wait(30)


def wait_for_queue(home):
    until = time.monotonic() + 20
    while os.listdir(f"{home}/queue/envelope"):
        assert time.monotonic() < until, "the queue does not empty"
        time.sleep(0.05)
