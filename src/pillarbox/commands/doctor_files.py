"""Modes and owners: who could read a secret, forge a grant, or put a file in the place of ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ..broker.certificates import configured
from ..config import Config
from ..home import Home
from .dkim import published
from .findings import Finding, fine, serious

ABOUT = "files"
OTHERS, WRITE, WORLD = 0o077, 0o022, 0o007  # bits of a mode: anything for others, writing, anything for the world
READS = "others can read or change what lies there"
REPLACES = "others can put files of their own in the place of ours"
_CLOSE = {OTHERS: "go=", WRITE: "go-w", WORLD: "o="}


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a path must be kept; one that is not there is nobody's danger."""

    path: str
    uid: int | None  # its owner; None: whoever
    closed: int  # bits that its mode may not have
    why: str = READS


def check_files(place: Home, settings: Config) -> Iterator[Finding]:
    found = [*_judged(place, settings), *_parents(place.folder), *_dkim(place, settings)]
    yield from found
    if not found:
        yield fine(ABOUT, "every secret is closed to others, and every folder belongs to whom it should")


def _judged(place: Home, settings: Config) -> Iterator[Finding]:
    for wanted in _wanted(place, settings):
        try:
            state = os.stat(wanted.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield from judge(wanted, state.st_uid, stat.S_IMODE(state.st_mode))


def judge(wanted: Wanted, uid: int, mode: int) -> Iterator[Finding]:
    """What is wrong with a path of that owner and mode."""
    if wanted.uid is not None and uid != wanted.uid:
        what = f"{wanted.path} belongs to uid {uid}, not to {wanted.uid}"
        yield serious(ABOUT, what, f"{uid} rules over it", f"chown {wanted.uid} {wanted.path}")
    if mode & wanted.closed:
        remedy = f"chmod {_CLOSE[wanted.closed]} {wanted.path}"
        yield serious(ABOUT, f"{wanted.path} has mode {mode:04o}", wanted.why, remedy)


def _wanted(place: Home, settings: Config) -> Iterator[Wanted]:
    own, identities = os.geteuid(), place.identities(settings)
    queue = own if identities.queue[0] is None else identities.queue[0]
    mail = own if identities.mail[0] is None else identities.mail[0]
    yield Wanted(place.folder, own, WRITE, REPLACES)
    yield Wanted(place.config, None, WRITE, "whoever changes it rules this server")
    for path in (place.key, place.accounts, *(f"{place.accounts}{end}" for end in ("-wal", "-shm", ".v1"))):
        yield Wanted(path, own, OTHERS)
    for path in (place.ledger, place.ledger_key, place.ratchet):
        yield Wanted(path, own, OTHERS)
    for path in (place.run, place.grants, place.tls, f"{place.tls}/key.pem"):
        yield Wanted(path, own, OTHERS)
    yield Wanted(place.mail, mail, OTHERS)
    for path in (place.queue, place.dkim):
        yield Wanted(path, queue, OTHERS)
    yield Wanted(place.public, own, WRITE, REPLACES)
    for _, key in configured(settings):
        yield Wanted(key, None, WORLD)
    if settings.delivery.smarthost_secret_file:
        yield Wanted(settings.delivery.smarthost_secret_file, None, WORLD)
    if settings.relay.style == "classic" and settings.relay.directory and _reached_by_others(settings.relay.directory):
        yield Wanted(settings.relay.directory, None, WRITE, "whoever writes there lets himself send")
    for rules in filter(None, (settings.policy.rules_smtp, settings.policy.rules_pop3)):
        yield Wanted(rules, None, WRITE, "whoever changes it may relay")


def _reached_by_others(folder: str) -> bool:
    """relay-ctrl keeps a folder that all may write to behind one that nobody may pass."""
    return all(os.stat(above).st_mode & stat.S_IXOTH for above in _above(folder) if os.path.exists(above))


def _above(folder: str) -> Iterator[str]:
    above = os.path.dirname(os.path.abspath(folder))
    while above != "/":
        yield above
        above = os.path.dirname(above)


def _parents(folder: str) -> Iterator[Finding]:
    """Who may write to a folder above may move ours away; in a sticky one (/tmp) only its owner may."""
    for above in _above(folder):
        mode = stat.S_IMODE(os.stat(above).st_mode)
        if mode & WRITE and not mode & stat.S_ISVTX:
            yield from judge(Wanted(above, None, WRITE, REPLACES), 0, mode)


def _dkim(place: Home, settings: Config) -> Iterator[Finding]:
    for key in published(place, settings):
        if key.trouble:
            yield serious(
                ABOUT, f"a signing key is not used: {key.trouble}", "mail goes out unsigned", "do what it says"
            )
