"""A client's conversation with a server, written down in C: and S: lines; secrets and digests are hidden in it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from types import TracebackType

from .config import parse_listen
from .terms import TryLater

REPLY_SECONDS = 30.0  # a second login may wait 20 for the first session to end
LINE_LIMIT = 65536
HIDDEN = b"***"

Write = Callable[[str], None]


class Conversation:
    """One connection. `write` gets each line as it is said. Raises TryLater when the server does not play along."""

    def __init__(self, address: str, write: Write, source: str = "") -> None:
        """`address`: where the server says that it listens. `source`: the address to come from."""
        self._write = write
        self._hidden: list[bytes] = []
        try:
            ours = (source, 0) if source else None
            self._sock = socket.create_connection(reachable(address), REPLY_SECONDS, ours)
        except OSError as error:
            raise TryLater(f"{address} can't be reached: {error.strerror or error}") from None
        self._input = self._sock.makefile("rb")

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._input.close()
        self._sock.close()

    def hide(self, text: bytes) -> None:
        """From now on this never gets into the transcript, whoever says it."""
        self._hidden.append(text)

    def say(self, line: bytes) -> None:
        self._note("C", line)
        self._sock.sendall(line + b"\r\n")

    def hear(self, *expected: bytes) -> bytes:
        """One line of the server's; it must begin with one of the expected words, where there are any."""
        try:
            line = self._input.readline(LINE_LIMIT)
        except OSError as error:
            raise TryLater(f"the server did not reply: {error}") from None
        if not line.endswith(b"\n"):
            raise TryLater("the server closed the connection")
        text = line[:-1].removesuffix(b"\r")
        self._note("S", text)
        if expected and not text.startswith(expected):
            raise TryLater(f"the server replied: {self._shown(text)}")
        return text

    def _note(self, who: str, text: bytes) -> None:
        self._write(f"{who}: {self._shown(text)}")

    def _shown(self, text: bytes) -> str:
        for hidden in self._hidden:
            text = text.replace(hidden, HIDDEN)
        return "".join(letter if letter.isprintable() else "?" for letter in text.decode("utf-8", "replace"))


def reachable(address: str) -> tuple[str, int]:
    """Where a client of this machine finds a server that listens there: on all addresses means on loopback too."""
    host, port = parse_listen(address)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def send(address: str, sender: str, recipient: str, message: bytes, write: Write) -> None:
    """Bring a message (CRLF line ends, no line that begins with a dot) by SMTP. Raises TryLater."""
    with Conversation(address, write) as smtp:
        smtp.hear(b"220 ")
        smtp.say(b"EHLO localhost.localdomain")
        while smtp.hear(b"250")[3:4] == b"-":
            pass
        for command, reply in (
            (f"MAIL FROM:<{sender}>", b"250 "),
            (f"RCPT TO:<{recipient}>", b"250 "),
            ("DATA", b"354 "),
        ):
            smtp.say(command.encode())
            smtp.hear(reply)
        for line in message.removesuffix(b"\r\n").split(b"\r\n"):
            smtp.say(line)
        smtp.say(b".")
        smtp.hear(b"250 ")
        smtp.say(b"QUIT")
        smtp.hear(b"221 ")


def try_to_send(address: str, source: str, sender: str, recipient: str, write: Write) -> None:
    """The same from another address of this machine, which must be refused at RCPT. Raises TryLater."""
    with Conversation(address, write, source) as smtp:
        smtp.hear(b"220 ")
        smtp.say(b"HELO stranger.test")
        smtp.hear(b"250 ")
        smtp.say(f"MAIL FROM:<{sender}>".encode())
        smtp.hear(b"250 ")
        smtp.say(f"RCPT TO:<{recipient}>".encode())
        smtp.hear(b"550 ")
        smtp.say(b"QUIT")
        smtp.hear(b"221 ")


def look(address: str, account: str, secret: bytes, write: Write, *, fetch: bool, source: str = "") -> list[bytes]:
    """Log in by APOP and count the messages; fetch the newest one, and leave it there. Its lines. Raises TryLater."""
    lines: list[bytes] = []
    with Conversation(address, write, source) as pop3:
        pop3.hide(secret)
        challenge = _challenge(pop3.hear(b"+OK"))
        digest = hashlib.md5(challenge + secret, usedforsecurity=False).hexdigest().encode()
        pop3.hide(digest)
        pop3.say(b"APOP %b %b" % (account.encode(), digest))
        pop3.hear(b"+OK")
        pop3.say(b"STAT")
        count = pop3.hear(b"+OK ").split(b" ")[1]
        if fetch:
            pop3.say(b"RETR " + count)
            pop3.hear(b"+OK")
            while (line := pop3.hear()) != b".":
                lines.append(line.removeprefix(b"."))
        pop3.say(b"QUIT")
        pop3.hear(b"+OK")
    return lines


def _challenge(greeting: bytes) -> bytes:
    start, end = greeting.find(b"<"), greeting.rfind(b">")
    if not 0 <= start < end:
        raise TryLater("the server's greeting holds no APOP challenge")
    return greeting[start : end + 1]
