"""What the relay-ctrl programs share: their folder of grants, their variables and their words."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import NoReturn

from ..store.grant_folder import file_name, is_alive, temporary_name
from . import chain
from .chain import TROUBLE, Environment

EXPIRY = 900  # seconds
PORT = 811
NUMBER_DIGITS = 9  # of a number in the environment; 31 years are enough for an expiry
# O_PATH: who may enter the folder need not be allowed to list it
ENTER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


class Voice:
    """How a program speaks to whoever reads descriptor 2."""

    def __init__(self, program: str, *, numbered: bool = True) -> None:
        """`numbered`: with the number of the process."""
        self._name = f"{program}[{os.getpid()}]" if numbered else program

    def say(self, text: str) -> None:
        printable = "".join(character if character.isprintable() else "?" for character in text)
        chain.complain(f"{self._name}: {printable}".encode("utf-8", "backslashreplace"))

    def warn(self, text: str) -> None:
        self.say(f"Warning: {text}")

    def die(self, status: int, text: str) -> NoReturn:
        self.say(f"Fatal: {text}")
        raise SystemExit(status)


def text(environment: Environment, name: bytes) -> str:
    """A variable, empty where it is not set."""
    return os.fsdecode(environment.get(name, b""))


def number(environment: Environment, name: bytes, default: int, limit: int = 10**NUMBER_DIGITS) -> int:
    """The digits that a variable begins with; `default` where there are none, or they are 0. At most `limit`."""
    value = environment.get(name, b"").lstrip(b" \t\n\v\f\r").removeprefix(b"+")
    digits = value[: len(value) - len(value.lstrip(b"0123456789"))]
    found = int(digits) if 0 < len(digits) <= NUMBER_DIGITS else limit if digits.strip(b"0") else 0
    return min(found, limit) or default


def expiry(environment: Environment) -> int:
    """Seconds that a grant lasts."""
    return number(environment, b"RELAY_CTRL_EXPIRY", EXPIRY)


def is_login(environment: Environment) -> bool:
    """Courier runs the program without a login, too, and says so; from others it is only run after one."""
    courier = b"AUTHUSER" in environment and b"AUTHARGV0" in environment
    return not courier or bool(environment.get(b"AUTHENTICATED"))


def client(environment: Environment, voice: Voice) -> str | None:
    """The file name of the client's address; None, after a warning, where it has a zone. Dies where there is none."""
    address = text(environment, b"TCPREMOTEIP")
    name, plain = file_name(address), address.partition("%")[0]
    if name is None and file_name(plain) is None:
        voice.die(TROUBLE, "Must be run from tcp-env or tcpserver.")
    if name is None:
        voice.warn(f"'{address}' is an address of one link only, so nobody is allowed to relay")
    return name


def enter(environment: Environment) -> tuple[int, bool]:
    """The folder of grants, open; and did it come through relay-ctrl-chdir? Raises OSError."""
    handed = _handed(environment)
    return (os.open(environment[b"RELAY_CTRL_DIR"], ENTER), False) if handed is None else (handed, True)


def _handed(environment: Environment) -> int | None:
    """The descriptor that relay-ctrl-chdir opened, while it is open."""
    number = environment.get(b"RELAY_CTRL_DIR_FD", b"")
    if number.isdigit() and len(number) <= NUMBER_DIGITS:
        with suppress(OSError):
            if stat.S_ISDIR(os.fstat(int(number)).st_mode):
                return int(number)
    return None


def let_go(environment: Environment) -> None:
    """The next program runs for the client, who could make grants with this descriptor: it ends here, used or not."""
    if (handed := _handed(environment)) is not None:
        os.close(handed)


def become(program: list[bytes], environment: Environment) -> int:
    """Exec. Returns the exit status, without a word, where that can't be."""
    try:
        chain.become(program, environment)
    except OSError:
        return TROUBLE


def remove_old(folder: int, name: str, expiry: int, now: float) -> bool:
    """Remove a file that was seen to have expired, but not the one that a login may have put in its place since: True then.

    Moved aside first: then nobody replaces it any more, and a look tells which of the two it is. Raises OSError.
    """
    aside = temporary_name(time.time(), os.getpid())
    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    alive = is_alive(int(os.stat(aside, dir_fd=folder, follow_symlinks=False).st_mtime), expiry, int(now))
    if alive:
        with suppress(FileExistsError):  # one that is newer still
            os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(aside, dir_fd=folder)
    return alive
