"""A real server, system users, and what their .qmail files say."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter

import pytest

from pillarbox import local_submission
from pillarbox.local_messages import Begin
from pillarbox.programs.qmail_queue import leads_nowhere
from pillarbox.terms import Refused
from pillarbox.testing import server

from ..peers.misbehaving import misbehaving
from ..system_users import HOMES, system_user
from .conversations import Smtp
from .test_deaths import until
from .test_kill_everything import children
from .test_service import pillarbox

pytestmark = pytest.mark.root

USER, ALIAS = f"pbxq{os.getpid()}", f"pbxa{os.getpid()}"  # system users of these tests alone
OUT = "x@elsewhere.test"
MESSAGES, BETWEEN_KILLS = 60, 5  # acknowledged ones


@pytest.fixture(scope="module")
def users():
    with system_user(USER), system_user(ALIAS):
        yield


@pytest.fixture(scope="module")
def sink():
    with misbehaving() as running:
        yield running


@pytest.fixture(scope="module")
def mail(users, sink):
    with served(sink) as running:
        yield running


def served(sink):
    config = {
        "domains": ["example.test", "sales.test"],
        "accounts": {
            "source": ["local", "passwd"],
            "dot_qmail": True,
            "alias_user": ALIAS,
            "virtual_domains": {"sales.test": f"{USER}-sales"},
        },
        "smtp": {"refused_senders": ["@bad.test"]},
        "delivery": {"routes": {"elsewhere.test": sink.route}},
    }
    return server(accounts={"bob": "secret of bob"}, config=config)


@pytest.fixture
def files(users):
    """files(NAME, content, ...) writes a user's file; all are gone afterwards."""
    made = []

    def write(name, content, user=USER, mode=0o644):
        path = f"{HOMES}/{user}/{name}"
        made.append(path)
        with open(path, "w") as file:
            file.write(content)
        os.chmod(path, mode)
        state = os.stat(f"{HOMES}/{user}")
        os.chown(path, state.st_uid, state.st_gid)
        return path

    yield write
    for path in made:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def maildir(name, user=USER):
    """Make one, as the user would."""
    path, state = f"{HOMES}/{user}/{name}", os.stat(f"{HOMES}/{user}")
    for folder in (path, *(f"{path}/{part}" for part in ("tmp", "new", "cur"))):
        os.makedirs(folder, 0o700, exist_ok=True)
        os.chown(folder, state.st_uid, state.st_gid)
    return path


def send(mail, subject, *recipients):
    with Smtp(mail) as smtp:
        smtp.ehlo()
        return smtp.message(f"Subject: {subject}\r\n\r\nx\r\n".encode(), *recipients)


def asked(mail, recipient):
    """The answer to RCPT."""
    with Smtp(mail) as smtp:
        smtp.ehlo()
        return smtp.envelope(recipient)[0]


def lies(subject, name="Maildir", user=USER):
    """The messages of that subject in a Maildir."""
    return [content for content in stored(name, user) if f"Subject: {subject}\n".encode() in content]


def stored(name, user=USER):
    """All messages of a Maildir."""
    for folder in ("new", "cur"):
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(f"{HOMES}/{user}/{name}/{folder}"):
                with open(entry.path, "rb") as file:
                    yield file.read()


def line_of(mail, *words):
    """The last line of the log that has all of these words."""
    return next((line for line in reversed(mail.log().split("\n")) if all(word in line for word in words)), "")


# Where no file says anything.


def test_without_a_file_mail_goes_to_the_maildir_and_an_extension_is_nobodys(mail):
    assert send(mail, "plain", f"{USER}@example.test").startswith(b"250")
    until(lambda: lies("plain"))
    (message,) = lies("plain")
    assert f"\nDelivered-To: {USER}@example.test\n".encode() in message
    for address in (f"{USER}-x@example.test", "nobody@example.test", "a@sales.test"):
        assert asked(mail, address).startswith(b"550 5.1.1"), address


def test_a_chained_smtpd_hears_which_names_no_file_rules(mail, files):
    """Mail that is let in for nobody would be returned to senders who never wrote it."""
    environment = {b"PILLARBOX_HOME": os.fsencode(str(mail.home)), b"TCPREMOTEIP": b"192.0.2.1"}
    files(".qmail-broken", "|program\n")
    for there in (USER, f"{USER}-broken"):
        assert not leads_nowhere(environment, b"a@sender.test", f"{there}@example.test".encode())
    for nobody in (f"{USER}-x", "a@sales.test", "nobody"):
        recipient = nobody if "@" in nobody else f"{nobody}@example.test"
        assert leads_nowhere(environment, b"a@sender.test", recipient.encode()), nobody
        caller = local_submission.call(str(mail.home))
        local_submission.greeting(caller)
        with pytest.raises(Refused, match="no mailbox"):
            local_submission.begin(caller, Begin(b"a@sender.test", (recipient.encode(),), came="smtp"))
        caller.close()


def test_an_empty_file_means_the_default_delivery(mail, files):
    files(".qmail-empty", "")
    assert send(mail, "empty", f"{USER}-empty@example.test").startswith(b"250")
    until(lambda: lies("empty"))


def test_a_sender_that_is_refused_is_told_at_its_recipient(mail):
    with Smtp(mail) as smtp:
        smtp.ehlo()
        assert smtp.say(b"MAIL FROM:<a@bad.test>").startswith(b"250")
        assert smtp.say(b"RCPT TO:<bob@example.test>") == b"553 5.7.1 mail from that sender is not taken here"
        smtp.say(b"RSET")
        assert smtp.envelope("bob@example.test")[0].startswith(b"250")


# What files say.


def test_a_file_leads_to_maildirs_and_addresses(mail, files, sink):
    maildir("lists")
    files(".qmail-a-default", f"# a list\n./Maildir/\n./lists/\n&bob\n{OUT}\n")
    assert send(mail, "all of them", f"{USER}-A-b.c@example.test").startswith(b"250")
    until(lambda: lies("all of them") and lies("all of them", "lists"))
    (here,) = mail.wait_for("bob", lambda one: b"Subject: all of them\n" in one)
    sink.wait_until(lambda: [one for one in sink.taken if b"Subject: all of them\r\n" in one.wire])
    (away,) = [one for one in sink.taken if b"Subject: all of them\r\n" in one.wire]
    delivered_to = f"Delivered-To: {USER}-A-b.c@example.test"
    assert delivered_to.encode() in away.wire and away.recipients == [OUT.encode()]
    assert here.startswith(b"Return-Path: <sender@sender.test>\nDelivered-To: bob@example.test\n")
    assert len(lies("all of them")) == len(lies("all of them", "lists")) == 1
    for entry in os.scandir(f"{HOMES}/{USER}/lists/new"):
        assert entry.stat().st_uid == os.stat(f"{HOMES}/{USER}").st_uid and not entry.stat().st_mode & 0o077


def test_a_virtual_domain_is_ruled_by_its_owners_files(mail, files):
    files(".qmail-sales-info", "&bob\n")
    assert asked(mail, "other@sales.test").startswith(b"550 5.1.1")
    assert send(mail, "to sales", "info@sales.test").startswith(b"250")
    assert mail.wait_for("bob", lambda one: b"Subject: to sales\n" in one)


def test_the_alias_user_rules_names_that_are_nobodys(mail, files):
    files(".qmail-info", f"&{USER}\n", ALIAS)
    assert send(mail, "to info", "Info@example.test").startswith(b"250")
    until(lambda: lies("to info"))
    assert asked(mail, "other@example.test").startswith(b"550 5.1.1")
    files(".qmail-default", "&bob\n", ALIAS)
    assert send(mail, "to anybody", "any-body@example.test").startswith(b"250")
    assert mail.wait_for("bob", lambda one: b"Subject: to anybody\n" in one)
    assert asked(mail, f"{USER}-x@example.test").startswith(b"550 5.1.1"), "it has an owner"


def test_the_folder_of_the_alias_user_may_be_roots(mail, files):
    """As whoever installs qmail by hand leaves it."""
    home = f"{HOMES}/{ALIAS}"
    state = os.stat(home)
    os.chown(home, 0, 0)
    try:
        files(".qmail-roots", "&bob\n", ALIAS)
        assert send(mail, "by root's folder", "roots@example.test").startswith(b"250")
        assert mail.wait_for("bob", lambda one: b"Subject: by root's folder\n" in one)
    finally:
        os.chown(home, state.st_uid, state.st_gid)


def test_a_file_of_comments_keeps_nothing(mail, files):
    files(".qmail-hole", "# nobody reads this\n")
    assert send(mail, "into the hole", f"{USER}-hole@example.test").startswith(b"250")
    until(lambda: line_of(mail, "discarded", f"{USER}-hole@"))
    until(lambda: not os.listdir(f"{mail.home}/queue/envelope"))
    assert not lies("into the hole")


# What can't be obeyed.


@pytest.mark.parametrize(
    ("told", "content", "mode"),
    [
        ("line 2 of .*: it runs a program", "./Maildir/\n|touch {witness}\n", 0o644),
        ("line 1 of .*: it delivers into an mbox file", "{witness}\n./Maildir/\n", 0o644),
        ("line 1 of .*: its Maildir lies outside the home folder", "/var/tmp/x/\n./Maildir/\n", 0o644),
        ("others may write to", "./Maildir/\n", 0o666),
        ("the file may only forward", "./Maildir/\n", 0o744),
        ("there is no Maildir .*/away", "./away/\n", 0o644),
    ],
    ids=["program", "mbox", "outside", "writable", "x bit", "no Maildir"],
)
def test_mail_waits_until_the_file_can_be_obeyed(mail, files, tmp_path, told, content, mode):
    witness = f"{HOMES}/{USER}/witness"
    subject = f"waits because {told}"
    files(".qmail-bad", content.format(witness=witness), mode=mode)
    address = f"{USER}-bad@example.test"
    assert send(mail, subject, address, "bob@example.test").startswith(b"250")
    assert mail.wait_for("bob", lambda one: f"Subject: {subject}\n".encode() in one)
    until(lambda: re.search(told, mail.log()))
    listed = pillarbox(mail.home, "queue", "list").stdout
    assert address in listed and "bob@" not in listed
    assert not lies(subject) and not os.path.exists(witness)
    files(".qmail-bad", "./Maildir/\n")
    pillarbox(mail.home, "queue", "retry")
    until(lambda: lies(subject))
    until(lambda: not os.listdir(f"{mail.home}/queue/envelope"))
    assert len(lies(subject)) == 1


def test_a_file_is_read_as_its_owner(mail, users, tmp_path):
    """A link to what the user may not read leads nowhere, though root could read it."""
    secret, link = tmp_path / "secret", f"{HOMES}/{USER}/.qmail-secret"
    secret.write_text("stolen@elsewhere.test\n")
    secret.chmod(0o600)
    os.symlink(secret, link)
    try:
        assert send(mail, "to the secret", f"{USER}-secret@example.test").startswith(b"250")
        until(lambda: line_of(mail, "dot-qmail", ".qmail-secret", "Permission denied"))
        assert "stolen" not in mail.log() and not lies("to the secret")
    finally:
        os.unlink(link)
        for name in os.listdir(f"{mail.home}/queue/envelope"):
            pillarbox(mail.home, "queue", "remove", name)


# Crashes.


def test_no_kill_makes_a_second_copy(users, files, sink):
    """Three places for each message, and a process killed again and again meanwhile."""
    randomness = random.Random(20261124)
    for name in ("one", "two"):
        maildir(name)
    files(".qmail-many", "./one/\n./two/\n&bob\n")
    acknowledged, number = [], 0
    with served(sink) as mail:
        while len(acknowledged) < MESSAGES:
            number += 1
            if _send_anyhow(mail, f"many {number}"):
                acknowledged.append(f"many {number}")
                if len(acknowledged) % BETWEEN_KILLS == 0:
                    time.sleep(randomness.uniform(0, 0.05))
                    kill_one(mail, randomness)
        end = time.monotonic() + 120
        while os.listdir(f"{mail.home}/queue/envelope"):
            assert time.monotonic() < end, mail.log()[-3000:]
            pillarbox(mail.home, "queue", "flush")
            time.sleep(0.3)
        copies = [counted(mail.messages("bob")), *(counted(stored(name)) for name in ("one", "two"))]
    for subject in acknowledged:
        counts = [place[subject] for place in copies]
        assert counts == [1, 1, 1], f"{subject}: {counts}"
    assert all(set(place.values()) == {1} for place in copies), "what was not acknowledged is there once, or not"


def counted(messages):
    """How often each subject is there."""
    return Counter(re.search(rb"Subject: (many \d+)\n", one)[1].decode() for one in messages)


def _send_anyhow(mail, subject):
    """To a server that may be in pieces: was it taken?"""
    try:
        return send(mail, subject, f"{USER}-many@example.test").startswith(b"250")
    except (OSError, AssertionError):
        time.sleep(0.05)
        return False


def kill_one(mail, randomness):
    """Any process of the server but the parent."""
    family = [mail.pid]
    for member in family:
        family += children(member)
    with contextlib.suppress(ProcessLookupError):
        os.kill(randomness.choice(family[1:]), signal.SIGKILL)


# A qmail host moves.


def test_what_was_imported_serves_the_same_addresses(users, sink, files, tmp_path):
    """control/, users/ and homes of the old host, and the same mail on ours."""
    control = tmp_path / "qmail" / "control"
    control.mkdir(parents=True)
    (tmp_path / "qmail" / "alias").mkdir()
    (tmp_path / "qmail" / "alias" / ".qmail-postmaster").write_text(f"&{USER}\n")
    (tmp_path / "qmail" / "rc").write_text("qmail-start ./Maildir/ splogger qmail\n")
    for name, content in {
        "me": "mail.old.test\n",
        "locals": "old.test\nmail.old.test\n",
        "rcpthosts": "old.test\nmail.old.test\nshop.test\n",
        "virtualdomains": f"shop.test:{USER}-shop\n",
        "smtproutes": f"elsewhere.test:{sink.route}\n",
        "badmailfrom": "@bad.test\n",
    }.items():
        (control / name).write_text(content)
    files(".qmail-shop-default", f"./Maildir/\n{OUT}\n")
    path = files(".qmail-list", "./Mailbox\n")
    written = tmp_path / "pillarbox.toml"
    done = pillarbox_import(tmp_path / "qmail", "--write", str(written))
    assert done.returncode == 1 and f"{path}, line 1: ./Mailbox" in done.stderr, done.stderr
    config = tomllib.loads(written.read_text())
    config["listen"] = {protocol: ["127.0.0.1:0"] for protocol in ("pop3", "smtp", "submission")} | {
        "pop3s": [],
        "submissions": [],
    }
    with server(accounts={}, config=config) as mail:
        for address in (f"{USER}@mail.old.test", "postmaster@old.test", "any.thing@shop.test"):
            assert send(mail, f"moved to {address}", address).startswith(b"250"), address
            until(lambda address=address: lies(f"moved to {address}"))
        sink.wait_until(lambda: [one for one in sink.taken if b"moved to any.thing@shop.test" in one.wire])
        for address in ("nobody@old.test", f"{USER}-x@old.test", "x@stranger.test"):
            assert asked(mail, address).startswith(b"55"), address


def pillarbox_import(*arguments):
    command = [sys.executable, "-m", "pillarbox", "import", "qmail", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
