"""loginlog beside upstream's shell script, which Debian has as an example; that one is given our splogger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..peers import packages
from .private_log import PrivateLog, before_log
from .sides import Case, Result, run

pytestmark = pytest.mark.root  # /dev/log is a private one, and so is /var/qmail

EXAMPLE = "usr/share/doc/checkpw/examples/loginlog"
ALL = {"TCPREMOTEIP": "192.0.2.1", "TCPLOCALPORT": "110", "USER": "alice"}
SHELL = "the shell's own words say nothing about the program"

CASES = (
    Case("a login", ("sh", "-c", "exit 7"), ALL),
    Case("an IPv6 address", ("true",), {**ALL, "TCPREMOTEIP": "2001:db8::1"}),
    Case("no user", ("true",), {"TCPREMOTEIP": "192.0.2.1", "TCPLOCALPORT": "110"}),
    Case("nothing to tell", ("true",)),
    Case("a blank in a name", ("true",), {**ALL, "USER": "a  b"}),
    Case("a line end in a name", ("true",), {**ALL, "USER": "a\nalert: b"}),
    Case("a long name", ("true",), {**ALL, "USER": "x" * 2000}),
    Case("a name beyond ASCII", ("true",), {**ALL, "USER": "é"}),
    Case("the program's arguments", ("printf", "<%s>", "a b", "*", "", b"\xff"), ALL),
    Case("what the program reads", ("cat",), ALL, stdin=b"input"),
    Case("descriptor 3 goes through", ("sh", "-c", "cat <&3"), ALL, record=b"record"),
    Case("the environment goes through", ("env", "-u", "PWD", "-u", "OLDPWD"), ALL),
    Case("a backslash in a name", ("true",), {**ALL, "USER": "a\\tb"},
         mended="a name is shown as it is", ours=lambda result: result.out == b"<22>login: 192.0.2.1 110 a\\tb"),
    Case("no program", (), ALL, mended=SHELL, ours=lambda result: result == Result(
        2, b"", b"loginlog: usage: loginlog program\n")),
    Case("a program that is not there", ("none",), ALL, mended=SHELL, ours=lambda result: result == Result(
        111, b"<22>login: 192.0.2.1 110 alice", b"loginlog: fatal: unable to run none: file does not exist\n")),
)  # fmt: skip


@pytest.fixture
def original(open_folder: Path) -> Path:
    """The script, made one that can be run."""
    installed = Path("/") / EXAMPLE
    found = installed if installed.exists() else packages.unpacked("checkpw") / EXAMPLE  # images leave such files out
    script = open_folder / "loginlog"
    shutil.copy(found, script)
    script.chmod(0o755)
    return script


@pytest.fixture
def log(open_folder: Path) -> Iterator[PrivateLog]:
    private = PrivateLog(open_folder / "log")
    yield private
    private.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, original: Path, log: PrivateLog, ours: Path, open_folder: Path) -> None:
    """What is logged counts as output."""
    var = f"{shutil.which('mount')} -t tmpfs none /var && /bin/mkdir -p /var/qmail/bin"
    splogger = f"/bin/ln -s {(ours / 'splogger').resolve()} /var/qmail/bin/splogger"
    results = []
    for program, name in ((original, "theirs"), (ours / "loginlog", "mine")):
        script = before_log(program, open_folder / name, log, var, splogger)
        done = run(script, case, open_folder / "work")
        logged = b"".join(b"<%d>%s:%s" % line for line in log.lines())
        results.append(Result(done.status, done.out + logged, done.err))
    theirs, mine = results
    if not case.mended:
        assert mine == theirs
        return
    assert mine != theirs
    assert case.ours and case.ours(mine), mine


def test_a_missing_log_keeps_nobody_out(ours: Path, open_folder: Path) -> None:
    script = before_log(ours / "loginlog", open_folder / "mine", None)
    assert run(script, Case("", ("sh", "-c", "exit 7"), ALL), open_folder / "work") == Result(7, b"", b"")
