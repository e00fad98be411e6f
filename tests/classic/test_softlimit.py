"""softlimit beside daemontools' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .sides import Case, Result, check, run

LIMITS = ("cat", "/proc/self/limits")
OPTIONS = {
    "a": 200_000_000, "c": 4096, "d": 50_000_000, "f": 100_000, "l": 8192, "m": 60_000_000, "o": 20, "p": 300, "r": 4096,
    "s": 1_000_000, "t": 1000,
}  # fmt: skip
WRAPS = "a number that is too large should not become a small one"


CASES = (
    Case("no arguments"),
    Case("no option", LIMITS),
    *(Case(f"-{letter}", (f"-{letter}", str(value), *LIMITS)) for letter, value in OPTIONS.items()),
    *(Case(f"-{letter} without a blank", (f"-{letter}{value}", *LIMITS)) for letter, value in OPTIONS.items()),
    *(Case(f"-{letter} =", (f"-{letter}", "=", *LIMITS)) for letter in OPTIONS),
    Case("all but -m", (*(f"-{letter}{value}" for letter, value in OPTIONS.items() if letter != "m"), *LIMITS)),
    Case("the last of two counts", ("-o", "20", "-o", "30", *LIMITS)),
    Case("up again to the hard limit", ("-o", "20", "-o", "=", *LIMITS)),
    Case("-m, then -s up again", ("-m", "60000000", "-s", "=", *LIMITS)),
    Case("above the hard limit", ("-o", "99999999", *LIMITS)),
    Case("the largest number", ("-a", "18446744073709551615", *LIMITS)),
    Case("zeros at the beginning", ("-o", "0000000000000000000000000000020", *LIMITS)),
    Case("no core", ("-c", "0", *LIMITS)),
    Case("two dashes end the options", ("-o", "20", "--", *LIMITS)),
    Case("two dashes, then what looks like an option", ("--", "-x")),
    Case("options of the program", ("-o", "20", "ls", "-d", "/")),
    Case("one dash is a program", ("-", "x")),
    Case("an option without a number", ("-o",)),
    Case("the option is the program", ("-o", *LIMITS)),
    Case("a number with a letter", ("-o", "20k", *LIMITS)),
    Case("a negative number", ("-o", "-5", *LIMITS)),
    Case("a plus sign", ("-o", "+5", *LIMITS)),
    Case("a blank before the number", ("-o", " 20", *LIMITS)),
    Case("an equals sign and more", ("-o", "=20", *LIMITS)),
    Case("no such option", ("-x", "20", *LIMITS)),
    Case("no such option, after one that there is", ("-o", "20", "-h", *LIMITS)),
    Case("two letters in one word", ("-co", "20", *LIMITS)),
    Case("no program", ("-o", "20")),
    Case("no program after two dashes", ("-o", "20", "--")),
    Case("a program that is not there", ("-o", "20", "none")),
    Case("too little memory for any program", ("-m", "1000", "true")),
    Case("a stack too small for any program", ("-s", "10", "true")),
    Case("the environment goes through", ("-o", "20", "sh", "-c", 'echo "$A"'), {"A": "x" * 100_000}),
    Case("a large environment, and no memory to copy it", ("-d", "1", "-l", "0", "sh", "-c", "echo ${#A}"),
         {"A": "x" * 100_000, "B": "y" * 100_000}),
    Case("descriptor 3 goes through", ("-o", "20", "sh", "-c", "cat <&3"), record=b"record"),
    Case("the program's exit status", ("-t", "9", "sh", "-c", "exit 7")),
    Case("a number above 2^64", ("-o", "18446744073709551621", "sh", "-c", "ulimit -n"), mended=WRAPS,
         ours=lambda result: result.status == 0 and int(result.out) > 5),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, originals: Path, ours: Path, tmp_path: Path) -> None:
    check(case, originals / "softlimit", ours / "softlimit", tmp_path / "work")


def test_a_limit_holds(ours: Path, tmp_path: Path) -> None:
    case = Case("", ("-f", "1000", "sh", "-c", "exec head -c 2000 /dev/zero"))
    unlimited = run(ours / "softlimit", case, tmp_path / "work")
    assert unlimited == Result(0, bytes(2000), b"")  # a pipe is no file
    case = Case("", ("-f", "1000", "sh", "-c", "exec head -c 2000 /dev/zero > file"))
    limited = run(ours / "softlimit", case, tmp_path / "work")
    assert limited.files == {"file": bytes(1000)} and limited.status != 0
