"""qmail-popup: what a POP3 client hears of it, and what it hands to a checkpassword program."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pillarbox.programs.qmail_popup import RANDOM_OCTETS

from .facts import Fact, check
from .sides import SECONDS, Result

HOST = "pop.example.test"
GREETING = b"+OK <*@pop.example.test>\r\n"
OK = b"+OK \r\n"
FIRST = b"-ERR authorization first\r\n"
SYNTAX = b"-ERR syntax error\r\n"
FAILED = b"-ERR authorization failed\r\n"
CRASHED = b"-ERR aack, child crashed\r\n"
CHALLENGE = re.compile(rb"<[0-9]+\.[0-9]+\.[0-9a-f]{%d}@([^>]*)>" % (2 * RANDOM_OCTETS))
KEEP = ("sh", "-c", 'cat <&3 >record; printf %s "$AUTH" >auth')
NUL_REFUSED = "a C string ends at NUL, so the original took a password or command for a shorter one"
LONG = "its line buffer grew without a bound before any login"


def talk(title: str, lines: bytes, replies: bytes, *, program: tuple[str, ...] = KEEP, **more: object) -> Fact:
    fact = Fact(title, (HOST, *program), stdin=lines, status=1, out=GREETING + replies)
    return replace(fact, **more)  # type: ignore[arg-type]


def login(title: str, lines: bytes, replies: bytes, record: bytes, auth: bytes = b"pop", mended: str = "") -> Fact:
    return talk(
        title, lines, replies, files={"record": record + b"\0<*@pop.example.test>\0", "auth": auth}, mended=mended
    )


CASES = (
    Fact("no arguments", status=1, out=b"-ERR usage: popup hostname subprogram\r\n"),
    Fact("no subprogram", (HOST,), status=1, out=b"-ERR usage: popup hostname subprogram\r\n"),
    talk("the client leaves at once", b"", b""),
    talk("QUIT", b"QUIT\r\n", OK),
    talk("QUIT with an argument, in lower case", b"quit now\r\n", OK),
    talk("what follows QUIT is not read", b"QUIT\r\nUSER a\r\nPASS b\r\n", OK),
    talk("NOOP, and with an argument", b"NOOP\r\nNOOP x\r\n", OK * 2),
    talk("USER", b"USER alice\r\n", OK),
    talk("USER of nobody, and again", b"USER nobody-at-all\r\nUSER alice\r\n", OK * 2),
    talk("USER without a name", b"USER\r\n", SYNTAX),
    talk("USER with a blank and nothing else", b"USER \r\n", SYNTAX),
    talk("PASS before USER", b"PASS x\r\n", b"-ERR USER first\r\n"),
    talk("PASS before USER, without a password", b"PASS\r\n", b"-ERR USER first\r\n"),
    talk("PASS without a password", b"USER alice\r\nPASS\r\n", OK + SYNTAX),
    login("PASS again after one without a password", b"USER alice\r\nPASS \r\nPASS pw\r\n", OK + SYNTAX, b"alice\0pw"),
    talk("APOP without arguments", b"APOP\r\n", SYNTAX),
    talk("APOP with a name alone", b"APOP alice\r\n", SYNTAX),
    login("APOP with an empty digest is an attempt", b"APOP alice \r\n", b"", b"alice\0", b"apop"),
    login("APOP", b"APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n", b"",
          b"alice\0c4c9334bac560ecc979e58001b3e22fb", b"apop"),
    login("APOP: the name ends at the first blank", b"APOP  a b c \r\n", b"", b"a\0b c ", b"apop"),
    talk("CAPA", b"CAPA\r\n", FIRST),
    talk("STLS, AUTH and STAT", b"STLS\r\nAUTH\r\nSTAT\r\n", FIRST * 3),
    talk("LAST and RETR, of another state", b"LAST\r\nRETR 1\r\n", FIRST * 2),
    talk("an empty line", b"\r\n", FIRST),
    talk("a blank before the command", b" QUIT\r\n", FIRST),
    talk("a TAB is no separator", b"USER\talice\r\n", FIRST),
    talk("lines that end at LF alone", b"NOOP\nQUIT\n", OK * 2),
    talk("of two CR one is dropped", b"NOOP\r\r\n", FIRST),
    talk("a last line without its end is none", b"QUIT", b""),
    talk("a thousand bad commands", b"x\r\n" * 1000, FIRST * 1000),
    login("PASS", b"USER alice\r\nPASS secret\r\n", OK, b"alice\0secret"),
    login("the last name counts", b"USER bob\r\nUSER alice\r\nPASS secret\r\n", OK * 2, b"alice\0secret"),
    login("blanks before a name and a password are lost, others kept", b"USER   al ice \r\nPASS  a b \r\n", OK,
          b"al ice \0a b "),
    login("octets beyond ASCII", b"USER \xc3\xa4\r\nPASS \xff\r\n", OK, b"\xc3\xa4\0\xff"),
    talk("the program refuses", b"USER a\r\nPASS b\r\n", OK + FAILED, program=("sh", "-c", "exit 1")),
    talk("the program has trouble", b"USER a\r\nPASS b\r\n", OK + FAILED, program=("sh", "-c", "exit 111")),
    talk("the program is killed", b"USER a\r\nPASS b\r\n", OK + CRASHED, program=("sh", "-c", "kill -9 $$")),
    talk("there is no such program", b"USER a\r\nPASS b\r\n", OK + FAILED, program=("no-such-program",),
         err=b"qmail-popup: fatal: unable to run no-such-program: file does not exist\n",
         mended="the original told the client alone, and the log nothing"),
    talk("one try a connection", b"USER a\r\nPASS b\r\nUSER a\r\n", OK + FAILED, program=("false",)),
    talk("the program speaks to the client", b"USER a\r\nPASS b\r\n", OK + b"+OK here\r\n",
         program=("printf", "+OK here\\r\\n")),
    talk("descriptor 2 is not the client", b"USER a\r\nPASS b\r\n", OK, program=("sh", "-c", "echo no >&2"), err=b"no\n",
         mended="the original of 1998 put descriptor 1 in its place, and complaints came between the replies"),
    talk("commands behind PASS reach the program", b"USER a\r\nPASS b\r\nSTAT\r\nQUIT\r\n", OK + b"STAT\r\nQUIT\r\n",
         program=("cat",), mended="read ahead, they were lost, and the client waited for an answer"),
    talk("commands behind APOP reach the program", b"APOP a b\r\nSTAT\r\n", b"STAT\r\n", program=("cat",),
         mended="read ahead, they were lost, and the client waited for an answer"),
    login("as long as descriptor 3 may be",
          b"USER %b\r\nPASS %b\r\n" % (b"u" * 200, b"p" * 200), OK, b"u" * 200 + b"\0" + b"p" * 200),
    talk("more than descriptor 3 may hold", b"USER %b\r\nPASS %b\r\n" % (b"u" * 300, b"p" * 300), OK + FAILED,
         mended="the program is not started for what every checkpassword program must refuse"),
    talk("NUL in a password", b"USER a\r\nPASS b\0c\r\n", OK + FAILED, mended=NUL_REFUSED),
    talk("NUL in a command", b"QUIT\0\r\n", FIRST, mended=NUL_REFUSED),
    talk("a line of 1,024 octets", b"USER %b\r\nQUIT\r\n" % (b"x" * 1017), OK * 2),
    talk("a longer line", b"USER %b\r\nQUIT\r\n" % (b"x" * 1018), b"-ERR line too long\r\n", mended=LONG),
    talk("a line without an end", b"x" * 100_000, b"-ERR line too long\r\n", mended=LONG),
    talk("a program that does not read descriptor 3", b"USER a\r\nPASS b\r\n", OK, program=("true",)),
    Fact("CAPA, where it is asked for", ("--capa", HOST, *KEEP), stdin=b"CAPA\r\n", status=1,
         out=GREETING + OK + b"TOP\r\nUIDL\r\nPIPELINING\r\nEXPIRE NEVER\r\nIMPLEMENTATION Pillarbox\r\nUSER\r\n.\r\n"),
)  # fmt: skip


def starred(result: Result) -> Result:
    """Without the octets of a challenge that nobody can know before."""
    files = {name: CHALLENGE.sub(rb"<*@\1>", content) for name, content in result.files.items()}
    return replace(result, out=CHALLENGE.sub(rb"<*@\1>", result.out), files=files)


@pytest.mark.parametrize("fact", CASES, ids=lambda fact: fact.title)
def test_facts(fact: Fact, ours: Path, tmp_path: Path) -> None:
    check(fact, ours / "qmail-popup", tmp_path / "work", starred)


def test_two_challenges_are_never_alike(ours: Path) -> None:
    def greeting() -> bytes:
        return subprocess.run(
            [ours / "qmail-popup", HOST, "true"], input=b"", capture_output=True, timeout=SECONDS
        ).stdout

    found = [CHALLENGE.search(greeting()) for _ in range(2)]
    assert all(found)
    assert found[0] is not None and found[1] is not None
    assert found[0][0] != found[1][0]


def test_descriptors(ours: Path) -> None:
    """The child has 0 to 3, and what was handed down; not popup's own end of the pipe."""
    reader, writer = os.pipe()
    handed = os.dup(reader)  # 4 at least, as the folder of relay-ctrl-chdir
    listing = "cd /proc/self/fd && for n in *; do [ -e $n ] && printf '%s ' $n; done; echo"
    try:
        done = subprocess.run(
            [ours / "qmail-popup", HOST, "sh", "-c", listing],
            input=b"USER a\nPASS b\n",
            capture_output=True,
            pass_fds=(handed,),
            timeout=SECONDS,
        )
    finally:
        for descriptor in (reader, writer, handed):
            os.close(descriptor)
    assert set(done.stdout.splitlines()[-1].split()) == {b"0", b"1", b"2", b"3", b"%d" % handed}


def test_descriptor_three_of_the_caller_is_replaced(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"not this")
    with open(tmp_path / "other", "rb") as other:
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" "$@" 3<&0 <commands', ours / "qmail-popup", HOST, "sh", "-c", "cat <&3"],
            stdin=other,
            capture_output=True,
            cwd=_with_commands(tmp_path),
            timeout=SECONDS,
        )
    assert done.stdout.startswith(b"+OK <")
    assert b"a\0b\0<" in done.stdout


def _with_commands(folder: Path) -> Path:
    (folder / "commands").write_bytes(b"USER a\r\nPASS b\r\n")
    return folder


def _ignore_the_end_of_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGCHLD], ids=lambda number: number.name)
def test_no_signal_of_the_program_is_ignored(number: signal.Signals, ours: Path) -> None:
    """Python ignores SIGPIPE; and who ignores SIGCHLD could not wait."""
    done = subprocess.run(
        [ours / "qmail-popup", HOST, "cat", "/proc/self/status"],
        input=b"USER a\nPASS b\n",
        capture_output=True,
        preexec_fn=_ignore_the_end_of_children,
        timeout=SECONDS,
    )
    mask = re.search(rb"SigIgn:\s*([0-9a-f]+)", done.stdout)
    assert mask is not None
    assert FAILED not in done.stdout
    assert not int(mask[1], 16) & 1 << number - 1


def test_a_digest_is_made_with_what_was_greeted(ours: Path) -> None:
    """The record's timestamp is the challenge of this connection, with its angle brackets."""
    client, server = socket.socketpair()
    with (
        client,
        subprocess.Popen([ours / "qmail-popup", HOST, "sh", "-c", "cat <&3"], stdin=server, stdout=server) as popup,
    ):
        server.close()
        replies = client.makefile("rb")
        found = CHALLENGE.search(replies.readline())
        assert found is not None
        digest = hashlib.md5(found[0] + b"secret").hexdigest().encode()
        client.sendall(b"APOP alice " + digest + b"\r\n")
        assert replies.read() == b"alice\0" + digest + b"\0" + found[0] + b"\0"
        assert popup.wait(SECONDS) == 1


def test_the_client_leaves(ours: Path) -> None:
    """While it is still asked; and while the program serves, whose end is waited for all the same."""
    client, server = socket.socketpair()
    with subprocess.Popen([ours / "qmail-popup", HOST, "cat"], stdin=server, stdout=server) as popup:
        server.close()
        client.sendall(b"USER a\r\nPASS b\r\n")
        client.close()
        assert popup.wait(SECONDS) == 1
