"""The main job, and the demo: a running server, what a person needs to use it, and a message on its whole way."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

from . import administration, config, transcript
from .home import Home
from .terminal import command, say
from .terms import Refused, TryLater
from .tether import ServerProcess

ARRIVAL_SECONDS = 30.0
LOOK_SECONDS = 0.02  # between two looks at a Maildir
PORTS_TRIED = 100  # from the default one upwards
ANY_PORTS = "[listen]\n" + "".join(f'{protocol} = ["127.0.0.1:0"]\n' for protocol, _ in config.keys(config.Listen()))
ELSEWHERE = "elsewhere.test"  # another mail host, in the demo
STRANGER = "127.0.0.2"  # who has fetched no mail
ONLOOKER = "127.0.0.3"  # who logs in for show: to the server, the address of a newcomer's client is that client's alone
MOVED = """\
# The default ports were taken when this server first started.
[listen]
pop3 = ["{pop3}"]
smtp = ["{smtp}"]
submission = ["{submission}"]
pop3s = ["{pop3s}"]
submissions = ["{submissions}"]
"""
DOORS = (
    ("POP3", "pop3", "TLS with STLS"),
    ("SMTP", "smtp", "TLS with STARTTLS"),
    ("Sending", "submission", "TLS with STARTTLS"),
    ("POP3", "pop3s", "TLS"),
    ("Sending", "submissions", "TLS"),
)

WELCOME = """\
From: Pillarbox <{sender}>
To: <{account}>
Subject: Welcome to Pillarbox
Date: {date}
Message-ID: <{stamp}.welcome@{domain}>
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

This message came in by SMTP, lies in your Maildir, and was fetched by APOP:
your secret did not travel. It stays here until your mail client deletes it.
"""

LETTER = """\
From: Alice <{account}>
To: Bob <{recipient}>
Subject: Sent by POP before SMTP

I have just fetched my mail, so I may send this.
"""

PASTE = """\
Paste one of these; each client asks for the secret:
  curl         curl --login-options AUTH=+APOP -u {account} pop3://{host}:{port}/1
  fetchmail    in ~/.fetchmailrc (chmod 600):
                 poll {host} service {port} protocol APOP
                   user "{account}" sslproto "" keep mda "cat >> ~/fetched.txt"
  mpop         in ~/.mpoprc (chmod 600):
                 account default
                 host {host}
                 port {port}
                 user {account}
                 auth apop
                 tls off
                 keep on
                 delivery mbox ~/mbox
  msmtp        to send, in ~/.msmtprc (chmod 600):
                 account default
                 host {host}
                 port {submission}
                 auth cram-md5
                 user {account}
                 from {account}
                 tls off
  Thunderbird  a POP account: server {host}, port {port}, connection security none,
               authentication "encrypted password" (that is APOP), user name {account};
               to send: server {host}, port {submission}, "encrypted password" too (CRAM-MD5)
"""


def show(home: Home) -> int:
    """Serve until Ctrl-C, and show that it works. Raises Refused and TryLater."""
    if pid := home.running():
        raise TryLater(f"a server runs on {home.folder} already (pid {pid}); `status{home.option}` says where")
    _interrupt_by_signal()
    home.make()
    settings = config.load(home.config)
    moved = _move_from_taken_ports(home)
    account, secret = administration.first_account(home) if "local" in settings.accounts.source else ("", None)
    with _serving(home) as (server, log):
        status = server.wait_until_ready()
        _introduce(home, status, account, secret, moved)
        if account:
            _show_mail(home, status, account, new=secret is not None, source=ONLOOKER)
        return _until_interrupted(server, log)


def demo() -> int:
    """The same in a throw-away folder, on free ports; then the account sends to another host. Raises Refused, TryLater."""
    _interrupt_by_signal()
    with throw_away_home() as home, _elsewhere() as (other, place):
        with open(home.config, "w", encoding="ascii") as file:
            file.write(f'{ANY_PORTS}[delivery.routes]\n"{ELSEWHERE}" = "{place}"\n')
        account, secret = administration.first_account(home, "alice")
        with _serving(home) as (server, _):
            status = server.wait_until_ready()
            say(f"Pillarbox {status['version']} runs in {home.folder}, which goes away in a moment.", "bold")
            _show_mail(home, status, account, new=secret is not None)
            _show_sending(status["listen"]["smtp"][0], account, other)
            ended = server.end()
    say()
    say("Done: the servers have ended, their folders are gone.", "bold")
    return ended


@contextlib.contextmanager
def _elsewhere() -> Iterator[tuple[Home, str]]:
    """Another mail host, with the account bob; its home, and where it takes mail."""
    with throw_away_home() as home:
        with open(home.config, "w", encoding="ascii") as file:
            file.write(f'hostname = "mail.{ELSEWHERE}"\ndomains = ["{ELSEWHERE}"]\n{ANY_PORTS}')
        administration.first_account(home, "bob")
        with _serving(home) as (server, _):
            yield home, server.wait_until_ready()["listen"]["smtp"][0]


@contextlib.contextmanager
def throw_away_home() -> Iterator[Home]:
    """A home in a new folder, removed at the end."""
    above = tempfile.mkdtemp(prefix="pillarbox-")
    os.chmod(above, 0o711 if os.geteuid() == 0 else 0o700)  # as root, the mail belongs to another user
    home = Home(f"{above}/home")
    try:
        home.make()
        yield home
    finally:
        shutil.rmtree(above)


# The server beside us.


def _interrupt_by_signal() -> None:
    """TERM is Ctrl-C: what we started is ended. A shell's background job would ignore even Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def _serving(home: Home) -> Iterator[tuple[ServerProcess, int]]:
    """A server, and a pipe that its log comes through; it ends with the block."""
    log, theirs = os.pipe()
    try:
        server = ServerProcess(home.folder, theirs)
    finally:
        os.close(theirs)
    try:
        yield server, log
    except (Refused, TryLater):
        server.end()
        _copy(log)
        raise
    finally:
        server.end()
        os.close(log)


def _until_interrupted(server: ServerProcess, log: int) -> int:
    """Pass the log on until the server ends: by Ctrl-C or TERM to us, or by `pillarbox stop`."""
    try:
        say()
        say("Serving until Ctrl-C. The log follows.", "bold")
        _copy(log)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.stop()
        say()
        say("Stopping.", "bold")
        _copy(log)
    ended = server.wait()
    say("Stopped.", "bold")
    return ended


def _copy(log: int) -> None:
    while chunk := os.read(log, 65536):
        os.write(2, chunk)


def _move_from_taken_ports(home: Home) -> str:
    """On a new home, where a default port is taken: write a configuration with free ports. What was done.

    Not where there are accounts: their mail clients know the ports.
    """
    if os.path.exists(home.config) or os.path.exists(home.accounts):
        return ""
    wanted = config.Listen()
    free = {protocol: _free(addresses[0]) for protocol, addresses in config.keys(wanted)}
    if all(free[protocol] == addresses[0] for protocol, addresses in config.keys(wanted)):
        return ""
    with open(home.config, "x", encoding="ascii") as file:
        file.write(MOVED.format(**free))
    return f"A default port is taken by another program, so {home.config} names free ones; change them there."


def _free(address: str) -> str:
    """This address, or the same with the next free port. Raises Refused."""
    host, first = config.parse_listen(address)
    for port in range(first, first + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return f"{host}:{port}"
    raise Refused(f"no port from {first} to {first + PORTS_TRIED - 1} is free on {host}; choose one in pillarbox.toml")


# What is said.


def _introduce(home: Home, status: dict[str, Any], account: str, secret: str | None, moved: str) -> None:
    say(f"Pillarbox {status['version']} runs (pid {status['pid']}); its home is {home.folder}", "bold")
    if moved:
        say(moved)
    say()
    for name, protocol, tls in DOORS:
        for address in status["listen"][protocol]:
            host, port = config.parse_listen(address)
            say(f"  {name:8} {host}  port {port}  {tls}")
    if fingerprint := administration.own_fingerprint(home, config.load(home.config)):
        say("  TLS      with a certificate that this server made itself; clients may trust its SHA-256 fingerprint:")
        say(f"           {fingerprint}")
    if not account:
        say(
            "  Accounts are the users of this system; their secrets lie in "
            + config.load(home.config).accounts.password_file
        )
        return
    say(f"  Account  {account}")
    if secret is not None:
        say(f"  Secret   {secret}   (new, shown only this once)", "bold yellow")
    else:
        say(f"  Secret   as it is; for a new one: {command()} account secret {account}{home.option}")
    if status["listen"]["pop3"] and status["listen"]["submission"]:
        say()
        submission = transcript.reachable(status["listen"]["submission"][0])[1]
        for line in client_lines(*transcript.reachable(status["listen"]["pop3"][0]), submission, account):
            say(line)


def client_lines(host: str, port: int, submission: int, account: str) -> list[str]:
    """What to paste into mail clients. None of them holds the secret: they ask for it."""
    return PASTE.format(host=host, port=port, submission=submission, account=account).split("\n")[:-1]


def _show_mail(home: Home, status: dict[str, Any], account: str, *, new: bool, source: str = "") -> None:
    """A new account gets its first message, by SMTP, and it is fetched by APOP; for another, a login is enough.

    `source`: the loopback address to log in from, where the server listens on loopback; empty: any.
    """
    smtp, pop3 = status["listen"]["smtp"], status["listen"]["pop3"]
    if new and smtp:
        say()
        say("A message comes in by SMTP:", "bold")
        domain = account.partition("@")[2]
        sender = f"postmaster@{domain}"
        text = WELCOME.format(
            sender=sender, account=account, domain=domain, date=formatdate(usegmt=True), stamp=int(time.time())
        )
        transcript.send(smtp[0], sender, account, text.replace("\n", "\r\n").encode("ascii"), say)
    secret = administration.secret_of(home, account)
    if pop3 and secret:
        say()
        say("It is fetched by APOP:" if new and smtp else "A login by APOP:", "bold")
        source = source if transcript.reachable(pop3[0])[0].startswith("127.") else ""
        transcript.look(pop3[0], account, secret, say, fetch=bool(new and smtp), source=source)


def _show_sending(smtp: str, account: str, other: Home) -> None:
    """POP before SMTP: who has just fetched may send to the world, and nobody else."""
    bob = f"bob@{ELSEWHERE}"
    say()
    say(f"Who has just fetched mail may send, with no further password, to another host ({ELSEWHERE}):", "bold")
    text = LETTER.format(account=account, recipient=bob)
    transcript.send(smtp, account, bob, text.replace("\n", "\r\n").encode("ascii"), say)
    say()
    say(f"It has arrived in bob's Maildir at {ELSEWHERE}, with the trace of its way:", "bold")
    for line in _arrived(f"{other.mail}/{ELSEWHERE}/bob/new"):
        say(f"  {line}")
    say()
    say(f"A stranger at {STRANGER} has fetched none, and is refused:", "bold")
    transcript.try_to_send(smtp, STRANGER, account, bob, say)


def _arrived(folder: str) -> list[str]:
    """The lines of the message there. Raises TryLater where none comes."""
    until = time.monotonic() + ARRIVAL_SECONDS
    while not (names := os.listdir(folder) if os.path.isdir(folder) else []):
        if time.monotonic() > until:
            raise TryLater("the message has not arrived")
        time.sleep(LOOK_SECONDS)
    with open(f"{folder}/{names[0]}", encoding="utf-8", errors="replace") as file:
        return file.read().split("\n")[:-1]
