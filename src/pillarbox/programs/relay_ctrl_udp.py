"""relay-ctrl-udp (relay-ctrl): write grants for addresses that relay-ctrl-send on another host tells of.

    relay-ctrl-udp [--faithful] [--bind ADDRESS]

Listens until it is killed. An address that came as a datagram gets an empty file, or its file a new time; the sender is
answered with an octet of value 1, or not at all when what it sent is no address.

Environment: RELAY_CTRL_DIR_FD, from relay-ctrl-chdir, or else RELAY_CTRL_DIR, which must be set in both cases;
RELAY_CTRL_PORT, 811; RELAY_CTRL_REMOTES, the addresses that are listened to, with commas between them.
Exit status: 1 for wrong arguments, and when it can't listen.

Departs from the original: only the hosts of RELAY_CTRL_REMOTES are listened to, and it does not start without them;
--faithful listens to whoever sends, which makes this host a relay for anybody who can reach the port, as the source of
a datagram is easily forged. So is that of a host named in RELAY_CTRL_REMOTES: keep the port behind a filter. --bind
names the address to listen at, 0.0.0.0 otherwise. Addresses may be of IPv6.
"""

from __future__ import annotations

import os
import socket

from ..store.grant_folder import file_name
from .chain import Environment
from .relay_ctrl import PORT, Voice, enter, number, text

MODE = 0o666  # less the mask: relay-ctrl-check reads it under another uid
DATAGRAM = 64  # octets; an address has 45 at most
ACCEPTED = b"\1"


def main(arguments: list[bytes], environment: Environment) -> int:
    """Until it is killed."""
    voice = Voice("relay-ctrl-udp", numbered=False)
    faithful, address = _options(arguments, voice)
    if b"RELAY_CTRL_DIR" not in environment:
        voice.die(1, "$RELAY_CTRL_DIR is not set.")
    remotes = {file_name(remote.strip()) for remote in text(environment, b"RELAY_CTRL_REMOTES").split(",")} - {None}
    if not remotes and not faithful:
        voice.die(1, "$RELAY_CTRL_REMOTES names no address to listen to (--faithful listens to all).")
    try:
        folder, _ = enter(environment)
        door = _listen(address, number(environment, b"RELAY_CTRL_PORT", PORT, 65535))
    except OSError as error:
        voice.die(1, f"Could not listen at '{address}': {error.strerror}")
    while True:
        _serve(door, folder, None if faithful else remotes, voice)


def _options(arguments: list[bytes], voice: Voice) -> tuple[bool, str]:
    """Faithful, and where to listen."""
    faithful, address = False, "0.0.0.0"
    left = [os.fsdecode(argument) for argument in arguments]
    while left:
        option = left.pop(0)
        if option == "--faithful":
            faithful = True
        elif option == "--bind" and left:
            address = left.pop(0)
        else:
            voice.die(1, "usage: relay-ctrl-udp [--faithful] [--bind ADDRESS]")
    return faithful, address


def _listen(address: str, port: int) -> socket.socket:
    """Raises OSError."""
    door = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    door.bind((address, port))
    return door


def _serve(door: socket.socket, folder: int, remotes: set[str | None] | None, voice: Voice) -> None:
    """One datagram. `remotes`: None listens to all."""
    try:
        data, sender = door.recvfrom(DATAGRAM)
    except OSError:  # an answer of ours that reached nobody
        return
    if remotes is not None and file_name(sender[0]) not in remotes:
        return voice.warn(f"'{sender[0]}' is not in $RELAY_CTRL_REMOTES.")
    name = file_name(data.decode("ascii", "replace"))
    if name is None:
        return voice.warn(f"Invalid IP from '{sender[0]}'.")
    try:
        _touch(folder, name)
        door.sendto(ACCEPTED, sender)
    except OSError as error:
        voice.warn(f"Could not write IP file '{name}': {error.strerror}")


def _touch(folder: int, name: str) -> None:
    """Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, MODE, dir_fd=folder)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)
