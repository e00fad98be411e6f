"""What becomes of a qmail's configuration: keys of ours, and what could not be carried over."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import CHECKS
from ..terms import Refused

SHOWN = 100  # characters of a value in what is told


@dataclass(frozen=True, slots=True)
class Carried:
    """A key with its value, and where that comes from."""

    key: str  # by its dotted path
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Left:
    """What could not be carried over."""

    file: str
    value: str
    why: str
    do: str  # what the admin can do about it
    counts: bool = True  # mail would take another way than before, or none


def left(file: str, value: object, why: str, do: str, *, counts: bool = True) -> Left:
    """With its texts fit to be shown: a user's file may hold anything."""
    shown = _plain(str(value))
    return Left(_plain(file), shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}...", _plain(why), do, counts)


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


@dataclass
class Translation:
    """What becomes of one qmail."""

    folder: str
    carried: list[Carried] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)  # ours, the first one first
    aliases: dict[str, str | list[str]] = field(default_factory=dict)
    virtual: dict[str, str] = field(default_factory=dict)  # accounts.virtual_domains

    def carry(self, key: str, value: object, source: str) -> None:
        """Unless our configuration would refuse it."""
        if why := refusal(key, value):
            self.leave(source, value, f"`{key}` {why}", "write the key by hand, or leave it")
        else:
            self.carried.append(Carried(key, value, source))

    def leave(self, file: str, value: object, why: str, do: str, *, counts: bool = True) -> None:
        self.left.append(left(file, value, why, do, counts=counts))


def refusal(key: str, value: object) -> str:
    """Why our configuration would not take that value; empty: it would. The words follow the key, or "it"."""
    try:
        for check in CHECKS.get(key, ()):
            check(value)
    except Refused as error:
        return error.why
    return ""
