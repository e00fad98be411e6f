"""Logins through a chain of the classic programs: all ours, ours among Debian's, and the daemon."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

from . import mail
from .classic import Installation
from .install import need
from .results import Column, Outcome
from .ring import OURS, Ring
from .servers import Missing, Server, free_port
from .workloads import per_session

CONNECTIONS = 8  # at once: every session is a process or two, and there are few cores
SECRET = "secret0"
MESSAGES, SIZE = 10, 3000
EXAMPLE = Path("/usr/share/doc/checkpw/examples/selectcheckpw")
# What Debian has no package of; behind these, its own programs are found.
ONLY_OURS = ("qmail-popup", "qmail-pop3d", "relay-ctrl-chdir", "relay-ctrl-allow")
ALL_OURS, MIXED = "Chain, all ours", "Chain, Debian's and ours"

_COLUMNS = (
    Column("rate", "sessions/s", 1, plotted=True),
    Column("cpu", "server CPU, ms/session", 2, plotted=True),
    Column("p50", "median, ms", 2),
    Column("p99", "99 %, ms", 2),
)


def chain(ring: Ring) -> Iterator[Outcome]:
    """APOP, STAT, QUIT."""
    servers = _chains(ring)
    ring.maildrops("user", ring.scale.accounts, ring.scale.messages, SIZE)
    outcome = Outcome(
        "chain",
        "Logins through the chain",
        f"One user with {MESSAGES} messages, {CONNECTIONS} connections: APOP, STAT, QUIT. The chain is `envdir`, "
        "`relay-ctrl-chdir`, `tcpserver`, `qmail-popup`, `selectcheckpw`, `checkapoppw`, `relay-ctrl-allow`, "
        "`qmail-pop3d`; each session starts the last five anew. In the mixed one `envdir`, `tcpserver` and `checkapoppw` "
        "are Debian's"
        + (", and so is `selectcheckpw`" if EXAMPLE.exists() else "")
        + ". Debian has no package of the others, so there is no chain of originals alone here to compare with; one, all "
        "in C, would be faster than either. The daemon serves accounts of its own, with as many messages each: it is the "
        "fast way, and the chain is there for compatibility.",
        _COLUMNS,
    )
    with contextlib.ExitStack() as stack:
        running = {server.name: (server, stack.enter_context(server.running())) for server in servers}
        if OURS in ring.servers:
            running |= stack.enter_context(ring.running((OURS,)))
        options = {name: _options(ring, name) for name in running}
        for name, (server, meter) in running.items():
            ring.load(server, meter, "login", sessions=CONNECTIONS * 2, **options[name])
        order = list(running)
        for number in range(ring.scale.rounds):
            for name in order if number % 2 == 0 else reversed(order):
                load, cpu = ring.load(*running[name], "login", seconds=ring.scale.seconds, **options[name])
                values = per_session(load, cpu)
                ring.record(outcome, name, load, values | {"cpu": values["cpu"] / 1000})
    yield outcome


def _options(ring: Ring, name: str) -> dict[str, object]:
    if name == OURS:
        return {"connections": CONNECTIONS, "accounts": ring.scale.accounts, "name": f"user%d@{mail.DOMAIN}"}
    return {"connections": CONNECTIONS, "accounts": 1, "name": _user().pw_name, "secret": SECRET}


def _user() -> pwd.struct_passwd:
    """A system user whose home is there: checkapoppw goes into it, though the mail lies elsewhere. Raises Missing."""
    for user in pwd.getpwall():
        if 0 < user.pw_uid < 1000 and user.pw_dir != "/" and Path(user.pw_dir).is_dir():
            return user
    raise Missing("no system user here has a home")


def _chains(ring: Ring) -> list[Server]:
    """Raises Missing."""
    if os.geteuid() != 0:
        raise Missing("only root can become the user that logs in: run this as root")
    need(("tcpserver", "checkapoppw", "envdir"), ("ucspi-tcp", "checkpw", "daemontools"))
    installed = Installation.under(ring.folder)
    ours, mixed = installed.links("all"), installed.links("few", ONLY_OURS)
    if not (mixed / "selectcheckpw").exists():
        if EXAMPLE.exists():
            shutil.copy(EXAMPLE, mixed / "selectcheckpw")
            (mixed / "selectcheckpw").chmod(0o755)
        else:
            (mixed / "selectcheckpw").symlink_to(ours / "selectcheckpw")
    maildir = _maildir(ring.folder / "chain-mail")
    return [_server(ring.folder, name, names, maildir) for name, names in ((ALL_OURS, ours), (MIXED, mixed))]


def _server(folder: Path, name: str, names: Path, maildir: Path) -> Server:
    port = free_port()
    relay = folder / "relay"
    spool = folder / "relay-spool" / "allow"
    spool.mkdir(parents=True, exist_ok=True)
    spool.parent.chmod(0o700)
    spool.chmod(0o777)
    relay.mkdir(exist_ok=True)
    (relay / "RELAY_CTRL_DIR").write_text(f"{spool}\n")
    path = f"{names}:/usr/bin:/bin"
    return Server(
        name=name,
        version="",
        command=[
            *("env", f"PATH={path}", f"MAILDIR={maildir}", "envdir", str(relay), "relay-ctrl-chdir"),
            *("tcpserver", "-RHl0", "-c", "100", "127.0.0.1", str(port)),
            *("qmail-popup", f"mail.{mail.DOMAIN}", "selectcheckpw", "relay-ctrl-allow", "qmail-pop3d", str(maildir)),
        ],
        log=folder / f"{names.name}.log",
        mail=maildir.parent,
        pop3=port,
    )


def _maildir(folder: Path) -> Path:
    """The user's, with its `.password`."""
    maildir, user = folder / "Maildir", _user()
    if not maildir.exists():
        mail.lay(maildir, MESSAGES, SIZE)
        (maildir / ".password").write_text(f"{SECRET}\n")
        (maildir / ".password").chmod(0o600)
        folder.chmod(0o755)
        for path in (maildir, *maildir.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)
    return maildir
