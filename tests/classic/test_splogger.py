"""splogger, against what was observed of qmail's, and against the C library's own syslog."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import sides
from .private_log import DATAGRAM, PrivateLog, before_log

pytestmark = pytest.mark.root  # /dev/log is a private one

Line = tuple[int, bytes, bytes]


@dataclass(frozen=True)
class Case:
    """One row: arguments and input, and what then arrives: priority, tag, text."""

    title: str
    stdin: bytes
    lines: tuple[Line, ...] = ()
    arguments: tuple[str | bytes, ...] = ("pop3d", "3")
    mended: str = ""


def info(*texts: bytes) -> tuple[Line, ...]:
    return tuple((30, b"pop3d", text) for text in texts)


CASES = (
    Case("a tag and a facility", b"hello world\n", info(b" hello world")),
    Case("a tag alone: facility mail", b"x\n", ((22, b"pop3d", b" x"),), ("pop3d",)),
    Case("no argument", b"x\n", ((22, b"splogger", b" x"),), ()),
    Case("an empty tag", b"x\n", ((30, b"", b" x"),), ("", "3")),
    Case("facility 0", b"x\n", ((6, b"t", b" x"),), ("t", "0")),
    Case("facility 16", b"x\n", ((134, b"t", b" x"),), ("t", "16")),
    Case("facility 23", b"x\n", ((190, b"t", b" x"),), ("t", "23")),
    Case("a facility that does not exist", b"x\n", ((14, b"t", b" x"),), ("t", "1000")),
    Case("a facility that is no number", b"x\n", ((6, b"t", b" x"),), ("t", "mail")),
    Case("a number with letters behind it", b"x\n", ((30, b"t", b" x"),), ("t", "3x")),
    Case("more arguments", b"x\n", info(b" x"), ("pop3d", "3", "4")),
    Case("several lines", b"a\nb\nc\n", info(b" a", b" b", b" c")),
    Case("empty lines", b"\n\na\n\n", info(b" a")),
    Case("no input", b""),
    Case("a warning", b"warning: x\n", ((28, b"pop3d", b" warning: x"),)),
    Case("an alert", b"alert: x\n", ((25, b"pop3d", b" alert: x"),)),
    Case("a warning in capitals", b"Warning: x\n", info(b" Warning: x")),
    Case("a warning not at the beginning", b" warning: x\n", info(b"  warning: x")),
    Case("a warning without a colon", b"warning x\n", info(b" warning x")),
    Case("severity holds for one line", b"alert: x\ny\n", ((25, b"pop3d", b" alert: x"), *info(b" y"))),
    Case("octets that are no printable ASCII", b"a\tb\0c\x7f\xe9\r\n", info(b" a?b?c???")),
    Case("an escape sequence", b"\x1b[2J\n", info(b" ?[2J")),
    Case("percent signs", b"%s%n%d\n", info(b" %s%n%d")),
    Case("799 octets", b"x" * 799 + b"\n", info(b" " + b"x" * 799)),
    Case("800 octets", b"x" * 799 + b"y\n", info(b" " + b"x" * 799, b"+y")),
    Case("1,598 octets", b"x" * 799 + b"y" * 799 + b"\n", info(b" " + b"x" * 799, b"+" + b"y" * 799)),
    Case("2,000 octets, and a line behind them", b"x" * 2000 + b"\nz\n",
         info(b" " + b"x" * 799, b"+" + b"x" * 799, b"+" + b"x" * 402, b" z")),
    Case("a long warning", b"warning:" + b"x" * 800 + b"\n",
         ((28, b"pop3d", b" warning:" + b"x" * 791), (28, b"pop3d", b"+" + b"x" * 9))),
    Case("a last line without its end", b"a\nb", info(b" a", b" b"),
         mended="what a program said last, as it died, is what one looks for"),
    Case("a last line of 800 octets without its end", b"x" * 800, info(b" " + b"x" * 799, b"+x"),
         mended="what a program said last, as it died, is what one looks for"),
)  # fmt: skip


@pytest.fixture
def log(open_folder: Path) -> Iterator[PrivateLog]:
    private = PrivateLog(open_folder / "log")
    yield private
    private.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_as_observed(case: Case, log: PrivateLog, ours: Path, open_folder: Path) -> None:
    script = before_log(ours / "splogger", open_folder / "splogger", log)
    done = sides.run(script, sides.Case("", case.arguments, stdin=case.stdin), open_folder / "work")
    assert done == sides.Result(0, b"", b"")
    assert log.lines() == list(case.lines)


@pytest.mark.parametrize("facility", [0, 1, 2, 3, 16, 23, 24, 127, 128, 1000])
def test_a_datagram_is_that_of_the_c_library(facility: int, log: PrivateLog, ours: Path, open_folder: Path) -> None:
    say = f"import syslog; syslog.openlog('tag', 0, {facility} << 3); syslog.syslog(6, '1.000000 text')"
    theirs = before_log(Path(sys.executable), open_folder / "theirs", log)
    mine = before_log(ours / "splogger", open_folder / "mine", log)
    sides.run(theirs, sides.Case("", ("-c", say)), open_folder / "work")
    sides.run(mine, sides.Case("", ("tag", str(facility)), stdin=b"text\n"), open_folder / "work")
    assert len(set(log.lines())) == 1


def test_the_date_is_local_time(log: PrivateLog, ours: Path, open_folder: Path) -> None:
    script = before_log(ours / "splogger", open_folder / "splogger", log)
    began = int(time.time())
    sides.run(script, sides.Case("", environment={"TZ": "XXX+5"}, stdin=b"x\n"), open_folder / "work")
    match = DATAGRAM.fullmatch(log.drain()[0])
    possible = [time.strftime("%b %e %T", time.gmtime(at - 5 * 3600)) for at in range(began, int(time.time()) + 1)]
    assert match and match[2].decode() in possible
    assert began <= float(match[4]) < time.time()


def test_without_a_log_the_lines_are_lost_and_nothing_else(ours: Path, open_folder: Path) -> None:
    script = before_log(ours / "splogger", open_folder / "splogger", None)
    case = sides.Case("", ("pop3d", "3"), stdin=b"x\n" * 5000)
    assert sides.run(script, case, open_folder / "work") == sides.Result(0, b"", b"")
