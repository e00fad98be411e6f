"""A network process: meets strangers, owns no file, knows no secret. It asks its neighbours for everything else."""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from .. import log
from ..channel import close_all
from ..config import Config
from ..key_pair import KeyPair
from ..link import Descriptors, Link, run
from ..messages import Configure, Drain, FromParent, Listen, Neighbour, Ready
from ..policy import tcprules
from ..policy.networks import Networks, host_of, network_of
from .connection import Connection
from .contexts import contexts
from .crowd import Crowd
from .listener import Listener
from .neighbours import Asker, Neighbours
from .poller import Poller
from .pop3 import Pop3Connection
from .smtp import SmtpConnection

RULED = ("smtp", "pop3")  # the protocols that rules of tcprules may be given for
SWEEP_SECONDS = 1.0
BUSY_SHARE = 0.8  # of all connections; above it strangers get less time to log in
REFUSALS_LOGGED = 10  # a second; a flood must not fill the disk
SESSION_OCTETS = 7  # of a session's number: out of reach of guessing, and a positive msgpack integer
WAITING_SECONDS = 20.0  # for a challenge; a broker starts in one
WAITING_LIMIT = 1024  # connections that the broker's next challenges will greet
SPARE_DESCRIPTORS = 256  # for listeners, channels and what Python opens


class NetworkProcess:
    """All connections of one process, its listeners, its neighbours."""

    def __init__(self, control: socket.socket, number: int, crowd: Crowd) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = time.monotonic
        self.poller = Poller(self.loop)
        self.number = number
        self.config = Config()
        self.trusted = Networks(())
        self._rules: dict[str, dict[bytes, bytes]] = {}  # by protocol, as far as they are known: see policy.tcprules
        self.neighbours = Neighbours(self)
        self.connections: set[Connection] = set()
        self.ended = asyncio.Event()
        self.draining = False
        self.opened_ahead = 0  # descriptors of messages that wait for their RETR, over all sessions
        self._crowd = crowd
        self.contexts: dict[str, ssl.SSLContext] = {}  # for "pop3" and "smtp"; empty: there is no TLS
        self._certificates_came = False
        self._held: Listen | None = None  # what to listen on, once they have
        self._held_descriptors: Descriptors = ()
        self._listeners: list[Listener] = []
        self._waiting: deque[tuple[socket.socket, Callable[[bytes], None]]] = deque()
        self._refusals = 0
        self._ready = False
        self._parent: Link = Link(control, FromParent, self._from_parent, self.ended.set)
        self.loop.call_later(SWEEP_SECONDS, self._sweep)

    # The parent.

    def _from_parent(self, message: FromParent, descriptors: Descriptors) -> None:
        match message:
            case Configure(text):
                self._configure(msgspec.json.decode(text, type=Config))
            case Listen():
                self._held, self._held_descriptors = message, descriptors
                self._listen()
            case Neighbour(room):
                self.neighbours.attach(room, socket.socket(fileno=descriptors[0]))
            case Drain(grace):
                self._drain(grace)

    def _configure(self, config: Config) -> None:
        """Sessions that are open keep what they were begun with."""
        self.config = config
        self.trusted = Networks(tuple(config.policy.trusted))
        log.configure(host=config.hostname, to=config.log.to, form=config.log.format)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        processes = self._crowd.processes
        self.own_limit = descriptors - SPARE_DESCRIPTORS  # connections that this process has descriptors for
        self.ahead_limit = max(0, descriptors - config.limits.connections // processes - SPARE_DESCRIPTORS)

    def certificates_came(self, pairs: tuple[KeyPair, ...]) -> None:
        """TLS is spoken with these from now on; sessions that are open keep what they began with."""
        try:
            self.contexts = contexts(pairs) or self.contexts
        except (OSError, ValueError) as error:
            log.line("certificate-refused", why=str(error))
        self._certificates_came = True
        self._listen()

    def _listen(self) -> None:
        """Not before we know of certificates: to offer no TLS for a moment would be to take passwords in the clear."""
        if self._held is None or not self._certificates_came:
            return
        protocols, descriptors = self._held.protocols, self._held_descriptors
        self._held, self._held_descriptors = None, ()
        if self.draining:
            close_all(descriptors)
            return
        for listener in self._listeners:
            listener.close()
        opened: dict[str, Callable[[socket.socket, str], None]] = {
            "pop3": self._open_pop3,
            "pop3s": partial(self._open_pop3, secured=True),
            "smtp": self._open_smtp,
            "submission": self._open_submission,
            "submissions": partial(self._open_submission, secured=True),
        }
        self._listeners = [
            Listener(self, socket.socket(fileno=descriptor), protocol, opened[protocol])
            for protocol, descriptor in zip(protocols, descriptors, strict=True)
        ]
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Once, when nobody has to be sent away for want of rules."""
        if not self._ready and self._listeners and all(self.knows_rules(protocol) for protocol in RULED):
            self._ready = True
            self._parent.send(Ready())

    def _drain(self, grace: float) -> None:
        """Refuse new work; idle sessions end now, what is being sent is finished within `grace` seconds."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self.connections):
            connection.guarded(connection.drain)
        self.loop.call_later(grace, self._end)
        self._end_if_empty()

    def _end(self) -> None:
        for connection in list(self.connections):
            connection.close("shutdown")
        self.ended.set()

    def _end_if_empty(self) -> None:
        if self.draining and not self.connections:
            self.ended.set()

    # Strangers.

    def take_rules(self, protocol: str, records: tuple[tuple[bytes, bytes], ...]) -> None:
        """From now on these say who may connect; the first record of a key counts."""
        self._rules[protocol] = dict(reversed(records))
        self._tell_ready()

    def has_rules(self, protocol: str) -> bool:
        """Are there to be rules?"""
        policy = self.config.policy
        return bool({"smtp": policy.rules_smtp, "pop3": policy.rules_pop3}.get(_ruled_as(protocol)))

    def knows_rules(self, protocol: str) -> bool:
        """Can be told who may connect?"""
        return _ruled_as(protocol) in self._rules or not self.has_rules(protocol)

    def denied(self, peer: str, protocol: str) -> bool:
        """Do the rules deny this peer?"""
        rules = self._rules.get(_ruled_as(protocol), {}) if self.has_rules(protocol) else {}
        return bool(rules) and not tcprules.judge(rules.get, peer.encode("ascii"), None, None).allowed

    def full(self, peer: str) -> str:
        """Why this peer may not come in, or nothing."""
        limits = self.config.limits
        if not self.trusted.contains(peer):
            if self._crowd.count(host_of(peer)) >= limits.connections_per_address:
                return "too many connections from your address"
            if self._crowd.count(network_of(peer)) >= limits.connections_per_network:
                return "too many connections from your network"
        full = self._crowd.count("") >= limits.connections or len(self.connections) >= self.own_limit
        return "too many connections, try again later" if full and not self._drop_oldest_stranger() else ""

    def _drop_oldest_stranger(self) -> bool:
        """When full, whoever has been here longest without logging in makes room."""
        strangers = [c for c in self.connections if not c.logged_in and isinstance(c, Pop3Connection)]
        if not strangers:
            return False
        min(strangers, key=lambda connection: connection.started).expired("full")
        return True

    def refused(self, peer: str, protocol: str, why: str) -> None:
        self._refusals += 1
        if self._refusals <= REFUSALS_LOGGED:
            log.line("connection-refused", rip=peer, proto=protocol, why=why)

    def _open_pop3(self, sock: socket.socket, peer: str, *, secured: bool = False) -> None:
        def enter(challenge: bytes) -> None:
            connection = Pop3Connection(self, sock, peer, self._next_session(), challenge, secured=secured)
            self._enter(connection, self.contexts["pop3"] if secured else None)

        if self._has_tls(sock, peer, "pop3s", secured=secured):
            self._greet(sock, enter)

    def _open_submission(self, sock: socket.socket, peer: str, *, secured: bool = False) -> None:
        def enter(challenge: bytes) -> None:
            number = self._next_session()
            connection = SmtpConnection(self, sock, peer, number, challenge, submission=True, secured=secured)
            self._enter(connection, self.contexts["smtp"] if secured else None)

        if self._has_tls(sock, peer, "submissions", secured=secured):
            self._greet(sock, enter)

    def _has_tls(self, sock: socket.socket, peer: str, protocol: str, *, secured: bool) -> bool:
        """Where TLS comes first and there is no certificate, nothing can be said."""
        if secured and not self.contexts:
            self.refused(peer, protocol, "no certificate")
            sock.close()
        return not secured or bool(self.contexts)

    def _open_smtp(self, sock: socket.socket, peer: str) -> None:
        self._enter(SmtpConnection(self, sock, peer, self._next_session()))

    def _greet(self, sock: socket.socket, enter: Callable[[bytes], None]) -> None:
        """Let a client in with a challenge of its own, or have it wait for one."""
        challenge = self.neighbours.challenge()
        if challenge is not None:
            enter(challenge)
        elif len(self._waiting) >= WAITING_LIMIT or self.draining:
            sock.close()
        else:
            self._waiting.append((sock, enter))
            self.loop.call_later(WAITING_SECONDS, self._waited_enough, sock)

    def _waited_enough(self, sock: socket.socket) -> None:
        for entry in list(self._waiting):
            if entry[0] is sock:
                self._waiting.remove(entry)
                sock.close()

    def challenges_came(self) -> None:
        """Those whom we could not greet until now."""
        while self._waiting and (challenge := self.neighbours.challenge()):
            self._waiting.popleft()[1](challenge)

    def _next_session(self) -> int:
        """Random: a worker that was not told the number of a session can't answer for it."""
        return int.from_bytes(os.urandom(SESSION_OCTETS), "big")

    def enlist(self, asker: Asker) -> int:
        """A number of its own for one question, so that no late answer is taken for another's; see `release`."""
        number = self._next_session()
        self.neighbours.sessions[number] = asker
        return number

    def release(self, number: int) -> None:
        """The question is settled: what still comes for it is given back."""
        self.neighbours.sessions.pop(number, None)

    def _enter(self, connection: Pop3Connection | SmtpConnection, context: ssl.SSLContext | None = None) -> None:
        """`context`: TLS comes first."""
        connection.keys = ("",) if self.trusted.contains(connection.peer) else ("", *_keys(connection.peer))
        self._crowd.enter(connection.keys)
        self.connections.add(connection)
        self.neighbours.sessions[connection.number] = connection
        if context is None:
            connection.guarded(connection.pump)
        else:
            connection.guarded(connection.start_tls, context)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.neighbours.sessions.pop(connection.number, None)
        self._crowd.leave(connection.keys)
        if self.draining:
            self._end_if_empty()

    def bug(self, error: BaseException, where: str) -> None:
        log.bug(error, where=where)

    def _sweep(self) -> None:
        self.loop.call_later(SWEEP_SECONDS, self._sweep)
        if self._refusals > REFUSALS_LOGGED:
            log.line("connections-refused", more=self._refusals - REFUSALS_LOGGED)
        self._refusals = 0
        self.neighbours.tell_greeted()
        now = self.now()
        busy = self._crowd.count("") > BUSY_SHARE * self.config.limits.connections
        for connection in list(self.connections):
            if why := connection.time_is_up(now, busy=busy):
                connection.guarded(connection.expired, why)


def _keys(peer: str) -> tuple[str, str]:
    return host_of(peer), network_of(peer)


def _ruled_as(protocol: str) -> str:
    """The same rules hold under TLS from the first octet."""
    return "pop3" if protocol == "pop3s" else protocol


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """One line in place of a trace: by a server name that is no ASCII a stranger can have Python's ssl raise at will."""
    log.line("ignored", error=ignored.exc_type.__name__, where=getattr(ignored.object, "__name__", None))


async def _main(control: socket.socket, number: int, crowd: Crowd) -> None:
    process = NetworkProcess(control, number, crowd)
    await process.ended.wait()


def main(control: socket.socket, number: int, shared: mmap.mmap, processes: int, key: int) -> None:
    """Serve until the parent says Drain or has gone. Privilege is given away by the caller before this."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_IGN)  # the parent tells us; a Ctrl-C reaches the whole foreground group
    sys.unraisablehook = _unraisable
    run(_main(control, number, Crowd(shared, processes, number, key)))
