"""`pillarbox send`, and the names `sendmail` and `qmail-inject`: a message from standard input into the queue.

Programs call this often, so it loads little: no command line, nothing that draws. The message stays with the caller
until the server says that it is queued; every other end has an exit status that says so.
"""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from ..home import VARIABLE
from ..local_messages import Begin, Greeting
from ..local_socket import CHUNK
from ..local_submission import Submitter, begin, call, finish, greeting
from ..programs import names
from ..protocol import injected
from ..protocol.injected import Message
from ..terms import Misuse, Refused, TryLater
from .send_options import (
    ARGUMENTS,
    BOTH,
    EITHER,
    HEADER,
    Options,
    environment_sender,
    pillarbox_send,
    qmail_inject,
    sendmail,
    typed_address,
    typed_addresses,
)

MESSAGE_LIMIT = 1 << 30  # octets: the server's limit is lower, and no endless input fills the memory

USAGE = """\
Usage: {program} [-t] [-i] [-f SENDER] [-F NAME] [--home DIR] [RECIPIENT ...]

Hand in a message from standard input: header, empty line, text. From, Date and Message-ID are added where they are
missing, and Bcc is removed. It is in the server's queue when the exit status is 0; the options are those of sendmail.
{recipients}
  -t            to the recipients in To, Cc and Bcc, and to those named here
  -i            {dot}
  -f SENDER     bounces go there; the account that is yours by default
  -F NAME       your name, for a missing From
  -N WHEN       be told: never, or some of success,failure,delay
  -R WHAT       what a report holds of the message: full or hdrs
  -V ENVID      a name that reports shall mention
  -v            say under which id it is queued
  --home DIR    the server's folder; default $PILLARBOX_HOME, else your data directory, else /var/lib/pillarbox

Exit status: 0 queued; {statuses}.
"""
QMAIL_USAGE = """\
Usage: qmail-inject [-nNaAhH] [-f SENDER] [--home DIR] [RECIPIENT ...]

Hand in a message from standard input, as the program of this name in qmail does: to the recipients named here, or to
those in To, Cc and Bcc where none is.

  -a, -h, -H    to those named here; to those in the header; to both
  -n            print the completed message, and send nothing
  -f SENDER     bounces go there
  --home DIR    the server's folder; default $PILLARBOX_HOME, else your data directory, else /var/lib/pillarbox

Exit status: 0 queued, 100 refused or called wrongly, 111 try later.
"""
MAILQ_USAGE = """\
Usage: mailq [--home DIR]

Accepted mail that still waits, as `pillarbox queue list` shows it.
"""
USAGES = {
    "send": USAGE.format(
        program="pillarbox send",
        recipients="It goes to those named here, or to those in To, Cc and Bcc where none is.\n",
        dot="needless: a line of a dot alone never ends the message",
        statuses="1 refused, 2 called wrongly, 75 try later",
    ),
    "sendmail": USAGE.format(
        program="sendmail",
        recipients="",
        dot="a line of a dot alone does not end the message",
        statuses="64 called wrongly, 65, 67, 69 or 77 refused, 75 try later",
    ),
    "qmail-inject": QMAIL_USAGE,
    "mailq": MAILQ_USAGE,
}


@dataclass(frozen=True, slots=True)
class Statuses:
    """The exit status of each end."""

    misused: int
    later: int
    refused: int
    by_code: tuple[tuple[str, int], ...] = ()  # beginning of an RFC 3463 code, and the status for it

    def of(self, code: str) -> int:
        return next((status for start, status in self.by_code if code.startswith(start)), self.refused)


SYSEXITS = (("5.1", 67), ("5.3.4", 65), ("5.6", 65), ("5.5", 64), ("5.7", 77))  # NOUSER, DATAERR, USAGE, NOPERM
PROGRAMS = {
    "send": Statuses(misused=2, later=75, refused=1),
    "sendmail": Statuses(misused=64, later=75, refused=69, by_code=SYSEXITS),
    "qmail-inject": Statuses(misused=100, later=111, refused=100),
    "mailq": Statuses(misused=64, later=75, refused=69),
}


def main(program: str, arguments: Sequence[str]) -> int:
    """Run one of PROGRAMS; its exit status."""
    statuses = PROGRAMS[program]
    try:
        options = _options(program, arguments)
        if options.mode == "help" and len(arguments) > 1 and program != "send":
            raise Misuse("--help stands alone")  # a program may pass what it was given: no mail is lost with status 0
        return _act(program, options)
    except Misuse as error:
        return _complain(program, str(error), statuses.misused)
    except Refused as error:
        return _complain(program, error.why, statuses.of(error.code))
    except TryLater as error:
        return _complain(program, error.why, statuses.later)
    except OSError as error:
        return _complain(program, f"{error.filename or 'trouble'}: {error.strerror}", statuses.later)
    except KeyboardInterrupt:
        return 130


def _options(program: str, arguments: Sequence[str]) -> Options:
    if program == "qmail-inject":
        return qmail_inject(arguments, os.environ)
    if program == "send":
        return pillarbox_send(arguments)
    return sendmail(["-bp", *arguments] if program == "mailq" else arguments)


def _complain(program: str, text: str, status: int) -> int:
    print(f"{program}: {text}", file=sys.stderr)
    return status


def _act(program: str, options: Options) -> int:
    if options.mode == "help":
        print(USAGES[program], end="")
        return 0
    if options.mode in ("list", "flush"):
        from .queue import flush, list_

        return flush(home=options.home) if options.mode == "flush" else list_(home=options.home)
    if options.mode == "smtp":
        if options.home:
            raise Misuse(f"-bs takes the home from ${VARIABLE}, not from --home")
        names.run("qmail-smtpd", [b"--local"])
    if not options.recipients and options.to == ARGUMENTS:
        ways = "" if program == "qmail-inject" else ", or take them from To: -t"
        raise Misuse("; ".join((f"no recipient: name one{ways}", *options.taken)))
    if sys.stdin is None:
        raise Misuse("standard input is closed: the message is read from there")
    message = injected.read(read_message(sys.stdin.buffer, dot_ends=options.dot_ends))
    message = replace(message, fields=tuple(field for field in message.fields if field.name not in options.dropped))
    caller = call(options.home)
    try:
        said = submit(caller, options, message, qmail=program == "qmail-inject")
    finally:
        caller.close()
    if options.verbose and said:
        print(f"queued as {said}")
    return 0


def read_message(stream: BinaryIO, *, dot_ends: bool) -> bytes:
    """All of the message. `dot_ends`: up to a line of a dot alone, and nothing is read behind it. Raises Refused."""
    if not dot_ends:
        content = stream.read(MESSAGE_LIMIT + 1)
    else:
        content = b"".join(_until_dot(stream))
    if len(content) > MESSAGE_LIMIT:
        raise Refused(f"the message is longer than {MESSAGE_LIMIT} octets", "5.3.4")
    return content


def _until_dot(stream: BinaryIO) -> Iterator[bytes]:
    left, whole = MESSAGE_LIMIT + 1, True
    while left and (line := stream.readline(left)):
        if whole and line.rstrip(b"\r\n") == b".":
            return
        whole = line.endswith(b"\n")
        left -= len(line)
        yield line


# The server.


def submit(caller: Submitter, options: Options, message: Message, *, qmail: bool) -> str:
    """Hand in one message; its id in the queue, or nothing where it was only to be printed. Raises Misuse, Refused,
    TryLater."""
    server = greeting(caller)
    recipients = _recipients(options, message, server)
    sender = _sender(options, message, server.domain, qmail=qmail)
    if options.mode == "print":
        author = sender or _login().encode("utf-8", "surrogateescape") + b"@" + server.domain
        sys.stdout.buffer.write(_header(options, message, server, author) + message.body)
        return ""
    octets = len(message.body) + message.body.count(b"\n")
    envid = injected.xtext(options.envid.encode("utf-8", "surrogateescape"))
    begun = begin(caller, Begin(sender, tuple(recipients), options.notify, options.ret, envid, octets))
    head = _header(options, message, server, begun.sender)
    return finish(caller, _chunks(head, message.body))


def _chunks(head: bytes, body: bytes) -> Iterator[bytes]:
    for part in (head, body):
        yield from (part[start : start + CHUNK] for start in range(0, len(part), CHUNK))


def _recipients(options: Options, message: Message, greeting: Greeting) -> list[bytes]:
    found = typed_addresses(options.recipients, greeting.domain)
    if options.to == HEADER:
        found = []
    if options.to in (HEADER, BOTH) or (options.to == EITHER and not found):
        found += injected.recipients(message, greeting.domain)
    found = list(dict.fromkeys(found))
    if not found:
        raise Misuse("; ".join(("no recipient: To, Cc and Bcc name nobody", *options.taken)))
    if len(found) > greeting.recipients:
        many = f"the message has {len(found)} recipients, and the server takes {greeting.recipients} at most"
        raise Refused(f"{many}: send it in parts", "5.5.3")
    return found


def _sender(options: Options, message: Message, domain: bytes, *, qmail: bool) -> bytes | None:
    """The envelope sender that was named; None: the server knows who we are. Raises Misuse."""
    if options.sender is not None:
        text = options.sender.strip(" ")
        return b"" if text in ("", "<>") else typed_address(text, domain)
    named = injected.return_path(message, domain) if options.return_path else None
    return environment_sender(os.environ, domain) if named is None and qmail else named


def _header(options: Options, message: Message, greeting: Greeting, sender: bytes) -> bytes:
    name = options.name
    if name is None:
        name = _own_name() if options.sender is None else ""  # who writes for somebody else has another name
    unique = f"{time.time_ns():x}.{os.urandom(8).hex()}@".encode()
    return injected.header(
        message,
        sender=sender,
        name=name,
        domain=greeting.domain,
        message_id=unique + greeting.hostname,
        now=time.time(),
    )


def _login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid{os.getuid()}"


def _own_name() -> str:
    """Of $NAME, else of the user's entry in /etc/passwd."""
    if name := os.environ.get("NAME"):
        return name
    try:
        found = pwd.getpwuid(os.getuid())
    except KeyError:
        return ""
    return found.pw_gecos.partition(",")[0].replace("&", found.pw_name.capitalize())
