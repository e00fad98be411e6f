"""qmail-pop3d: what a POP3 client hears of it, and what becomes of the Maildir."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pillarbox.protocol.dot_stuffing import encode

from ..corpus import sample
from .facts import Fact, check
from .sides import SECONDS, run

FIRST = b"Subject: one\n\nfirst\n.dot\n\nlast\n"  # 31 octets, 37 on the wire
SECOND = b"Subject: two\n\nno end"  # 20 octets, 24 on the wire
THIRD = b"third\r\n"
NAMES = ("new/1000.a", "cur/1001.b:2,S", "new/1002.c")
MESSAGES = dict(zip(NAMES, (FIRST, SECOND, THIRD), strict=True))
NOBODY = 65534
OK = b"+OK \r\n"
UNKNOWN = b"-ERR unimplemented\r\n"
SYNTAX = b"-ERR syntax error\r\n"
ZERO = b"-ERR messages are counted from 1\r\n"
HIGH = b"-ERR not that many messages\r\n"
DELETED = b"-ERR already deleted\r\n"
GONE = b"-ERR unable to open that message\r\n"
WIRE = encode(FIRST)
HEAD = b"Subject: one\r\n\r\n"
MARKED = {"cur/1000.a:2,": FIRST, "cur/1001.b:2,S": SECOND, "cur/1002.c:2,": THIRD}

SIZES = "its sizes were those of the files, which RETR then did not send (RFC 1939 section 11)"
EXTRA = "it sent an empty line more than the message has, which some clients kept"
STRICT = "it ignored what stood behind a number, and wrapped at 2^64, so that DELE could remove another message"


def maildir(messages: dict[str, bytes]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for name in ("new", "cur", "tmp"):
            (folder / "Maildir" / name).mkdir(parents=True)
        for name, content in messages.items():
            (folder / "Maildir" / name).write_bytes(content)

    return prepare


def talk(title: str, lines: bytes, replies: bytes, mended: str = "", **more: object) -> Fact:
    """The reply that says that the client is served comes first; the tests may be root, whom the program refuses."""
    fact = Fact(
        title, ("--faithful", "Maildir"), stdin=lines, out=OK + replies, mended=mended, prepare=maildir(MESSAGES)
    )
    return replace(fact, **more)  # type: ignore[arg-type]


def left(title: str, lines: bytes, replies: bytes, files: dict[str, bytes], mended: str = "", **more: object) -> Fact:
    """With what then lies in the Maildir."""
    return talk(title, lines, replies, mended, files={f"Maildir/{name}": text for name, text in files.items()}, **more)


def two_of_one_name(folder: Path) -> None:
    maildir({"new/1000.a": FIRST, "cur/1000.a:2,": SECOND})(folder)


def odd_things(folder: Path) -> None:
    maildir({"new/1000.a": FIRST, "new/.hidden": SECOND})(folder)
    (folder / "Maildir/new/1001.folder").mkdir()
    (folder / "Maildir/cur/1002.link:2,").symlink_to("nowhere")
    os.mkfifo(folder / "Maildir/cur/1003.pipe:2,")


def of_the_future(folder: Path) -> None:
    maildir({"new/1000.a": FIRST})(folder)
    os.utime(folder / "Maildir/new/1000.a", (time.time() + 5000,) * 2)


def old_in_tmp(folder: Path) -> None:
    maildir({"tmp/old": b"x", "tmp/fresh": b"y"})(folder)
    os.utime(folder / "Maildir/tmp/old", (1, 1))


def without_cur(folder: Path) -> None:
    (folder / "Maildir/new").mkdir(parents=True)


def same_time(folder: Path) -> None:
    maildir({f"new/{letter}": letter.encode() for letter in "dbca"})(folder)
    for letter in "dbca":
        os.utime(folder / "Maildir/new" / letter, (1000, 1000))


CASES = (
    Fact("no arguments", ("--faithful",), out=b"-ERR this user has no $HOME/Maildir\r\n"),
    Fact("no such Maildir", ("--faithful", "Maildir"), out=b"-ERR this user has no $HOME/Maildir\r\n"),
    Fact("a Maildir without cur", ("--faithful", "Maildir"), prepare=without_cur,
         out=b"-ERR unable to scan $HOME/Maildir\r\n"),
    left("the client leaves at once", b"", b"", MESSAGES),
    left("a connection that breaks after DELE changes nothing", b"DELE 1\r\nSTAT\r\n", OK + b"+OK 2 31\r\n", MESSAGES,
         "STAT counted the deleted message"),
    left("QUIT moves what was new to cur", b"QUIT\r\n", OK, MARKED),
    left("QUIT in lower case, with an argument", b"quit x\r\n", OK, MARKED),
    left("a name with a colon in new", b"QUIT\r\n", OK, {"cur/1000.a:2,S:2,": FIRST},
         prepare=maildir({"new/1000.a:2,S": FIRST})),
    left("what lies in cur is not overwritten", b"QUIT\r\n", OK, {"cur/1000.a:2,": SECOND, "new/1000.a": FIRST},
         "a rename would have lost a message", prepare=two_of_one_name),
    left("DELE and QUIT", b"DELE 1\r\nDELE 2\r\nQUIT\r\n", OK * 3, {"cur/1002.c:2,": THIRD}),
    left("DELE, RSET and QUIT", b"DELE 1\r\nRSET\r\nQUIT\r\n", OK * 3, MARKED),
    talk("what follows QUIT is not read", b"QUIT\r\nSTAT\r\n", OK),
    talk("STAT", b"STAT\r\n", b"+OK 3 68\r\n", SIZES),
    talk("STAT of an empty Maildir", b"STAT\r\n", b"+OK 0 0\r\n", prepare=maildir({})),
    talk("STAT after DELE", b"DELE 2\r\nSTAT\r\n", OK + b"+OK 2 44\r\n",
         "deleted messages stayed in its count (RFC 1939 section 5)"),
    talk("LIST", b"LIST\r\n", OK + b"1 37\r\n2 24\r\n3 7\r\n.\r\n", SIZES),
    talk("LIST of an empty Maildir", b"LIST\r\n", OK + b".\r\n", prepare=maildir({})),
    talk("LIST after DELE", b"DELE 2\r\nLIST\r\n", OK * 2 + b"1 37\r\n3 7\r\n.\r\n", SIZES),
    talk("LIST of one", b"LIST 2\r\n", b"+OK 2 24\r\n", SIZES),
    talk("UIDL", b"UIDL\r\n", OK + b"1 1000.a\r\n2 1001.b\r\n3 1002.c\r\n.\r\n"),
    talk("UIDL of one", b"UIDL 2\r\n", b"+OK 2 1001.b\r\n"),
    talk("UIDL of a name with a blank", b"UIDL 1\r\n",
         b"+OK 1 %b\r\n" % hashlib.sha256(b"1 a").hexdigest()[:40].encode(),
         "RFC 1939 section 7 allows 1 to 70 printable octets, and clients cut such an id",
         prepare=maildir({"new/1 a": FIRST})),
    talk("RETR", b"RETR 1\r\n", OK + WIRE, EXTRA),
    talk("RETR of a message without an end of line", b"RETR 2\r\n", OK + b"Subject: two\r\n\r\nno end\r\n.\r\n", EXTRA),
    talk("RETR of a message with CRLF", b"RETR 3\r\n", OK + b"third\r\n.\r\n",
         "a CR before LF was sent as data, and the line ended with two"),
    talk("RETR of an empty message", b"RETR 1\r\n", OK + b".\r\n", EXTRA, prepare=maildir({"new/1000.a": b""})),
    talk("RETR with NUL, octets beyond ASCII and a lone CR", b"RETR 1\r\n", OK + b"\0\xff\ra\r\n.\r\n", EXTRA,
         prepare=maildir({"new/1000.a": b"\0\xff\ra\n"})),
    talk("RETR with a number of lines is TOP", b"RETR 1 0\r\n", OK + HEAD + b".\r\n", EXTRA),
    talk("TOP of no line", b"TOP 1 0\r\n", OK + HEAD + b".\r\n", EXTRA),
    talk("TOP of two lines", b"TOP 1 2\r\n", OK + HEAD + b"first\r\n..dot\r\n.\r\n", EXTRA),
    talk("TOP of more lines than there are", b"TOP 1 99\r\n", OK + WIRE, EXTRA),
    talk("TOP without a number of lines is the whole message", b"TOP 1\r\n", OK + WIRE, EXTRA),
    talk("TOP with two blanks", b"TOP  1  0\r\n", OK + HEAD + b".\r\n", EXTRA),
    talk("TOP with letters for a number of lines", b"TOP 1 x\r\n", SYNTAX, STRICT),
    talk("LAST", b"LAST\r\nRETR 3\r\nLAST\r\n", b"+OK 0\r\n" + OK + b"third\r\n.\r\n+OK 0\r\n", EXTRA),
    talk("LAST after DELE and RSET", b"DELE 2\r\nDELE 1\r\nLAST\r\nRSET\r\nLAST\r\n",
         OK * 2 + b"+OK 2\r\n" + OK + b"+OK 0\r\n"),
    talk("NOOP, RSET", b"NOOP\r\nRSET x\r\n", OK * 2),
    talk("no number", b"RETR\r\nDELE \r\nTOP x\r\nLIST x\r\nUIDL -1\r\n", SYNTAX * 5),
    talk("number 0", b"RETR 0\r\nDELE 0\r\nTOP 0 1\r\nLIST 0\r\nUIDL 0\r\n", ZERO * 5),
    talk("too high a number", b"RETR 4\r\nDELE 9999999999\r\nTOP 4 1\r\nLIST 4\r\nUIDL 4\r\n", HIGH * 5),
    talk("a number that is deleted", b"DELE 1\r\nRETR 1\r\nDELE 1\r\nTOP 1 1\r\nLIST 1\r\nUIDL 1\r\n", OK + DELETED * 5),
    talk("leading zeros", b"DELE 01\r\nDELE 1\r\n", OK + DELETED),
    talk("letters behind a number", b"RETR 1abc\r\n", SYNTAX, STRICT),
    talk("a second number for LIST", b"LIST 1 2\r\n", SYNTAX, STRICT),
    talk("a number above 2^64", b"DELE 18446744073709551617\r\n", SYNTAX, STRICT),
    talk("CAPA, USER, APOP, AUTH and nothing at all", b"CAPA\r\nUSER a\r\nAPOP a b\r\nAUTH\r\n\r\n", UNKNOWN * 5),
    talk("a blank before the command", b" STAT\r\n", UNKNOWN),
    talk("a TAB is no separator", b"LIST\t1\r\n", UNKNOWN),
    talk("NUL behind a command", b"QUIT\0\r\n", UNKNOWN, "a C string ends at NUL, so it obeyed"),
    talk("lines that end at LF alone", b"NOOP\nQUIT\n", OK * 2),
    talk("a last line without its end is none", b"QUIT", b""),
    talk("a line that is too long", b"x" * 5000 + b"\r\nQUIT\r\n", b"-ERR line too long\r\n",
         "its line buffer grew without a bound"),
    talk("mail of this second, and of the future", b"LIST\r\n", OK + b"1 37\r\n.\r\n",
         "it hid what was not older than the second of the login", prepare=of_the_future),
    talk("folders, links, pipes and hidden files", b"UIDL\r\n", OK + b"1 1000.a\r\n.\r\n",
         "it listed a folder, and dropped the connection when that was asked for", prepare=odd_things),
    talk("files of one time have an order", b"UIDL\r\n", OK + b"1 a\r\n2 b\r\n3 c\r\n4 d\r\n.\r\n",
         "its order of these was another one each time", prepare=same_time),
    left("tmp is cleaned of what is old", b"", b"", {"tmp/fresh": b"y"}, prepare=old_in_tmp),
    Fact("CAPA, where it is asked for", ("--faithful", "--capa", "Maildir"), stdin=b"CAPA\r\n", prepare=maildir({}),
         out=OK * 2 + b"TOP\r\nUIDL\r\nPIPELINING\r\nEXPIRE NEVER\r\nIMPLEMENTATION Pillarbox\r\nUSER\r\n.\r\n"),
)  # fmt: skip


@pytest.mark.parametrize("fact", CASES, ids=lambda fact: fact.title)
def test_facts(fact: Fact, ours: Path, tmp_path: Path) -> None:
    check(fact, ours / "qmail-pop3d", tmp_path / "work")
    if fact.files:  # and nothing else
        found = {path for path in (tmp_path / "work").rglob("*") if path.is_file()}
        assert {str(path.relative_to(tmp_path / "work")) for path in found} == set(fact.files)


@pytest.mark.root
def test_root_is_not_served(ours: Path, tmp_path: Path) -> None:
    result = run(ours / "qmail-pop3d", Fact("root", ("Maildir",), prepare=maildir(MESSAGES)), tmp_path / "work")
    assert (result.status, result.out, result.err) == (1, b"", b"qmail-pop3d invoked as uid 0, terminating\n")


@pytest.mark.root
def test_a_user_is_served(ours: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        maildir(MESSAGES)(Path(name))
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        done = subprocess.run(
            [ours / "qmail-pop3d", "Maildir"], input=b"DELE 2\nQUIT\n", capture_output=True, cwd=name,
            user=NOBODY, group=NOBODY, extra_groups=(), timeout=SECONDS,
        )  # fmt: skip
        assert (done.stdout, done.stderr, done.returncode) == (OK * 3, b"", 0)
        assert {path.name for path in Path(name, "Maildir/cur").iterdir()} == {"1000.a:2,", "1002.c:2,"}


@pytest.mark.root
def test_what_a_user_may_not_read_is_refused(ours: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        maildir(MESSAGES)(Path(name))
        Path(name).chmod(0o755)
        Path(name, "Maildir/cur").chmod(0o700)
        done = subprocess.run(
            [ours / "qmail-pop3d", "Maildir"], input=b"", capture_output=True, cwd=name,
            user=NOBODY, group=NOBODY, extra_groups=(), timeout=SECONDS,
        )  # fmt: skip
        assert (done.stdout, done.returncode) == (b"-ERR unable to scan $HOME/Maildir\r\n", 0)


class Session:
    """One client, which reads line by line."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.client, server = socket.socketpair()
        self.process = subprocess.Popen([program, "--faithful", "Maildir"], stdin=server, stdout=server, cwd=folder)
        server.close()
        self.replies = self.client.makefile("rb")
        assert self.replies.readline() == OK

    def ask(self, line: bytes) -> bytes:
        self.client.sendall(line + b"\r\n")
        return self.replies.readline()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.replies.close()
        self.client.close()
        assert self.process.wait(SECONDS) == 0


def test_a_message_that_is_moved_is_found_and_one_that_is_gone_is_not(ours: Path, tmp_path: Path) -> None:
    maildir(MESSAGES)(tmp_path)
    with Session(ours / "qmail-pop3d", tmp_path) as session:
        (tmp_path / "Maildir/cur/1001.b:2,S").rename(tmp_path / "Maildir/cur/1001.b:2,RS")
        (tmp_path / "Maildir/new/1000.a").unlink()
        assert session.ask(b"RETR 1") == GONE
        assert session.ask(b"TOP 2 0") == OK
        assert [session.replies.readline() for _ in range(3)] == [b"Subject: two\r\n", b"\r\n", b".\r\n"]
        assert session.ask(b"DELE 1") == OK  # it is gone as wished
        assert session.ask(b"QUIT") == OK
        assert session.replies.readline() == b""


def test_quit_is_answered_once_when_nothing_can_be_removed(ours: Path, tmp_path: Path) -> None:
    maildir(MESSAGES)(tmp_path)
    with Session(ours / "qmail-pop3d", tmp_path) as session:
        assert session.ask(b"DELE 1") == OK
        (tmp_path / "Maildir/new/1000.a").unlink()
        (tmp_path / "Maildir/new/1000.a").mkdir()  # in the way of whoever removes, root included
        assert session.ask(b"QUIT") == b"-ERR unable to unlink all deleted messages\r\n"
        assert session.replies.readline() == b""


def test_two_sessions_of_one_maildir(ours: Path, tmp_path: Path) -> None:
    maildir(MESSAGES)(tmp_path)
    with Session(ours / "qmail-pop3d", tmp_path) as one, Session(ours / "qmail-pop3d", tmp_path) as other:
        assert one.ask(b"STAT") == other.ask(b"STAT")
        assert one.ask(b"QUIT") == other.ask(b"QUIT") == OK
    assert {name: (tmp_path / "Maildir" / name).read_bytes() for name in MARKED} == MARKED


def test_it_leaves_a_client_that_does_not_read(ours: Path, tmp_path: Path) -> None:
    """Nothing that it deleted is lost with it."""
    maildir({"new/1000.a": b"x" * 79 + b"\n"} | {"new/1001.b": b"y" * 8_000_000})(tmp_path)
    with Session(ours / "qmail-pop3d", tmp_path) as session:
        session.client.sendall(b"DELE 1\r\nRETR 2\r\n" * 5)
    assert (tmp_path / "Maildir/new/1000.a").exists()


STORED = [
    *((one.name, one.data) for one in sample.ACCEPTED),
    *((f"{one.name}-lf", one.data.replace(b"\r\n", b"\n")) for one in sample.ACCEPTED),
    *((one.name, one.data) for one in sample.STORED),
]


def test_the_sample_comes_out_octet_for_octet(ours: Path, tmp_path: Path) -> None:
    """LIST tells the octets of each, RETR sends them, and TOP of all lines does, too."""
    maildir({f"new/{1000 + place}.x": data for place, (_, data) in enumerate(STORED)})(tmp_path)
    numbers = range(1, len(STORED) + 1)
    commands = b"LIST\n" + b"".join(b"RETR %d\nTOP %d 9999999999\n" % (number, number) for number in numbers)
    done = subprocess.run(
        [ours / "qmail-pop3d", "--faithful", "Maildir"],
        input=commands,
        capture_output=True,
        cwd=tmp_path,
        timeout=SECONDS,
    )
    wire = [sample.on_the_wire(data) for _, data in STORED]
    sizes = b"".join(b"%d %d\r\n" % (number, len(text)) for number, text in zip(numbers, wire, strict=True))
    bodies = b"".join((OK + re.sub(rb"(?m)^\.", b"..", text) + b".\r\n") * 2 for text in wire)
    assert done.stdout == OK * 2 + sizes + b".\r\n" + bodies
