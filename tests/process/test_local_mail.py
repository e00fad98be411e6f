"""Programs of this machine hand in mail to a running server, under the classic names and as any uid."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from pillarbox.local_messages import Begin, Begun, Data, Greeting
from pillarbox.terms import TryLater
from pillarbox.testing import server

from ..delivery.local_server import caller
from ..peers.faults import Say
from ..peers.misbehaving import Stage, misbehaving
from ..system_users import HOMES, system_user
from .test_deaths import processes, until
from .test_service import pillarbox

SECRETS = {"alice": "secret of alice", "bob": "secret of bob"}
USER = f"pbx{os.getpid()}"  # a system user of these tests alone
STRANGER = 64_242  # a uid that nobody has
OUT, LATER = "x@elsewhere.test", "later@elsewhere.test"
MESSAGE = "To: bob\nCc: x@elsewhere.test\nBcc: alice@example.test\nSubject: {}\n\nhello\n.\nend\n"

# Another uid can't read our Python: everything is loaded before the uid changes.
AS_ANOTHER = """
import os, sys
from pillarbox import multicall
from pillarbox.commands import queue, send
uid, sys.argv = int(sys.argv[1]), sys.argv[2:]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
multicall.main()
"""


@pytest.fixture(scope="module")
def sink():
    with misbehaving() as running:
        running.plan(Stage.RCPT, Say(b"450 4.2.0 later\r\n"), containing=LATER.encode())
        yield running


@pytest.fixture(scope="module")
def mail(sink):
    """An account has the system user's name, and the alias `news`."""
    config = {"delivery": {"routes": {"elsewhere.test": sink.route}}, "aliases": {"news": USER}}
    with server(accounts={**SECRETS, USER: "secret of the user"}, config=config) as running:
        yield running


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A folder with our links, made by the command as it is installed."""
    folder, command = tmp_path_factory.mktemp("links"), tmp_path_factory.mktemp("bin") / "pillarbox"
    command.write_text(f"#!{sys.executable}\nfrom pillarbox.multicall import main\nmain()\n")
    command.chmod(0o755)
    done = subprocess.run(
        [str(command), "link", str(folder), "sendmail", "qmail-inject", "mailq"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["mailq", "qmail-inject", "sendmail"]
    return folder


@pytest.fixture(scope="module")
def user():
    """The system user's uid."""
    with system_user(USER) as found:
        yield found.pw_uid


def run(mail, *command, message="", **environment):
    """A program of this machine, as ourselves. It finds the server by its variable."""
    variables = {"PATH": os.environ["PATH"], "PILLARBOX_HOME": str(mail.home), **environment}
    return subprocess.run(command, input=message, capture_output=True, text=True, timeout=60, env=variables)


def run_as(uid, mail, *command, message="", **environment):
    """The same as another uid."""
    return run(mail, sys.executable, "-c", AS_ANOTHER, str(uid), *command, message=message, **environment)


def stored(mail, name, subject):
    (found,) = mail.wait_for(name, lambda one: f"Subject: {subject}\n".encode() in one)
    return found


def left(sink, subject):
    """The message as it came to the other host."""

    def found():
        return [one for one in sink.taken if f"Subject: {subject}\r\n".encode() in one.wire]

    sink.wait_until(found)
    (one,) = found()
    return one


def sender_of(message):
    return re.match(rb"Return-Path: <([^>]*)>\n", message)[1].decode()


# The names.


@pytest.mark.parametrize(
    ("program", "options"), [("sendmail", ["-t", "-i"]), ("qmail-inject", []), ("pillarbox", ["send", "-t", "-i"])]
)
def test_a_message_goes_to_all_that_its_header_names(mail, sink, names, program, options):
    """To, Cc and Bcc, here and elsewhere; Bcc is gone, and what was missing is there."""
    command = [str(names / program)] if program != "pillarbox" else [sys.executable, "-m", "pillarbox"]
    done = run(mail, *command, *options, "-f", "info@example.test", message=MESSAGE.format(f"by {program}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    away = left(sink, f"by {program}")
    assert (away.sender, away.recipients) == (b"info@example.test", [OUT.encode()])
    for name in ("alice", "bob"):
        here = stored(mail, name, f"by {program}")
        assert sender_of(here) == "info@example.test" and here.endswith(b"\n\nhello\n.\nend\n")
        assert f"(Pillarbox, from uid {os.getuid()})".encode() in here
    for text in (away.wire, here):
        assert len(re.findall(rb"(?m)^(?:To|Cc|From|Date|Message-ID): ", text)) == 5
        assert b"Bcc" not in text and b"\nalice@" not in text


def test_a_message_to_those_named_as_arguments(mail, names):
    done = run(mail, str(names / "sendmail"), "-oi", "-v", "bob", message="Subject: arguments\n\nx\n")
    assert done.returncode == 0 and re.fullmatch(r"queued as \S+\n", done.stdout), done.stderr
    here = stored(mail, "bob", "arguments")
    assert f"id {done.stdout.split()[-1]};".encode() in here


def test_what_waits_is_listed_shown_and_removed(mail, names):
    done = run(mail, str(names / "sendmail"), "-v", LATER, message="Subject: waits\n\nx\n")
    identity = done.stdout.split()[-1]
    until(lambda: "450 4.2.0 later" in run(mail, str(names / "mailq")).stdout)
    (row,) = [line for line in run(mail, str(names / "mailq")).stdout.split("\n") if identity in line]
    assert LATER in row
    assert "Subject: waits" in pillarbox(mail.home, "queue", "show", identity).stdout
    listed = json.loads(pillarbox(mail.home, "queue", "list", "--json").stdout)
    assert [one["id"] for one in listed["messages"] if one["id"] == identity] == [identity]
    for verb in ("hold", "release", "retry", "remove"):
        done = pillarbox(mail.home, "queue", verb, identity)
        assert done.returncode == 0, done.stderr
    assert identity not in run(mail, str(names / "mailq")).stdout


def test_a_recipient_that_is_none_is_refused_with_the_status_of_each_name(mail, names):
    for command, status in (
        ([str(names / "sendmail")], 67),
        ([str(names / "qmail-inject")], 100),
        ([sys.executable, "-m", "pillarbox", "send"], 1),
    ):
        done = run(mail, *command, "bob", "nobody", message="Subject: refused\n\nx\n")
        assert done.returncode == status and "there is no mailbox nobody@example.test here" in done.stderr
    assert not any(b"Subject: refused\n" in one for one in mail.messages("bob"))


# Whose mail it is.


@pytest.mark.root
@pytest.mark.parametrize("program", ["sendmail", "qmail-inject"])
def test_a_user_sends_as_itself(mail, sink, user, program):
    for wanted in ([], ["-f", f"{USER}@example.test"]):
        subject = f"{program} as user {''.join(wanted)}"
        done = run_as(user, mail, program, *wanted, "bob", OUT, message=f"Subject: {subject}\n\nx\n")
        assert done.returncode == 0, done.stderr
        expected = wanted[1] if wanted else f"{USER}@example.test"
        here = stored(mail, "bob", subject)
        assert sender_of(here) == left(sink, subject).sender.decode() == expected
        assert f"(Pillarbox, from uid {user})".encode() in here
        assert re.search(rb"(?m)^From: (?:.* <)?%b>?$" % expected.encode(), here)


@pytest.mark.root
@pytest.mark.parametrize("wanted", ["news@example.test", f"{USER}-x@example.test"], ids=["alias", "extension"])
def test_a_user_is_no_virtual_account_of_its_name(mail, user, wanted):
    done = run_as(user, mail, "sendmail", "-f", wanted, "bob", message="Subject: of another\n\nx\n")
    assert done.returncode == 77 and f"may not send as <{wanted}>" in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("wanted", ["alice@example.test", "root@example.test", "a@sender.test"])
def test_a_user_sends_as_nobody_else(mail, user, wanted):
    for uid in (user, STRANGER):
        for program, status in (("sendmail", 77), ("qmail-inject", 100)):
            done = run_as(uid, mail, program, "-f", wanted, "bob", OUT, message="Subject: forged\n\nx\n")
            assert done.returncode == status and f"may not send as <{wanted}>" in done.stderr
    assert not any(b"Subject: forged\n" in one for one in mail.messages("bob"))


@pytest.mark.root
def test_an_environment_names_no_other_sender(mail, user):
    done = run_as(user, mail, "qmail-inject", "bob", message="Subject: forged\n\nx\n", QMAILSUSER="alice")
    assert done.returncode == 100 and "may not send as <alice@example.test>" in done.stderr
    done = run_as(user, mail, "sendmail", "bob", message="Subject: USER says\n\nx\n", USER="alice", LOGNAME="root")
    assert done.returncode == 0 and sender_of(stored(mail, "bob", "USER says")) == f"{USER}@example.test"


@pytest.mark.root
def test_a_uid_without_a_name_or_an_account_sends_as_itself(mail, sink):
    done = run_as(STRANGER, mail, "sendmail", "-t", message=MESSAGE.format("stranger"))
    assert done.returncode == 0, done.stderr
    assert sender_of(stored(mail, "bob", "stranger")) == f"uid{STRANGER}@example.test"
    assert left(sink, "stranger").sender == f"uid{STRANGER}@example.test".encode()


@pytest.mark.root
def test_the_queue_and_its_commands_are_closed_to_others(mail, user):
    listed = run_as(user, mail, "mailq")
    assert listed.returncode != 0 and listed.stdout == "" and "is closed to you" in listed.stderr


@pytest.mark.root
def test_a_system_users_mailbox_is_written_as_that_user(user):
    config = {"accounts": {"source": ["local", "passwd"]}, "aliases": {"news": USER}}
    with server(accounts=SECRETS, config=config) as mail:
        for wanted in ("news@example.test", f"{USER}-x@example.test"):
            done = run_as(user, mail, "sendmail", "-f", wanted, "bob", message=f"Subject: as {wanted}\n\nx\n")
            assert done.returncode == 0, done.stderr
            assert sender_of(stored(mail, "bob", f"as {wanted}")) == wanted
        assert f'user="{USER}@example.test" sender=<news@example.test>' in mail.log()
        for uid in (0, user):
            done = run_as(uid, mail, "sendmail", USER, message=f"Subject: for the user from {uid}\n\nx\n")
            assert done.returncode == 0, done.stderr
        new = f"{HOMES}/{USER}/Maildir/new"
        until(lambda: os.path.isdir(new) and len(os.listdir(new)) == 2)
        for path in (f"{HOMES}/{USER}/Maildir", new, *(f"{new}/{name}" for name in os.listdir(new))):
            state = os.lstat(path)
            assert (state.st_uid, state.st_mode & 0o077) == (user, 0), path
        assert sender_of(_read(new, b"from %d\n" % user)) == f"{USER}@example.test"


def _read(folder, containing):
    for name in os.listdir(folder):
        with open(f"{folder}/{name}", "rb") as file:
            content = file.read()
        if containing in content:
            return content
    raise AssertionError(f"nothing holds {containing!r}")


# Where the server is not there, or dies.


def test_without_a_server_the_message_stays_with_the_caller(names):
    with server(accounts=SECRETS) as mail:
        assert pillarbox(mail.home, "stop").returncode == 0
        for program, status in (("sendmail", 75), ("qmail-inject", 111)):
            done = run(mail, str(names / program), "bob", message="Subject: x\n\nx\n")
            assert done.returncode == status and "no server runs" in done.stderr
        assert os.listdir(f"{mail.home}/queue/envelope") == []


@pytest.fixture
def fragile():
    with server(accounts=SECRETS) as running:
        yield running


@pytest.mark.parametrize(("program", "status"), [("sendmail", 75), ("qmail-inject", 111)])
def test_a_delivery_process_that_dies_before_it_has_answered_took_nothing(fragile, names, program, status):
    """The broker stands still, so that the program waits for its envelope to be taken."""
    before = processes(fragile)
    os.kill(before["broker"], signal.SIGSTOP)
    try:
        waiting = subprocess.Popen(
            [str(names / program), "bob", "alice"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PILLARBOX_HOME": str(fragile.home)},
        )
        waiting.stdin.write(b"Subject: half\n\nx\n")
        waiting.stdin.close()
        until(lambda: _visited(before["delivery"]))
        assert waiting.poll() is None
        os.kill(before["delivery"], signal.SIGKILL)
        assert waiting.wait(30) == status, waiting.stderr.read()
        waiting.stderr.close()
    finally:
        os.kill(before["broker"], signal.SIGCONT)
    until(lambda: processes(fragile)["delivery"] not in (0, before["delivery"]))
    _nothing_came(fragile, names)


@pytest.mark.parametrize("dies", ["the program", "the delivery process"])
def test_of_half_a_message_nothing_is_kept(fragile, names, dies):
    before = processes(fragile)
    with contextlib.closing(caller(f"{fragile.home}/public/send")) as program:
        assert isinstance(program.hear(), Greeting)
        program.say(Begin(None, (b"bob@example.test", b"alice@example.test")))
        assert isinstance(program.hear(), Begun)
        program.say(Data(b"Subject: half\n\n" + b"x" * 70 + b"\n"))
        if dies == "the delivery process":
            os.kill(before["delivery"], signal.SIGKILL)
            with pytest.raises(TryLater):
                program.hear()
            until(lambda: processes(fragile)["delivery"] not in (0, before["delivery"]))
    _nothing_came(fragile, names)


def _visited(pid):
    """Does that process hold a connection from HOME/public/send?"""
    held = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    with open("/proc/net/unix") as file:
        rows = [line.split() for line in file]
    connected = [row[6] for row in rows if row[5] == "03" and row[-1].endswith("/send")]
    return any(f"socket:[{inode}]" in held for inode in connected)


def _nothing_came(mail, names):
    """What is sent now arrives, and of the message before there is no trace."""
    until(lambda: run(mail, str(names / "sendmail"), "bob", message="Subject: whole\n\nx\n").returncode == 0)
    assert stored(mail, "bob", "whole")
    until(lambda: not os.listdir(f"{mail.home}/queue/envelope"))
    for name in SECRETS:
        assert not any(b"Subject: half\n" in one for one in mail.messages(name))
    for folder, _, files in os.walk(f"{mail.home}/queue"):
        for name in files:
            with contextlib.suppress(FileNotFoundError), open(f"{folder}/{name}", "rb") as file:
                assert b"half" not in file.read(), name
