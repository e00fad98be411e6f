"""What an examination finds: how bad, about what, why that matters, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from ..terminal import table
from ..terms import Refused, TryLater

Level = Literal["serious", "advice", "fine"]
LEVELS: tuple[Level, ...] = ("serious", "advice", "fine")  # the worst first, as they are shown
HEADS = ("", "About", "What was found", "What to do")


@dataclass(frozen=True, slots=True)
class Finding:
    """One of them. No secret, nor anything made of one, stands in its texts."""

    level: Level
    about: str  # one word: what was looked at
    what: str
    why: str = ""  # that it matters
    remedy: str = ""  # a command, where one does it


def serious(about: str, what: str, why: str, remedy: str) -> Finding:
    return Finding("serious", about, what, why, remedy)


def advice(about: str, what: str, why: str, remedy: str) -> Finding:
    return Finding("advice", about, what, why, remedy)


def fine(about: str, what: str) -> Finding:
    return Finding("fine", about, what)


def examined(about: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; one that can't be done to its end says so, and keeps no other from being done."""
    try:
        yield from check()
    except (Refused, TryLater) as error:
        yield unknown(about, error.why)
    except OSError as error:
        yield unknown(about, f"{error.filename or 'trouble'}: {error.strerror}")


def unknown(about: str, why: str) -> Finding:
    return advice(about, f"could not be looked at: {why}", "", "mend that, and ask again")


def report(found: Sequence[Finding], *, as_json: bool) -> int:
    """Show all, the worst first. The exit status: 1 if any is serious, else 0."""
    ordered = sorted(found, key=lambda one: LEVELS.index(one.level))
    count = {level: sum(one.level == level for one in found) for level in LEVELS}
    if as_json:
        print(json.dumps({"findings": [asdict(one) for one in ordered], **count}))
    else:
        table(HEADS, [_row(one) for one in ordered])
        print(", ".join(f"{count[level]} {level}" for level in LEVELS), file=sys.stderr)
    return 1 if count["serious"] else 0


def _row(one: Finding) -> tuple[str, ...]:
    return one.level, one.about, f"{one.what}; {one.why}" if one.why else one.what, one.remedy
