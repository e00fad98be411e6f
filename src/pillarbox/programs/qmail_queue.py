"""qmail-queue: take a message on descriptor 0 and its envelope on descriptor 1, and put it into our queue.

    qmail-queue

The envelope: F, the sender, NUL; T, a recipient, NUL, as often as there are recipients; NUL. It is durable when the exit
status is 0. 11: an address longer than 1003 octets; 31: refused for good; 51: out of memory; 52: not done in 24 hours;
53: no room for it; 54: message or envelope end too early; 71: the server refuses it for now; 73: no server runs; 74: the
server does not answer; 81: a fault of ours; 91: no envelope. Descriptor 2 gets a line that says why.

Environment: PILLARBOX_HOME (the server's folder; else the user's own server, where one runs, else /var/lib/pillarbox);
TCPREMOTEIP and RELAYCLIENT, as qmail-smtpd has them: whether the message came over SMTP, and from one who may send to
other hosts. The server believes that of root, of its owner, and of the users in `queue.smtpd_users`; any other user
sends as itself alone.

It departs from the original: the server adds the Received field; the sender's right to its address is looked at, a
recipient here must exist, and there are limits, all set in the configuration; a message without recipients is refused
(31); CRLF is LF, and a CR alone is refused (31), for no line of ours holds one; an address without a domain gets the
server's first one, and one that needs quotes gets them; the sender `#@[]` is the null one; senders that end with `-@[]`
(VERP) are refused (31).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from ..terms import Refused, TryLater
from .chain import Environment, complain

if TYPE_CHECKING:
    from ..local_submission import Submitter

LONG_ADDRESS, REFUSED, MEMORY, TOO_LATE, WRITE, READ = 11, 31, 51, 52, 53, 54
NOT_NOW, NO_SERVER, SILENT, FAULT, NO_ENVELOPE = 71, 73, 74, 81, 91

NO_MAILBOX = "5.1.1"  # RFC 3463

SECONDS = 86_400  # for all of it, as with the original
ADDRESS_LIMIT = 1003  # octets, with its letter and its NUL
ENVELOPE_LIMIT = 900_000  # octets: what the server takes in one frame, with room for its form
MESSAGE_LIMIT = 1 << 30  # octets: the server's limit is lower, and no endless input fills the disk
CHUNK = 64 << 10
HELD = 1 << 20  # octets of a message in memory; a longer one waits in a file without a name


class _Failed(Exception):
    """It is not queued."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def main(arguments: list[bytes], environment: Environment) -> int:
    """Exit status."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(SECONDS)
    try:
        message = Spool(environment.get(b"TMPDIR", b"/tmp"))
        message.fill(0)
        sender, recipients = _envelope(_read_envelope(1))
        _hand_over(environment, sender, recipients, message)
        return 0
    except _Failed as failure:
        complain(f"qmail-queue: {failure.why}")
        return failure.status
    except MemoryError:
        return MEMORY
    except Exception as error:
        complain(f"qmail-queue: a fault in this program: {type(error).__name__}")
        return FAULT


def _too_late(*_: object) -> NoReturn:
    os._exit(TOO_LATE)


class Spool:
    """The message, which has to come whole before its envelope is read."""

    def __init__(self, folder: bytes) -> None:
        """`folder`: for what is too long for memory."""
        self._folder = folder
        self._start = bytearray()
        self._file = -1
        self.octets = 0

    def fill(self, descriptor: int) -> None:
        """With what comes from there to its end. Raises _Failed."""
        while chunk := _read(descriptor, "message"):
            self.octets += len(chunk)
            if self.octets > MESSAGE_LIMIT:
                raise _Failed(REFUSED, f"the message is longer than {MESSAGE_LIMIT} octets")
            if self.octets <= HELD:
                self._start += chunk
            else:
                self._put_aside(chunk)

    def _put_aside(self, chunk: bytes) -> None:
        try:
            if self._file < 0:
                self._file = self._nameless()
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise _Failed(WRITE, f"no room for the message in {os.fsdecode(self._folder)}: {error.strerror}") from None

    def _nameless(self) -> int:
        """A new file that ends with this process. Raises OSError."""
        path = os.path.join(self._folder, b"qmail-queue-" + os.urandom(8).hex().encode())
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return descriptor

    def lines(self) -> Iterator[bytes]:
        """In parts, CRLF as LF. Raises OSError."""
        held = b""
        for chunk in self._chunks():
            chunk = held + chunk
            held = b"\r" if chunk.endswith(b"\r") else b""
            yield chunk[: len(chunk) - len(held)].replace(b"\r\n", b"\n")
        if held:
            yield held

    def _chunks(self) -> Iterator[bytes]:
        yield from (bytes(self._start[at : at + CHUNK]) for at in range(0, len(self._start), CHUNK))
        if self._file >= 0:
            os.lseek(self._file, 0, os.SEEK_SET)
            while chunk := os.read(self._file, CHUNK):
                yield chunk


def _read(descriptor: int, what: str) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError as error:
        raise _Failed(READ, f"the {what} can't be read from descriptor {descriptor}: {error.strerror}") from None


def _read_envelope(descriptor: int) -> bytes:
    """Up to the NUL that ends it; what comes behind that is nobody's. Raises _Failed."""
    content = bytearray()
    while (end := _end_of(content)) < 0:
        if len(content) > ENVELOPE_LIMIT:
            raise _Failed(REFUSED, f"the envelope is longer than {ENVELOPE_LIMIT} octets")
        chunk = _read(descriptor, "envelope")
        if not chunk:
            _check(bytes(content))
            raise _Failed(READ, "the envelope has no end")
        content += chunk
    return bytes(content[:end])


def _end_of(content: bytearray) -> int:
    """Where a NUL stands in place of another recipient; an empty sender or recipient is its letter and one NUL."""
    return content.find(b"\0\0") + 1 if b"\0\0" in content else -1


def _envelope(content: bytes) -> tuple[bytes, list[bytes]]:
    """Sender and recipients. Raises _Failed."""
    _check(content)
    sender, *recipients = (address[1:] for address in content.split(b"\0")[:-1])
    return sender, recipients


def _check(content: bytes) -> None:
    """Each part, the last of which may not be whole."""
    for place, part in enumerate(content.split(b"\0")):
        if part and part[:1] != (b"T" if place else b"F"):
            raise _Failed(NO_ENVELOPE, "this is no envelope")
        if len(part) >= ADDRESS_LIMIT:
            raise _Failed(LONG_ADDRESS, f"an address is longer than {ADDRESS_LIMIT} octets")
    if content.startswith(b"\0"):
        raise _Failed(NO_ENVELOPE, "this is no envelope")


def _hand_over(environment: Environment, sender: bytes, recipients: list[bytes], message: Spool) -> None:
    """Raises _Failed."""
    from ..local_submission import NoServer, call

    if not recipients:
        raise _Failed(REFUSED, "the message has no recipient")
    try:
        caller = call(os.fsdecode(environment.get(b"PILLARBOX_HOME", b"")))
        try:
            _say(caller, environment, sender, recipients, message)
        finally:
            caller.close()
    except Refused as error:
        raise _Failed(REFUSED, error.why) from None
    except NoServer as error:
        raise _Failed(NO_SERVER, error.why) from None
    except TryLater as error:
        raise _Failed(NOT_NOW if error.code else SILENT, error.why) from None


def _say(caller: Submitter, environment: Environment, sender: bytes, recipients: list[bytes], message: Spool) -> None:
    """Raises Refused, TryLater, _Failed."""
    from ..local_submission import finish

    _begin(caller, environment, sender, recipients, octets=message.octets)
    finish(caller, message.lines())


def _begin(
    caller: Submitter,
    environment: Environment,
    sender: bytes,
    recipients: list[bytes],
    *,
    octets: int = 0,
    asks: bool = False,
) -> None:
    """The envelope is taken. Raises Refused, TryLater, _Failed."""
    from ..local_messages import Begin, Came
    from ..local_submission import begin, greeting
    from ..protocol.qmail_address import BadArgument, smtp_address, smtp_sender

    domain = greeting(caller).domain
    try:
        origin = smtp_sender(sender, domain)
    except BadArgument as error:
        raise _Failed(REFUSED, str(error)) from None
    targets = tuple(smtp_address(recipient, domain) for recipient in recipients)
    came: Came = "relay" if b"RELAYCLIENT" in environment else "smtp" if b"TCPREMOTEIP" in environment else ""
    begin(caller, Begin(origin, targets, octets=octets, came=came, asks=asks))


def leads_nowhere(environment: Environment, sender: bytes, recipient: bytes) -> bool:
    """The server says that the recipient is here, and nobody. Whatever else it says, or doesn't, is for later."""
    from ..local_submission import call

    try:
        caller = call(os.fsdecode(environment.get(b"PILLARBOX_HOME", b"")))
    except TryLater:
        return False
    try:
        _begin(caller, environment, sender, [recipient], asks=True)
    except Refused as error:
        return error.code == NO_MAILBOX
    except (TryLater, _Failed):
        return False
    finally:
        caller.close()
    return False
