"""qmail-popup (qmail, with the patch that exports AUTH): greet a POP3 client, and let another program judge its login.

    qmail-popup [--capa] HOSTNAME SUBPROGRAM [ARG ...]

Greets with a challenge for APOP and takes USER and PASS, or APOP. Then SUBPROGRAM, most often a checkpassword program,
runs as a child; it and what it becomes serve the client. popup waits for its end: after any exit status but 0 the client
hears `-ERR authorization failed`, after a signal `-ERR aack, child crashed`. One attempt a connection.

Environment: AUTH is set for SUBPROGRAM, to `pop` after PASS, to `apop` after APOP.
Descriptors: 0 and 1 are the client. SUBPROGRAM reads name, password or digest, and challenge on 3, each ended by NUL, 512
octets at most; whatever else was open stays so.
Exit status: 1, always. Each write may take 1,200 seconds, all that comes before the login 600.

Departs from the original: a client that has not logged in after ten minutes is let go, however often it says something;
the challenge has 128 random bits; a line may have 1,024 octets; no more is read than the line
that logs in, so that commands sent behind it reach the program that serves; a child that ends before it has read
descriptor 3 is a failed login and no broken pipe; a login with NUL, or too long for descriptor 3, fails here. Descriptor 2
is left alone: qmail 1.03 put the client there, and complaints of programs among the replies; a SUBPROGRAM that can't be
run is told there. With --capa CAPA is answered.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from ..protocol import checkpassword
from ..protocol.pop3 import Login, Pop3Session, State
from ..protocol.pop3_classic import CLASSIC, CLASSIC_WITH_CAPA, UNBOUNDED
from ..terms import Attempt, Mechanism, Refused
from . import chain
from .chain import Environment
from .client import Client, Gone, drain, refuse

STATUS = 1  # after a good session too: tcpserver's log has always shown it
RECORD = 3  # the descriptor on which a checkpassword program reads
RANDOM_OCTETS = 16
FAILED = "authorization failed"
LOGIN_SECONDS = 600  # RFC 1939 section 3; the daemon's, too: forty silent strangers fill a tcpserver as it comes


def main(arguments: list[bytes], environment: Environment) -> int:
    """Until the client's session has ended."""
    dialect = CLASSIC
    if arguments[:1] == [b"--capa"]:
        dialect, arguments = CLASSIC_WITH_CAPA, arguments[1:]
    if len(arguments) < 2:
        refuse("usage: popup hostname subprogram")
        return STATUS
    host, *program = arguments
    session = Pop3Session(host, _challenge(host), plaintext=True, bad_before=UNBOUNDED, dialect=dialect)
    with suppress(Gone):
        attempt = _converse(session, Client(by_line=True, in_all=LOGIN_SECONDS))
        if attempt is not None:
            why = _serve(attempt, program, environment)
            if why:
                refuse(why)
    return STATUS


def _challenge(host: bytes) -> bytes:
    """A msg-id (RFC 1939 section 7) that nobody can foresee; it still tells process and time, as the original's did."""
    return b"<%d.%d.%b@%b>" % (os.getpid(), time.time(), os.urandom(RANDOM_OCTETS).hex().encode("ascii"), host)


def _converse(session: Pop3Session, client: Client) -> Attempt | None:
    """To the first attempt, of which the client knows nothing yet; None after QUIT. Raises Gone."""
    while True:
        event = session.next_event()
        client.write(session.take_output())
        if isinstance(event, Login):
            client.flush()
            return event.attempt
        if session.state is State.CLOSED:
            client.flush()
            drain()
            return None
        session.receive(client.read())


def _serve(attempt: Attempt, program: list[bytes], environment: Environment) -> str:
    """Let the program do all that is left; why the client is to be refused then, or nothing."""
    try:
        record = checkpassword.render(attempt)
        _offer(record)
    except Refused:
        return FAILED
    except OSError:
        return "unable to open pipe"
    environment[b"AUTH"] = b"apop" if attempt.mechanism is Mechanism.APOP else b"pop"
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or, where it was ignored, there is nothing to wait for
    try:
        child = os.fork()
    except OSError:
        return "unable to fork"
    if not child:
        try:
            chain.become(program, environment)
        except OSError as error:
            complaint = f"qmail-popup: fatal: unable to run {os.fsdecode(program[0])}: {chain.words(error)}"
            chain.complain(complaint)
        os._exit(STATUS)
    os.close(RECORD)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "aack, child crashed" if code < 0 else FAILED if code else ""


def _offer(record: bytes) -> None:
    """A pipe at descriptor 3 that holds the record, and then its end: a pipe has room for it. Raises OSError."""
    with suppress(OSError):
        os.close(RECORD)
    reader, writer = os.pipe()
    chain.write_all(writer, record)
    os.close(writer)
    if reader == RECORD:
        os.set_inheritable(RECORD, True)
    else:
        os.dup2(reader, RECORD)
        os.close(reader)
