"""The parent: reads the configuration, binds ports, starts the processes, replaces those that die, and stops them.

It keeps its privilege, and so it parses no stranger's octet and knows no secret.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import secrets
import select
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from . import __version__, local_socket, log
from .channel import Channel, ChannelClosed, pair
from .children import Birth, Child, adopt_orphans, see_off
from .config import Config, load, needs_restart, to_json
from .home import Home, Identities
from .messages import Configure, Drain, Listen, Message, Neighbour, Ready
from .messages_delivery import Flush
from .network.crowd import Crowd
from .sockets import Bound, bind
from .terms import Misuse, Refused, TryLater

START_SECONDS = 30.0  # until all processes are ready
LAST_SECONDS = 5.0  # for the processes without strangers to end
RESTART_SECONDS = 1.0  # between two starts of a process that dies at once
CLASSIC = 'relay.style = "classic": whoever shares an address with a POP3 client of ours may send through this host'
NOBODY = "the lists of `listen` are all empty: nobody could come in; `serve --no-listen` says that it is meant so"
PROTOCOLS = ("pop3", "pop3s", "smtp", "submission", "submissions")  # that strangers speak


class Parent:
    """All processes of one home."""

    def __init__(self, home: Home, config: Config, identities: Identities, *, listens: bool = True) -> None:
        """`listens`: False where no stranger comes in here, whatever the configuration says."""
        self._home = home
        self._config = config
        self._identities = identities
        self._listens = listens
        count = (config.processes.network or os.cpu_count() or 1) if listens else 0
        self._networks = [Child("network", number) for number in range(count)]
        self._broker, self._delivery = Child("broker", 0), Child("delivery", 0)
        self._children = [self._broker, self._delivery, *self._networks]
        self._crowd = mmap.mmap(-1, Crowd.size(max(1, count)))
        self._crowd_key = secrets.randbits(64)
        self._bound: list[Bound] = []
        self._local: tuple[socket.socket, ...] = ()  # to the delivery process: mail, and commands, of this machine
        self._signals: set[int] = set()
        self._strangers: set[int] = set()
        self._generation = 1
        self._fixed = config  # what a reload can't change is still as it says
        self._refusals, self._refusal = 0, ""
        self._started = time.time()
        self._serving = self._stopping = False

    # Starting.

    def run(self, ready: Callable[[dict[str, object]], None] | None = None) -> int:
        """Serve until a signal says stop. `ready` is called once with the status, when strangers can come in."""
        wakeup = self._watch_signals()
        self._strangers = adopt_orphans()
        try:
            self._bound = self._bind(self._config)
            self._local = (local_socket.bind(self._home.send, 0o666), local_socket.bind(self._home.control, 0o600))
            for child in self._children:
                self._start(child)
            self._listen()
            if not self._wait_until_ready(wakeup):
                return 1
            self._serving = True
            self._announce()
            listen = {protocol: ",".join(places) for protocol, places in self._places().items()}
            self._warn()
            log.line("started", version=__version__, home=self._home.folder, **listen)
            if ready is not None:
                ready(self.status())
            self._watch(wakeup)
            return 0
        finally:
            self._stop(wakeup)

    def _watch_signals(self) -> int:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, self._signalled)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # would end us without a word
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        return reader

    def _signalled(self, number: int, _: FrameType | None) -> None:
        self._signals.add(number)

    def _bind(self, config: Config) -> list[Bound]:
        """Every configured address; one that is already bound is kept."""
        if not self._listens:
            return []
        if not any(getattr(config.listen, protocol) for protocol in PROTOCOLS):
            raise Refused(NOBODY)
        before = {(bound.protocol, bound.wanted): bound for bound in self._bound}
        made: list[Bound] = []
        try:
            for protocol in PROTOCOLS:
                for wanted in getattr(config.listen, protocol):
                    if (protocol, wanted) not in before:
                        made.append(bind(protocol, wanted, len(self._networks), self._home.config))
                        before[protocol, wanted] = made[-1]
        except (Refused, TryLater):
            for bound in made:
                bound.close()
            raise
        return [before[p, w] for p in PROTOCOLS for w in getattr(config.listen, p)]

    def _start(self, child: Child) -> None:
        ours, theirs = pair()
        child.ready, child.restart_at, child.started = False, None, time.monotonic()
        networks = len(self._networks)
        birth = Birth(
            self._home, self._config, self._identities, networks, self._crowd, self._crowd_key, first=not self._serving
        )
        child.pid = os.fork()
        if child.pid == 0:
            birth.become(child, theirs)
        theirs.close()
        child.control = Channel(ours, Ready)
        self._say(child, Configure(to_json(self._config)))
        self._introduce(child)

    def _introduce(self, child: Child) -> None:
        """Channels from a new process to all that it speaks with."""
        if child is self._broker:
            others = [*self._networks, self._delivery]
        elif child is self._delivery:
            others = [self._broker, *self._networks]
        else:
            others = [self._broker, self._delivery]
        for other in others:
            if other.control is not None:
                ours, theirs = pair()
                self._say(child, Neighbour(other.room, other.number), (ours.detach(),))
                self._say(other, Neighbour(child.room, child.number), (theirs.detach(),))

    def _listen(self) -> None:
        for child in (*self._networks, self._delivery):
            self._say_listen(child)

    def _say_listen(self, child: Child) -> None:
        if child is self._delivery:
            self._say(child, Listen(("send", "control")), tuple(os.dup(sock.fileno()) for sock in self._local))
            return
        descriptors = tuple(os.dup(bound.sockets[child.number].fileno()) for bound in self._bound)
        protocols = tuple(bound.protocol for bound in self._bound)
        self._say(child, Listen(protocols), descriptors)

    def _say(self, child: Child, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        if child.control is None:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        child.control.send(message, descriptors)
        with contextlib.suppress(ChannelClosed):
            child.control.flush()  # what does not fit waits for the next flush in _poll

    def _wait_until_ready(self, wakeup: int) -> bool:
        until = time.monotonic() + START_SECONDS
        while not all(child.ready for child in self._children):
            self._poll(wakeup, max(0.0, until - time.monotonic()))
            if signal.SIGTERM in self._signals or signal.SIGINT in self._signals:
                return False
            if any(not child.pid for child in self._children) or time.monotonic() > until:
                log.line("cannot-start", why="a process did not get ready; the lines above say why")
                return False
        return True

    # Running.

    def _watch(self, wakeup: int) -> None:
        while not self._signals & {signal.SIGTERM, signal.SIGINT}:
            self._poll(wakeup, self._next_restart())
            if signal.SIGHUP in self._signals:
                self._signals.discard(signal.SIGHUP)
                self._reload()
            if signal.SIGALRM in self._signals:
                self._signals.discard(signal.SIGALRM)
                self._say(self._delivery, Flush())
            for child in self._children:
                if child.restart_at is not None and time.monotonic() >= child.restart_at:
                    self._restart(child)

    def _poll(self, wakeup: int, seconds: float) -> None:
        """Wait for a signal, or for a word from a child."""
        channels = {child.control.fileno(): child for child in self._children if child.control is not None}
        ready, writable, _ = select.select(
            [wakeup, *channels],
            [fd for fd, child in channels.items() if child.control is not None and not child.control.idle],
            [],
            seconds,
        )
        for descriptor in writable:
            with contextlib.suppress(ChannelClosed):
                channels[descriptor].control.flush()  # type: ignore[union-attr]
        for descriptor in ready:
            if descriptor == wakeup:
                with contextlib.suppress(BlockingIOError):
                    os.read(wakeup, 512)
            else:
                self._hear(channels[descriptor])
        self._reap()

    def _hear(self, child: Child) -> None:
        assert child.control is not None
        try:
            for _ in child.control.read():
                child.ready = True
        except ChannelClosed:
            child.control.close()
            child.control = None

    def _reap(self) -> None:
        """Ours, and what they leave behind: children.adopt_orphans."""
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                for child in self._children:
                    if child.pid == pid:
                        self._died(child)

    def _died(self, child: Child) -> None:
        pid, child.pid = child.pid, 0
        if child.control is not None:
            child.control.close()
            child.control = None
        if self._stopping:
            return
        log.line("process-died", process=child.name, pid=pid)
        if child.room == "network":
            Crowd.clear(self._crowd, child.number)
        lived = time.monotonic() - child.started
        child.restart_at = time.monotonic() + (RESTART_SECONDS if lived < RESTART_SECONDS else 0.0)

    def _next_restart(self) -> float:
        times = [child.restart_at for child in self._children if child.restart_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else 3600.0

    def _restart(self, child: Child) -> None:
        try:
            self._start(child)
        except OSError as error:  # out of processes, memory or descriptors: the others go on
            log.line("cannot-restart", process=child.name, why=error.strerror)
            child.pid, child.restart_at = 0, time.monotonic() + RESTART_SECONDS
            return
        if child is not self._broker:
            self._say_listen(child)
        self._announce()

    def _reload(self) -> None:
        """Read the configuration again; one with an error in it changes nothing."""
        try:
            config = load(self._home.config)
            bound = self._bind(config)
        except (Refused, TryLater, Misuse) as error:
            log.line("reload-refused", why=str(error))
            self._refusals, self._refusal = self._refusals + 1, str(error)
            self._announce()
            return
        gone = [old for old in self._bound if old not in bound]
        self._config, self._bound = config, bound
        log.configure(host=config.hostname, to=config.log.to, form=config.log.format)
        for child in self._children:
            self._say(child, Configure(to_json(config)))
        self._listen()
        for old in gone:
            old.close()
        self._generation += 1
        waiting = ",".join(needs_restart(self._fixed, config)) or None
        self._warn()
        log.line("reloaded", generation=self._generation, needs_restart=waiting)
        self._announce()

    def _warn(self) -> None:
        if self._config.relay.style == "classic":
            log.line("warning", what=CLASSIC)

    def status(self) -> dict[str, object]:
        """What `pillarbox status --json` prints."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "generation": self._generation,
            "started": self._started,
            "hostname": self._config.hostname,
            "listen": self._places(),
            "processes": {child.name: child.pid for child in self._children},
            "needs_restart": needs_restart(self._fixed, self._config),
            "reload_refused": {"times": self._refusals, "why": self._refusal},
        }

    def _places(self) -> dict[str, list[str]]:
        """Where we listen, by protocol."""
        listen: dict[str, list[str]] = {protocol: [] for protocol in PROTOCOLS}
        for bound in self._bound:
            listen[bound.protocol].append(bound.address)
        return listen

    def _announce(self) -> None:
        try:
            self._home.write_status(self.status())
        except OSError as error:  # a full disk: serving goes on
            log.line("status-not-written", why=error.strerror)

    # Stopping.

    def _stop(self, wakeup: int) -> None:
        """First those who meet strangers, within the grace time; then those behind them. Only our own children."""
        self._stopping = True
        for bound in self._bound:
            bound.close()
        for sock in self._local:
            sock.close()
        grace = self._config.processes.grace
        self._end(self._networks, grace, wakeup)
        self._end([self._delivery], max(grace, LAST_SECONDS), wakeup)
        self._end([self._broker], LAST_SECONDS, wakeup)
        see_off(self._strangers)
        self._home.remove_status()

    def _end(self, children: list[Child], grace: float, wakeup: int) -> None:
        for child in children:
            self._say(child, Drain(grace))
        until = time.monotonic() + grace + 1.0
        while any(child.pid for child in children) and time.monotonic() < until:
            self._poll(wakeup, max(0.0, until - time.monotonic()))
        for child in children:
            if child.pid:
                log.line("process-killed", process=child.name, pid=child.pid)
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0


def run(
    home: Home,
    config: Config,
    *,
    ready: Callable[[dict[str, object]], None] | None = None,
    listens: bool = True,
) -> int:
    """Serve in the foreground; exit status. The caller holds the home's lock. Raises Refused when it can't start.

    `listens`: see Parent.
    """
    _raise_descriptor_limit()
    _preload()
    log.configure(host=config.hostname, to=config.log.to, form=config.log.format)
    identities = Identities.of(config)
    home.prepare(identities)
    status = Parent(home, config, identities, listens=listens).run(ready)
    log.line("stopped")
    return status


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _preload() -> None:
    """What every process needs is loaded before they are forked: one that gave its uid away may not be able to."""
    import asyncio  # noqa: F401
    import concurrent.futures.thread  # noqa: F401
    import ctypes  # noqa: F401
    import encodings.idna  # noqa: F401

    with contextlib.suppress(ImportError):
        import uvloop  # noqa: F401
