"""Handing a message to qmail-queue, as qmail's programs do: message and envelope over a pipe each, and an exit status.

$QMAILQUEUE names another program. Where neither that nor an installed qmail is there, it is ours, in a fork of this
process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from . import chain
from .chain import Environment

CANNOT_RUN = 120  # the child's exit status

_PERMANENT = range(11, 41)
_CRASHED = b"451 qq crashed (#4.3.0)"
_READ = b"451 qq read error (#4.3.0)"
_FILES = b"451 qq trouble creating files in queue (#4.3.0)"
_BUG = b"451 qq internal bug (#4.3.0)"
_REPLIES = {
    11: b"554 envelope address too long for qq (#5.1.3)",
    31: b"554 mail server permanently rejected message (#5.3.0)",
    51: b"451 qq out of memory (#4.3.0)",
    52: b"451 qq timeout (#4.3.0)",
    53: b"451 qq write error or disk full (#4.3.0)",
    54: _READ,
    55: b"451 qq unable to read configuration (#4.3.0)",
    56: b"451 qq trouble making network connection (#4.3.0)",
    61: b"451 qq trouble in home directory (#4.3.0)",
    **dict.fromkeys((62, 63, 64, 65, 66), _FILES),
    71: b"451 mail server temporarily rejected message (#4.3.0)",
    72: b"451 connection to mail server timed out (#4.4.1)",
    73: b"451 connection to mail server rejected (#4.4.1)",
    74: b"451 communication with mail server failed (#4.4.2)",
    81: _BUG,
    91: _BUG,
    115: b"554 envelope address too long for qq (#5.1.3)",
    CANNOT_RUN: b"451 unable to exec qq (#4.3.0)",
}


def reply_of(status: int) -> bytes:
    """What an SMTP client is told of that exit status; empty: the message is queued."""
    if not status:
        return b""
    unknown = b"554 qq permanent problem (#5.3.0)" if status in _PERMANENT else b"451 qq temporary problem (#4.3.0)"
    return _REPLIES.get(status, unknown)


class QueuePipe:
    """One message on its way."""

    def __init__(self, home: bytes, environment: Environment) -> None:
        """`home`: of qmail. Raises OSError where no process or pipe can be made."""
        self._broken = False
        message, self._message = os.pipe()
        try:
            envelope, self._envelope = os.pipe()
        except OSError:
            _close((message, self._message))
            raise
        try:
            self.pid = os.fork()
        except OSError:
            _close((message, self._message, envelope, self._envelope))
            raise
        if not self.pid:
            _be_the_queue(home, environment, (message, envelope), (self._message, self._envelope))
        _close((message, envelope))

    def put(self, stored: bytes) -> None:
        """More of the message. Where the other side has stopped to read, its exit status will say why."""
        self._write(self._message, stored)

    def give_up(self) -> None:
        """Nothing is queued."""
        self._end()

    def commit(self, sender: bytes, recipients: Sequence[bytes]) -> bytes:
        """Ask for it to be queued: empty where it is, else the reply that says why it isn't."""
        _close((self._message,))
        self._message = -1
        content = [b"F" + sender, *(b"T" + recipient for recipient in recipients), b"", b""]
        self._write(self._envelope, b"\0".join(content))
        status = self._end()
        if os.WIFSIGNALED(status):
            return _CRASHED
        return reply_of(os.WEXITSTATUS(status)) or (_READ if self._broken else b"")

    def _write(self, descriptor: int, octets: bytes) -> None:
        if self._broken:
            return
        try:
            chain.write_all(descriptor, octets)
        except OSError:
            self._broken = True

    def _end(self) -> int:
        """Its wait status. An envelope without its end is no order to queue."""
        _close(descriptor for descriptor in (self._message, self._envelope) if descriptor >= 0)
        return os.waitpid(self.pid, 0)[1]


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _be_the_queue(home: bytes, environment: Environment, ours: tuple[int, int], others: tuple[int, int]) -> NoReturn:
    """In the child."""
    status = 81
    try:
        for target, descriptor in enumerate(ours):
            os.dup2(descriptor, target)  # they are at 3 or above: 0 and 1 are the client's
        _close((*ours, *others))
        status = _run(home, environment)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else status
    except OSError:
        status = CANNOT_RUN
    finally:
        os._exit(status)


def other_queue(home: bytes, environment: Environment) -> bytes:
    """The program that takes messages; empty: it is ours."""
    if wanted := environment.get(b"QMAILQUEUE"):
        return wanted
    installed = home + b"/bin/qmail-queue"
    ours = os.path.realpath(os.fsencode(sys.argv[0]))
    return b"" if not os.path.exists(installed) or os.path.realpath(installed) == ours else installed


def _run(home: bytes, environment: Environment) -> int:
    """Raises OSError where the program that was wanted can't be run."""
    wanted = other_queue(home, environment)
    if not wanted:
        from . import qmail_queue

        return qmail_queue.main([], environment)
    if os.path.isdir(home):
        os.chdir(home)  # where qmail's own programs are started
    chain.become([wanted if b"/" in wanted else b"./" + wanted], environment)
