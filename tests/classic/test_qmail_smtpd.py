"""qmail-smtpd against what the original was seen to say (it is in no distribution), and under the real tcpserver."""

from __future__ import annotations

import re
import signal
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from .sides import Case, Result, run

QUEUE = """\
#!/bin/sh
cat > message
cat <&1 > envelope
exit ${QQ:-0}
"""
GREETING = "220 mx.example.test ESMTP"
OPEN = "MAIL FROM:<a@sender.test>", "RCPT TO:<alice@example.test>"
BYE = "221 mx.example.test"
OK, GO = "250 ok", "354 go ahead"
NOT_ALLOWED = "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
BAD_SENDER = "553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)"
BARE = "451 See http://pobox.com/~djb/docs/smtplf.html."
QUEUED = "250 ok TIME qp PID"
SYNTAX = "555 syntax error (#5.5.4)"

ALLOWED_ALONE = "A host without a list of its domains would relay for everybody, which nobody means today"
NO_DOMAIN = "Whom a name without a domain means is for the host to say, which may not be one that takes mail"
EMPTY = "An empty recipient leads to nobody, and came back to the sender later"
CONTROL = "Control characters in an address reach log lines and header fields"
LINE = "A line without end fills the memory before anybody has logged in"
PERCENT = "The percent hack relays to every host behind a percent sign"
MANY = "The queue takes no more recipients of a message, and the client sends the others in a message of their own"


def controls(queue: bool = True, **files: str) -> Callable[[Path], None]:
    """qmail's home, with these control files; a name that ends with `_` is not there. `queue`: and with a qmail-queue."""

    def prepare(folder: Path) -> None:
        (folder / "q" / "control").mkdir(parents=True)
        (folder / "q" / "bin").mkdir()
        for name, content in {"me": "mx.example.test\n", "rcpthosts": "example.test\n.sub.test\n", **files}.items():
            if content != "-":
                (folder / "q" / "control" / name).write_text(content)
        if queue:
            program = folder / "q" / "bin" / "qmail-queue"
            program.write_text(QUEUE)
            program.chmod(0o755)

    return prepare


def said(*lines: str, status: int = 1, sender: str = "", recipients: tuple[str, ...] = ()) -> Callable[[Result], bool]:
    """These replies and this exit status; and where recipients are given, this envelope at qmail-queue."""

    def matches(result: Result) -> bool:
        replies = re.sub(r"ok [0-9]{10} qp [0-9]+", "ok TIME qp PID", result.out.decode())
        wanted = "".join(f"{line}\r\n" for line in lines)
        envelope = "".join((f"F{sender}\0", *(f"T{one}\0" for one in recipients), "\0"))
        queued = not recipients or result.files["q/envelope"] == envelope.encode()
        return replies == wanted and result.status == status and queued

    return matches


def talk(
    title: str,
    *lines: str | bytes,
    replies: tuple[str, ...] = (),
    status: int = 0,
    quit_: bool = True,
    options: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[Path], None] | None = None,
    mended: str = "",
    envelope: tuple[str, tuple[str, ...]] = ("", ()),
) -> Case:
    """A row: what the client sends, then QUIT; and what it is told between the greeting and the farewell."""
    octets = b"".join(line if isinstance(line, bytes) else line.encode() + b"\r\n" for line in lines)
    return Case(
        title,
        ("--qmail", "q", *options),
        environment or {},
        octets + (b"QUIT\r\n" if quit_ else b""),
        prepare=prepare or controls(),
        mended=mended,
        ours=said(
            GREETING, *replies, *((BYE,) if quit_ else ()), status=status, sender=envelope[0], recipients=envelope[1]
        ),
    )


def content(title: str, octets: bytes, *replies: str, **more: object) -> Case:
    """A row: a message from the first MAIL to its end."""
    return talk(title, *OPEN, "DATA", octets, replies=(OK, OK, GO, *replies), **more)  # type: ignore[arg-type]


MESSAGE = b"Subject: x\r\n\r\nhello\r\n.\r\n"
ALICE = ("a@sender.test", ("alice@example.test",))

CASES = (
    talk("a greeting and a farewell"),
    Case("smtpgreeting is our name", ("--qmail", "q"), stdin=b"HELO x\r\nQUIT\r\n",
         prepare=controls(smtpgreeting="hi there\n"),
         ours=said("220 hi there ESMTP", "250 hi there", "221 hi there", status=0)),
    talk("HELO", "HELO x", replies=("250 mx.example.test",)),
    talk("HELO without a name", "HELO", replies=("250 mx.example.test",)),
    talk("EHLO names two extensions", "EHLO x", replies=("250-mx.example.test", "250-PIPELINING", "250 8BITMIME")),
    talk("verbs in any case, and LF alone as a line's end", b"noop\nNoOp\n", replies=(OK, OK)),
    talk("MAIL needs no HELO, and its parameters are ignored", "MAIL FROM:<a@b> SIZE=9999999999 X=Y", replies=(OK,)),
    talk("MAIL without an address", "MAIL", replies=(OK,)),
    talk("MAIL without brackets", "MAIL FROM: a@b", "RCPT TO: alice@example.test", replies=(OK, OK)),
    talk("RCPT before MAIL", "RCPT TO:<alice@example.test>", replies=("503 MAIL first (#5.5.1)",)),
    talk("DATA before MAIL", "DATA", replies=("503 MAIL first (#5.5.1)",)),
    talk("DATA before RCPT", "MAIL FROM:<>", "DATA", replies=(OK, "503 RCPT first (#5.5.1)")),
    talk("RSET forgets", *OPEN, "RSET", "DATA", replies=(OK, OK, "250 flushed", "503 MAIL first (#5.5.1)")),
    talk("HELO forgets", *OPEN, "HELO x", "DATA", replies=(OK, OK, "250 mx.example.test", "503 MAIL first (#5.5.1)")),
    talk("NOOP and VRFY", "NOOP x", "VRFY x", replies=(OK, "252 send some mail, i'll try my best")),
    talk("HELP", "HELP", replies=("214 qmail home page: http://pobox.com/~djb/qmail.html",)),
    talk("an unknown verb, an empty line, a blank before the verb", "EXPN x", "", " NOOP",
         replies=("502 unimplemented (#5.5.1)",) * 3),
    talk("a tab ends no verb", "NOOP\tx", replies=("502 unimplemented (#5.5.1)",)),
    talk("a domain that is not in rcpthosts", "MAIL FROM:<>", "RCPT TO:<x@other.test>", replies=(OK, NOT_ALLOWED)),
    talk("a domain in capitals", "MAIL FROM:<>", "RCPT TO:<X@EXAMPLE.test>", replies=(OK, OK)),
    talk("a domain below one that is listed with a dot", "MAIL FROM:<>", "RCPT TO:<x@a.sub.test>",
         "RCPT TO:<x@sub.test>", replies=(OK, OK, NOT_ALLOWED)),
    talk("a dot behind the domain", "MAIL FROM:<>", "RCPT TO:<x@example.test.>", replies=(OK, NOT_ALLOWED)),
    talk("a domain in morercpthosts", "MAIL FROM:<>", "RCPT TO:<x@more.test>", replies=(OK, OK),
         prepare=controls(morercpthosts="More.test\n")),
    talk("morercpthosts.cdb is damaged", "MAIL FROM:<>", "RCPT TO:<x@more.test>", quit_=False, status=1,
         replies=(OK, "421 unable to read controls (#4.3.0)"),
         prepare=controls(**{"morercpthosts.cdb": "\x08\0\0\x7f\x08\0\0\0" * 256})),
    Case("morercpthosts.cdb is empty", ("--qmail", "q"), prepare=controls(**{"morercpthosts.cdb": ""}),
         ours=said("421 unable to read controls (#4.3.0)")),
    talk("a source route is dropped, quotes and backslashes too", "MAIL FROM:<@a,@b:x@c>",
         'RCPT TO:<@a.test:"al\\ice"@example.test>', "DATA", MESSAGE, replies=(OK, OK, GO, QUEUED),
         envelope=("x@c", ("alice@example.test",))),
    talk("a local address in brackets is localiphost", "MAIL FROM:<>", "RCPT TO:<alice@[192.0.2.1]>", "DATA", MESSAGE,
         replies=(OK, OK, GO, QUEUED), environment={"TCPLOCALIP": "192.0.2.1"}, envelope=("", ("alice@example.test",)),
         prepare=controls(localiphost="example.test\n")),
    talk("an address of 900 octets, and one of 901", f"MAIL FROM:<{'a' * 898}@b>", f"MAIL FROM:<{'a' * 899}@b>",
         replies=(OK, SYNTAX)),
    talk("a sender in badmailfrom", "MAIL FROM:<Spam@bad.test>", "RCPT TO:<alice@example.test>", replies=(OK, BAD_SENDER),
         prepare=controls(badmailfrom="spam@bad.test\n")),
    talk("a sender's domain in badmailfrom", "MAIL FROM:<x@Bad.test>", "RCPT TO:<alice@example.test>",
         replies=(OK, BAD_SENDER), prepare=controls(badmailfrom="@bad.test\n")),
    talk("RELAYCLIENT lets everybody in", "MAIL FROM:<a@b>", "RCPT TO:<x@other.test>", "DATA", MESSAGE,
         replies=(OK, OK, GO, QUEUED), environment={"RELAYCLIENT": ""}, envelope=("a@b", ("x@other.test",))),
    talk("the value of RELAYCLIENT stands behind every recipient", "MAIL FROM:<a@b>", "RCPT TO:<x@other.test>",
         "RCPT TO:<alice@example.test>", "DATA", MESSAGE, replies=(OK, OK, OK, GO, QUEUED),
         environment={"RELAYCLIENT": "@fix.test"},
         envelope=("a@b", ("x@other.test@fix.test", "alice@example.test@fix.test"))),
    content("a message", MESSAGE, QUEUED, envelope=ALICE),
    content("after a message MAIL is needed again", MESSAGE + b"RCPT TO:<alice@example.test>\r\n", QUEUED,
            "503 MAIL first (#5.5.1)"),
    content("commands that came with the message", MESSAGE + b"NOOP\r\n", QUEUED, OK),
    content("an LF alone in a message", b"x\ny\r\n.\r\n", BARE, quit_=False, status=1),
    content("a dot between LFs ends no message", b"x\r\n\n.\n\r\n.\r\nNOOP\r\n", BARE, quit_=False, status=1),
    content("a dot before an LF ends no message", b"x\r\n.\nNOOP\r\n", BARE, quit_=False, status=1),
    content("99 hops", b"Received: x\r\n" * 99 + b"\r\n" + b"Received: x\r\n" * 9 + b".\r\n", QUEUED),
    content("100 hops, of both kinds", b"Received: x\r\nDelivered-To: y\r\n" * 50 + b".\r\n",
            "554 too many hops, this message is looping (#5.4.6)"),
    content("a message as long as databytes", b"12345678\r\n.\r\n", QUEUED, prepare=controls(databytes="9\n")),
    content("a longer one", b"123456789\r\n.\r\n", "552 sorry, that message size exceeds my databytes limit (#5.3.4)",
            prepare=controls(databytes="9\n")),
    content("$DATABYTES counts in place of databytes", b"123456789\r\n.\r\n", QUEUED, environment={"DATABYTES": "0"},
            prepare=controls(databytes="9\n")),
    *(content(f"qmail-queue ends with {status}", MESSAGE, reply, environment={"QQ": str(status)}) for status, reply in {
        11: "554 envelope address too long for qq (#5.1.3)",
        31: "554 mail server permanently rejected message (#5.3.0)",
        40: "554 qq permanent problem (#5.3.0)",
        41: "451 qq temporary problem (#4.3.0)",
        51: "451 qq out of memory (#4.3.0)",
        52: "451 qq timeout (#4.3.0)",
        53: "451 qq write error or disk full (#4.3.0)",
        54: "451 qq read error (#4.3.0)",
        61: "451 qq trouble in home directory (#4.3.0)",
        66: "451 qq trouble creating files in queue (#4.3.0)",
        71: "451 mail server temporarily rejected message (#4.3.0)",
        81: "451 qq internal bug (#4.3.0)",
        91: "451 qq internal bug (#4.3.0)",
        111: "451 qq temporary problem (#4.3.0)",
    }.items()),
    content("$QMAILQUEUE can't be run", MESSAGE, "451 unable to exec qq (#4.3.0)",
            environment={"QMAILQUEUE": "/nonexistent/queue"}),
    talk("the client goes without a word", "MAIL FROM:<>", replies=(OK,), quit_=False, status=1),
    content("the client goes within a message", b"half of it\r\n", quit_=False, status=1),
    Case("control/me is missing", ("--qmail", "q"), prepare=controls(me="-"),
         ours=said("421 unable to read controls (#4.3.0)")),
    talk("there is no rcpthosts", "MAIL FROM:<>", "RCPT TO:<x@other.test>", replies=(OK, NOT_ALLOWED),
         prepare=controls(rcpthosts="-"), mended=ALLOWED_ALONE),
    talk("there is no rcpthosts, with --faithful", "MAIL FROM:<>", "RCPT TO:<x@other.test>", replies=(OK, OK),
         options=("--faithful",), prepare=controls(rcpthosts="-")),
    talk("a recipient without a domain", "MAIL FROM:<>", "RCPT TO:<x>", "RCPT TO:<Postmaster>",
         replies=(OK, NOT_ALLOWED, OK), mended=NO_DOMAIN),
    talk("a recipient without a domain, where envnoathost takes mail", "MAIL FROM:<>", "RCPT TO:<x>", replies=(OK, OK),
         prepare=controls(envnoathost="example.test\n")),
    talk("a recipient without a domain, with --faithful", "MAIL FROM:<>", "RCPT TO:<x>", replies=(OK, OK),
         options=("--faithful",)),
    talk("an empty recipient", "MAIL FROM:<>", "RCPT", "RCPT TO:<>", replies=(OK, SYNTAX, SYNTAX), mended=EMPTY),
    talk("an empty recipient, with --faithful", "MAIL FROM:<>", "RCPT", "RCPT TO:<>", replies=(OK, OK, OK),
         options=("--faithful",)),
    talk("a percent sign without percenthack", "MAIL FROM:<>", "RCPT TO:<a%b@example.test>", replies=(OK, OK)),
    talk("a percent sign with percenthack", "MAIL FROM:<>", "RCPT TO:<a%other.test@example.test>",
         "RCPT TO:<a%x.sub.test@example.test>", replies=(OK, NOT_ALLOWED, OK),
         prepare=controls(percenthack="example.test\n"), mended=PERCENT),
    talk("control characters in an address", b"MAIL FROM:<a\x07@b>\r\n", b"MAIL FROM:<a\0@b>\r\n", replies=(SYNTAX, SYNTAX),
         mended=CONTROL),
    talk("a line longer than 4096 octets", b"NOOP " + b"x" * 5000 + b"\r\n", replies=("500 line too long (#5.5.2)",),
         quit_=False, status=1, mended=LINE),
    talk("101 recipients", "MAIL FROM:<>", *("RCPT TO:<alice@example.test>",) * 101,
         replies=(OK,) * 101 + ("452 too many recipients (#4.5.3)",), mended=MANY),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_agreement(case: Case, ours: Path, tmp_path: Path) -> None:
    """The original's replies are those of the facts; where it was mended, ours does what stands there instead."""
    result = run(ours / "qmail-smtpd", case, tmp_path / "work")
    assert case.ours is not None and case.ours(result), f"{case.title}: {result}"
    assert not result.err


def test_more_domains_come_from_a_compiled_list(originals: Path, ours: Path, tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        controls(morercpthosts="only.text.test\n")(folder)
        compiled = folder / "q" / "control" / "morercpthosts.cdb"
        records = b"+9,0:more.test->\n+9,0:.sub.more->\n\n"
        subprocess.run([originals / "cdb", "-c", compiled], input=records, check=True, timeout=60)

    recipients = ("x@More.test", "x@a.sub.more", "x@sub.more", "x@only.text.test")
    replies = (OK, OK, OK, NOT_ALLOWED, NOT_ALLOWED)  # the text is what the list was compiled of
    case = talk("", "MAIL FROM:<>", *(f"RCPT TO:<{one}>" for one in recipients), replies=replies, prepare=prepare)
    result = run(ours / "qmail-smtpd", case, tmp_path / "work")
    assert case.ours is not None and case.ours(result), result


FIELDS = [
    ({}, "HELO me.test", "from unknown (HELO me.test) (unknown)\n  by unknown"),
    ({"TCPREMOTEIP": "192.0.2.9", "TCPLOCALIP": "192.0.2.1"}, "NOOP", "from unknown (192.0.2.9)\n  by 192.0.2.1"),
    (
        {"TCPREMOTEIP": "192.0.2.9", "TCPREMOTEHOST": "c.test", "TCPREMOTEINFO": "bob", "TCPLOCALHOST": "mx.test"},
        "HELO C.test",
        "from c.test (bob@192.0.2.9)\n  by mx.test",
    ),
    ({"TCPREMOTEHOST": "a b\nc"}, "EHLO [1.2.3.4](x)", "from a?b?c (HELO ?1.2.3.4??x?) (unknown)\n  by unknown"),
]


@pytest.mark.parametrize(("environment", "hello", "wanted"), FIELDS)
def test_the_received_field(environment: dict[str, str], hello: str, wanted: str, ours: Path, tmp_path: Path) -> None:
    case = talk("", hello, *OPEN, "DATA", b"Subject: x\r\n\r\n..a\rb\r\n.\r\n", environment=environment)
    result = run(ours / "qmail-smtpd", case, tmp_path / "work")
    head, _, rest = result.files["q/message"].partition(b"Subject: ")
    date = rb"; [1-9][0-9]? [A-Z][a-z]{2} 20[0-9]{2} [0-9:]{8} -0000\n"
    assert re.fullmatch(b"Received: " + re.escape(wanted.encode()) + b" with SMTP" + date, head)
    assert rest == b"x\n\n.a\rb\n"  # a CR alone is kept


def test_a_client_that_says_nothing_is_told(ours: Path, tmp_path: Path) -> None:
    controls(timeoutsmtpd="1\n")(tmp_path)
    with subprocess.Popen(
        [ours / "qmail-smtpd", "--qmail", tmp_path / "q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"220 mx.example.test ESMTP\r\n451 timeout (#4.4.2)\r\n"
        assert process.wait(30) == 1


def test_a_crash_of_the_queue_is_told(ours: Path, tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        controls()(folder)
        (folder / "q" / "bin" / "qmail-queue").write_text("#!/bin/sh\nkill -KILL $$\n")

    case = content("", MESSAGE, "451 qq crashed (#4.3.0)", prepare=prepare)
    result = run(ours / "qmail-smtpd", case, tmp_path / "work")
    assert case.ours is not None and case.ours(result), result


def test_the_queue_sees_no_end_of_a_message_that_was_given_up(ours: Path, tmp_path: Path) -> None:
    result = run(ours / "qmail-smtpd", content("", b"half\r\n", quit_=False), tmp_path / "work")
    assert result.files["q/envelope"] == b""


# Under the real tcpserver.


@contextmanager
def tcpserver(
    originals: Path,
    *program: str | Path,
    environment: Mapping[str, str],
    options: Iterable[object] = (),
    before: Iterable[Path] = (),
) -> Iterator[int]:
    """The port on which the real one serves that program."""
    with subprocess.Popen(
        [*before, originals / "tcpserver", *map(str, options), "-1", "-H", "-R", "-l0", "127.0.0.1", "0", *program],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **environment},
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_clients_send_through_the_real_tcpserver(originals: Path, ours: Path, tmp_path: Path) -> None:
    controls()(tmp_path)
    smtpd = (ours / "qmail-smtpd", "--qmail", tmp_path / "q")
    with tcpserver(originals, *smtpd, environment={}) as port:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            refused = client.sendmail("a@b.test", ["alice@example.test", "x@other.test"], "Subject: y\n\nby smtplib\n")
            assert list(refused) == ["x@other.test"]
        assert b"by smtplib" in (tmp_path / "q" / "message").read_bytes()
        (tmp_path / "mail").write_text("Subject: z\r\n\r\nby curl\r\n")
        curl = [
            "curl",
            "-sS",
            f"smtp://127.0.0.1:{port}",
            "--mail-from",
            "a@b.test",
            "--mail-rcpt",
            "alice@example.test",
        ]
        subprocess.run([*curl, "-T", tmp_path / "mail"], check=True, timeout=60)
        message = (tmp_path / "q" / "message").read_bytes()
        assert b"by curl" in message and b"(127.0.0.1)" in message
        assert (tmp_path / "q" / "envelope").read_bytes() == b"Fa@b.test\0Talice@example.test\0\0"


def test_what_comes_behind_a_smuggled_end_is_not_obeyed(originals: Path, ours: Path, tmp_path: Path) -> None:
    controls()(tmp_path)
    with (
        tcpserver(originals, ours / "qmail-smtpd", "--qmail", tmp_path / "q", environment={}) as port,
        socket.create_connection(("127.0.0.1", port), 30) as client,
    ):
        client.sendall("\r\n".join((*OPEN, "DATA", "x")).encode() + b"\n.\nMAIL FROM:<evil@x>\r\n")
        answer = b""
        while part := client.recv(4096):
            answer += part
    assert answer.endswith(BARE.encode() + b"\r\n")
    assert not (tmp_path / "q" / "envelope").read_bytes()
