"""The options of tcpserver, as they are typed."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Never

from .chain import MISUSED, TROUBLE, Environment, complain, die

FLAGS = b"dDvqQhHrR1UXpPoO46T"
VALUED = b"xtuglbBcI"
USAGE = (
    "tcpserver: usage: tcpserver [ -1UXpPhHrRoOdDqQv46T ] [ -c limit ] [ -x rules.cdb ] [ -B banner ] [ -g gid ] [ -u uid ]"
    " [ -b backlog ] [ -l localname ] [ -t timeout ] [ -I interface ] host port program"
)
NUMBER_LIMIT = 1 << 31  # no count, time or id of ours is larger
Argument = bytes


class Options:
    """What was typed; each with the value that it has if it wasn't."""

    def __init__(self) -> None:
        self.verbosity = 1  # -q 0, -Q 1, -v 2
        self.limit = 40  # -c: connections at once
        self.backlog = 20  # -b
        self.rules = b""  # -x
        self.rules_may_be_missing = False  # -X
        self.banner = b""  # -B
        self.group: Argument | None = None  # -g
        self.user: Argument | None = None  # -u
        self.identity_from_environment = False  # -U
        self.tells_port = False  # -1
        self.local_name: bytes | None = None  # -l; None: looked up
        self.looks_up_name = True  # -h, -H
        self.paranoid = False  # -p, -P
        self.asks_identity = True  # -r, -R
        self.identity_seconds = 26  # -t
        self.keeps_ip_options = False  # -o, -O
        self.delays = True  # -d, -D
        self.family = b""  # -4, -6
        self.interface = b""  # -I
        self.ends_children = False  # -T
        self.host = self.port = b""
        self.program: list[bytes] = []

    @property
    def must_wait(self) -> bool:
        """Does a connection wait for something before its program starts: a resolver, an identity server, the client?"""
        return self.looks_up_name or self.asks_identity or self.local_name is None or bool(self.banner)

    def flag(self, letter: bytes) -> None:
        """Set what a letter of FLAGS means; of two that contradict each other the later one counts."""
        match letter:
            case b"v" | b"q" | b"Q":
                self.verbosity = b"qQv".index(letter)
            case b"d" | b"D":
                self.delays = letter == b"d"
            case b"h" | b"H":
                self.looks_up_name = letter == b"h"
            case b"r" | b"R":
                self.asks_identity = letter == b"r"
            case b"p" | b"P":
                self.paranoid = letter == b"p"
            case b"o" | b"O":
                self.keeps_ip_options = letter == b"o"
            case b"4" | b"6":
                self.family = letter
            case b"1":
                self.tells_port = True
            case b"U":
                self.identity_from_environment = True
            case b"X":
                self.rules_may_be_missing = True
            case _:
                self.ends_children = True

    def value(self, letter: bytes, argument: Argument) -> None:
        """Set what a letter of VALUED means."""
        match letter:
            case b"c":
                self.limit = _number(argument)
                if not self.limit:  # no connection would ever be accepted
                    die(MISUSED, "tcpserver: fatal: -c must be a number above 0")
            case b"b":
                self.backlog = _number(argument)
            case b"t":
                self.identity_seconds = _number(argument)
            case b"x":
                self.rules = argument
            case b"B":
                self.banner = argument
            case b"g":
                self.group = argument
            case b"u":
                self.user = argument
            case b"l":
                self.local_name = argument
            case _:
                self.interface = argument


def _number(argument: Argument) -> int:
    """The digits that it begins with; 0 if there are none."""
    digits = argument[: len(argument) - len(argument.lstrip(b"0123456789"))]
    return min(int(digits[:10] or b"0"), NUMBER_LIMIT - 1)


def parsed(arguments: list[bytes]) -> Options:
    """Ends with a usage line, status 100, where they are wrong."""
    options, rest = Options(), list(arguments)
    while rest and rest[0].startswith(b"-") and rest[0] != b"-":
        letters = rest.pop(0)[1:]
        if letters == b"-":
            break
        while letters:
            letter, letters = letters[:1], letters[1:]
            if letter in FLAGS:
                options.flag(letter)
                continue
            if letter not in VALUED:
                _usage(f"illegal option -- {os.fsdecode(letter)}")
            if not letters and not rest:
                _usage(f"option requires an argument -- {os.fsdecode(letter)}")
            options.value(letter, letters or rest.pop(0))
            break
    if len(rest) < 3:
        _usage()
    options.host, options.port, *options.program = rest
    return options


def _usage(why: str = "") -> Never:
    if why:
        complain(f"tcpserver: {why}")
    die(MISUSED, USAGE)


def identity(options: Options, environment: Environment) -> tuple[int | None, int | None]:
    """The gid and the uid to take on; None: as we are. Ends with status 111 for an account or a group that isn't there."""
    user, group = options.user, options.group
    if options.identity_from_environment:
        user, group = environment.get(b"UID"), environment.get(b"GID")
        if user is None or group is None:  # else we would stay who we are, unnoticed
            die(TROUBLE, "tcpserver: fatal: -U needs $UID and $GID")
    account = _account(user)
    uid = None if user is None else account.pw_uid if account else int(user)
    if group is not None:
        return _group(group), uid
    if not uid:
        return None, uid
    if not account:
        die(TROUBLE, f"tcpserver: fatal: unable to set gid: no account has the uid {uid}, and there is no -g")
    return account.pw_gid, uid


def _account(user: Argument | None) -> pwd.struct_passwd | None:
    if user is None:
        return None
    try:
        return pwd.getpwuid(int(user)) if _is_number(user) else pwd.getpwnam(os.fsdecode(user))
    except KeyError:
        if _is_number(user):
            return None
    die(TROUBLE, f"tcpserver: fatal: unable to set uid: there is no account {os.fsdecode(user)}")


def _group(group: Argument) -> int:
    if _is_number(group):
        return int(group)
    try:
        return grp.getgrnam(os.fsdecode(group)).gr_gid
    except KeyError:
        die(TROUBLE, f"tcpserver: fatal: unable to set gid: there is no group {os.fsdecode(group)}")


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 10 and int(text) < NUMBER_LIMIT * 2 - 1
