"""qmail-start: start our delivery: the server without its POP3 and SMTP ports, which tcpserver holds in this way.

    qmail-start [./Maildir/ [LOGGER [ARG ...]]]

This process becomes the server (`pillarbox serve --no-listen`), in the foreground, until TERM; HUP reads the configuration
again, ALRM tries all that waits at once. What it logs goes to
LOGGER's descriptor 0, where one is named, else to descriptor 1. Started as root, LOGGER runs as the user qmaill, where
there is one. Environment: PILLARBOX_HOME, else /var/lib/pillarbox for root, else the user's data directory; `log.to`
must be "stderr", its default, for LOGGER to get anything.

Exit status: 111 where the server runs already (`cannot start: ...`), or can't be started; else that of the server.

It departs from the original: Maildirs are the only default delivery, and any other is refused; where qmaill is missing
LOGGER keeps the uid.
"""

from __future__ import annotations

import os
import pwd
import sys

from ..terms import Refused
from . import chain
from .chain import TROUBLE, Environment, complain, die, words

LOG_USER = "qmaill"
DELIVERIES = (b"./Maildir/", b"./Maildir", b"")


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs; returns but by SystemExit."""
    delivery, *logger = arguments or [b""]
    if delivery not in DELIVERIES:
        die(TROUBLE, f"qmail-start: cannot start: mail is delivered to ./Maildir/, not to {os.fsdecode(delivery)}")
    _must_not_run()
    try:
        log = _started(logger, environment) if logger else 1
        for descriptor in (1, 2):
            _move(log, descriptor)
        chain.become([os.fsencode(os.path.realpath(sys.argv[0])), b"serve", b"--no-listen"], environment)
    except OSError as error:
        die(TROUBLE, f"qmail-start: cannot start: {words(error)}")


def _must_not_run() -> None:
    """No second server on one home. Who starts at the same moment is told by the server itself."""
    from ..home import Home, default_folder

    home = Home(os.path.abspath(default_folder()))
    try:
        pid = home.running()
    except Refused as error:
        die(TROUBLE, f"qmail-start: cannot start: {error.why}")
    if pid is not None:
        die(TROUBLE, f"qmail-start: cannot start: the server on {home.folder} is already running (pid {pid})")


def _started(logger: list[bytes], environment: Environment) -> int:
    """A child is that program; what is written to the descriptor it reads. Raises OSError."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(reader)
        return writer
    try:
        os.close(writer)
        _move(reader, 0)
        _become_log_user()
        chain.run(logger, environment, "qmail-start")
    except OSError as error:
        complain(f"qmail-start: the logger can't be started: {words(error)}")
    except SystemExit:  # it has been said
        pass
    os._exit(TROUBLE)


def _move(descriptor: int, target: int) -> None:
    """Under that number the next program has it, even where it had it before. Raises OSError."""
    os.dup2(descriptor, target)
    os.set_inheritable(target, True)


def _become_log_user() -> None:
    """Raises OSError."""
    if os.geteuid():
        return
    try:
        user = pwd.getpwnam(LOG_USER)
    except KeyError:
        return
    os.setgroups([user.pw_gid])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
