"""TLS on a stranger's socket: what looks like the socket to the connection above it, and the handshake before it.

Two memory buffers and not an SSLSocket: OpenSSL would read and write the socket record by record, which costs twice the
CPU of a login, and could want to write in the middle of a read.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from .contexts import Context
from .poller import GONE, READ, WRITE

if TYPE_CHECKING:
    from .connection import Connection

RECORD = 16 << 10  # octets in a TLS record, at most (RFC 8446 section 5.1)
BATCH = 4 * RECORD  # encrypted before they are sent
UNSENT_LIMIT = 256 << 10  # octets of ciphertext; what OpenSSL answers to a flood of key updates grows without us
HANDSHAKE_SECONDS = 15.0  # a phone on a bad line needs three


class Secured:
    """A socket's `recv`, `send`, `shutdown`, `close`, with its errors, and clear octets; non-blocking."""

    __slots__ = ("_incoming", "_outgoing", "_owed", "_sock", "_tls", "_told", "_unsent")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent: bytes | memoryview = b""  # ciphertext that the socket has not taken
        self._owed = 0  # clear octets within it that `send` has not said to be sent
        self._told = False  # the peer knows that no more comes

    def fileno(self) -> int:
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._sock.setsockopt(level, option, value)

    @property
    def version(self) -> str:
        return self._tls.version() or ""

    @property
    def cipher(self) -> str:
        cipher = self._tls.cipher()
        return cipher[0] if cipher else ""

    @property
    def end_point(self) -> bytes:
        """The channel binding of the certificate that was presented, which SNI has chosen; empty: it has none."""
        context = self._tls.context
        return context.end_point if isinstance(context, Context) else b""

    # The handshake.

    def shake(self) -> bool:
        """Go on with the handshake as far as what has come allows. True: it is done. Raises OSError; see `waits`."""
        with contextlib.suppress(BlockingIOError):
            self._take_in(RECORD)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._push()  # the alert that says why
            raise
        self._push()
        return True

    def flush(self) -> None:
        """Send what waits. Raises OSError."""
        self._push()

    @property
    def waits(self) -> bool:
        """Ciphertext waits until the socket takes more."""
        return len(self._unsent) > 0

    @property
    def unread(self) -> bool:
        """Something of the client's came along with its part of the handshake, and no event will tell of it."""
        return self._incoming.pending > 0

    def _take_in(self, size: int) -> None:
        data = self._sock.recv(size)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)

    # Reading.

    def recv(self, size: int) -> bytes:
        """All that has come, b"" at its end. Nothing decrypted is left behind where no event would tell of it."""
        try:
            data = self._sock.recv(size)
        except BlockingIOError:
            if not self._incoming.pending:
                raise
        else:
            if not data and not self._incoming.pending:
                return b""
            self._incoming.write(data)
        pieces, ended = self._decrypt()
        if ended and pieces:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)  # so that the next event tells of the end
        self._push()
        if not pieces and not ended:
            raise BlockingIOError
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _decrypt(self) -> tuple[list[bytes], bool]:
        """Clear octets, and has the peer ended?"""
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(RECORD):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return pieces, False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._push()
            raise
        return pieces, True

    # Writing.

    def send(self, data: bytes | memoryview) -> int:
        """How many octets have gone. The rest must come again in front, as with OpenSSL: some of it is encrypted."""
        sent, view = 0, memoryview(data)
        while sent < len(view):
            if not self._owed:
                self._owed = self._encrypt(view[sent : sent + BATCH])
            gone = self._push()
            left = len(self._unsent)
            taken = min(gone, self._owed - 1) if left else self._owed  # ciphertext for clear octets, but for the end
            self._owed -= taken
            sent += taken
            if left:
                break
        return sent

    def _encrypt(self, data: memoryview) -> int:
        done = 0
        while done < len(data):
            done += self._tls.write(data[done:])
        return done

    def _push(self) -> int:
        """Send ciphertext; how much has gone. Raises OSError where too much of it waits."""
        if self._outgoing.pending:
            fresh = self._outgoing.read()
            self._unsent = bytes(self._unsent) + fresh if self._unsent else fresh
        if not self._unsent:
            return 0
        try:
            gone = self._sock.send(self._unsent)
        except BlockingIOError:
            gone = 0
        self._unsent = memoryview(self._unsent)[gone:] if gone < len(self._unsent) else b""
        if len(self._unsent) > UNSENT_LIMIT:
            raise ConnectionResetError("the peer does not read")
        return gone

    # Ending.

    def _tell(self) -> None:
        """Without it the peer could take our end for a stranger's doing, who cuts the line (RFC 8446 section 6.1)."""
        if self._told:
            return
        self._told = True
        with contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._push()

    def shutdown(self, how: int) -> None:
        self._tell()
        self._sock.shutdown(how)

    def close(self) -> None:
        self._tell()
        self._sock.close()


class Handshake:
    """Between a connection in the clear, or a new one, and the same under TLS: has the poller's ear meanwhile."""

    __slots__ = ("_connection", "_context", "_done", "_secured", "began")

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        """`connection` reads nothing more in the clear; what it has still to say is sent first."""
        self._connection = connection
        self._context = context
        self._secured: Secured | None = None
        self._done = False  # what is left of it is ours to send
        self.began = connection.process.now()
        connection.process.poller.hand_over(connection.sock.fileno(), self.ready)

    def ready(self, events: int) -> None:
        if events & GONE and not events & (READ | WRITE):
            self._connection.close("reset")
        else:
            self._connection.guarded(self._step)

    def _step(self) -> None:
        try:
            self._go_on()
        except ssl.SSLError as error:
            self._connection.close(f"handshake: {error.reason or 'refused'}")
        except OSError:
            self._connection.close("reset")

    def _go_on(self) -> None:
        connection = self._connection
        if self._secured is None:
            if not connection.said_in_the_clear():
                connection.want(WRITE)
                return
            assert isinstance(connection.sock, socket.socket)
            connection.sock = self._secured = Secured(connection.sock, self._context)
        secured = self._secured
        if self._done:
            secured.flush()
        else:
            self._done = secured.shake()
        if self._done and not secured.waits:
            connection.process.poller.hand_over(secured.fileno(), connection.ready)
            connection.secured(secured)
        elif self._done:  # who does not read our last words is not listened to: it would all be kept
            connection.want(WRITE)
        else:
            connection.want(READ | WRITE if secured.waits else READ)
