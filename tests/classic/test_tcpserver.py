"""tcpserver beside ucspi-tcp's own: clients, logs, environment, rules."""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import ORIGINALS
from .servers import IDENT_ADDRESS, SECONDS, Running, Served, ServerCase, check, to_the_end
from .sides import Case, Result
from .sides import check as check_ended

QUICK = ("-v", "-R", "-H", "-l", "0")
QUIET = ("-R", "-H", "-l", "0")
INHERITED = {"TCPREMOTEHOST": "old", "TCPREMOTEINFO": "old", "TCPLOCALHOST": "old", "PROTO": "old", "OTHER": "kept"}
RESOLVER = "Names are looked up by the system's resolver, /etc/hosts included, and not in the DNS alone"


def rules(content: bytes) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        program = [str(ORIGINALS / "tcprules"), "rules.cdb", "rules.tmp"]
        subprocess.run(program, input=content, cwd=folder, check=True)

    return prepare


def octets(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "rules.cdb").write_bytes(content) and None


def ruled(title: str, content: bytes, **more: object) -> ServerCase:
    return ServerCase(title, (*QUICK, "-x", "rules.cdb"), prepare=rules(content), **more)  # type: ignore[arg-type]


def shell(title: str, command: str, *options: str, **more: object) -> ServerCase:
    return ServerCase(title, (*QUICK, *options), ("/bin/sh", "-c", command), **more)  # type: ignore[arg-type]


def told(title: str, answer: bytes) -> ServerCase:
    return ServerCase(f"the identity server says {title}", ("-v", "-r", "-H", "-l0"), ident=answer)


def variable(name: bytes, value: bytes) -> Callable[[Served], bool]:
    return lambda served: name + b"=" + value in served.replies[0].split(b"\n")


CASES = (
    ServerCase("the environment and the log of one connection", QUICK),
    ServerCase("two connections, one after the other", QUICK, clients=(b"", b"")),
    ServerCase("errors alone are told without -v", QUIET),
    ServerCase("quiet after verbose", ("-R", *QUICK, "-q")),
    ServerCase("errors after verbose", ("-R", *QUICK, "-Q")),
    ServerCase("inherited variables are replaced or removed", QUICK, environment=INHERITED),
    ServerCase("options in one word", ("-vRHl0",)),
    ServerCase("an end of the options", (*QUICK, "--")),
    ServerCase("all addresses", QUICK, host="0"),
    ServerCase("an empty host: all addresses", QUICK, host=""),
    ServerCase("a name of our own", ("-v", "-R", "-H", "-l", "mail.example.com")),
    ServerCase("a name that is not fit for a log", ("-vRHl", b"a b:c%d\xff\n" + b"x" * 120)),
    ServerCase("an empty name of our own", ("-v", "-R", "-H", "-l", "")),
    ServerCase("limit and backlog", (*QUICK, "-c", "7", "-b", "3")),
    ServerCase("digits before something else", (*QUICK, "-c", "7x", "-b", "3x", "-t", "2x")),
    ServerCase("no delay, and IP options left alone", (*QUICK, "-D", "-o")),
    ServerCase("the defaults of these", (*QUICK, "-d", "-O", "-P")),
    ServerCase("a banner", (*QUICK, "-B", "hello\r\n")),
    ServerCase("a banner as it stands", (*QUICK, "-B", "\\r\\n")),
    ServerCase("a banner before a denial", (*QUICK, "-B", "hello\n", "-x", "rules.cdb"), prepare=rules(b":deny\n")),
    shell("input is the connection", "cat", clients=(b"one\ntwo\n",)),
    shell("the status of the program is logged", "exit 3"),
    shell("a program that a signal ends", "kill -9 $$"),
    shell("messages go to the server's descriptor 2", "cat; echo to the log >&2; echo to the client"),
    shell("descriptors 0 and 1 are the same socket", "echo to 0 >&0; echo to 1"),
    shell("no descriptor but 0, 1 and 2", "cd /proc/$$/fd; echo *"),
    ServerCase("no such program", QUICK, ("no-such-program",)),
    ServerCase("no such program, quietly", ("-q", *QUIET), ("no-such-program",)),
    ServerCase("no such path", QUICK, ("/no/such/program",)),
    ServerCase("a file that is no program", QUICK, ("/etc/passwd",)),
    ServerCase("a folder as the program", QUICK, ("/etc",)),
    ServerCase("the program lies nowhere in PATH", QUICK, environment={"PATH": "/none:/nowhere"}),
    ServerCase("rules: no file", (*QUICK, "-x", "rules.cdb")),
    ServerCase("rules: no file, without -v", (*QUIET, "-x", "rules.cdb")),
    ServerCase("rules: no file, quietly", ("-q", *QUIET, "-x", "rules.cdb")),
    ServerCase("rules: no file, and that is allowed", (*QUICK, "-x", "rules.cdb", "-X")),
    ServerCase("rules: an empty file", (*QUICK, "-X", "-x", "rules.cdb"), prepare=octets(b"")),
    ServerCase("rules: a damaged file", (*QUICK, "-x", "rules.cdb"), prepare=octets(b"\xff\xff\xff\x70" * 512)),
    ruled("rules: none", b""),
    ruled("rules: all are denied", b":deny\n"),
    ruled("rules: this address is denied", b"127.0.0.1:deny\n:allow\n"),
    ruled("rules: this address is allowed, with variables", b'127.0.0.1:allow,RELAYCLIENT="",A="b=c"\n:deny\n'),
    ruled("rules: a prefix", b'127.0.:allow,A="prefix"\n:deny\n'),
    ruled("rules: a range", b'127.0.0.0-9:allow,A="range"\n:deny\n'),
    ruled("rules: variables of a denial", b':deny,A="b"\n'),
    ruled("rules: a variable that tcpserver sets itself", b':allow,TCPREMOTEIP="192.0.2.1",PROTO="mine"\n'),
    ruled("rules: a variable that was inherited", b':allow,OTHER="new"\n', environment=INHERITED),
    ruled("rules: PATH", b':allow,PATH="/none"\n'),
    ServerCase(
        "rules: a variable without a name",
        (*QUICK, "-x", "rules.cdb"),
        prepare=rules(b':allow,="x",A="b"\n'),
        mended="A variable without a name is left out: no program could read it",
        ours=variable(b"A", b"b"),
    ),
    ruled("rules: names do not match without a lookup", b"=:deny\n=localhost:deny\n"),
    told("a name", b"{} : USERID : UNIX : joe\r\n"),
    told("a name without blanks", b"{}:USERID:UNIX:joe\n"),
    told("a name with blanks and colons in it", b"{} : USERID : OTHER,US-ASCII : joe : blow \t x\r\n"),
    told("that it tells nothing", b"{} : ERROR : HIDDEN-USER\r\n"),
    told("an empty name", b"{} : USERID : UNIX : \r\n"),
    told("nothing", b""),
    told("a line without an end", b"{} : USERID : UNIX : joe"),
    told("a NUL in a name", b"{} : USERID : UNIX : jo\0e\r\n"),
    told("a name of 300 octets", b"{} : USERID : UNIX : " + b"j" * 300 + b"\r\n"),
    told("a name of 990 octets", b"{}:USERID:UNIX:" + b"j" * 990 + b"\r\n"),
    told("a name of 3000 octets", b"{}:USERID:UNIX:" + b"j" * 3000 + b"\r\n"),
    told("octets that are no text", b"{} : USERID : UNIX : \xff\x01%:\r\n"),
    ServerCase("no identity server", ("-v", "-r", "-H", "-l0"), environment=INHERITED),
    ServerCase(
        "rules: a name that the identity server says",
        ("-v", "-r", "-H", "-l0", "-x", "rules.cdb"),
        prepare=rules(b'joe@%b:allow,A="joe"\n:deny\n' % IDENT_ADDRESS.encode()),
        ident=b"{} : USERID : UNIX : joe\r\n",
    ),
    ServerCase(
        "the peer's name",
        ("-v", "-R", "-h", "-l0"),
        dns=True,
        mended=RESOLVER,
        ours=variable(b"TCPREMOTEHOST", b"localhost"),
    ),
    ServerCase(
        "the peer's name, if it leads back to the address",
        ("-v", "-R", "-p", "-l0"),
        dns=True,
        mended=RESOLVER,
        ours=variable(b"TCPREMOTEHOST", b"localhost"),
    ),
    ServerCase(
        "a name of our own is looked up without -l",
        ("-v", "-R", "-H"),
        dns=True,
        mended=RESOLVER,
        ours=variable(b"TCPLOCALHOST", b"localhost"),
    ),
    ServerCase("user and group as numbers", (*QUICK, "-u", "65534", "-g", "65534"), ("id",), root=True),
    ServerCase("a group alone", (*QUICK, "-g", "65534"), ("id",), root=True),
    ServerCase("user and group of the environment", (*QUICK, "-U"), ("id",), {"UID": "8", "GID": "9"}, root=True),
    ServerCase("user 0 is root, as it says", (*QUICK, "-u", "0"), ("id", "-u"), root=True),
    ServerCase(
        "a user by name",
        (*QUICK, "-u", "mail"),
        ("id", "-un"),
        root=True,
        mended="A user's name is looked up; the original reads it as 0 and stays root",
        ours=lambda served: served.replies == (b"mail\n",),
    ),
    ServerCase(
        "a group by name",
        (*QUICK, "-g", "mail"),
        ("id", "-gn"),
        root=True,
        mended="A group's name is looked up; the original reads it as 0",
        ours=lambda served: served.replies == (b"mail\n",),
    ),
    ServerCase(
        "a user that isn't there",
        (*QUICK, "-u", "no-such-user"),
        ("id", "-un"),
        root=True,
        mended="An unknown user is fatal; the original stays root",
        ours=lambda served: served.status == 111 and not served.replies and b"no account no-such-user" in served.log,
    ),
    ServerCase(
        "a group that isn't there",
        (*QUICK, "-g", "no-such-group"),
        ("id", "-gn"),
        root=True,
        mended="An unknown group is fatal; the original keeps root's",
        ours=lambda served: served.status == 111 and not served.replies and b"no group no-such-group" in served.log,
    ),
    ServerCase(
        "a user without a group",
        (*QUICK, "-u", "8"),
        ("sh", "-c", "id -gn; id -G"),
        root=True,
        mended="A user without -g has its own group; the original keeps root's groups",
        ours=lambda served: served.replies == (b"mail\n8\n",),
    ),
    ServerCase(
        "-U without the variables",
        (*QUICK, "-U"),
        ("id", "-u"),
        root=True,
        mended="Without $UID and $GID -U is fatal; the original stays root",
        ours=lambda served: served.status == 111 and not served.replies,
    ),
    ServerCase(
        "a folder as the rules",
        (*QUICK, "-x", "/"),
        mended="A folder is reported; the original dies of a signal",
        ours=lambda served: b"dropping connection, unable to read /: " in served.log and served.replies == (b"",),
    ),
)


def marked(case: ServerCase) -> object:
    return pytest.param(case, id=case.title, marks=[pytest.mark.root] if case.needs_root else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_agreement(case: ServerCase, originals: Path, ours: Path, tmp_path: Path) -> None:
    check(case, originals / "tcpserver", ours / "tcpserver", tmp_path / "work")


def usage_cut(result: Result) -> Result:
    """Without the list of options, in which ours has more."""
    cut = re.sub(rb"(tcpserver: usage: tcpserver) \[.*", rb"\1 ...", result.err)
    return Result(result.status, result.out, cut, result.files)


ENDED = (
    Case("no arguments"),
    Case("no port", ("0",)),
    Case("no program", ("0", "0")),
    Case("no program after the options' end", ("--", "0", "0")),
    Case("an option that isn't one", ("-z", "0", "0", "true")),
    Case("an option without its argument", ("-v", "-x")),
    Case("a port that isn't one", ("0", "no-such-port", "true")),
    Case("a port with something behind it", ("0", "110x", "true")),
    Case("an address that isn't ours", ("192.0.2.1", "0", "true")),
    Case(
        "the list of options",
        ("-v",),
        mended="The list of options names those that the original lacks",
        ours=lambda result: result.status == 100 and b"46T ] [ -c limit ]" in result.err,
    ),
)


@pytest.mark.parametrize("case", ENDED, ids=lambda case: case.title)
def test_agreement_at_its_end(case: Case, originals: Path, ours: Path, tmp_path: Path) -> None:
    normalise = (lambda result: result) if case.mended else usage_cut
    check_ended(case, originals / "tcpserver", ours / "tcpserver", tmp_path / "work", normalise)


# What needs more than one client at once, or another signal; both sides where the original can.


@contextmanager
def running(program: Path, arguments: tuple[str, ...], folder: Path, **environment: str) -> Iterator[Running]:
    server = Running(program, arguments, folder, environment)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(params=["original", "ours"])
def tcpserver(request: pytest.FixtureRequest, originals: Path, ours: Path) -> Path:
    return (originals if request.param == "original" else ours) / "tcpserver"


def test_above_the_limit_connections_wait(tcpserver: Path, tmp_path: Path) -> None:
    arguments = (*QUICK, "-c", "1", "127.0.0.1", "0", "cat")
    with running(tcpserver, arguments, tmp_path) as server, server.connect() as first, server.connect() as second:
        for client in (first, second):
            client.sendall(b"hello\n")
        assert first.recv(10) == b"hello\n"
        first.close()
        assert second.recv(10) == b"hello\n"
        words = re.findall(rb"tcpserver: (pid|end|status: \d+)", server.log())
        assert words == [b"status: 0", b"status: 1", b"pid", b"end", b"status: 0", b"status: 1", b"pid"]


def test_a_sigterm_ends_it_at_once_and_leaves_its_children(tcpserver: Path, tmp_path: Path) -> None:
    with running(tcpserver, (*QUICK, "127.0.0.1", "0", "cat"), tmp_path) as server, server.connect() as client:
        client.sendall(b"before\n")
        assert client.recv(10) == b"before\n"
        assert server.end() == 0
        client.sendall(b"after\n")
        assert client.recv(10) == b"after\n"
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_a_sighup_kills_it(tcpserver: Path, tmp_path: Path) -> None:
    with running(tcpserver, (*QUICK, "127.0.0.1", "0", "cat"), tmp_path) as server:
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(SECONDS) == -signal.SIGHUP


def test_its_own_descriptors_0_and_1_are_given_up(tcpserver: Path, tmp_path: Path) -> None:
    with running(tcpserver, (*QUICK, "127.0.0.1", "0", "cat"), tmp_path) as server:
        assert server.process.stdout
        assert server.process.stdout.read() == b"", "whoever read the port sees the end"


def test_inherited_descriptors_pass_through(tcpserver: Path, tmp_path: Path) -> None:
    (tmp_path / "seven").write_text("of descriptor 7")
    script = tmp_path / "with-descriptor-7"
    script.write_text(f'#!/bin/sh\nexec 7<seven\nexec {tcpserver} "$@"\n')
    script.chmod(0o755)
    arguments = (*QUICK, "127.0.0.1", "0", "sh", "-c", "cat <&7")
    with running(script, arguments, tmp_path) as server, server.connect() as client:
        assert to_the_end(client) == b"of descriptor 7"


def test_rules_may_change_while_it_runs(tcpserver: Path, tmp_path: Path) -> None:
    rules(b":deny\n")(tmp_path)
    with running(tcpserver, (*QUICK, "-x", "rules.cdb", "127.0.0.1", "0", "echo", "hello"), tmp_path) as server:
        for content, reply in ((b":deny\n", b""), (b":allow\n", b"hello\n"), (b"127.:deny\n", b"")):
            rules(content)(tmp_path)
            with server.connect() as client:
                assert to_the_end(client) == reply


def test_a_port_that_is_taken(tcpserver: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([tcpserver, *QUICK, "127.0.0.1", port, "true"], capture_output=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (111, b"tcpserver: fatal: unable to bind: address already used\n")


@pytest.mark.root
def test_without_the_right_to_change_its_user(tcpserver: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for options, what in ((("-u", "1", "-g", "1"), b"gid"), (("-g", "1"), b"gid")):
        done = subprocess.run(
            [tcpserver, *QUICK, *options, "127.0.0.1", "0", "true"],
            capture_output=True,
            timeout=SECONDS,
            user=65534,
            group=65534,
            extra_groups=[],
        )
        assert (done.returncode, done.stderr) == (
            111,
            b"tcpserver: fatal: unable to set " + what + b": permission denied\n",
        )


# What the original lacks.


def test_on_request_a_sigterm_goes_to_its_children_and_it_waits(ours: Path, tmp_path: Path) -> None:
    script = "trap 'echo farewell; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    arguments = (*QUICK, "-T", "127.0.0.1", "0", "sh", "-c", script)
    with running(ours / "tcpserver", arguments, tmp_path) as server, server.connect() as client:
        assert client.recv(10) == b"ready\n"
        assert server.end() == 0
        assert to_the_end(client) == b"farewell\n"
        assert b" status 1792\ntcpserver: status: 0/40\n" in server.log()


def test_a_second_sigterm_does_not_wait(ours: Path, tmp_path: Path) -> None:
    arguments = (*QUICK, "-T", "127.0.0.1", "0", "sh", "-c", "trap '' TERM; echo ready; read line; echo $line")
    with running(ours / "tcpserver", arguments, tmp_path) as server, server.connect() as client:
        assert client.recv(10) == b"ready\n"
        server.process.send_signal(signal.SIGTERM)
        while True:  # it has heeded the first one when it does not listen any more
            try:
                server.connect().close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
        assert server.process.poll() is None
        assert server.end() == 0
        client.sendall(b"still here\n")
        assert to_the_end(client) == b"still here\n"


@pytest.mark.parametrize(("options", "host"), [(("-6",), "0"), ((), "::"), ((), "::1"), (("-6",), "::1")])
def test_ipv6(options: tuple[str, ...], host: str, ours: Path, tmp_path: Path) -> None:
    arguments = (*QUICK, *options, host, "0", "env")
    with running(ours / "tcpserver", arguments, tmp_path) as server, server.connect("::1") as client:
        port = client.getsockname()[1]
        found = dict(line.split(b"=", 1) for line in to_the_end(client).splitlines())
        assert found[b"PROTO"] == b"TCP6"
        assert found[b"TCPREMOTEIP"] == found[b"TCP6REMOTEIP"] == found[b"TCPLOCALIP"] == b"::1"
        assert found[b"TCPREMOTEPORT"] == found[b"TCP6REMOTEPORT"] == str(port).encode()
        assert b" 0:::1:%d :::1::%d\n" % (server.port, port) in server.log()


def test_a_client_of_ipv4_at_an_ipv6_socket_has_its_plain_address(ours: Path, tmp_path: Path) -> None:
    rules(b'127.0.0.1:allow,RULE="four"\n:deny\n')(tmp_path)
    arguments = (*QUICK, "-6", "-x", "rules.cdb", "0", "0", "env")
    with running(ours / "tcpserver", arguments, tmp_path) as server, server.connect() as client:
        found = dict(line.split(b"=", 1) for line in to_the_end(client).splitlines())
        assert (found[b"PROTO"], found[b"TCPREMOTEIP"], found[b"RULE"]) == (b"TCP", b"127.0.0.1", b"four")
        assert (found[b"TCPLOCALIP"], found[b"TCP6REMOTEIP"]) == (b"127.0.0.1", b"::ffff:127.0.0.1")
        assert b"pid %d from 127.0.0.1\n" % child_of(server) in server.log()


def child_of(server: Running) -> int:
    found = re.search(rb"pid (\d+) from", server.log())
    return int(found[1]) if found else 0


def test_an_ipv6_client_by_its_rule(ours: Path, tmp_path: Path) -> None:
    subprocess.run([ours / "tcprules", "rules.cdb", "t"], input=b"::1:deny\n:allow\n", cwd=tmp_path, check=True)
    arguments = (*QUICK, "-6", "-x", "rules.cdb", "0", "0", "echo", "hello")
    with running(ours / "tcpserver", arguments, tmp_path) as server:
        for peer, reply in (("::1", b""), ("127.0.0.1", b"hello\n")):
            with server.connect(peer) as client:
                assert to_the_end(client) == reply


def test_ipv4_alone(ours: Path, tmp_path: Path) -> None:
    arguments = (*QUICK, "-4", "0", "0", "true")
    with running(ours / "tcpserver", arguments, tmp_path) as server, pytest.raises(ConnectionRefusedError):
        server.connect("::1")
    done = subprocess.run([ours / "tcpserver", "-4", "::1", "0", "true"], capture_output=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (111, b"tcpserver: fatal: no IP address for ::1\n")


def test_a_name_as_the_host(ours: Path, tmp_path: Path) -> None:
    arguments = (*QUICK, "localhost", "0", "echo", "hello")
    with running(ours / "tcpserver", arguments, tmp_path) as server, server.connect() as client:
        assert to_the_end(client) == b"hello\n"


@pytest.mark.root
def test_a_silent_identity_server_holds_up_its_own_client_alone(ours: Path, tmp_path: Path) -> None:
    """And not that one for longer than -t says, which the original would wait for as long again at each step."""
    arguments = ("-v", "-r", "-t", "2", "-H", "-l0", "127.0.0.1", "0", "echo", "hello")
    with (
        socket.create_server((IDENT_ADDRESS, 113)),
        running(ours / "tcpserver", arguments, tmp_path) as server,
        server.connect(source=IDENT_ADDRESS) as slow,
        server.connect() as quick,
    ):
        assert to_the_end(quick) == b"hello\n"
        assert select.select([slow], [], [], 0)[0] == []
        assert to_the_end(slow) == b"hello\n"


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-", ">&- 2>&-"])
def test_descriptors_that_are_closed_at_the_start(closed: str, ours: Path, tmp_path: Path) -> None:
    port = free_port()
    script = f"exec {ours / 'tcpserver'} -RHl0 127.0.0.1 {port} cat {closed}"
    process = subprocess.Popen(["sh", "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        with connected(port) as client:
            client.sendall(b"hello\n")
            assert client.recv(10) == b"hello\n"
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def connected(port: int) -> socket.socket:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), SECONDS)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("arguments", [("-c", "0"), ("-c", "many")])
def test_a_limit_at_which_nobody_is_served(arguments: tuple[str, ...], ours: Path) -> None:
    done = subprocess.run(
        [ours / "tcpserver", *arguments, "127.0.0.1", "0", "true"], capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (100, b"tcpserver: fatal: -c must be a number above 0\n")


def test_a_port_beyond_65535(ours: Path) -> None:
    done = subprocess.run([ours / "tcpserver", "127.0.0.1", "65536", "true"], capture_output=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (111, b"tcpserver: fatal: unable to figure out port number for 65536\n")


def test_a_sigint_kills_it_without_a_word(tcpserver: Path, tmp_path: Path) -> None:
    with running(tcpserver, (*QUIET, "127.0.0.1", "0", "cat"), tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(SECONDS) == -signal.SIGINT
        assert server.log() == b""
