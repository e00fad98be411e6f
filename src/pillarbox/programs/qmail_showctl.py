"""qmail-showctl: what qmail's control files say, or would say where they are missing.

    qmail-showctl [--qmail DIR]

DIR, by default /var/qmail, has the folder control. Exit status: 0, or 111 where a control file can't be read.

It departs from the original: of qmail's own build (paternalism, uids) only what means something here is told; a missing
rcpthosts lets in nobody, as with our qmail-smtpd; what would steer a terminal is written as `?`; files are sorted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ..store.control import FOLDER, Controls
from ..terms import TryLater
from .chain import MISUSED, TROUBLE, Environment, die, words, write_all

QMAIL = "/var/qmail"

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class Value(NamedTuple):
    """A file of one line."""

    before: str
    after: str
    default: str | None  # None: what `me` says


class Lines(NamedTuple):
    """A file of a list."""

    before: str
    after: str
    missing: str  # the whole sentence


FILES: dict[str, Value | Lines] = {
    "badmailfrom": Lines("", " not accepted in MAIL FROM.", "Any MAIL FROM is allowed."),
    "bouncefrom": Value("Bounce user name is ", ".", "MAILER-DAEMON"),
    "bouncehost": Value("Bounce host name is ", ".", None),
    "concurrencylocal": Value("Local concurrency is ", ".", "10"),
    "concurrencyremote": Value("Remote concurrency is ", ".", "20"),
    "databytes": Value("SMTP DATA limit is ", " bytes.", "0"),
    "defaultdomain": Value("Default domain name is ", ".", None),
    "defaulthost": Value("Default host name is ", ".", None),
    "doublebouncehost": Value("2B recipient host: ", ".", None),
    "doublebounceto": Value("2B recipient user: ", ".", "postmaster"),
    "envnoathost": Value("Presumed domain name is ", ".", None),
    "helohost": Value("SMTP client HELO host name is ", ".", None),
    "idhost": Value("Message-ID host name is ", ".", None),
    "localiphost": Value("Local IP address becomes ", ".", None),
    "locals": Lines("Messages for ", " are delivered locally.", "Messages for {me} are delivered locally."),
    "me": Value("My name is ", ".", None),
    "percenthack": Lines("The percent hack is allowed for user%host@", ".", "The percent hack is not allowed."),
    "plusdomain": Value("Plus domain name is ", ".", None),
    "qmqpservers": Lines("QMQP server: ", ".", "No QMQP servers."),
    "queuelifetime": Value("Message lifetime in the queue is ", " seconds.", "604800"),
    "rcpthosts": Lines(
        "SMTP clients may send messages to recipients at ", ".", "SMTP clients may send messages to no recipient."
    ),
    "morercpthosts": Lines("SMTP clients may send messages to recipients at ", ".", "No effect."),
    "morercpthosts.cdb": Lines("", "", "No effect."),
    "smtpgreeting": Value("SMTP greeting: 220 ", ".", None),
    "smtproutes": Lines("SMTP route: ", "", "No artificial SMTP routes."),
    "timeoutconnect": Value("SMTP client connection timeout is ", " seconds.", "60"),
    "timeoutremote": Value("SMTP client data timeout is ", " seconds.", "1200"),
    "timeoutsmtpd": Value("SMTP server data timeout is ", " seconds.", "1200"),
    "virtualdomains": Lines("Virtual domain: ", "", "No virtual domains."),
}


def main(arguments: list[bytes], environment: Environment) -> int:
    home = QMAIL
    if arguments:
        option, *rest = arguments
        if option != b"--qmail" or len(rest) != 1:
            die(MISUSED, "qmail-showctl: usage: qmail-showctl [--qmail DIR]")
        home = os.fsdecode(rest[0])
    try:
        report = "".join(_report(home))
    except TryLater as error:
        die(TROUBLE, f"qmail-showctl: fatal: {error.why}")
    except OSError as error:
        die(TROUBLE, f"qmail-showctl: fatal: unable to read {home}/{FOLDER}: {words(error)}")
    try:
        write_all(1, report.encode("utf-8", "surrogateescape"))
    except OSError as error:
        die(TROUBLE, f"qmail-showctl: fatal: unable to write: {words(error)}")
    return 0


def _report(home: str) -> Iterator[str]:
    """Raises TryLater, OSError."""
    folder = f"{home}/{FOLDER}"
    controls = Controls(folder)
    found = sorted(os.listdir(folder))
    name = controls.me()
    me = None if name is None else _shown(name)
    yield f"qmail home directory: {home}.\nuser-ext delimiter: -.\n\n"
    for file, kind in FILES.items():
        yield f"{file}: {_told(controls, file, kind, me)}\n"
    yield "".join(f"\n{file}: I have no idea what this file does.\n" for file in found if file not in FILES)


def _told(controls: Controls, file: str, kind: Value | Lines, me: str | None) -> str:
    if isinstance(kind, Lines):
        return _list(controls, file, kind, me)
    line = controls.line(file)
    if line is not None:
        return f"{kind.before}{_shown(line)}{kind.after}\n"
    if kind.default is None and me is None:
        return "Undefined! Uh-oh.\n"
    return f"(Default.) {kind.before}{me if kind.default is None else kind.default}{kind.after}\n"


def _list(controls: Controls, file: str, kind: Lines, me: str | None) -> str:
    if file.endswith(".cdb"):
        there = controls.content(file) is not None
        return "There is a compiled list.\n" if there else f"(Default.) {kind.missing}\n"
    lines = controls.lines(file)
    if lines is None:
        return f"(Default.) {kind.missing.format(me=me)}\n"
    return "\n" + "".join(f"{kind.before}{_shown(line)}{kind.after}\n" for line in lines)


def _shown(line: bytes) -> str:
    return _CONTROL.sub(b"?", line).decode("utf-8", "surrogateescape")
