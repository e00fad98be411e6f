"""A stranger's connection: octets in and out of a non-blocking socket, and the deadlines that no stranger can stretch.

A raw socket and a poller of our own, not a transport: nothing is copied twice on the way out, and it costs least.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from .poller import GONE, READ, WRITE
from .secured import HANDSHAKE_SECONDS, Handshake, Secured

if TYPE_CHECKING:
    from .process import NetworkProcess

READ_SIZE = 16 << 10  # a command or a batch of them; a message body comes in several reads
BODY_READ_SIZE = 64 << 10
RATE_WINDOW = 300.0  # seconds over which the minimum rate is asked for
ANSWER_SECONDS = 120.0  # a neighbour process that is silent for so long is broken; a huge first listing takes less
LEFT_UNREAD = 64 << 10  # octets thrown away at a close of ours, so that it does not become a reset
PEER_ENDED = {"eof", "reset", "quit"}


class Connection:
    """What POP3 and SMTP have in common; a subclass gives the methods that raise NotImplementedError here."""

    __slots__ = (
        "_blocked",
        "_draining",
        "_out",
        "_out_size",
        "_paused",
        "_progress",
        "_wanted",
        "_window_octets",
        "_window_start",
        "asked",
        "closed",
        "closing",
        "handshake",
        "keys",
        "line_time",
        "logged_in",
        "number",
        "octets_in",
        "octets_out",
        "peer",
        "process",
        "read_size",
        "sock",
        "started",
        "tls",
        "waiting_since",
    )

    def __init__(self, process: NetworkProcess, sock: socket.socket, peer: str, number: int) -> None:
        now = process.now()
        self.process = process
        self.sock: socket.socket | Secured = sock
        self.peer = peer
        self.number = number
        self.keys: tuple[str, ...] = ()  # what the crowd counts it under
        self.started = self.line_time = self._progress = self._window_start = now
        self.waiting_since: float | None = None  # an event is with a neighbour since then
        self.asked: object = None  # the link to that neighbour, where it answers itself
        self.handshake: Handshake | None = None  # under way
        self.tls = ("", "")  # version and cipher, once it is established
        self.logged_in = False
        self.closed = self.closing = False
        self.octets_in = self.octets_out = self._window_octets = 0
        self.read_size = READ_SIZE
        self._out: list[bytes | memoryview] = []
        self._out_size = 0
        self._blocked = False  # the socket takes no more; we wait for it
        self._draining = False  # it has been so since the output was last gone
        self._paused = False  # we read no more, for our output waits
        self._wanted = READ
        process.poller.watch(sock.fileno(), READ, self.ready)

    # What a subclass gives.

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    def pump(self) -> None:
        """Do what can be done now, until the client, the socket or a neighbour must be waited for."""
        raise NotImplementedError

    def time_is_up(self, now: float, *, busy: bool) -> str | None:
        """Why this connection must end at `now` (monotonic seconds), or None. `busy`: few connections are left."""
        raise NotImplementedError

    def drain(self) -> None:
        """The server stops: end, unless something is under way that can be finished."""
        raise NotImplementedError

    def expired(self, why: str) -> None:
        """A deadline has passed: say so to the client where that can be done, then close."""
        raise NotImplementedError

    def ended(self, why: str) -> None:
        """The connection is closed: log it, tell the neighbours."""
        raise NotImplementedError

    def tls_established(self) -> None:
        """The handshake is done: go on as a new conversation."""
        raise NotImplementedError

    # The socket.

    def ready(self, events: int) -> None:
        if events & WRITE:
            self._writable()
        if events & READ and not self._paused and not self.closed:
            self._readable()
        elif events & GONE and not self.closed:
            self.close("reset")

    def _want(self) -> None:
        """Have the poller wait for what we can use."""
        self.want((0 if self._paused else READ) | (WRITE if self._blocked else 0))

    def want(self, wanted: int) -> None:
        if wanted != self._wanted and not self.closed:
            self._wanted = wanted
            self.process.poller.change(self.sock.fileno(), wanted)

    # TLS.

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Send what is to be said in the clear, then shake hands. Nothing else is sent or read until that is done."""
        self.handshake = Handshake(self, context)
        self.handshake.ready(0)

    def said_in_the_clear(self) -> bool:
        """All has gone, and more is held back; or not yet (False)."""
        self._blocked = False
        gone = self.flush()
        self._blocked = True
        return gone

    def secured(self, sock: Secured) -> None:
        """The handshake is done."""
        self.handshake = None
        self.tls = sock.version, sock.cipher
        self.line_time = self.process.now()
        self._blocked = self._draining = self._paused = False
        self._want()
        self.guarded(self.tls_established)
        if sock.unread and not self.closed:
            self._readable()

    # Reading.

    def _readable(self) -> None:
        try:
            data = self.sock.recv(self.read_size)
        except BlockingIOError:
            return
        except OSError:
            self.close("reset")
            return
        if not data:
            self.close("eof")
            return
        self.octets_in += len(data)
        self.guarded(self.received, data)

    def guarded(self, step: object, *arguments: object) -> None:
        """Run a step; a bug in it ends this connection and nothing else."""
        try:
            step(*arguments)  # type: ignore[operator]
        except Exception as error:
            self.process.bug(error, type(self).__name__)
            self.close("bug")

    def pause(self) -> None:
        """Read no more until the output is gone, or an answer has come."""
        if not self._paused and not self.closed:
            self._paused = True
            self._want()

    def resume(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            self._want()

    # Writing.

    @property
    def pending(self) -> int:
        """Octets that wait to be sent."""
        return self._out_size

    @property
    def blocked(self) -> bool:
        return self._blocked

    def write(self, data: bytes | memoryview) -> None:
        """Queue; `flush` sends."""
        if data:
            self._out.append(data)
            self._out_size += len(data)

    def flush(self) -> bool:
        """Send what is queued. False: the socket takes no more for now; `pump` will be called."""
        if self._blocked or self.closed:
            return False
        while self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close("reset")
                return False
            self._sent(sent)
            if sent < len(data):
                if not self._draining:
                    self.start_pace()
                self._out = [memoryview(data)[sent:]]
                self._blocked = self._draining = True
                self._want()
                return False
            self._out.clear()
        self._draining = False
        return True

    def _sent(self, octets: int) -> None:
        self._out_size -= octets
        self.octets_out += octets
        if self._draining:
            self.moved(octets)

    def _writable(self) -> None:
        self._blocked = False
        if self.flush():
            self._want()
            if self.closing:
                self.close("quit")
            else:
                self.guarded(self.pump)

    # Ending.

    def close_when_sent(self, why: str) -> None:
        """Close once the output has gone; nothing more is read."""
        if self.flush() or self.handshake is not None:
            self.close(why)
        elif not self.closed:
            self.closing = True
            self.pause()

    def close(self, why: str) -> None:
        if self.closed:
            return
        self.closed = True
        self.process.poller.forget(self.sock.fileno())
        if why not in PEER_ENDED:
            self._discard_input()
        self.sock.close()
        self._out.clear()
        self.handshake = None  # it holds us, too: a circle would keep OpenSSL's memory until the next collection
        self.process.forget(self)
        try:
            self.ended(why)
        except Exception as error:
            self.process.bug(error, type(self).__name__)

    def _discard_input(self) -> None:
        """Octets left unread would turn the close into a reset, and take our last reply from the client."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.recv(LEFT_UNREAD)
        except OSError:
            return

    # Deadlines: absolute, looked at once a second by the process's sweep.

    def overdue(self, now: float, idle: float, stall: float, *, busy: bool) -> str | None:
        """Why this connection's time is up at `now`, or None. `idle` and `stall` in seconds; see config.Limits."""
        limits = self.process.config.limits
        if self.handshake is not None:
            return "handshake" if now - self.handshake.began > HANDSHAKE_SECONDS else None
        if self._blocked:
            return self.slow(now, stall)
        if self.waiting_since is not None:
            patience = ANSWER_SECONDS + self.process.config.pop3.wait
            return "internal" if now - self.waiting_since > patience else None
        if self.logged_in:
            return "idle" if now - self.line_time > idle else None
        if now - self.started > (limits.login_seconds_busy if busy else limits.login_seconds):
            return "login"
        if busy and now - self.line_time > limits.command_seconds_busy:
            return "command"
        return "idle" if now - self.line_time > idle else None

    def start_pace(self) -> None:
        """A body or a long answer begins to move: from now on it must make progress."""
        self._progress = self._window_start = self.process.now()
        self._window_octets = 0

    def moved(self, octets: int) -> None:
        if octets:
            self._window_octets += octets
            self._progress = self.process.now()

    def slow(self, now: float, stall: float) -> str | None:
        """Has what moves stood still for `stall` seconds, or crept for five minutes?"""
        if now - self._progress > stall:
            return "stalled"
        if now - self._window_start > RATE_WINDOW:
            octets, self._window_start, self._window_octets = self._window_octets, now, 0
            return "slow" if octets < self.process.config.limits.minimum_rate * RATE_WINDOW else None
        return None
