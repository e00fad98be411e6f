"""An SMTP server that does at any stage what it was told to, records what came to the octet, and delivers nothing."""

from __future__ import annotations

import contextlib
import enum
import re
import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .faults import PIECE, Fault, Over
from .ports import HOST

NAME = b"mx.misbehaving.test"
KEYWORDS = (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"SIZE 50000000", b"ENHANCEDSTATUSCODES", b"DSN")
WAIT_SECONDS = 30.0

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_PATH = re.compile(rb":\s*<([^>]*)>")
_END = b"\r\n.\r\n"


class Stage(enum.Enum):
    """Where a fault may lie. BODY: while the message comes; DOT: when all of it is there, in place of the last reply."""

    GREETING = b""
    EHLO = b"EHLO"
    HELO = b"HELO"
    STARTTLS = b"STARTTLS"
    AUTH = b"AUTH"
    MAIL = b"MAIL"
    RCPT = b"RCPT"
    DATA = b"DATA"
    BODY = b"(body)"
    DOT = b"(dot)"
    RSET = b"RSET"
    NOOP = b"NOOP"
    QUIT = b"QUIT"


_USUAL = {
    Stage.HELO: b"250 " + NAME + b"\r\n",
    Stage.STARTTLS: b"220 2.0.0 go ahead\r\n",
    Stage.AUTH: b"502 5.5.1 no\r\n",
    Stage.MAIL: b"250 2.1.0 ok\r\n",
    Stage.RCPT: b"250 2.1.5 ok\r\n",
    Stage.DATA: b"354 go on\r\n",
    Stage.DOT: b"250 2.0.0 taken\r\n",
    Stage.RSET: b"250 2.0.0 ok\r\n",
    Stage.NOOP: b"250 2.0.0 ok\r\n",
    Stage.QUIT: b"221 2.0.0 bye\r\n",
}


@dataclass
class Transaction:
    """One message. `wire`: what came after DATA, with its dots and the last dot line, as far as it came."""

    mail: bytes  # the argument of MAIL, with its parameters
    encrypted: bool
    rcpt: list[bytes] = field(default_factory=list)  # the arguments of RCPT that were accepted
    wire: bytes = b""
    whole: bool = False  # the last dot line came
    acknowledged: bool = False  # and was answered with 2xx

    @property
    def sender(self) -> bytes:
        return _path(self.mail)

    @property
    def recipients(self) -> list[bytes]:
        return [_path(argument) for argument in self.rcpt]

    @property
    def message(self) -> bytes:
        """Without the dots, and without the last dot line."""
        lines = self.wire.removesuffix(b".\r\n").split(b"\r\n")
        return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@dataclass
class Session:
    """One connection."""

    received: bytearray = field(default_factory=bytearray)  # everything, decrypted
    commands: list[bytes] = field(default_factory=list)  # their lines, without CRLF
    transactions: list[Transaction] = field(default_factory=list)
    encrypted: bool = False
    handshake_failed: bool = False
    behind_starttls: bytes = b""  # plain text that came with STARTTLS, and was dropped
    ended: bool = False

    @property
    def verbs(self) -> list[bytes]:
        return [line.split(b" ")[0].upper() for line in self.commands]

    def bare_line_ends(self) -> bool:
        """Did any CR without LF come, or LF without CR?"""
        return _BARE.search(self.received) is not None


@dataclass
class _Plan:
    stage: Stage
    fault: Fault
    nth: int
    containing: bytes
    times: int | None
    after: int


class Misbehaving:
    """Until something is planned, it accepts everything. Plans hold from the next command on; the latest that fits wins."""

    def __init__(self, keywords: Sequence[bytes], context: ssl.SSLContext | None, *, refuse_pipelining: bool) -> None:
        self.keywords, self.context, self.refuse_pipelining = list(keywords), context, refuse_pipelining
        self.sessions: list[Session] = []
        self.most_at_once = 0
        self.ending = threading.Event()
        self.changed = threading.Condition()
        self.host, self.port = "", 0
        self._plans: list[_Plan] = []

    @property
    def route(self) -> str:
        """As `[delivery] routes` wants it."""
        return f"{self.host}:{self.port}"

    @property
    def transactions(self) -> list[Transaction]:
        """Of all sessions, in their order; also those without a message."""
        with self.changed:
            return [transaction for session in self.sessions for transaction in session.transactions]

    @property
    def taken(self) -> list[Transaction]:
        """Those whose message was acknowledged."""
        return [transaction for transaction in self.transactions if transaction.acknowledged]

    def plan(
        self,
        stage: Stage,
        fault: Fault,
        *,
        nth: int = 0,
        containing: bytes = b"",
        times: int | None = None,
        after: int = 0,
    ) -> None:
        """`nth`: only for the n-th such command of its session (RCPT: of its transaction), from 1.

        `containing`: only if its line contains this. `times`: only so often, in all sessions together. `after`: only
        once so many octets of the message have come (BODY).
        """
        with self.changed:
            self._plans.insert(0, _Plan(stage, fault, nth, containing, times, after))

    def behave(self) -> None:
        """No more faults."""
        with self.changed:
            self._plans.clear()

    def fault(self, stage: Stage, line: bytes, number: int, octets: int = 0) -> Fault | None:
        """Which of the plans fits; it is used up by that."""
        with self.changed:
            for plan in self._plans:
                fits = plan.stage is stage and plan.nth in (0, number) and plan.containing in line
                if fits and plan.times != 0 and octets >= plan.after:
                    plan.times = plan.times - 1 if plan.times else None
                    if plan.times == 0:
                        self._plans.remove(plan)
                    return plan.fault
        return None

    def wait_until(self, wanted: Callable[[], bool]) -> None:
        """Looks whenever something has come, or a session has ended. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(wanted, WAIT_SECONDS):
                raise TimeoutError(f"it did not come to that within {WAIT_SECONDS:.0f} s: {self.sessions}")

    def wait_for(self, count: int) -> list[Transaction]:
        """The acknowledged messages, once there are so many."""
        self.wait_until(lambda: len(self.taken) >= count)
        return self.taken

    def begin(self, session: Session) -> None:
        with self.changed:
            self.sessions.append(session)
            self.most_at_once = max(self.most_at_once, sum(not session.ended for session in self.sessions))
            self.changed.notify_all()

    def note(self) -> None:
        """Something of a session has changed."""
        with self.changed:
            self.changed.notify_all()


class _Conversation(socketserver.BaseRequestHandler):
    """One connection, in its own thread."""

    def setup(self) -> None:
        assert isinstance(self.server, _Listener)
        self.owner, self.sock = self.server.owner, self.request
        self.ending = self.owner.ending
        self.session, self.buffer = Session(), b""
        self.counts: Counter[Stage] = Counter()
        self.transaction: Transaction | None = None
        self.server.hold(self)

    def handle(self) -> None:
        self.owner.begin(self.session)
        with contextlib.suppress(Over, OSError):
            self.reply(Stage.GREETING, b"", b"220 " + NAME + b" ESMTP\r\n")
            while True:
                self.obey(self.read_line())

    def finish(self) -> None:
        self.session.ended = True
        self.server.let_go(self)  # type: ignore[attr-defined]
        self.sock.close()
        self.owner.note()

    def obey(self, line: bytes) -> None:
        self.session.commands.append(line)
        verb = line.split(b" ")[0].upper()
        if self.owner.refuse_pipelining and self.buffer and verb != b"STARTTLS":
            self.sock.sendall(b"503 5.5.0 one at a time\r\n")
            raise Over
        stage = next((stage for stage in Stage if stage.value == verb and verb), None)
        if stage is None:
            self.sock.sendall(b"500 5.5.2 what?\r\n")
            return
        accepted = self.reply(stage, line, self.usual(stage))
        if accepted[:1] in (b"2", b"3"):
            self.take(stage, line)
        if stage is Stage.QUIT:
            raise Over

    def usual(self, stage: Stage) -> bytes:
        if stage is Stage.EHLO:
            offered = self.owner.keywords + [b"STARTTLS"] * (
                self.owner.context is not None and not self.session.encrypted
            )
            lines = [NAME, *offered]
            marks = [b"-"] * (len(lines) - 1) + [b" "]
            return b"".join(b"250%b%b\r\n" % pair for pair in zip(marks, lines, strict=True))
        if stage is Stage.RCPT and not self.transaction:
            return b"503 5.5.1 MAIL first\r\n"
        if stage is Stage.DATA and not (self.transaction and self.transaction.rcpt):
            return b"554 5.5.1 no valid recipients\r\n"
        if stage is Stage.STARTTLS and not self.owner.context:
            return b"454 4.7.0 not now\r\n"
        return _USUAL[stage]

    def reply(self, stage: Stage, line: bytes, usual: bytes) -> bytes:
        """What was said. Raises Over."""
        self.counts[stage] += 1
        fault = self.owner.fault(stage, line, self.counts[stage])
        if fault is not None:
            return fault.act(self, usual)
        self.sock.sendall(usual)
        if stage is Stage.STARTTLS and self.owner.context:
            self.start_tls()
        return usual

    def take(self, stage: Stage, line: bytes) -> None:
        """The effect of a command that was accepted."""
        if stage is Stage.MAIL:
            self.counts[Stage.RCPT] = 0
            self.transaction = Transaction(line[5:], self.session.encrypted)
            self.session.transactions.append(self.transaction)
        elif stage is Stage.RCPT and self.transaction:
            self.transaction.rcpt.append(line[5:])
        elif stage is Stage.DATA and self.transaction:
            self.read_message(self.transaction)
            self.transaction = None
        elif stage in (Stage.EHLO, Stage.HELO, Stage.RSET):
            self.transaction = None
        self.owner.note()

    def read_message(self, transaction: Transaction) -> None:
        self.counts[Stage.BODY] += 1
        came = bytearray(b"\r\n" + self.buffer)  # with the line end of DATA: the first line may be the dot line
        looked = 0
        try:
            while (end := came.find(_END, looked)) < 0:
                looked = max(len(came) - len(_END), 0)
                if fault := self.owner.fault(Stage.BODY, b"", self.counts[Stage.BODY], len(came) - 2):
                    fault.act(self, b"")
                came += self.receive()
        except BaseException:
            transaction.wire = bytes(came[2:])
            raise
        end += len(_END)
        transaction.wire, self.buffer, transaction.whole = bytes(came[2:end]), bytes(came[end:]), True
        self.owner.note()
        transaction.acknowledged = self.reply(Stage.DOT, b"", _USUAL[Stage.DOT]).startswith(b"2")

    def read_line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self.buffer += self.receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def receive(self) -> bytes:
        """Raises Over at the end."""
        octets: bytes = self.sock.recv(PIECE)
        if not octets:
            raise Over
        self.session.received += octets
        self.owner.note()
        return octets

    def start_tls(self) -> None:
        self.session.behind_starttls, self.buffer = self.buffer, b""
        assert self.owner.context is not None, "STARTTLS, and no certificate"
        try:
            self.sock = self.owner.context.wrap_socket(self.sock, server_side=True)
        except (ssl.SSLError, ConnectionError) as error:
            self.session.handshake_failed = True
            raise Over from error
        self.session.encrypted, self.transaction = True, None


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, owner: Misbehaving, host: str, port: int) -> None:
        self.owner = owner
        self._open: set[_Conversation] = set()
        super().__init__((host, port), _Conversation)
        owner.host, owner.port = host, int(self.server_address[1])

    def hold(self, conversation: _Conversation) -> None:
        with self.owner.changed:
            self._open.add(conversation)

    def let_go(self, conversation: _Conversation) -> None:
        with self.owner.changed:
            self._open.discard(conversation)

    def shutdown_request(self, request: object) -> None:
        """The conversation closes its socket itself: that may be another one by now, of TLS."""

    def hang_up(self) -> None:
        """Whatever a conversation waits for, it ends."""
        self.owner.ending.set()
        with self.owner.changed:
            for conversation in self._open:
                with contextlib.suppress(OSError):
                    conversation.sock.shutdown(2)


@contextlib.contextmanager
def misbehaving(
    *,
    host: str = HOST,
    port: int = 0,
    keywords: Sequence[bytes] = KEYWORDS,
    context: ssl.SSLContext | None = None,
    refuse_pipelining: bool = False,
) -> Iterator[Misbehaving]:
    """`keywords`: what EHLO offers, true or not; STARTTLS is among them if there is a `context` (certificates.py).

    `refuse_pipelining`: more than one command at once is answered with 503 and the end.
    """
    owner = Misbehaving(keywords, context, refuse_pipelining=refuse_pipelining)
    with _Listener(owner, host, port) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield owner
        finally:
            listener.shutdown()
            thread.join()
            listener.hang_up()


def _path(argument: bytes) -> bytes:
    found = _PATH.search(argument)
    return found[1] if found else argument
