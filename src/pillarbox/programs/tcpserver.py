"""tcpserver (ucspi-tcp): accept connections, and run a program for each.

    tcpserver [-1UXpPhHrRoOdDqQv46T] [-c limit] [-x rules.cdb] [-B banner] [-g gid] [-u uid] [-b backlog] [-l localname]
              [-t timeout] [-I interface] HOST PORT PROGRAM [ARG ...]

HOST: 0 for all addresses, or one, or a name; PORT: a number, 0 for any that is free, or a name. The program has the
connection as descriptors 0 and 1; 2 and all others are as tcpserver was given them. It finds PROTO, TCPLOCALIP,
TCPLOCALPORT, TCPLOCALHOST, TCPREMOTEIP, TCPREMOTEPORT, TCPREMOTEHOST and TCPREMOTEINFO in its environment (what is not
known is removed), and what the rules of -x set, which counts more. tcpserver writes its log to descriptor 2, with -1 the
port to descriptor 1.

Exit status: 0 at SIGTERM, 100 for a wrong use, 111 for trouble. A process that the rules deny ends with 100, one without
rules or program with 111.

Departs from the original: -u and -g take names, too, an unknown one is fatal, and -u without -g takes on the user's group
(the original stays root); -T: SIGTERM goes on to the programs that run, and tcpserver waits for them (without -T they
are left alone; a second SIGTERM ends it at once); -6: an IPv6 socket, with HOST 0 for IPv4 also; -4: never one; without
both, IPv4 unless HOST is an IPv6 address; names are looked up by the system's resolver, /etc/hosts included; -t bounds
the whole conversation with an identity server; -c 0 is refused; a port above 65535 is refused; without descriptors to
spare it waits a second instead of trying on and on.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import time
from typing import NoReturn

from . import chain, tcpserver_connection
from .chain import TROUBLE, Environment, complain, die, words
from .tcpserver_options import Options, identity, parsed

SIGNALS = (signal.SIGCHLD, signal.SIGTERM)
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FULL_SECONDS = 1.0  # for which then no connection is accepted
PORTS = 65536
_SIGNALS_READ = 512


def main(arguments: list[bytes], environment: Environment) -> int:
    options = parsed(arguments)
    null = _null()
    listener = listening(options)
    become(options, environment)
    if options.tells_port:
        tell(b"%d\n" % listener.getsockname()[1])
    os.dup2(null, 0)
    os.dup2(null, 1)
    gc.disable()  # nothing here makes circles; what is not touched stays shared with the processes of the connections
    Server(options, environment, listener).run()


def _null() -> int:
    """A descriptor of /dev/null; 0 to 2 are taken from then on, so that no socket becomes one of them."""
    while (descriptor := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    return descriptor


def tell(line: bytes) -> None:
    try:
        chain.write_all(1, line)
    except OSError:
        pass  # nobody wants to know


def listening(options: Options) -> socket.socket:
    """The socket that listens. Ends with status 111 where there can't be one."""
    address = address_of(options)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    what = "create socket"
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        what = "bind"
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            scope = socket.if_nametoindex(os.fsdecode(options.interface)) if options.interface else 0
            listener.bind((*address, 0, scope))
        else:
            listener.bind(address)
        what = "listen"
        listener.listen(options.backlog)
    except OSError as error:
        die(TROUBLE, f"tcpserver: fatal: unable to {what}: {words(error)}")
    listener.setblocking(False)  # a connection may be gone before it is accepted
    return listener


def address_of(options: Options) -> tuple[str, int]:
    port = port_of(options.port)
    if options.host in (b"", b"0"):
        return ("::" if options.family == b"6" else "0.0.0.0"), port
    family = {b"4": socket.AF_INET, b"6": socket.AF_INET6}.get(options.family, socket.AF_UNSPEC)
    host = os.fsdecode(options.host)
    try:
        found = socket.getaddrinfo(options.host, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            die(TROUBLE, f"tcpserver: fatal: temporarily unable to figure out IP address for {host}")
        die(TROUBLE, f"tcpserver: fatal: no IP address for {host}")
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # a name is looked up for IPv4 first
    return str(found[0][4][0]).partition("%")[0], port


def port_of(text: bytes) -> int:
    try:
        port = int(text) if text.isdigit() and len(text) <= 5 else socket.getservbyname(os.fsdecode(text), "tcp")
    except (OSError, UnicodeError):
        port = PORTS
    if port >= PORTS:
        die(TROUBLE, f"tcpserver: fatal: unable to figure out port number for {os.fsdecode(text)}")
    return port


def become(options: Options, environment: Environment) -> None:
    """Groups, gid, uid. Ends with status 111 where we may not."""
    gid, uid = identity(options, environment)
    what = "gid"
    try:
        if gid is not None:
            os.setgroups([gid])
            os.setresgid(gid, gid, gid)
        what = "uid"
        if uid is not None:
            os.setresuid(uid, uid, uid)
    except OSError as error:
        die(TROUBLE, f"tcpserver: fatal: unable to set {what}: {words(error)}")


class Server:
    """The loop: signals are told through a pipe, so that none falls between a look and a wait."""

    def __init__(self, options: Options, environment: Environment, listener: socket.socket) -> None:
        self._options = options
        self._environment = environment
        self._listener = listener
        self._children: set[int] = set()
        self._wake, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._ending = False

    def run(self) -> NoReturn:
        self._log_status()
        while not self._ending or self._children:
            for descriptor in self._ready():
                if descriptor == self._wake:
                    self._heed()
                elif not self._ending:
                    self._accept()
        raise SystemExit(0)

    def _ready(self) -> list[int]:
        """Above the limit connections wait in the socket's backlog."""
        full = self._ending or len(self._children) >= self._options.limit
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if not full:
            poll.register(self._listener, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll()]

    def _heed(self) -> None:
        """What signals have come? A SIGTERM ends us, at once or when all children have ended."""
        if signal.SIGTERM in os.read(self._wake, _SIGNALS_READ):
            if self._ending or not self._options.ends_children:
                raise SystemExit(0)
            self._ending = True
            self._listener.close()
            for pid in self._children:
                os.kill(pid, signal.SIGTERM)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._children:  # and not one of whoever became us by exec
                self._children.remove(pid)
                self._log(f"end {pid} status {status}")
                self._log_status()

    def _accept(self) -> None:
        try:
            peer, address = self._listener.accept()
        except OSError as error:  # mostly one that is gone already
            if error.errno in FULL:
                time.sleep(FULL_SECONDS)
            return
        with peer:
            self._log_status(1)
            pid = tcpserver_connection.spawned(peer, address, self._options, self._environment)
            if pid is None:
                self._fork(peer, address)
            else:
                self._children.add(pid)

    def _fork(self, peer: socket.socket, address: tuple[str, int]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child has no part in our pipe
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if self._options.verbosity:
                complain(f"tcpserver: warning: dropping connection, unable to fork: {words(error)}")
            self._log_status()
            return
        if not pid:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self._listener.close()
            tcpserver_connection.serve(peer, address, self._options, self._environment)
        self._children.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _log_status(self, more: int = 0) -> None:
        self._log(f"status: {len(self._children) + more}/{self._options.limit}")

    def _log(self, text: str) -> None:
        if self._options.verbosity >= 2:
            complain(f"tcpserver: {text}")
