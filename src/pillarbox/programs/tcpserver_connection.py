"""One connection of tcpserver, in the process of its own: who is it, may it, and then the program."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import NoReturn

from ..policy import tcprules
from ..protocol import ident
from ..store.cdb import Cdb
from . import chain
from .chain import MISUSED, TROUBLE, Environment, complain, words
from .tcpserver_options import Options

FIELD_LIMIT = 100  # octets of a field in a log line
_MAPPED = "::ffff:"  # RFC 4291 section 2.5.5.2
_ADDRESSES = (b"LOCALIP", b"LOCALPORT", b"LOCALHOST", b"REMOTEIP", b"REMOTEPORT", b"REMOTEHOST", b"REMOTEINFO")
_UNSAFE = bytes(octet if 33 <= octet <= 126 and octet not in b"%:" else ord("?") for octet in range(256))


class Connection:
    """Who is connected with whom. Addresses are as the socket has them: of IPv6, a mapped one begins with ::ffff:."""

    def __init__(self, peer: socket.socket, remote: tuple[str, int], options: Options) -> None:
        self.peer = peer
        self.options = options
        self.remote, self.remote_port = remote[:2]
        self.local, self.local_port = peer.getsockname()[:2]

    def log(self, word: str, local_name: bytes | None, name: bytes | None, info: bytes | None) -> None:
        if self.options.verbosity < 2:
            return
        local = b"%b:%b:%d" % (safe(local_name), plain(self.local), self.local_port)
        remote = b"%b:%b:%b:%d" % (safe(name), plain(self.remote), safe(info), self.remote_port)
        complain(b"tcpserver: %b %d %b %b" % (word.encode(), os.getpid(), local, remote))


def serve(peer: socket.socket, remote: tuple[str, int], options: Options, environment: Environment) -> NoReturn:
    """Log, banner, lookups, rules, exec. Ends with 100 where the rules deny, with 111 for trouble."""
    if options.verbosity >= 2:
        complain(b"tcpserver: pid %d from %b" % (os.getpid(), plain(remote[0])))
    prepare(peer, options)
    try:
        connection = Connection(peer, remote, options)
    except OSError as error:
        drop(options, f"unable to get local address: {words(error)}")
    local_name = options.local_name if options.local_name is not None else name_of(connection.local)
    name = remote_name(connection.remote, options.paranoid) if options.looks_up_name else None
    info = identity(connection) if options.asks_identity else None
    verdict = judged(options, plain(connection.remote), name, info)
    connection.log("ok" if verdict.allowed else "deny", local_name, name, info)
    if not verdict.allowed:
        raise SystemExit(MISUSED)
    describe(environment, connection, {b"LOCALHOST": local_name, b"REMOTEHOST": name, b"REMOTEINFO": info})
    os.dup2(peer.fileno(), 0)
    os.dup2(0, 1)
    run(options, environment | verdict.variables, environment)


def run(options: Options, environment: Environment, search: Environment) -> NoReturn:
    """A PATH that the rules set is the program's, and not what it is looked for in."""
    try:
        chain.become(options.program, environment, search)
    except OSError as error:
        drop(options, f"unable to run {os.fsdecode(options.program[0])}: {words(error)}")


def drop(options: Options, why: str) -> NoReturn:
    """End with that complaint, unless told to be quiet."""
    if options.verbosity:
        complain(f"tcpserver: warning: dropping connection, {why}")
    raise SystemExit(TROUBLE)


def prepare(peer: socket.socket, options: Options) -> None:
    """The socket's options, and the banner."""
    if not options.keeps_ip_options:
        try:
            peer.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")  # or a source route would lead our answers
        except OSError:
            pass  # a socket without IPv4
    if not options.delays:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        chain.write_all(peer.fileno(), options.banner)
    except OSError as error:
        drop(options, f"unable to print banner: {words(error)}")


def judged(options: Options, address: bytes, name: bytes | None, info: bytes | None) -> tcprules.Verdict:
    """What the rules say; the file is opened anew for each connection."""
    if not options.rules:
        return tcprules.Verdict()
    try:
        descriptor = os.open(options.rules, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return tcprules.judge(Cdb(descriptor).get, address, name, info)
    except OSError as error:
        if error.errno == errno.ENOENT and options.rules_may_be_missing:
            return tcprules.Verdict()
        drop(options, f"unable to read {os.fsdecode(options.rules)}: {words(error)}")


def describe(environment: Environment, connection: Connection, found: dict[bytes, bytes | None]) -> None:
    """PROTO and the TCP variables; what is not known is removed. With an IPv6 socket the TCP6 variables, too."""
    six = connection.peer.family == socket.AF_INET6
    real = six and not connection.remote.startswith(_MAPPED)
    environment[b"PROTO"] = b"TCP6" if real else b"TCP"
    found[b"LOCALPORT"], found[b"REMOTEPORT"] = b"%d" % connection.local_port, b"%d" % connection.remote_port
    found[b"LOCALIP"], found[b"REMOTEIP"] = plain(connection.local), plain(connection.remote)
    assign(environment, b"TCP", found)
    if six:
        found[b"LOCALIP"], found[b"REMOTEIP"] = connection.local.encode(), connection.remote.encode()
        assign(environment, b"TCP6", found)


def assign(environment: Environment, prefix: bytes, found: dict[bytes, bytes | None]) -> None:
    for variable in _ADDRESSES:
        value = found[variable]
        if value is None:
            environment.pop(prefix + variable, None)
        else:
            environment[prefix + variable] = value


def plain(address: str) -> bytes:
    """An IPv4 address written as IPv6 is told as IPv4."""
    return address.removeprefix(_MAPPED).encode()


def safe(field: bytes | None) -> bytes:
    """A field as it may stand in a log line."""
    cut = (field or b"")[:FIELD_LIMIT].translate(_UNSAFE)
    return cut + b"..." if field and len(field) > FIELD_LIMIT else cut


def name_of(address: str) -> bytes | None:
    """The host's name, by the system's resolver."""
    try:
        return socket.getnameinfo((plain(address).decode(), 0), socket.NI_NAMEREQD)[0].encode()
    except (OSError, UnicodeError):
        return None


def remote_name(address: str, paranoid: bool) -> bytes | None:
    """The peer's name; if paranoid, only one that leads back to the address."""
    name = name_of(address)
    if name is None or not paranoid:
        return name
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return name if plain(address).decode() in {entry[4][0] for entry in found} else None


def identity(connection: Connection) -> bytes | None:
    """What the peer's identity server says; None if it says nothing in time."""
    deadline = time.monotonic() + connection.options.identity_seconds
    try:
        with socket.socket(connection.peer.family) as server:
            server.bind((connection.local, 0))
            server.settimeout(left(deadline))
            server.connect((connection.remote, ident.PORT))
            server.sendall(ident.query(connection.remote_port, connection.local_port))
            reply = b""
            while b"\n" not in reply and len(reply) < ident.REPLY_LIMIT:
                server.settimeout(left(deadline))
                if not (part := server.recv(ident.REPLY_LIMIT - len(reply))):
                    break
                reply += part
            return ident.name(reply)
    except OSError:
        return None


def left(deadline: float) -> float:
    """Raises TimeoutError when it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
