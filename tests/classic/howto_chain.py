"""Run inside a machine of its own (see machine): the how-to's command lines as they stand, and what clients see of them.

    ... PYTHON -m tests.classic.howto_chain FOLDER_OF_LINKS RESULT.json

Each step is one function; what it saw is one entry of the result, for test_howto to judge.
"""

from __future__ import annotations

import contextlib
import json
import os
import poplib
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from . import machine
from .machine import LOCAL, QMAIL, USERS, Syslog

DOMAIN = "hoge.example.com"
SECRET = "a secret of alice"
HERE, STRANGER = "127.0.0.1", "127.0.0.9"
SINK_PORT = 2525
EXPIRY = 6  # seconds; nobody waits a quarter of an hour here
PATH = f"{LOCAL}:{QMAIL}/bin:/bin:/usr/bin"
WAIT = 30

# The how-to's own words. tests/test_docs.py holds that docs/howto.md shows the same.
POP3 = """\
/usr/local/bin/envdir /etc/relay-ctrl \\
/usr/local/bin/relay-ctrl-chdir \\
/usr/local/bin/tcpserver -v -R -H 0 pop3 \\
/var/qmail/bin/qmail-popup hoge.example.com /bin/selectcheckpw \\
/usr/local/bin/relay-ctrl-allow qmail-pop3d Maildir 2>&1 \\
| /var/qmail/bin/splogger pop3d 3 &
"""
POP3_OF_INIT = """\
envdir /etc/relay-ctrl relay-ctrl-chdir \\
  tcpserver -v -R -H 0 pop3 qmail-popup \\
  `/bin/cat /var/qmail/control/me` /bin/selectcheckpw \\
  relay-ctrl-allow qmail-pop3d Maildir 2>&1 \\
  | splogger pop3d 3 &
"""
SMTP_OF_INIT = """\
envdir /etc/relay-ctrl relay-ctrl-chdir \\
  tcpserver -v -x /etc/tcp.smtp.cdb -R -H \\
  -u `/usr/bin/id -u qmaild` -g `/usr/bin/id -g qmaild` \\
  0 smtp relay-ctrl-check qmail-smtpd 2>&1 \\
  | splogger smtp 3 &
"""
RC = "qmail-start ./Maildir/ splogger qmail &"

CONFIGURATION = f"""\
hostname = "{DOMAIN}"
domains = ["{DOMAIN}"]
[listen]
pop3 = []
smtp = []
submission = []
pop3s = []
submissions = []
[accounts]
source = ["passwd"]
[queue]
smtpd_users = ["qmaild"]
[delivery.routes]
"elsewhere.test" = "{HERE}:{SINK_PORT}"
"""


class Sink:
    """The other host."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[str]]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append((envelope.mail_from, envelope.rcpt_tos))
        return "250 taken"


def set_up() -> None:
    """What the how-to has its reader type, before the lines."""
    (QMAIL / "control/me").write_text(f"{DOMAIN}\n")
    (QMAIL / "control/rcpthosts").write_text(f"{DOMAIN}\n")
    Path("/etc/relay-ctrl/RELAY_CTRL_EXPIRY").write_text(f"{EXPIRY}\n")
    Path("/etc/tcp.smtp").write_text("127.0.0.7:deny\n:allow\n")
    subprocess.run("tcprules /etc/tcp.smtp.cdb /etc/tcp.smtp.tmp < /etc/tcp.smtp", shell=True, check=True)
    for name in ("alice", "bob"):
        subprocess.run(["setuidgid", name, "maildirmake", f"/home/{name}/Maildir"], check=True)
    password = Path("/home/alice/Maildir/.password")
    password.touch(0o600)
    password.write_text(f"{SECRET}\n")
    os.chown(password, *USERS["alice"][:2])
    home = Path(os.environ["PILLARBOX_HOME"])
    home.mkdir(parents=True)
    (home / "pillarbox.toml").write_text(CONFIGURATION)


@contextlib.contextmanager
def started(line: str, ready: Callable[[], object]) -> Iterator[None]:
    """A line of the how-to, typed into sh; its processes end with the block."""
    with subprocess.Popen(["/bin/sh", "-c", line + "\nwait"], start_new_session=True) as shell:
        try:
            _until(ready, line)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(WAIT)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HERE, port)) == 0


def _takes_mail() -> bool:
    """Is the queue open to qmail-queue?"""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(f"{os.environ['PILLARBOX_HOME']}/public/send") == 0


def _until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


# What a client does.


def send(source: str, recipient: str, sender: str = f"alice@{DOMAIN}") -> str:
    """The reply to RCPT, or "sent"."""
    with smtplib.SMTP(HERE, 25, "client.test", WAIT, source_address=(source, 0)) as client:
        client.helo()
        client.mail(sender)
        code, text = client.rcpt(recipient)
        if code != 250:
            return f"{code} {text.decode()}"
        code, text = client.data(b"Subject: hello\r\n\r\nfrom the chain\r\n")
        return "sent" if code == 250 else f"{code} {text.decode()}"


def refused_at_once(source: str) -> bool:
    """Does a rule of tcpserver turn this address away?"""
    with socket.create_connection((HERE, 25), WAIT, source_address=(source, 0)) as client:
        return client.recv(100) == b""


def by_apop() -> list[str]:
    client = poplib.POP3(HERE, 110, WAIT)
    client.apop("alice", SECRET)
    lines = client.retr(1)[1]
    client.quit()
    return [line.decode() for line in lines]


def by_pass() -> int:
    client = poplib.POP3(HERE, 110, WAIT)
    client.user("alice")
    client.pass_(SECRET)
    count = client.stat()[0]
    client.quit()
    return count


def wrong_digest() -> str:
    client = poplib.POP3(HERE, 110, WAIT)
    try:
        client.apop("alice", "not it")
    except poplib.error_proto as error:
        return str(error)
    return "let in"


def by_curl() -> str:
    """It takes APOP wherever that is offered."""
    command = ["curl", "-sS", "-u", f"alice:{SECRET}", f"pop3://{HERE}/1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    return done.stdout or done.stderr


def by_fetchmail(protocol: str) -> str:
    """`protocol`: APOP, or POP3 for USER and PASS."""
    folder = Path(f"/home/fetcher-{protocol}")
    folder.mkdir()
    settings, mail = folder / "rc", folder / "mail"
    settings.touch(0o600)
    settings.write_text(
        f'poll {HERE} protocol {protocol} user "alice" password "{SECRET}" sslproto "" is root here'
        f" keep fetchall mda 'cat >> {mail}'\n"
    )
    command = [
        "fetchmail",
        "-f",
        settings,
        "--nodetach",
        "--nosyslog",
        "-i",
        folder / "ids",
        "--pidfile",
        folder / "pid",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    return mail.read_text() if mail.exists() else done.stderr


# The story.


def story(syslog: Syslog, sink: Sink) -> dict[str, object]:
    seen: dict[str, object] = {}
    with started(RC, _takes_mail), started(SMTP_OF_INIT, lambda: _listens(25)):
        seen["a mail from outside"] = send(STRANGER, f"alice@{DOMAIN}", "someone@elsewhere.test")
        _until(lambda: list(Path("/home/alice/Maildir/new").iterdir()), "delivery to alice")
        seen["relaying before the login"] = send(HERE, "friend@elsewhere.test")
        with started(POP3, lambda: _listens(110)):
            seen["a wrong digest"] = wrong_digest()
            seen["relaying after a wrong digest"] = send(HERE, "friend@elsewhere.test")
            seen["apop"] = by_apop()
            seen["relaying after apop"] = send(HERE, "friend@elsewhere.test")
            seen["relaying by a stranger"] = send(STRANGER, "friend@elsewhere.test")
            seen["an address that the rules deny"] = refused_at_once("127.0.0.7")
            _until(lambda: sink.taken, "delivery to the other host")
            seen["pass"] = by_pass()
            seen["curl"] = by_curl()
            seen["fetchmail by apop"], seen["fetchmail by pass"] = by_fetchmail("APOP"), by_fetchmail("POP3")
        time.sleep(EXPIRY + 2)
        seen["relaying after the expiry"] = send(HERE, "friend@elsewhere.test")
        with started(POP3_OF_INIT, lambda: _listens(110)):
            seen["apop by the init script's line"] = by_apop()
            seen["relaying again"] = send(HERE, "friend@elsewhere.test")
    seen["sink"] = sink.taken
    seen["syslog"] = syslog.lines
    return seen


def main() -> None:
    machine.furnish(Path(sys.argv[1]))
    os.environ["PATH"] = PATH
    os.environ["PILLARBOX_HOME"] = "/var/lib/pillarbox"
    syslog, sink = Syslog(), Sink()
    other = Controller(sink, HERE, SINK_PORT)
    other.start()
    set_up()
    Path(sys.argv[2]).write_text(json.dumps(story(syslog, sink)))
    other.stop()


if __name__ == "__main__":
    main()
