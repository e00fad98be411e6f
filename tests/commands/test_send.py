"""`pillarbox send`, sendmail and qmail-inject: options, messages, exit statuses. The server is in this process."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox import local_submission
from pillarbox.commands import send
from pillarbox.commands.send_options import Options, environment_sender, qmail_inject, sendmail, typed_addresses
from pillarbox.home import Home
from pillarbox.terms import Misuse, Refused, TryLater

from ..delivery.local_server import Mail, served


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of which only the folder of the socket is there; and an environment that says nothing."""
    (tmp_path / "home" / "public").mkdir(parents=True)
    (tmp_path / "slots").mkdir()
    for name in ("QMAILSUSER", "QMAILSHOST", "QMAILUSER", "QMAILHOST", "QMAILNAME", "QMAILINJECT", "MAILUSER", "MAILHOST",
                 "MAILNAME", "NAME"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILLARBOX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mail(home: Path) -> Iterator[Mail]:
    mail = Mail(home.parent / "slots")
    with served(Home(str(home)).send, mail.injection):
        yield mail


class Said:
    """What a program did with this message on its standard input."""

    def __init__(
        self,
        program: str,
        *arguments: str,
        message: bytes,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(message)))
        self.status = send.main(program, arguments)
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(program: str, *arguments: str, message: bytes = b"Subject: x\n\nhello\n") -> Said:
        return Said(program, *arguments, message=message, monkeypatch=monkeypatch, capsys=capsys)

    return run


def envelope(mail: Mail) -> tuple[bytes | None, tuple[bytes, ...]]:
    """The sender that was named, and the recipients, of the last message."""
    return mail.asked[-1][1], mail.asked[-1][2]


def sent(mail: Mail) -> bytes:
    """The last message, without our Received field."""
    content = mail.content(mail.committed[-1][0])
    return content.partition(b" +0000\n")[2]


# Messages.


def test_a_message_is_sent_as_by_sendmail_t(say, mail: Mail) -> None:
    message = b"To: bob\nCc: carl@x.test\nBcc: dora@x.test\nSubject: x\n\nhello\n.\nmore\n"
    done = say("sendmail", "-t", "-i", message=message)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert envelope(mail) == (None, (b"bob@home.test", b"carl@x.test", b"dora@x.test"))
    head, _, body = sent(mail).partition(b"\n\n")
    assert body == b"hello\n.\nmore\n"
    assert b"To: bob@home.test\nCc: carl@x.test\nSubject: x\nFrom: " in head and b"dora" not in head
    assert head.count(b"\nDate: ") == head.count(b"\nMessage-ID: <") == 1
    assert b"@mx.home.test>" in head


def test_the_author_is_who_the_server_says(say, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "Ann Other")
    say("send", "bob")
    assert b"\nFrom: Ann Other <me@home.test>\n" in sent(mail)
    say("send", "-F", "A. N. Other", "bob")
    assert b'\nFrom: "A. N. Other" <me@home.test>\n' in sent(mail)
    say("send", "-f", "list@home.test", "bob")
    assert b"\nFrom: list@home.test\n" in sent(mail)


def test_without_i_a_dot_ends_the_message_and_nothing_behind_it_is_read(say, mail: Mail) -> None:
    say("sendmail", "bob", message=b"\nhello\r\n.\r\nnot sent\n")
    assert sent(mail).endswith(b"\n\nhello\n")
    say("sendmail", "-oi", "bob", message=b"\nhello\n.\nsent\n")
    assert sent(mail).endswith(b"\n\nhello\n.\nsent\n")
    say("qmail-inject", "bob", message=b"\nhello\n.\nsent\n")
    assert sent(mail).endswith(b"\n\nhello\n.\nsent\n")


@pytest.mark.parametrize("arguments", [(), ("-i",), ("-t",), ("bob",)])
def test_no_line_ends_the_message_of_our_own_command(say, mail: Mail, arguments: tuple[str, ...]) -> None:
    assert say("send", *arguments, message=b"To: bob\n\nhello\n.\nsent\n").status == 0
    assert sent(mail).endswith(b"\n\nhello\n.\nsent\n")


def test_our_own_command_tells_what_became_of_a_recipient(say, mail: Mail) -> None:
    done = say("send", "-X", "carl@x.test")
    assert done.status == 2 and "name nobody; carl@x.test was taken for the value of -X\n" in done.err
    assert not mail.asked


def test_reading_stops_at_the_dot() -> None:
    stream = io.BytesIO(b"a\n.\nrest")
    assert send.read_message(stream, dot_ends=True) == b"a\n" and stream.read() == b"rest"
    assert send.read_message(io.BytesIO(b"a\n."), dot_ends=True) == b"a\n"
    assert send.read_message(io.BytesIO(b"a\n..\n .\n"), dot_ends=True) == b"a\n..\n .\n"


def test_an_endless_message_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "MESSAGE_LIMIT", 100)
    for dot_ends in (True, False):
        assert len(send.read_message(io.BytesIO(b"x" * 100), dot_ends=dot_ends)) == 100
        with open("/dev/zero", "rb") as endless, pytest.raises(Refused, match="longer than 100 octets"):
            send.read_message(endless, dot_ends=dot_ends)


def test_a_dot_that_the_limit_cuts_out_of_a_line_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "MESSAGE_LIMIT", 3)
    with pytest.raises(Refused):
        send.read_message(io.BytesIO(b"abc."), dot_ends=True)


def test_a_big_message_arrives_whole(say, mail: Mail) -> None:
    body = b"".join(b"%d\xff\x00 line\n" % n for n in range(60_000))
    assert say("send", "-i", "bob", message=b"\n" + body).status == 0
    assert sent(mail).endswith(b"\n\n" + body)


def test_the_id_is_said_where_it_was_asked_for(say, mail: Mail) -> None:
    assert say("send", "-v", "bob").out == "queued as 17.1\n"


# Senders and wishes.


@pytest.mark.parametrize(
    ("arguments", "sender"),
    [
        ((), None),
        (("-f", "a@x.test"), b"a@x.test"),
        (("-fa",), b"a@home.test"),
        (("-r", "Ann <a@x.test>"), b"a@x.test"),
        (("-f", ""), b""),
        (("-f", "<>"), b""),
    ],
)
def test_the_sender_is_the_one_named(say, mail: Mail, arguments: tuple[str, ...], sender: bytes | None) -> None:
    assert say("sendmail", *arguments, "bob").status == 0
    assert envelope(mail)[0] == sender


def test_wishes_travel(say, mail: Mail) -> None:
    arguments = ("-N", "success,delay", "-R", "hdrs", "-V", "a+b c", "-B8BITMIME", "-odb", "-em")
    assert say("sendmail", *arguments, "bob").status == 0
    found = mail.committed[0][1]
    assert found.wishes[0].notify == ("DELAY", "SUCCESS")
    assert (found.ret, found.envid) == ("HDRS", b"a+2Bb+20c")


def test_qmail_inject_takes_the_sender_from_return_path_then_from_the_environment(
    say, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMAILSUSER", "list")
    monkeypatch.setenv("QMAILSHOST", "x.test")
    say("qmail-inject", "bob")
    assert envelope(mail)[0] == b"list@x.test"
    say("qmail-inject", "bob", message=b"Return-Path: <a@y.test>\n\n")
    assert envelope(mail)[0] == b"a@y.test"
    say("qmail-inject", "-fb@z.test", "bob", message=b"Return-Path: <a@y.test>\n\n")
    assert envelope(mail)[0] == b"b@z.test"
    monkeypatch.setenv("QMAILINJECT", "s")
    say("qmail-inject", "bob", message=b"Return-Path: <a@y.test>\n\n")
    assert envelope(mail)[0] == b"list@x.test"
    say("sendmail", "bob", message=b"Return-Path: <a@y.test>\n\n")
    assert envelope(mail)[0] is None


@pytest.mark.parametrize(
    ("environment", "sender"),
    [
        ({}, None),
        ({"USER": "ann", "LOGNAME": "ann"}, None),
        ({"QMAILUSER": "a", "QMAILSUSER": "b", "USER": "c"}, b"b@home.test"),
        ({"MAILUSER": "a", "MAILHOST": "x.test"}, b"a@x.test"),
        ({"QMAILHOST": "x.test", "LOGNAME": "c"}, b"c@x.test"),
        ({"QMAILHOST": "x.test"}, None),
    ],
)
def test_whom_the_environment_names(environment: dict[str, str], sender: bytes | None) -> None:
    assert environment_sender(environment, b"home.test") == sender


# Recipients.


@pytest.mark.parametrize(
    ("program", "arguments", "recipients"),
    [
        ("sendmail", ("a", "b@x.test"), [b"a@home.test", b"b@x.test"]),
        ("sendmail", ("-t", "a"), [b"a@home.test", b"to@x.test", b"bcc@x.test"]),
        ("sendmail", ("--", "-a@x.test"), [b"-a@x.test"]),
        ("sendmail", ("a@x.test, Bob <b@x.test>", "a@x.test"), [b"a@x.test", b"b@x.test"]),
        ("send", (), [b"to@x.test", b"bcc@x.test"]),
        ("send", ("-i", "a"), [b"a@home.test"]),
        ("send", ("-t", "a"), [b"a@home.test", b"to@x.test", b"bcc@x.test"]),
        ("qmail-inject", (), [b"to@x.test", b"bcc@x.test"]),
        ("qmail-inject", ("a",), [b"a@home.test"]),
        ("qmail-inject", ("-a", "a"), [b"a@home.test"]),
        ("qmail-inject", ("-h", "a"), [b"to@x.test", b"bcc@x.test"]),
        ("qmail-inject", ("-H", "a"), [b"a@home.test", b"to@x.test", b"bcc@x.test"]),
        ("qmail-inject", ("-A", "--", "-a"), [b"-a@home.test"]),
    ],
)
def test_whom_a_message_goes_to(say, mail: Mail, program: str, arguments: tuple[str, ...], recipients: list) -> None:
    done = say(program, *arguments, message=b"To: to@x.test\nBcc: bcc@x.test\n\nhello\n")
    assert (done.status, done.err) == (0, "")
    assert list(envelope(mail)[1]) == recipients
    assert b"bcc@x.test" not in sent(mail)


def test_qmail_inject_n_prints_the_message_and_sends_nothing(
    mail: Mail, home: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"To: bob\n\nhello\n")))
    assert send.main("qmail-inject", ["-n", "-fann"]) == 0
    sys.stdout.flush()
    printed = capfdbinary.readouterr().out
    assert printed.startswith(b"To: bob@home.test\nFrom: ann@home.test\n") and printed.endswith(b"\n\nhello\n")
    assert not mail.asked


def test_qmailinject_can_drop_fields(say, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QMAILINJECT", "fi")
    say("qmail-inject", "bob", message=b"From: old\nMessage-ID: <old>\n\n")
    assert b"old" not in sent(mail) and sent(mail).count(b"\nMessage-ID: ") == 1


# Exit statuses.


@pytest.mark.parametrize(
    ("program", "misused", "later"), [("send", 2, 75), ("sendmail", 64, 75), ("qmail-inject", 100, 111)]
)
def test_each_name_has_its_own_exit_statuses(say, home: Path, program: str, misused: int, later: int) -> None:
    wrong = say(program, "-Z", "bob")
    assert wrong.status == misused and wrong.err.startswith(f"{program}: there is no option -Z")
    gone = say(program, "bob")
    assert gone.status == later
    assert gone.err == (
        f"{program}: no server runs on {home}; nothing was sent, so try again when one does;"
        " another home is named by --home DIR or $PILLARBOX_HOME\n"
    )


@pytest.mark.parametrize(
    ("code", "sendmail_status"),
    [("5.1.1", 67), ("5.7.1", 77), ("5.3.4", 65), ("5.6.0", 65), ("5.5.3", 64), ("5.0.0", 69), ("5.3.0", 69)],
)
def test_a_refusal_has_a_status_by_its_code(say, mail: Mail, code: str, sendmail_status: int) -> None:
    async def decide(*_: object):
        raise Refused("for a reason", code)

    mail.decide = decide
    for program, status in (("sendmail", sendmail_status), ("qmail-inject", 100), ("send", 1)):
        done = say(program, "bob")
        assert (done.status, done.err) == (status, f"{program}: for a reason\n")


def test_what_passes_has_a_status_that_says_so(say, mail: Mail) -> None:
    async def commit(*_: object):
        raise TryLater("the disk is full", "4.3.1")

    mail.commit = commit
    assert [say(program, "bob").status for program in ("sendmail", "qmail-inject", "send")] == [75, 111, 75]


def test_too_many_recipients_are_told_before_anything_is_sent(say, mail: Mail) -> None:
    done = say("sendmail", *(f"user{n}" for n in range(101)))
    assert done.status == 64 and "101 recipients, and the server takes 100 at most" in done.err
    assert not mail.asked


def test_a_message_over_the_limit_is_refused_and_not_waited_for(say, home: Path) -> None:
    mail = Mail(home.parent / "slots", message_octets=100)
    with served(Home(str(home)).send, mail.injection):
        assert say("sendmail", "bob", message=b"\n" + b"x" * 101).status == 65
        assert say("sendmail", "bob", message=b"Subject: " + b"x" * 101 + b"\n\n").status == 65
    assert not mail.committed


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "no recipient: name one, or take them from To: -t\n"),
        (
            ("-X", "carl@x.test"),
            "no recipient: name one, or take them from To: -t; carl@x.test was taken for the value of -X\n",
        ),
        (("-Xlog",), "no recipient: name one, or take them from To: -t\n"),
        (("--bogus", "x"), "there is no option --bogus\n"),
        (("bob", "--help"), "--help stands alone\n"),
        (("-t",), "no recipient: To, Cc and Bcc name nobody"),
        (("bob smith",), '"bob smith" is no address'),
        (("-f", "a b", "bob"), '"a b" is no address'),
        (("-bs", "--home", "/x"), "-bs takes the home from $PILLARBOX_HOME"),
        (("-bd",), "this is no daemon"),
        (("-bi",), "there is no alias file"),
        (("-I",), "there is no alias file"),
        (("-bx",), "there is no mode -bx"),
        (("-q5m",), "-q5m is not offered"),
        (("-N", "always", "bob"), "-N always: say `never`, or some of `success,failure,delay`"),
        (("-N", "never,delay", "bob"), "-N never,delay"),
        (("-R", "some", "bob"), "-R some: say `full` or `hdrs`"),
        (("-f",), "a value behind -f is missing"),
        (("--home",), "a folder behind --home is missing"),
    ],
)
def test_what_is_called_wrongly_is_told(say, mail: Mail, arguments: tuple[str, ...], text: str) -> None:
    done = say("sendmail", *arguments)
    assert done.status == 64 and done.err.startswith(f"sendmail: {text}"), done.err
    assert not mail.committed


def test_a_bad_field_is_told(say, mail: Mail) -> None:
    done = say("sendmail", "-t", message=b"To: bob smith\n\n")
    assert done.status == 67 and 'in the field To: "bob smith" is no address' in done.err


# Options, as getopt reads them.


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["-ti"], Options(to="both")),
        (["-vfann", "bob"], Options(dot_ends=True, verbose=True, sender="ann", recipients=["bob"])),
        (["-t", "-oi", "-oem", "-odb", "-O", "Timeout.x=1", "-h", "3", "-m", "-U", "-G", "-Am", "-L", "tag", "-n", "-x"],
         Options(to="both")),
        (["-F", "Ann", "--home", "/srv/x"], Options(dot_ends=True, name="Ann", home="/srv/x")),
        (["--home=/srv/x", "-"], Options(dot_ends=True, home="/srv/x", recipients=["-"])),
        (["bob", "-f", "ann", "carl"], Options(dot_ends=True, sender="ann", recipients=["bob", "carl"])),
        (["-bp"], Options(dot_ends=True, mode="list")),
        (["-q"], Options(dot_ends=True, mode="flush")),
        (["-bm", "bob"], Options(dot_ends=True, recipients=["bob"])),
    ],
)  # fmt: skip
def test_sendmails_options(arguments: list[str], wanted: Options) -> None:
    assert sendmail(arguments) == wanted


def test_qmail_injects_options_end_at_the_first_recipient() -> None:
    assert qmail_inject(["-Nh", "-f", "ann", "bob", "-n"], {}).recipients == ["bob", "-n"]
    assert qmail_inject(["-Nhf", "ann"], {}).sender == "ann"
    with pytest.raises(Misuse, match="QMAILINJECT=r"):
        qmail_inject([], {"QMAILINJECT": "r"})


def test_an_address_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(Misuse, match="not UTF-8"):
        typed_addresses([b"\xff@x.test".decode("utf-8", "surrogateescape")], b"home.test")


# Finding the server.


def test_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLARBOX_HOME", "/srv/a")
    assert local_submission.places("") == ["/srv/a"] and local_submission.places("/srv/b") == ["/srv/b"]
    monkeypatch.delenv("PILLARBOX_HOME")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert local_submission.places("") == ["/var/lib/pillarbox"]
    (tmp_path / "pillarbox" / "public").mkdir(parents=True)
    (tmp_path / "pillarbox" / "public" / "send").touch()
    assert local_submission.places("") == [f"{tmp_path}/pillarbox", "/var/lib/pillarbox"]


def test_a_home_that_is_named_is_the_only_one(say, mail: Mail, tmp_path: Path) -> None:
    done = say("sendmail", "--home", str(tmp_path / "other"), "bob")
    assert done.status == 75 and f"no server runs on {tmp_path}/other;" in done.err
    assert not mail.asked


def test_a_server_that_hangs_up_is_tried_later(say, home: Path) -> None:
    mail = Mail(home.parent / "slots")

    async def decide(*_: object):
        raise AssertionError("a bug")

    mail.decide = decide
    with served(Home(str(home)).send, mail.injection):
        assert say("sendmail", "bob").status == 75


def test_sending_loads_no_command_line() -> None:
    code = "import sys, pillarbox.multicall, pillarbox.commands.send; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pillarbox.protocol.injected" in loaded
    slow = ("cyclopts", "rich", "cryptography", "asyncio", "email", "sqlite3", "pillarbox.cli", "pillarbox.store")
    assert not [module for module in loaded if module.split(".")[0] in slow or module.startswith(slow[-2:])]


@pytest.mark.parametrize("program", ["sendmail", "qmail-inject", "mailq"])
def test_help_says_how_to_use_it(say, program: str) -> None:
    done = say(program, "--help")
    assert done.status == 0 and done.out.startswith(f"Usage: {program} [") and "--home DIR" in done.out


def test_help_of_our_own_command_may_stand_among_options(say) -> None:
    assert say("send", "-t", "--help").out == say("send", "--help").out
    assert say("send", "--help").out.startswith("Usage: pillarbox send [")


def test_a_recipient_that_looks_like_help_loses_no_mail(say, mail: Mail) -> None:
    for program in ("send", "sendmail", "qmail-inject"):
        assert say(program, "--", "--help@x.test").status == 0
        assert envelope(mail)[1] == (b"--help@x.test",)
    assert say("sendmail", "-t", "--help").status == 64


def test_qmail_inject_has_our_long_options(say, mail: Mail, tmp_path: Path) -> None:
    done = say("qmail-inject", "--home", str(tmp_path / "other"), "bob")
    assert done.status == 111 and f"no server runs on {tmp_path}/other;" in done.err
    done = say("qmail-inject", "--bogus", "bob")
    assert (done.status, done.err) == (100, "qmail-inject: there is no option --bogus\n")


def test_mailq_lists_the_queue_in_its_own_name(say, home: Path) -> None:
    done = say("mailq")
    assert done.status == 69 and done.err.startswith(f"mailq: no server has run on {home} yet"), done.err
