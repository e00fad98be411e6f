"""relay-ctrl-check (relay-ctrl): let qmail-smtpd relay for a client from whose address somebody has just logged in.

    relay-ctrl-check PROGRAM [ARG ...]

Looks for the file that relay-ctrl-allow, or Pillarbox, has written for the client's address. One that is not older than the
expiry sets RELAYCLIENT, USER and DOMAIN; one that is gets removed. Becomes PROGRAM in any case.

Environment: TCPREMOTEIP; RELAY_CTRL_DIR_FD, from relay-ctrl-chdir, or else RELAY_CTRL_DIR, which must be set in both
cases; RELAY_CTRL_EXPIRY, seconds, 900; RELAY_CTRL_RELAYCLIENT, the value of RELAYCLIENT, empty. Where RELAYCLIENT is set
already nothing is looked at. RELAY_CTRL_LOG_IPS and RELAY_CTRL_LOG_ENV, set to anything, log what is decided and set.
Descriptors: that of RELAY_CTRL_DIR_FD is closed after use.
Exit status: 1 without PROGRAM, 111 when it can't be run.

Departs from the original: one rule for addresses, that of relay-ctrl-allow here, so that IPv6 and ::ffff: find their
files; only USER and DOMAIN come out of a file, where the original set whatever it named, LD_PRELOAD too; a folder, a
link, a file with two names or one of more than 5 seconds in the future is no grant; what is removed is never the file
of a login that has just come; the working folder stays what it is.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from ..store.grant_folder import CONTENT_LIMIT, fields, file_name, is_alive
from . import chain
from .chain import Environment
from .relay_ctrl import Voice, become, enter, expiry, let_go, remove_old, text

EXPORTED = (b"USER", b"DOMAIN")
# O_NONBLOCK: a FIFO must not hold us up
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def main(arguments: list[bytes], environment: Environment) -> int:
    """Execs."""
    voice = Voice("relay-ctrl-check")
    if not arguments:
        chain.die(1, "usage: relay-ctrl-check program [arguments]")
    if b"RELAYCLIENT" in environment:
        _log(environment, voice, "$RELAYCLIENT already set, not checking IP")
    elif b"TCPREMOTEIP" not in environment:
        voice.warn("$TCPREMOTEIP not set, not checking IP")
    elif b"RELAY_CTRL_DIR" not in environment:
        voice.warn("$RELAY_CTRL_DIR is not set")
    else:
        _check(environment, voice)
    let_go(environment)
    return become(arguments, environment)


def _check(environment: Environment, voice: Voice) -> None:
    try:
        folder, _ = enter(environment)
    except OSError as error:
        return voice.warn(f"Could not enter $RELAY_CTRL_DIR: {error.strerror}")
    try:
        content = _grant(folder, environment, voice)
    finally:
        os.close(folder)
    if content is not None:
        _set(environment, content, voice)


def _grant(folder: int, environment: Environment, voice: Voice) -> bytes | None:
    """The content of a grant that counts."""
    address = text(environment, b"TCPREMOTEIP")
    name, lasts, now = file_name(address), expiry(environment), time.time()
    try:
        found = _read(folder, name) if name else None
    except OSError as error:
        voice.warn(f"Could not open IP file '{address}': {error.strerror}")
        return None
    if found is None or name is None:
        _log(environment, voice, f"IP {address} not found")
        return None
    mtime, content = found
    if is_alive(mtime, lasts, int(now)):
        _log(environment, voice, f"IP {address} found, setting $RELAYCLIENT")
        return content
    _log(environment, voice, f"Expired IP {address} found, removing")
    with suppress(OSError):
        if remove_old(folder, name, lasts, now):
            return (_read(folder, name) or found)[1]
    return None


def _read(folder: int, name: str) -> tuple[int, bytes] | None:
    """Whole seconds of the mtime, and the content; None where there is no plain file of one name. Raises OSError."""
    try:
        descriptor = os.open(name, READ, dir_fd=folder)
    except PermissionError:
        raise
    except OSError:
        return None
    try:
        state = os.fstat(descriptor)
        # no name at all is right too: the grant was written anew between opening and looking
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            return None
        return int(state.st_mtime), os.read(descriptor, CONTENT_LIMIT)
    finally:
        os.close(descriptor)


def _set(environment: Environment, content: bytes, voice: Voice) -> None:
    environment[b"RELAYCLIENT"] = environment.get(b"RELAY_CTRL_RELAYCLIENT", b"")
    for name, value in fields(content).items():
        if name in EXPORTED:
            environment[name] = value
            if b"RELAY_CTRL_LOG_ENV" in environment:
                voice.say(f"Setting {os.fsdecode(name)}={os.fsdecode(value)}")


def _log(environment: Environment, voice: Voice, line: str) -> None:
    if b"RELAY_CTRL_LOG_IPS" in environment:
        voice.say(line)
