"""One connection of tcpserver, in the process of its own: who is it, may it, and then the program."""

from __future__ import annotations

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

Found = dict[bytes, bytes | None]  # LOCALHOST, REMOTEHOST, REMOTEINFO: what is known of them

VERBOSE = 2
FIELD_LIMIT = 100  # octets of a field in a log line
_MAPPED = "::ffff:"  # RFC 4291 section 2.5.5.2
_UNSAFE = bytes(octet if 33 <= octet <= 126 and octet not in b"%:" else ord("?") for octet in range(256))


class Connection:
    """Who is connected with whom. Addresses are as the socket has them: of IPv6, a mapped one begins with ::ffff:."""

    def __init__(self, peer: socket.socket, remote: tuple[str, int], options: Options) -> None:
        """Raises OSError if the peer has gone."""
        self.peer = peer
        self.options = options
        self.remote, self.remote_port = remote[:2]
        self.local, self.local_port = peer.getsockname()[:2]

    def line(self, word: bytes, pid: int, found: Found) -> bytes:
        """For the log: what became of it."""
        local = b"%b:%b:%d" % (safe(found[b"LOCALHOST"]), plain(self.local), self.local_port)
        name, info = safe(found[b"REMOTEHOST"]), safe(found[b"REMOTEINFO"])
        remote = b"%b:%b:%b:%d" % (name, plain(self.remote), info, self.remote_port)
        return b"tcpserver: %b %d %b %b" % (word, pid, local, remote)


def serve(peer: socket.socket, remote: tuple[str, int], options: Options, environment: Environment) -> NoReturn:
    """In a process of its own: log, banner, lookups, rules, exec. Ends with 100 where the rules deny, 111 for trouble."""
    if options.verbosity >= VERBOSE:
        complain(_first_line(os.getpid(), remote))
    prepare(peer, options)
    try:
        connection = Connection(peer, remote, options)
    except OSError as error:
        drop(options, f"unable to get local address: {words(error)}")
    found = looked_up(connection)
    try:
        verdict = judged(options, plain(connection.remote), found)
    except OSError as error:
        drop(options, f"unable to read {os.fsdecode(options.rules)}: {words(error)}")
    if options.verbosity >= VERBOSE:
        complain(connection.line(b"ok" if verdict.allowed else b"deny", os.getpid(), found))
    if not verdict.allowed:
        raise SystemExit(MISUSED)
    os.dup2(peer.fileno(), 0)
    os.dup2(0, 1)
    run(options, described(environment, connection, found, verdict), environment)


def spawned(peer: socket.socket, remote: tuple[str, int], options: Options, environment: Environment) -> int | None:
    """The pid of the program, started without a copy of this process, which costs several times as much.

    None where that can't be: something must be waited for, the rules deny, or there is trouble; `serve` sees to it.
    """
    if options.must_wait:
        return None
    try:
        connection = Connection(peer, remote, options)
        found: Found = {b"LOCALHOST": options.local_name, b"REMOTEHOST": None, b"REMOTEINFO": None}
        verdict = judged(options, plain(connection.remote), found)
    except OSError:
        return None
    if not verdict.allowed:
        return None
    prepare(peer, options)
    pid = _spawn(peer.fileno(), options.program, described(environment, connection, found, verdict), environment)
    if pid is not None and options.verbosity >= VERBOSE:
        complain(_first_line(pid, remote) + b"\n" + connection.line(b"ok", pid, found))
    return pid


def _spawn(descriptor: int, program: list[bytes], environment: Environment, search: Environment) -> int | None:
    actions = [(os.POSIX_SPAWN_DUP2, descriptor, 0), (os.POSIX_SPAWN_DUP2, 0, 1)]
    for path in chain.candidates(program[0], search.get(b"PATH", chain.SEARCH)):
        try:
            return os.posix_spawn(path, program, environment, file_actions=actions, setsigdef=chain.AFTER_EXEC)
        except FileNotFoundError:
            continue
        except OSError:
            break
    return None


def _first_line(pid: int, remote: tuple[str, int]) -> bytes:
    return b"tcpserver: pid %d from %b" % (pid, plain(remote[0]))


def looked_up(connection: Connection) -> Found:
    """The names that are wanted."""
    options = connection.options
    return {
        b"LOCALHOST": name_of(connection.local) if options.local_name is None else options.local_name,
        b"REMOTEHOST": remote_name(connection.remote, options.paranoid) if options.looks_up_name else None,
        b"REMOTEINFO": identity(connection) if options.asks_identity else None,
    }


def run(options: Options, environment: Environment, search: Environment) -> NoReturn:
    """A PATH that the rules set is the program's, and not what it is looked for in."""
    try:
        chain.become(options.program, environment, search.get(b"PATH", chain.SEARCH))
    except OSError as error:
        drop(options, f"unable to run {os.fsdecode(options.program[0])}: {words(error)}")


def drop(options: Options, why: str) -> NoReturn:
    """End with that complaint, unless told to be quiet."""
    if options.verbosity:
        complain(f"tcpserver: warning: dropping connection, {why}")
    raise SystemExit(TROUBLE)


def prepare(peer: socket.socket, options: Options) -> None:
    """The socket's options, and the banner."""
    try:
        if not options.keeps_ip_options:
            peer.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")  # or a source route would lead our answers
        if not options.delays:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # the peer has gone
    try:
        chain.write_all(peer.fileno(), options.banner)
    except OSError as error:
        drop(options, f"unable to print banner: {words(error)}")


def judged(options: Options, address: bytes, found: Found) -> tcprules.Verdict:
    """What the rules say; the file is opened anew for each connection. Raises OSError if it can't be read."""
    if not options.rules:
        return tcprules.Verdict()
    try:
        descriptor = os.open(options.rules, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if options.rules_may_be_missing:
            return tcprules.Verdict()
        raise
    try:
        return tcprules.judge(Cdb(descriptor).get, address, found[b"REMOTEHOST"], found[b"REMOTEINFO"])
    finally:
        os.close(descriptor)


def described(environment: Environment, connection: Connection, found: Found, verdict: tcprules.Verdict) -> Environment:
    """With PROTO and the TCP variables, then the verdict's; what is not known is left out. With an IPv6 socket the TCP6
    variables, too."""
    environment = dict(environment)
    six = connection.peer.family == socket.AF_INET6
    real = six and not connection.remote.startswith(_MAPPED)
    environment[b"PROTO"] = b"TCP6" if real else b"TCP"
    ports: Found = {b"LOCALPORT": b"%d" % connection.local_port, b"REMOTEPORT": b"%d" % connection.remote_port}
    addresses: Found = {b"LOCALIP": plain(connection.local), b"REMOTEIP": plain(connection.remote)}
    assign(environment, b"TCP", found | ports | addresses)
    if six:
        addresses = {b"LOCALIP": connection.local.encode(), b"REMOTEIP": connection.remote.encode()}
        assign(environment, b"TCP6", found | ports | addresses)
    environment.update((name, value) for name, value in verdict.variables if name)  # exec takes none without
    return environment


def assign(environment: Environment, prefix: bytes, found: Found) -> None:
    """What is None is removed."""
    for variable, value in found.items():
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
