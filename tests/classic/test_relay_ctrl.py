"""The relay-ctrl programs: the files that they write, read and remove, and what they say."""

from __future__ import annotations

import os
import re
import resource
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pillarbox.programs.relay_ctrl import remove_old
from pillarbox.store.grant_file import GrantFile, StoredGrant, encode
from pillarbox.store.grants import Grants
from pillarbox.terms import Grant

from .facts import Fact, check
from .sides import SECONDS, Result, run

IP = "192.0.2.7"
SHOW = ("sh", "-c", 'printf "%s|%s|%s" "${RELAYCLIENT-unset}" "${USER-unset}" "${DOMAIN-unset}"')
PID = re.compile(rb"\[[0-9]+\]")
TCP = "Fatal: Must be run from tcp-env or tcpserver.\n"
IPV6 = "IPv6 clients could neither log in nor relay"
ONE_RULE = "relay-ctrl-allow cut ::ffff: off, relay-ctrl-check did not, so that the grant was never found"
MASK = os.umask(0o022)  # of whoever runs the tests
os.umask(MASK)
CAROL = b"USER=carol\0"


def spool(folder: Path) -> None:
    (folder / "spool").mkdir()


def holding(name: str, content: bytes, age: float = 0) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        spool(folder)
        (folder / "spool" / name).write_bytes(content)
        when = time.time() - age
        os.utime(folder / "spool" / name, (when, when))

    return prepare


def allow(
    title: str, environment: Mapping[str, str], files: Mapping[str, bytes], mended: str = "", **more: object
) -> Fact:
    fact = Fact(
        title,
        environment={"RELAY_CTRL_DIR": "spool", "TCPREMOTEIP": IP} | environment,
        files={f"spool/{name}": content for name, content in files.items()},
        mended=mended,
        prepare=spool,
    )
    return replace(fact, **more)  # type: ignore[arg-type]


def lockout(title: str, address: str | None) -> Fact:
    environment = {"RELAY_CTRL_DIR": "spool"} | ({} if address is None else {"TCPREMOTEIP": address})
    return Fact(
        title, ("echo", "served"), environment, prepare=spool, status=111, err=b"relay-ctrl-allow: " + TCP.encode()
    )


ALLOW = (
    allow("a login", {"USER": "carol"}, {IP: CAROL}),
    allow("a login of a domain's user", {"USER": "carol", "DOMAIN": "x.test"}, {IP: CAROL + b"DOMAIN=x.test\0"}),
    allow("a domain alone", {"DOMAIN": "x.test"}, {IP: b"DOMAIN=x.test\0"}),
    allow("names that are empty", {"USER": "", "DOMAIN": ""}, {IP: b"USER=\0DOMAIN=\0"}),
    allow("no names at all", {}, {IP: b""}),
    allow("becomes its program", {}, {IP: b""}, arguments=("echo", "a b"), out=b"a b\n"),
    allow("gives its program's exit status", {}, {IP: b""}, arguments=("sh", "-c", "exit 7"), status=7),
    allow("no such program", {}, {IP: b""}, arguments=("no-such-program",), status=111),
    allow("a second login replaces the first", {"USER": "carol"}, {IP: CAROL}, prepare=holding(IP, b"USER=bob\0", 500)),
    allow("an address of IPv4 written as one of IPv6", {"TCPREMOTEIP": "::ffff:192.0.2.7"}, {IP: b""}),
    allow("the same in hexadecimal", {"TCPREMOTEIP": "::FFFF:C000:207"}, {IP: b""}, IPV6),
    allow("an address of IPv6", {"TCPREMOTEIP": "2001:DB8::0:1"}, {"2001:db8::1": b""}, IPV6),
    allow("an address of one link", {"TCPREMOTEIP": "fe80::1%eth0"}, {}, "an IPv6 client could not log in",
          arguments=("echo", "served"), out=b"served\n",
          err=b"relay-ctrl-allow: Warning: 'fe80::1%eth0' is an address of one link only, so nobody is allowed to relay\n"),
    lockout("no address", None),
    lockout("an empty address", ""),
    lockout("a name for an address", "localhost"),
    lockout("a path for an address", "../../etc/passwd"),
    replace(lockout("digits and dots that are no address", "1.2.3"),
            mended="the file of what is no address helps nobody, and .. is digits and dots, too"),
    Fact("no folder is named", ("echo", "served"), {"TCPREMOTEIP": IP}, out=b"served\n",
         err=b"relay-ctrl-allow: Warning: $RELAY_CTRL_DIR is not set.\n"),
    Fact("the folder is not there", ("echo", "served"), {"TCPREMOTEIP": IP, "RELAY_CTRL_DIR": "none"}, out=b"served\n",
         err=b"relay-ctrl-allow: Warning: Could not enter $RELAY_CTRL_DIR: No such file or directory\n",
         mended="it warned, and then wrote the file into the user's home"),
    allow("a descriptor that is not open", {"RELAY_CTRL_DIR_FD": "77"}, {IP: b""},
          "it warned, and wrote into the user's home"),
    allow("a descriptor that is no folder", {"RELAY_CTRL_DIR_FD": "0"}, {IP: b""},
          "it warned, and wrote into the user's home"),
    allow("a descriptor that is no number", {"RELAY_CTRL_DIR_FD": "-1 x"}, {IP: b""},
          "it warned, and wrote into the user's home"),
    allow("Courier, without a login", {"AUTHUSER": "a", "AUTHARGV0": "b", "TCPREMOTEIP": "x"}, {}),
    allow("Courier, with an empty login", {"AUTHUSER": "a", "AUTHARGV0": "b", "AUTHENTICATED": ""}, {}),
    allow("Courier, after a login", {"AUTHUSER": "a", "AUTHARGV0": "b", "AUTHENTICATED": "c"}, {IP: b""}),
    allow("the program starts where we did", {}, {IP: b""}, arguments=("sh", "-c", "ls; umask"),
          out=b"spool\n%04o\n" % MASK),
)  # fmt: skip


def asked(
    title: str, said: str, environment: Mapping[str, str] | None = None, mended: str = "", **more: object
) -> Fact:
    """`said`: RELAYCLIENT, USER and DOMAIN of the program that comes next."""
    fact = Fact(
        title,
        SHOW,
        {"RELAY_CTRL_DIR": "spool", "TCPREMOTEIP": IP} | (environment or {}),
        out=said.encode(),
        mended=mended,
        prepare=holding(IP, CAROL),
    )
    return replace(fact, **more)  # type: ignore[arg-type]


def logged(title: str, said: str, line: str, environment: Mapping[str, str] | None = None, **more: object) -> Fact:
    return asked(
        title,
        said,
        {"RELAY_CTRL_LOG_IPS": ""} | (environment or {}),
        err=f"relay-ctrl-check: {line}\n".encode(),
        **more,
    )


def a_folder(folder: Path) -> None:
    (folder / "spool" / IP).mkdir(parents=True)


def a_link(folder: Path) -> None:
    spool(folder)
    (folder / "spool/other").write_bytes(CAROL)
    (folder / "spool" / IP).symlink_to("other")


def a_pipe(folder: Path) -> None:
    spool(folder)
    os.mkfifo(folder / "spool" / IP)


NO, YES = "unset|unset|unset", "|carol|unset"
CHECK = (
    Fact("no program", status=1, err=b"usage: relay-ctrl-check program [arguments]\n"),
    Fact("no such program", ("no-such-program",), {"RELAYCLIENT": ""}, status=111),
    asked("a grant", YES),
    asked("a grant with a domain", "|carol|x.test", prepare=holding(IP, CAROL + b"DOMAIN=x.test\0")),
    asked("a value for RELAYCLIENT", "@x|carol|unset", {"RELAY_CTRL_RELAYCLIENT": "@x"}),
    asked("no grant", NO, prepare=spool),
    asked("a grant of another address", NO, {"TCPREMOTEIP": "192.0.2.70"}),
    asked("an empty file, as relay-ctrl-udp leaves it", "|unset|unset", prepare=holding(IP, b"")),
    asked("a value that is not ended does not count", "|carol|unset", prepare=holding(IP, CAROL + b"DOMAIN=x")),
    asked("a field without = does not count", "|carol|unset", prepare=holding(IP, b"DOMAIN\0" + CAROL)),
    asked("what was in the environment before is replaced", "|carol|here", {"USER": "bob", "DOMAIN": "here"}),
    asked("other variables of a file", "|carol|unset",
          mended="it set whatever the file named: with LD_PRELOAD, code of others",
          arguments=("sh", "-c", SHOW[2] + '; test -z "$LD_PRELOAD$DATABYTES"'),
          prepare=holding(IP, b"LD_PRELOAD=/tmp/x\0DATABYTES=1\0" + CAROL)),
    asked("a folder of that name", NO, mended="it took a folder for a grant", prepare=a_folder),
    asked("a link of that name", NO, mended="whoever can write there could lend the age of another file", prepare=a_link),
    asked("a pipe of that name", NO, mended="it waited for a writer", prepare=a_pipe),
    asked("nearly 900 seconds old", YES, prepare=holding(IP, CAROL, 880)),
    asked("older than that: removed", NO, prepare=holding(IP, CAROL, 902), files={}),
    asked("an expiry of a minute", NO, {"RELAY_CTRL_EXPIRY": "60x"}, prepare=holding(IP, CAROL, 62)),
    asked("an expiry of an hour", YES, {"RELAY_CTRL_EXPIRY": "3600"}, prepare=holding(IP, CAROL, 3590)),
    asked("an expiry that is none counts as 900", YES, {"RELAY_CTRL_EXPIRY": "-5"}, prepare=holding(IP, CAROL, 890)),
    asked("an expiry of letters counts as 900", NO, {"RELAY_CTRL_EXPIRY": "long"}, prepare=holding(IP, CAROL, 910)),
    asked("a file of the future", NO, mended="its grant never ended", prepare=holding(IP, CAROL, -60)),
    asked("RELAYCLIENT is set already", "mine|unset|unset", {"RELAYCLIENT": "mine"}),
    asked("an address of IPv4 written as one of IPv6", YES, {"TCPREMOTEIP": "::ffff:192.0.2.7"}, ONE_RULE),
    asked("an address of IPv6", YES, {"TCPREMOTEIP": "2001:DB8:0::1"}, IPV6, prepare=holding("2001:db8::1", CAROL)),
    asked("a path for an address", NO, {"TCPREMOTEIP": "../spool/192.0.2.7"}, "it opened whatever file was named"),
    asked("no address", NO, {"TCPREMOTEIP": ""}),
    Fact("no TCPREMOTEIP", SHOW, {"RELAY_CTRL_DIR": "spool"}, out=NO.encode(), prepare=spool,
         err=b"relay-ctrl-check: Warning: $TCPREMOTEIP not set, not checking IP\n"),
    Fact("no folder is named", SHOW, {"TCPREMOTEIP": IP}, out=NO.encode(),
         err=b"relay-ctrl-check: Warning: $RELAY_CTRL_DIR is not set\n"),
    asked("the folder is not there", NO, {"RELAY_CTRL_DIR": "none"},
          err=b"relay-ctrl-check: Warning: Could not enter $RELAY_CTRL_DIR: No such file or directory\n"),
    logged("log: no grant", NO, f"IP {IP} not found", prepare=spool),
    logged("log: a grant", YES, f"IP {IP} found, setting $RELAYCLIENT"),
    logged("log: an old one", NO, f"Expired IP {IP} found, removing", prepare=holding(IP, CAROL, 1000)),
    logged("log: nothing is looked at", "x|unset|unset", "$RELAYCLIENT already set, not checking IP", {"RELAYCLIENT": "x"}),
    logged("log: an address of two lines", NO, "IP 1?2 not found", {"TCPREMOTEIP": "1\n2"}, prepare=spool,
           mended="who chooses an address or a name could write lines of a log"),
    asked("log: variables", YES, {"RELAY_CTRL_LOG_ENV": ""}, err=b"relay-ctrl-check: Setting USER=carol\n"),
    asked("the program starts where we did", "spool\n", mended="it started in the folder of grants", arguments=("ls",)),
)  # fmt: skip

AGE = (
    Fact("no folder is named", status=1, err=b"relay-ctrl-age: Fatal: $RELAY_CTRL_DIR is not set.\n"),
    Fact("the folder is not there", environment={"RELAY_CTRL_DIR": "none"}, status=1,
         err=b"relay-ctrl-age: Fatal: Could not open dir 'none': No such file or directory\n"),
    Fact("what is young stays", environment={"RELAY_CTRL_DIR": "spool"}, prepare=holding(IP, CAROL, 890),
         files={f"spool/{IP}": CAROL}),
    Fact("what is old goes", environment={"RELAY_CTRL_DIR": "spool"}, prepare=holding(IP, CAROL, 902)),
    Fact("what was left half written goes", environment={"RELAY_CTRL_DIR": "spool"}, prepare=holding(".1.2:3", b"", 902)),
    Fact("any other file goes", environment={"RELAY_CTRL_DIR": "spool"}, prepare=holding("README", b"", 902)),
    Fact("folders stay", environment={"RELAY_CTRL_DIR": "."}, prepare=holding(IP, CAROL, 902),
         files={f"spool/{IP}": CAROL}),
    Fact("an expiry of its own", environment={"RELAY_CTRL_DIR": "spool", "RELAY_CTRL_EXPIRY": "60"},
         prepare=holding(IP, CAROL, 70)),
    Fact("what claims to be of the future goes", environment={"RELAY_CTRL_DIR": "spool"}, prepare=holding(IP, CAROL, -60),
         mended="once the clock gets there it would be a grant for whoever has the address then"),
)  # fmt: skip

CHDIR = (
    Fact("no program", environment={"RELAY_CTRL_DIR": "spool"}, status=1,
         err=b"usage: relay-ctrl-chdir program [arguments]\n"),
    Fact("no folder is named", ("true",), status=111, err=b"relay-ctrl-chdir: Fatal: $RELAY_CTRL_DIR is not set.\n"),
    Fact("the folder is not there", ("true",), {"RELAY_CTRL_DIR": "none"}, status=111,
         err=b"relay-ctrl-chdir: Fatal: Could not open dir 'none': No such file or directory\n"),
    Fact("the folder is a file", ("true",), {"RELAY_CTRL_DIR": f"spool/{IP}"}, prepare=holding(IP, b""), status=111,
         err=f"relay-ctrl-chdir: Fatal: 'spool/{IP}' is not a directory\n".encode()),
    Fact("no such program", ("no-such-program",), {"RELAY_CTRL_DIR": "spool"}, prepare=spool, status=111,
         err=b"relay-ctrl-chdir: Fatal: execution of program failed!\n"),
    Fact("the program has the folder, and starts where we did",
         ("sh", "-c", "ls /proc/self/fd/$RELAY_CTRL_DIR_FD/; ls"), {"RELAY_CTRL_DIR": "spool"}, prepare=holding(IP, b""),
         out=f"{IP}\nspool\n".encode()),
)  # fmt: skip

PROGRAMS = {"relay-ctrl-chdir": CHDIR, "relay-ctrl-allow": ALLOW, "relay-ctrl-check": CHECK, "relay-ctrl-age": AGE}
CASES = tuple(
    replace(fact, program=name, title=f"{name}: {fact.title}") for name, facts in PROGRAMS.items() for fact in facts
)


def unnumbered(result: Result) -> Result:
    return replace(result, err=PID.sub(b"", result.err))


@pytest.mark.parametrize("fact", CASES, ids=lambda fact: fact.title)
def test_facts(fact: Fact, ours: Path, tmp_path: Path) -> None:
    check(fact, ours / fact.program, tmp_path / "work", unnumbered)
    if fact.program in ("relay-ctrl-allow", "relay-ctrl-age"):  # and nothing else
        found = {path for path in (tmp_path / "work").rglob("*") if path.is_file()}
        assert {str(path.relative_to(tmp_path / "work")) for path in found} == set(fact.files)


def test_an_expired_file_is_gone_afterwards(ours: Path, tmp_path: Path) -> None:
    fact = asked("", NO, prepare=holding(IP, CAROL, 1000))
    assert not run(ours / "relay-ctrl-check", fact, tmp_path / "work").files


def test_messages_tell_the_process(ours: Path, tmp_path: Path) -> None:
    result = run(ours / "relay-ctrl-allow", lockout("", None), tmp_path / "work")
    assert PID.search(result.err)


@pytest.mark.parametrize(("limit", "number"), [(64, 63), (1024, 1023), (4096, 1023)])
def test_the_descriptor_is_the_highest_up_to_1023(limit: int, number: int, ours: Path, tmp_path: Path) -> None:
    """Where the limit is 64 it is what the original took: 63."""
    done = subprocess.run(
        [ours / "relay-ctrl-chdir", "sh", "-c", 'echo "$RELAY_CTRL_DIR_FD"; ls -d /proc/self/fd/$RELAY_CTRL_DIR_FD'],
        env={"PATH": os.environ["PATH"], "RELAY_CTRL_DIR": str(tmp_path)},
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        timeout=SECONDS,
    )
    assert done.stdout.split() == [b"%d" % number, b"/proc/self/fd/%d" % number]


def chain(ours: Path, names: str, environment: Mapping[str, str], *program: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*(ours / name for name in names.split()), *program],
        env={"PATH": os.environ["PATH"]} | dict(environment),
        capture_output=True,
        timeout=SECONDS,
    )


@pytest.mark.parametrize(
    ("program", "more"),
    [
        ("relay-ctrl-allow", {"TCPREMOTEIP": IP}),
        ("relay-ctrl-allow", {"TCPREMOTEIP": "fe80::1%lo"}),
        ("relay-ctrl-allow", {"TCPREMOTEIP": IP, "AUTHUSER": "x", "AUTHARGV0": "x"}),
        ("relay-ctrl-check", {"TCPREMOTEIP": IP}),
        ("relay-ctrl-check", {"TCPREMOTEIP": IP, "RELAYCLIENT": ""}),
        ("relay-ctrl-check", {}),
    ],
)
def test_the_next_program_has_no_way_into_the_folder(
    program: str, more: dict[str, str], ours: Path, tmp_path: Path
) -> None:
    """Whatever was written or looked at: with that descriptor the client's own program could make grants."""
    environment = {"RELAY_CTRL_DIR": str(tmp_path)} | more
    done = chain(
        ours, f"relay-ctrl-chdir {program}", environment, "sh", "-c", "echo /proc/self/fd/*; readlink /proc/self/fd/*"
    )
    assert b"/proc/self/fd/1" in done.stdout and str(tmp_path).encode() not in done.stdout


@pytest.mark.root
def test_who_may_not_enter_the_folder_writes_by_its_descriptor_alone(ours: Path, tmp_path: Path) -> None:
    """As it is set up: 0777 within 0700 of root. The owner of the file is the user, its mode that of relay-ctrl."""
    tmp_path.chmod(0o700)
    (tmp_path / "allow").mkdir()
    (tmp_path / "allow").chmod(0o777)
    environment = {"RELAY_CTRL_DIR": str(tmp_path / "allow"), "TCPREMOTEIP": IP, "USER": "nobody"}
    user = ("/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    allowing = (*user, str(ours / "relay-ctrl-allow"), "sh", "-c", "ls /proc/self/fd; pwd")
    done = chain(ours, "relay-ctrl-chdir", environment, *allowing)
    state = (tmp_path / "allow" / IP).stat()
    assert (state.st_uid, state.st_mode & 0o777) == (65534, 0o666)
    assert b"1023" not in done.stdout  # closed after use
    checking = (*user, str(ours / "relay-ctrl-check"), *SHOW)
    assert chain(ours, "relay-ctrl-chdir", environment, *checking).stdout == b"|nobody|unset"
    without = subprocess.run([*user, ours / "relay-ctrl-allow"], env=environment, capture_output=True, timeout=SECONDS)
    assert b"Permission denied" in without.stderr
    assert without.returncode == 0


@pytest.mark.root
def test_a_file_of_another_owner_that_may_not_be_read(ours: Path, tmp_path: Path) -> None:
    """By the folder's name relay-ctrl-allow writes 0600, and relay-ctrl-check of another uid can't read it."""
    folder = Path("/tmp") / f"pillarbox-relay-{os.getpid()}"
    folder.mkdir()
    try:
        folder.chmod(0o777)
        environment = {"PATH": os.environ["PATH"], "RELAY_CTRL_DIR": str(folder), "TCPREMOTEIP": IP, "USER": "a"}
        subprocess.run([ours / "relay-ctrl-allow"], env=environment, check=True, timeout=SECONDS)
        assert (folder / IP).stat().st_mode & 0o777 == 0o600
        done = subprocess.run(
            [ours / "relay-ctrl-check", *SHOW], env=environment, capture_output=True, user=65534, timeout=SECONDS
        )
        assert (
            PID.sub(b"", done.stderr)
            == f"relay-ctrl-check: Warning: Could not open IP file '{IP}': Permission denied\n".encode()
        )
        assert done.stdout == b"unset|a|unset"
    finally:
        (folder / IP).unlink(missing_ok=True)
        folder.rmdir()


def test_a_grant_of_the_daemon_is_one_here(ours: Path, tmp_path: Path) -> None:
    now = time.time()
    grant = StoredGrant(Grant(IP, "carol@x.test", now, now + 900, "APOP", 50, 100), b"fingerprint", 1000.0)
    content = encode(IP, GrantFile(1, "boot", (grant,)), b"k" * 32)
    fact = asked("", "|carol|x.test", prepare=holding(IP, content))
    check(fact, ours / "relay-ctrl-check", tmp_path / "work")


@pytest.mark.parametrize("name", [IP, "2001:db8::1"])
def test_a_grant_of_ours_is_one_for_the_daemon(name: str, ours: Path, tmp_path: Path) -> None:
    environment = {"RELAY_CTRL_DIR": str(tmp_path), "TCPREMOTEIP": name, "USER": "carol", "DOMAIN": "x.test"}
    assert chain(ours, "relay-ctrl-allow", environment).stderr == b""
    grants = Grants(str(tmp_path), key=b"k" * 32, boot="b", expiry=900, messages=1, recipients=1, classic=True)
    (found,) = grants.find(name, time.time(), 1000.0)
    assert (found.grant.address, found.grant.account) == (name, "carol@x.test")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_the_file_of_a_login_that_came_meanwhile_stays(folder: int, tmp_path: Path) -> None:
    """Somebody saw an old file, and removes it after it was replaced."""
    (tmp_path / IP).write_bytes(CAROL)
    assert remove_old(folder, IP, 900, time.time())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {IP: CAROL}


def test_the_newest_of_two_logins_that_came_meanwhile_stays(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / IP).write_bytes(CAROL)
    look = os.stat

    def another_login(*given: Any, **options: Any) -> os.stat_result:
        (tmp_path / IP).write_bytes(b"USER=bob\0")
        return look(*given, **options)

    monkeypatch.setattr(os, "stat", another_login)
    assert remove_old(folder, IP, 900, time.time())
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {IP: b"USER=bob\0"}


def test_an_old_file_is_removed(folder: int, tmp_path: Path) -> None:
    (tmp_path / IP).write_bytes(CAROL)
    os.utime(tmp_path / IP, (1, 1))
    assert not remove_old(folder, IP, 900, time.time())
    assert not list(tmp_path.iterdir())


# relay-ctrl-send and relay-ctrl-udp.


@contextmanager
def remote(family: int = socket.AF_INET) -> Iterator[socket.socket]:
    """A host that is told of logins."""
    with socket.socket(family, socket.SOCK_DGRAM) as door:
        door.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        door.settimeout(SECONDS)
        yield door


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_send_tells_again_until_there_is_an_answer(family: int, ours: Path) -> None:
    with remote(family) as door:
        host, port = door.getsockname()[:2]
        environment = {"TCPREMOTEIP": "::ffff:192.0.2.7", "RELAY_CTRL_REMOTES": host, "RELAY_CTRL_PORT": str(port)}
        started = subprocess.Popen(
            [ours / "relay-ctrl-send", "echo", "served"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with started:
            assert started.stdout is not None
            assert started.stderr is not None
            assert started.stdout.read() == b"served\n"  # to its end: the sender does not hold it
            assert started.wait(SECONDS) == 0
            assert door.recvfrom(100)[0] == b"192.0.2.7"
            text, sender = door.recvfrom(100)
            assert text == b"192.0.2.7"
            door.sendto(b"\1", sender)
            assert started.stderr.read() == b""  # at the end of the sender


def test_send_gives_up(ours: Path) -> None:
    with remote() as door:
        environment = {
            "TCPREMOTEIP": IP,
            "RELAY_CTRL_REMOTES": "127.0.0.1,nonsense",
            "RELAY_CTRL_PORT": str(door.getsockname()[1]),
            "RELAY_CTRL_TRIES": "2",
        }
        done = chain(ours, "relay-ctrl-send", environment)
        assert PID.sub(b"", done.stderr).splitlines() == [
            b"relay-ctrl-send: Warning: 'nonsense' is no address",
            b"relay-ctrl-send: Warning: Timed out waiting for response from '127.0.0.1'.",
        ]
        assert [door.recv(100) for _ in range(2)] == [IP.encode()] * 2
        assert not select.select([door], (), (), 0)[0]


@pytest.mark.parametrize(
    ("environment", "status", "err"),
    [
        ({"TCPREMOTEIP": IP}, 0, b""),
        ({}, 111, b"relay-ctrl-send: " + TCP.encode()),
        ({"AUTHUSER": "a", "AUTHARGV0": "b"}, 0, b""),
    ],
    ids=["no hosts", "no address", "Courier without a login"],
)
def test_send_without_anything_to_send(environment: dict[str, str], status: int, err: bytes, ours: Path) -> None:
    done = chain(ours, "relay-ctrl-send", environment)
    assert (done.returncode, PID.sub(b"", done.stderr)) == (status, err)


def test_the_sender_is_no_child_of_the_program(ours: Path) -> None:
    with remote() as door:
        port = str(door.getsockname()[1])
        environment = {
            "TCPREMOTEIP": IP,
            "RELAY_CTRL_REMOTES": "127.0.0.1",
            "RELAY_CTRL_PORT": port,
            "RELAY_CTRL_TRIES": "1",
        }
        done = chain(
            ours, "relay-ctrl-send", environment, "sh", "-c", "read children </proc/$$/task/$$/children; echo $children"
        )
        assert done.stdout == b"\n"


@contextmanager
def listener(
    ours: Path, folder: Path, *options: str, remotes: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """relay-ctrl-udp on a free port of ::1 and 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    environment = {"RELAY_CTRL_DIR": str(folder), "RELAY_CTRL_PORT": str(port), "RELAY_CTRL_REMOTES": remotes}
    started = subprocess.Popen(
        [ours / "relay-ctrl-udp", *options], env=environment, stderr=subprocess.PIPE, umask=0o022
    )
    try:
        yield started, port
    finally:
        started.kill()
        started.communicate()


def tell(host: str, port: int, text: bytes) -> bytes | None:
    """The answer; the listener may not be there yet."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.settimeout(0.2)
        for _ in range(100):
            here.sendto(text, (host, port))
            try:
                return here.recv(10)
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.02)
    return None


def complaint(started: subprocess.Popen[bytes]) -> bytes:
    assert started.stderr is not None
    return started.stderr.readline()


def test_udp_writes_what_a_known_host_tells(ours: Path, tmp_path: Path) -> None:
    with listener(ours, tmp_path, "--bind", "127.0.0.1", remotes="192.0.2.1, 127.0.0.1") as (started, port):
        assert tell("127.0.0.1", port, IP.encode()) == b"\1"
        assert (tmp_path / IP).read_bytes() == b""
        assert (tmp_path / IP).stat().st_mode & 0o777 == 0o644
        os.utime(tmp_path / IP, (1, 1))
        assert tell("127.0.0.1", port, b"::ffff:192.0.2.7") == b"\1"
        assert (tmp_path / IP).stat().st_mtime > 1
        for text in (b"4.4.4.6\n", b"../x", b"", b"\xff"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
                here.sendto(text, ("127.0.0.1", port))
                assert complaint(started) == b"relay-ctrl-udp: Warning: Invalid IP from '127.0.0.1'.\n"
        assert [path.name for path in tmp_path.iterdir()] == [IP]


def test_udp_hears_nobody_else(ours: Path, tmp_path: Path) -> None:
    with listener(ours, tmp_path, "--bind", "::", remotes="::1") as (started, port):
        assert tell("::1", port, b"2001:db8::1") == b"\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            here.sendto(b"192.0.2.9", ("127.0.0.1", port))
            assert complaint(started) == b"relay-ctrl-udp: Warning: '::ffff:127.0.0.1' is not in $RELAY_CTRL_REMOTES.\n"
        assert [path.name for path in tmp_path.iterdir()] == ["2001:db8::1"]


def test_udp_hears_everybody_where_that_is_wanted(ours: Path, tmp_path: Path) -> None:
    with listener(ours, tmp_path, "--faithful") as (_, port):
        assert tell("127.0.0.1", port, IP.encode()) == b"\1"


@pytest.mark.parametrize(
    ("options", "environment", "why"),
    [
        ((), {}, b"$RELAY_CTRL_DIR is not set."),
        (
            (),
            {"RELAY_CTRL_DIR": "/"},
            b"$RELAY_CTRL_REMOTES names no address to listen to (--faithful listens to all).",
        ),
        (("--bind",), {}, b"usage: relay-ctrl-udp [--faithful] [--bind ADDRESS]"),
        (("--faithful", "--bind", "192.0.2.1"), {"RELAY_CTRL_DIR": "/"}, b"Could not listen at '192.0.2.1': "),
    ],
    ids=["no folder", "no hosts", "a wrong option", "an address that is not ours"],
)
def test_udp_does_not_start(options: tuple[str, ...], environment: dict[str, str], why: bytes, ours: Path) -> None:
    done = chain(ours, "relay-ctrl-udp", environment, *options)
    assert done.returncode == 1
    assert done.stderr.startswith(b"relay-ctrl-udp: Fatal: " + why)


def test_send_and_udp_together(ours: Path, tmp_path: Path) -> None:
    with listener(ours, tmp_path, remotes="127.0.0.1") as (_, port):
        assert tell("127.0.0.1", port, b"192.0.2.1") == b"\1"  # it is there
        environment = {"TCPREMOTEIP": IP, "RELAY_CTRL_REMOTES": "127.0.0.1", "RELAY_CTRL_PORT": str(port)}
        done = chain(ours, "relay-ctrl-send", environment)
        assert (done.returncode, done.stderr) == (0, b"")  # descriptor 2 ends with the sender: it was answered
    assert (tmp_path / IP).exists()
