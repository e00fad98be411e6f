"""Small servers for the load generator to meet: they judge what it says, and count."""

from __future__ import annotations

import contextlib
import hashlib
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

CHALLENGE = b"<1896.697170952@mail.example.test>"


def stuffed(body: bytes) -> bytes:
    """A multi-line reply's lines, and its end (RFC 1939 section 3)."""
    return b"".join(b"." * line.startswith(b".") + line for line in body.splitlines(keepends=True)) + b".\r\n"


@dataclass
class Seen:
    """What came in."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sessions: int = 0
    logins: list[bytes] = field(default_factory=list)
    senders: list[bytes] = field(default_factory=list)
    recipients: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)


class Peer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen = Seen()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Pop3Peer(Peer):
    """Every account userN has the secret secretN and the same messages. Replies leave in pieces of `piece` octets."""

    def __init__(self, bodies: tuple[bytes, ...] = (), piece: int = 1 << 16, secret: bytes = b"secret%d") -> None:
        super().__init__(_Pop3Session)
        self.bodies, self.piece, self.secret = bodies, piece, secret

    @property
    def octets(self) -> int:
        return sum(len(stuffed(body)) - 3 for body in self.bodies)


class _Pop3Session(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        assert isinstance(self.server, Pop3Peer)
        self.peer = self.server
        self.name = b""
        with self.peer.seen.lock:
            self.peer.seen.sessions += 1
        self.say(b"+OK ready " + CHALLENGE + b"\r\n")
        with contextlib.suppress(ConnectionError):
            while (line := self.rfile.readline()) and self.answer(line):
                pass

    def say(self, data: bytes) -> None:
        for start in range(0, len(data), self.peer.piece):
            self.wfile.write(data[start : start + self.peer.piece])

    def answer(self, line: bytes) -> bool:
        assert line.endswith(b"\r\n"), line
        verb, _, argument = line[:-2].partition(b" ")
        if verb == b"QUIT":
            self.say(b"+OK\r\n")
            return False
        self.say(self.reply(verb, argument))
        return True

    def reply(self, verb: bytes, argument: bytes) -> bytes:
        if verb in (b"APOP", b"USER", b"PASS"):
            return self.log_in(verb, argument)
        if verb == b"STAT":
            return b"+OK %d %d\r\n" % (len(self.peer.bodies), self.peer.octets)
        if verb == b"RETR":
            return b"+OK\r\n" + stuffed(self.peer.bodies[int(argument) - 1])
        assert verb in (b"LIST", b"UIDL")
        return b"+OK\r\n" + b"".join(b"%d x\r\n" % (n + 1) for n in range(len(self.peer.bodies))) + b".\r\n"

    def log_in(self, verb: bytes, argument: bytes) -> bytes:
        if verb == b"USER":
            self.name = argument
            return b"+OK\r\n"
        if verb == b"PASS":
            proof, wanted = argument, self.secret()
        else:
            self.name, _, proof = argument.partition(b" ")
            wanted = hashlib.md5(CHALLENGE + self.secret()).hexdigest().encode()
        if proof != wanted:
            return b"-ERR wrong\r\n"
        with self.peer.seen.lock:
            self.peer.seen.logins.append(self.name)
        return b"+OK\r\n"

    def secret(self) -> bytes:
        number = int(self.name.partition(b"@")[0].removeprefix(b"user"))
        return self.peer.secret % number if b"%d" in self.peer.secret else self.peer.secret


class SmtpPeer(Peer):
    """Takes every message; refuses recipients at nowhere.test."""

    def __init__(self) -> None:
        super().__init__(_SmtpSession)


class _SmtpSession(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, SmtpPeer)
        self.seen = self.server.seen
        self.wfile.write(b"220 mail.example.test\r\n")
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline():
                self.wfile.write(self.reply(line[:4].upper(), line))
                if line.startswith(b"QUIT"):
                    return

    def reply(self, verb: bytes, line: bytes) -> bytes:
        if verb == b"EHLO":
            return b"250-mail.example.test\r\n250-PIPELINING\r\n250 SIZE\r\n"
        if verb == b"MAIL":
            with self.seen.lock:
                self.seen.senders.append(line[10:].strip(b"<>\r\n"))
        if verb == b"RCPT":
            if b"@nowhere.test" in line:
                return b"550 5.1.1 no\r\n"
            with self.seen.lock:
                self.seen.recipients.append(line[8:].strip(b"<>\r\n"))
        if verb == b"DATA":
            self.wfile.write(b"354 go on\r\n")
            lines = list(iter(self.rfile.readline, b".\r\n"))
            with self.seen.lock:
                self.seen.messages.append(b"".join(lines))
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"


Kind = TypeVar("Kind", bound=Peer)


@contextlib.contextmanager
def serving(peer: Kind) -> Iterator[Kind]:
    thread = threading.Thread(target=peer.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield peer
    finally:
        peer.shutdown()
        thread.join()
        peer.server_close()
