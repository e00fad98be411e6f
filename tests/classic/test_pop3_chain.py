"""The how-to's line for POP3: the real envdir, tcpserver and checkpw, with our qmail-popup, qmail-pop3d and relay-ctrl."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..clients.conftest import unavailable
from ..clients.drivers import CLIENTS, Client, ClientFailed, Door, Poplib
from .sides import SECONDS

USER, UID = "mail", 8  # of every Debian system, with a home
SECRET = "lantern over gravel 93"
SELECT = Path("/usr/share/doc/checkpw/examples/selectcheckpw")
# Where documents are not installed: what that one does.
SELECT_TEXT = '#!/bin/sh\ncase "$AUTH" in\napop) exec checkapoppw $* ;;\npop) exec checkpw $* ;;\n*) exit 1 ;;\nesac\n'
LETTERS = (b"Subject: one\n\nfirst\n", b"Subject: two\n\n.dot\nlast\n", b"Subject: three\n\n" + b"long " * 5000 + b"\n")

pytestmark = [pytest.mark.root, pytest.mark.client]


@dataclass(frozen=True)
class Chain:
    """A service that runs, and where its files lie."""

    port: int
    maildir: Path
    allow: Path
    log: Path

    def door(self, *, secret: str = SECRET, apop: bool) -> Door:
        return Door("127.0.0.1", self.port, USER, secret, apop)

    def refill(self) -> None:
        for name in ("new", "cur", "tmp"):
            shutil.rmtree(self.maildir / name, ignore_errors=True)
            (self.maildir / name).mkdir()
            os.chown(self.maildir / name, UID, UID)
        for place, text in enumerate(LETTERS):
            path = self.maildir / "new" / f"{1000 + place}.x"
            path.write_bytes(text)
            os.chown(path, UID, UID)
        (self.allow / "127.0.0.1").unlink(missing_ok=True)

    def talk(self, commands: bytes) -> tuple[bytes, bytes]:
        """All in one packet, with DIGEST replaced; the challenge and what came behind the greeting."""
        with socket.create_connection(("127.0.0.1", self.port), SECONDS) as client, client.makefile("rb") as replies:
            challenge = replies.readline().split()[1]
            digest = hashlib.md5(challenge + SECRET.encode()).hexdigest().encode()
            client.sendall(commands.replace(b"DIGEST", digest))
            return challenge, replies.read()


@pytest.fixture(scope="module")
def running(ours: Path, originals: Path) -> Iterator[Chain]:
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-chain-"))
    folder.chmod(0o755)
    for name in ("Maildir", "spool", "spool/allow"):
        (folder / name).mkdir()
    (folder / "spool").chmod(0o700)
    (folder / "spool/allow").chmod(0o777)
    password = folder / "Maildir/.password"
    password.write_text(SECRET + "\n")
    password.chmod(0o600)
    for path in (folder / "Maildir", password):
        os.chown(path, UID, UID)
    select = folder / "selectcheckpw"
    select.write_text(SELECT.read_text() if SELECT.exists() else SELECT_TEXT)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    chain = Chain(port, folder / "Maildir", folder / "spool/allow", folder / "log")
    (folder / "env").mkdir()
    (folder / "env/RELAY_CTRL_DIR").write_text(f"{chain.allow}\n")
    (folder / "env/MAILDIR").write_text(f"{chain.maildir}\n")
    command = [
        originals / "envdir", folder / "env",
        ours / "relay-ctrl-chdir", originals / "tcpserver", "-v", "-R", "-H", "-l", "0", "127.0.0.1", str(port),
        ours / "qmail-popup", "pop.example.test", "sh", select,
        ours / "relay-ctrl-allow", ours / "qmail-pop3d", folder / "Maildir",
    ]  # fmt: skip
    with (
        chain.log.open("wb") as log,
        subprocess.Popen(command, env={"PATH": "/usr/bin:/bin"}, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_for(chain)
            yield chain
        finally:
            server.terminate()
    shutil.rmtree(folder)


def _wait_for(chain: Chain) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", chain.port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    pytest.fail(f"tcpserver does not listen: {chain.log.read_text()}")


@pytest.mark.parametrize("apop", [True, False], ids=["APOP", "PASS"])
@pytest.mark.parametrize("client", CLIENTS, ids=repr)
def test_clients_fetch_and_may_then_send(
    client: Client, apop: bool, running: Chain, ours: Path, tmp_path: Path
) -> None:
    if why := client.missing():
        unavailable(why)
    if not apop and not client.can_plain:
        apop = True  # once more with what this client takes wherever it is offered
    running.refill()
    fetched = client.fetch(running.door(apop=apop), tmp_path)
    assert sorted(fetched) == sorted(client.changed(text) for text in LETTERS)
    assert {path.name for path in (running.maildir / "cur").iterdir()} == {f"{1000 + n}.x:2," for n in range(3)}
    assert (running.allow / "127.0.0.1").read_bytes() == b"USER=mail\0"
    done = subprocess.run(
        [ours / "relay-ctrl-check", "sh", "-c", 'echo "${RELAYCLIENT-no} $USER"'],
        env={"PATH": "/usr/bin:/bin", "TCPREMOTEIP": "127.0.0.1", "RELAY_CTRL_DIR": str(running.allow)},
        capture_output=True,
        timeout=SECONDS,
    )
    assert done.stdout == b" mail\n"


@pytest.mark.parametrize("apop", [True, False], ids=["APOP", "PASS"])
def test_deleted_messages_are_gone(apop: bool, running: Chain, tmp_path: Path) -> None:
    running.refill()
    assert len(Poplib().fetch(running.door(apop=apop), tmp_path, delete=True)) == len(LETTERS)
    assert not list(running.maildir.glob("*/*"))


@pytest.mark.parametrize("apop", [True, False], ids=["APOP", "PASS"])
def test_a_wrong_secret(apop: bool, running: Chain, tmp_path: Path) -> None:
    running.refill()
    with pytest.raises(ClientFailed, match="authorization failed"):
        Poplib().fetch(running.door(secret="another", apop=apop), tmp_path)
    assert not (running.allow / "127.0.0.1").exists()


@pytest.mark.parametrize(
    "login", [b"APOP mail DIGEST\r\n", f"USER mail\r\nPASS {SECRET}\r\n".encode()], ids=["APOP", "PASS"]
)
def test_a_whole_session_in_one_packet(login: bytes, running: Chain) -> None:
    running.refill()
    _, said = running.talk(login + b"STAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n")
    wire = b"Subject: one\r\n\r\nfirst\r\n"
    octets = sum(len(text) + text.count(b"\n") for text in LETTERS)
    expected = b"+OK 3 %d\r\n+OK \r\n" % octets + wire + b".\r\n+OK \r\n+OK \r\n"
    assert said.endswith(b"+OK \r\n" + expected)
    assert len(list(running.maildir.glob("*/*"))) == len(LETTERS) - 1


def test_a_digest_is_good_for_its_own_connection(running: Chain) -> None:
    challenge, said = running.talk(b"APOP mail DIGEST\r\nQUIT\r\n")
    assert said == b"+OK \r\n+OK \r\n"
    stale = hashlib.md5(challenge + SECRET.encode()).hexdigest().encode()
    assert running.talk(b"APOP mail " + stale + b"\r\nQUIT\r\n")[1] == b"-ERR authorization failed\r\n"


@pytest.mark.parametrize(
    "commands", [b"QUIT\r\n", b"x" * 2000, b"USER mail\r\nPASS wrong\r\n", b"APOP mail DIGEST\r\nQUIT\r\n"]
)
def test_the_last_reply_arrives_though_more_was_sent(commands: bytes, running: Chain) -> None:
    """What lies unread when a program closes makes the kernel reset the connection."""
    _, said = running.talk(commands + b"NOOP\r\n" * 100)
    assert said.splitlines()[-1] in {b"+OK ", b"-ERR line too long", b"-ERR authorization failed"}


def test_no_secret_in_the_log(running: Chain) -> None:
    running.talk(f"USER mail\r\nPASS {SECRET}x\r\n".encode())
    running.talk(b"APOP mail DIGEST\r\nQUIT\r\n")
    text = running.log.read_text()
    assert "status 256" in text  # tcpserver's word for popup's end, as ever
    assert SECRET not in text
