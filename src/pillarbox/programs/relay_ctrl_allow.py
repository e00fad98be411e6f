"""relay-ctrl-allow (relay-ctrl): who has logged in by POP3 may send from the same address for a while.

    relay-ctrl-allow [PROGRAM [ARG ...]]

Runs as the user, behind a checkpassword program. Writes a file for the client's address into the folder of grants: USER and
DOMAIN, as far as they are set, each ended by NUL; then becomes PROGRAM. Whatever keeps it from that is a warning and no
more: nobody's login fails for it.

Environment: TCPREMOTEIP; RELAY_CTRL_DIR_FD, from relay-ctrl-chdir, or else RELAY_CTRL_DIR, which must be set in both
cases; USER and DOMAIN; AUTHUSER, AUTHARGV0 and AUTHENTICATED, by which Courier tells whether there was a login.
Descriptors: that of RELAY_CTRL_DIR_FD is closed after use.
Files: mode 0666 through RELAY_CTRL_DIR_FD, 0600 otherwise, as relay-ctrl has it.
Exit status: 111 without a valid TCPREMOTEIP or when PROGRAM can't be run; 0 without PROGRAM.

Departs from the original: IPv6 clients may log in and get a file, named by the canonical form of their address, and one of
::ffff:/96 by that of IPv4, as in every program of ours; 1.2.3 is no address; where the folder can't be entered nothing is
written (the original then wrote into the user's home); the working folder and the mask never change.
"""

from __future__ import annotations

import os
import time

from ..store.grant_folder import temporary_name
from . import chain
from .chain import Environment
from .relay_ctrl import Voice, become, client, enter, is_login, let_go

CARRIED = (b"USER", b"DOMAIN")
MODE_HANDED, MODE_NAMED = 0o666, 0o600


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs where there is a program."""
    voice = Voice("relay-ctrl-allow")
    if is_login(environment):
        name = client(environment, voice)
        if b"RELAY_CTRL_DIR" not in environment:
            voice.warn("$RELAY_CTRL_DIR is not set.")
        elif name is not None:
            _allow(name, environment, voice)
    let_go(environment)
    return become(arguments, environment) if arguments else 0


def _allow(name: str, environment: Environment, voice: Voice) -> None:
    try:
        folder, handed = enter(environment)
    except OSError as error:
        return voice.warn(f"Could not enter $RELAY_CTRL_DIR: {error.strerror}")
    content = b"".join(b"%b=%b\0" % (field, environment[field]) for field in CARRIED if field in environment)
    try:
        _write(folder, name, content, MODE_HANDED if handed else MODE_NAMED)
    except OSError as error:
        voice.warn(f"Could not write IP file '{name}': {error.strerror}")
    finally:
        os.close(folder)


def _write(folder: int, name: str, content: bytes, mode: int) -> None:
    """Whole, or not at all. Raises OSError."""
    temporary = temporary_name(time.time(), os.getpid())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        chain.write_all(descriptor, content)
        os.fchmod(descriptor, mode)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)
