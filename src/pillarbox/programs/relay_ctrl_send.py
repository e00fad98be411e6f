"""relay-ctrl-send (relay-ctrl): tell other hosts from which address somebody has just logged in; relay-ctrl-udp listens.

    relay-ctrl-send [PROGRAM [ARG ...]]

Becomes PROGRAM at once; a process of its own sends the address as a datagram to each host, and again until the host
answers.

Environment: TCPREMOTEIP; RELAY_CTRL_REMOTES, addresses with commas between them; RELAY_CTRL_PORT, 811; RELAY_CTRL_TRIES,
5; RELAY_CTRL_TIMEOUT, seconds, 1; AUTHUSER, AUTHARGV0 and AUTHENTICATED as for relay-ctrl-allow.
Exit status: 111 without a valid TCPREMOTEIP or when PROGRAM can't be run; 0 without PROGRAM.

Departs from the original: clients and hosts may have IPv6 addresses; all hosts are told at once, not one after the
other; the sender is no child of PROGRAM, and keeps no descriptor but 2, where the original held the client's connection
open.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ..store.grant_folder import file_name
from .chain import Environment
from .relay_ctrl import PORT, Voice, become, client, is_login, number, text

if TYPE_CHECKING:
    from socket import socket

TRIES, TRIES_LIMIT = 5, 100
TIMEOUT, TIMEOUT_LIMIT = 1, 60  # seconds
REMOTES_LIMIT = 64
DESCRIPTORS = 1024  # to close, where nobody tells how many there are


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs where there is a program."""
    voice = Voice("relay-ctrl-send")
    if is_login(environment):
        name = client(environment, voice)
        if name is not None and environment.get(b"RELAY_CTRL_REMOTES"):
            _fork(name, environment, voice)
    return become(arguments, environment) if arguments else 0


def _fork(name: str, environment: Environment, voice: Voice) -> None:
    """Send in a process that nobody has to wait for: the one between us and it ends at once."""
    try:
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            return
    except OSError as error:
        return voice.warn(f"Could not fork: {error.strerror}")
    try:
        if not os.fork():
            _let_go()
            _send(name.encode("ascii"), environment, voice)
    finally:
        os._exit(0)


def _let_go() -> None:
    """Of the client's connection, and of all else that was inherited."""
    highest = DESCRIPTORS
    with suppress(OSError):
        highest = max(map(int, os.listdir("/proc/self/fd")))
    os.closerange(0, 2)
    os.closerange(3, highest + 1)


def _send(address: bytes, environment: Environment, voice: Voice) -> None:
    from select import select

    waiting = dict(_sockets(environment, voice))
    seconds = number(environment, b"RELAY_CTRL_TIMEOUT", TIMEOUT, TIMEOUT_LIMIT)
    for _ in range(number(environment, b"RELAY_CTRL_TRIES", TRIES, TRIES_LIMIT)):
        for each in waiting:
            with suppress(OSError):  # nobody listens there, perhaps only yet
                each.send(address)
        left = set(waiting)
        while left and (ready := select(list(left), (), (), seconds)[0]):
            for each in ready:
                left.discard(each)
                if _answered(each):
                    del waiting[each]
        if not waiting:
            return
    for remote in waiting.values():
        voice.warn(f"Timed out waiting for response from '{remote}'.")


def _sockets(environment: Environment, voice: Voice) -> list[tuple[socket, str]]:
    """One to each host, which hears nobody else."""
    import socket

    port = number(environment, b"RELAY_CTRL_PORT", PORT, 65535)
    found = []
    for remote in text(environment, b"RELAY_CTRL_REMOTES").split(",", REMOTES_LIMIT)[:REMOTES_LIMIT]:
        host = file_name(remote.strip())
        if host is None:
            voice.warn(f"'{remote}' is no address")
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            each = socket.socket(family, socket.SOCK_DGRAM)
            each.connect((host, port))
        except OSError as error:
            voice.warn(f"Could not send to '{host}': {error.strerror}")
            continue
        found.append((each, host))
    return found


def _answered(each: socket) -> bool:
    try:
        return len(each.recv(2)) == 1
    except OSError:  # such as: nobody listens there
        return False
