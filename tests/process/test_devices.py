"""Devices on a running server: which secret opens what, from where, and what is remembered of it."""

import json
import os
import smtplib
import ssl
import subprocess
from pathlib import Path

import pytest

from pillarbox.testing import server

from ..system_users import system_user
from .conversations import Pop, Smtp
from .test_deaths import until
from .test_service import pillarbox

SECRETS = {"alice": "secret of alice"}
ALICE, OUT = "alice@example.test", "x@elsewhere.test"
HOME, AWAY = "127.0.0", "127.0.1"  # networks; each test has addresses of its own
CONFIG = {"policy": {"trusted": ["127.0.0.0/16"]}}


@pytest.fixture(scope="module")
def mail():
    with server(accounts=SECRETS, config=CONFIG) as running:
        yield running


def add(mail, label, *options):
    """The new device's secret."""
    done = pillarbox(mail.home, "device", "add", "alice", label, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("secret: ")[1].split("\n")[0]


def revoke(mail, label):
    assert pillarbox(mail.home, "device", "revoke", "alice", label).returncode == 0


@pytest.fixture
def phone(mail):
    yield add(mail, "phone")
    pillarbox(mail.home, "device", "revoke", "alice", "phone")


def apop(mail, source, name, secret):
    with Pop(mail, source) as pop:
        reply = pop.apop(name, secret)
        pop.say(b"QUIT")
    return reply[:3]


def password(mail, source, name, secret):
    with Pop(mail, source) as pop:
        pop.say(b"USER " + name.encode())
        reply = pop.say(b"PASS " + secret.encode())
        pop.say(b"QUIT")
    return reply[:3]


def submit(mail, name, secret, mechanism):
    """The reply to AUTH."""
    smtp = smtplib.SMTP(mail.host, mail.submission_port, "client.test", 20)
    try:
        smtp.ehlo()
        smtp.user, smtp.password = name, secret
        return smtp.auth(mechanism, getattr(smtp, "auth_" + mechanism.lower().replace("-", "_")))[0]
    except smtplib.SMTPAuthenticationError as error:
        return error.smtp_code, error.smtp_error
    finally:
        smtp.close()


def asked(mail, source):
    """The code that a recipient elsewhere gets."""
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert smtp.say(f"MAIL FROM:<{ALICE}>".encode()).startswith(b"250")
        return smtp.say(f"RCPT TO:<{OUT}>".encode())[:3]


def listed(mail, label):
    (found,) = [
        device
        for device in json.loads(pillarbox(mail.home, "device", "list", "--json").stdout)["devices"]
        if device["label"] == label
    ]
    return found


@pytest.mark.parametrize("login", [apop, password])
def test_a_device_logs_in_by_the_plain_name_and_by_its_own(mail, phone, login):
    for name in ("alice", ALICE, "alice+phone", "ALICE+Phone@example.test"):
        assert login(mail, f"{HOME}.10", name, phone) == b"+OK"
    assert login(mail, f"{HOME}.10", "alice", SECRETS["alice"]) == b"+OK"
    assert login(mail, f"{HOME}.10", "alice+phone", SECRETS["alice"]) == b"-ER", "by its label the device alone"
    for name in ("alice+other", "alice+", "bob+phone", "alice-phone"):
        assert login(mail, f"{HOME}.10", name, phone) == b"-ER"


def test_one_device_does_not_log_in_by_the_others_label(mail, phone):
    laptop = add(mail, "laptop")
    assert apop(mail, f"{HOME}.11", "alice+laptop", phone) == b"-ER"
    assert apop(mail, f"{HOME}.11", "alice+laptop", laptop) == b"+OK"
    revoke(mail, "laptop")


def test_a_revoked_device_is_refused_at_once(mail, phone):
    assert apop(mail, f"{HOME}.12", "alice", phone) == b"+OK"
    revoke(mail, "phone")
    assert apop(mail, f"{HOME}.12", "alice", phone) == apop(mail, f"{HOME}.12", "alice+phone", phone) == b"-ER"


def test_what_a_revoked_device_had_begun_is_over(mail):
    secret = add(mail, "phone", "--send")
    with smtplib.SMTP(mail.host, mail.submission_port, "client.test", 20) as smtp:
        smtp.login("alice+phone", secret)
        assert smtp.mail(ALICE)[0] == smtp.rcpt(OUT)[0] == 250
        revoke(mail, "phone")
        assert smtp.data(b"From: alice@example.test\r\n\r\nhello\r\n") == (530, b"5.7.0 authentication required")
        assert smtp.mail(ALICE)[0] == 250
        assert smtp.rcpt(OUT) == smtp.rcpt(ALICE) == (530, b"5.7.0 authentication required")


def test_a_device_may_be_bound_to_networks(mail):
    secret = add(mail, "desk", "--networks", f"{HOME}.0/24", "2001:db8::/32")
    for name in ("alice", "alice+desk"):
        assert apop(mail, f"{HOME}.13", name, secret) == b"+OK"
        assert apop(mail, f"{AWAY}.13", name, secret) == b"-ER"
    assert f'rip={AWAY}.13 proto=pop3 mech=APOP reason=network user="alice"' in mail.log()
    assert apop(mail, f"{AWAY}.13", "alice", SECRETS["alice"]) == b"+OK", "which binds nobody else"
    revoke(mail, "desk")


def test_only_a_device_that_may_send_gets_a_grant(mail, phone):
    assert apop(mail, f"{HOME}.14", "alice", phone) == b"+OK"
    assert asked(mail, f"{HOME}.14") == b"550"
    secret = add(mail, "sender", "--send")
    assert apop(mail, f"{HOME}.15", "alice", secret) == b"+OK"
    assert asked(mail, f"{HOME}.15") == b"250"
    assert f"{HOME}.15" in pillarbox(mail.home, "grants", "list").stdout
    revoke(mail, "sender")
    assert asked(mail, f"{HOME}.15") == b"550", "the grant ends with its secret"
    assert f"{HOME}.15" not in pillarbox(mail.home, "grants", "list").stdout


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_only_a_device_that_may_send_hands_in_mail(mail, phone, mechanism):
    code, text = submit(mail, "alice", phone, mechanism)
    assert code == 535 and b"may fetch mail, and not send" in text
    assert b"authentication failed" in submit(mail, "alice", "wrong", mechanism)[1]
    secret = add(mail, "sender", "--send")
    assert submit(mail, "alice", secret, mechanism) == 235
    assert submit(mail, "alice+sender", secret, mechanism) == 235
    revoke(mail, "sender")


def test_the_last_use_is_remembered(mail, phone):
    assert listed(mail, "phone")["used"] is None
    assert apop(mail, f"{HOME}.16", "alice", phone) == b"+OK"
    until(lambda: listed(mail, "phone")["used"])
    used = listed(mail, "phone")["used"]
    assert (used["address"], used["mechanism"]) == (f"{HOME}.16", "APOP")
    assert listed(mail, "phone")["created"] <= used["time"]


def test_the_key_changes_while_the_server_runs(mail, phone):
    secret = add(mail, "sender", "--send")
    with Pop(mail, f"{HOME}.17") as pop:
        assert pop.apop("alice", phone).startswith(b"+OK")
        done = pillarbox(mail.home, "key", "rotate")
        assert done.returncode == 0 and done.stdout.startswith("3 secrets are sealed with the new key "), done.stderr
        assert pop.say(b"NOOP").startswith(b"+OK")
    for name, word in (("alice", SECRETS["alice"]), ("alice+phone", phone), ("alice", secret)):
        assert apop(mail, f"{HOME}.18", name, word) == b"+OK"
    until(lambda: "key-changed" in mail.log())
    assert apop(mail, f"{HOME}.19", "alice", secret) == b"+OK"
    assert asked(mail, f"{HOME}.19") == b"250" and f"{HOME}.19" in pillarbox(mail.home, "grants", "list").stdout
    revoke(mail, "sender")


def test_no_secret_of_a_device_is_in_the_log_or_in_a_file(mail, phone):
    apop(mail, f"{HOME}.20", "alice", phone)
    submit(mail, "alice", phone, "PLAIN")
    assert phone not in mail.log()
    assert not [path for path in mail.home.rglob("*") if path.is_file() and phone.encode() in path.read_bytes()]


@pytest.mark.client
def test_the_settings_that_are_shown_work_with_curl(mail, tmp_path):
    mail.deliver("alice", b"Subject: for curl\r\n\r\nx\r\n")
    shown = pillarbox(mail.home, "device", "add", "alice", "curl", "--apop").stdout
    secret = shown.split("secret: ")[1].split("\n")[0]
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(ssl.get_server_certificate((mail.host, mail.pop3s_port)))
    commands = [line.split("curl ", 2)[2].split() for line in shown.split("\n") if "  curl   " in line]
    assert [command[-1].partition(":")[0] for command in commands] == ["pop3s", "pop3"]
    for command in commands:
        command[command.index("-u") + 1] += f":{secret}"
        done = subprocess.run(["curl", "-q", "-sS", "--insecure", *command], capture_output=True, timeout=20)
        assert b"Subject: for curl" in done.stdout, done.stderr
    revoke(mail, "curl")


def test_a_chosen_password_serves_logins_by_password_alone(mail):
    made = pillarbox(mail.home, "account", "add", "dora", "--password-stdin", input="my own password\n")
    assert made.returncode == 0, made.stderr
    assert password(mail, f"{HOME}.30", "dora", "my own password") == b"+OK"
    for name, word in (("dora", "wrong"), ("dora+phone", "my own password"), ("nobody", "my own password")):
        assert password(mail, f"{HOME}.30", name, word) == b"-ER"
    assert apop(mail, f"{HOME}.30", "dora", "my own password") == apop(mail, f"{HOME}.30", "dora", "") == b"-ER"
    for mechanism in ("PLAIN", "LOGIN"):
        assert submit(mail, "dora", "my own password", mechanism) == 235
        assert submit(mail, "dora", "wrong", mechanism)[0] == 535
    assert submit(mail, "dora", "my own password", "CRAM-MD5")[0] == 535
    assert password(mail, f"{HOME}.31", "alice", SECRETS["alice"]) == b"+OK", "others go on as they were"
    assert password(mail, f"{HOME}.31", "alice", "my own password") == b"-ER"


def test_a_password_leaves_a_grant_that_ends_with_it(mail):
    pillarbox(mail.home, "account", "add", "emil", "--password-stdin", input="my own password\n")
    source = f"{HOME}.32"
    assert password(mail, source, "emil", "my own password") == b"+OK"
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        smtp.say(b"MAIL FROM:<emil@example.test>")
        assert smtp.say(f"RCPT TO:<{OUT}>".encode()).startswith(b"250")
    assert source in pillarbox(mail.home, "grants", "list").stdout
    done = pillarbox(mail.home, "account", "secret", "emil", "--password-stdin", input="another password\n")
    assert done.returncode == 0, done.stderr
    assert asked(mail, source) == b"550" and source not in pillarbox(mail.home, "grants", "list").stdout
    assert password(mail, f"{HOME}.33", "emil", "my own password") == b"-ER"


def test_clients_that_go_away_meanwhile_hold_no_maildrop(mail):
    pillarbox(mail.home, "account", "add", "fred", "--password-stdin", input="my own password\n")
    for _ in range(10):
        with Pop(mail, f"{HOME}.34") as pop:
            pop.say(b"USER fred")
            pop.send(b"PASS my own password\r\n")
    until(lambda: password(mail, f"{HOME}.34", "fred", "my own password") == b"+OK")


@pytest.mark.root
def test_a_system_user_logs_in_once_the_password_file_is_gone():
    with (
        system_user(f"pbdev{os.getpid()}") as user,
        server(accounts={}, config={"accounts": {"source": ["passwd"]}}) as mail,
    ):
        file = Path(user.pw_dir, "Maildir", ".password")
        file.parent.mkdir(mode=0o700)
        file.write_text("a secret from the old days\n")
        file.chmod(0o600)
        for path in (file.parent, file):
            os.chown(path, user.pw_uid, user.pw_gid)
        done = pillarbox(mail.home, "import", "passwd")
        assert f"{user.pw_name}@example.test\timported\n" in done.stdout, done.stderr
        file.unlink()
        name = user.pw_name
        assert apop(mail, f"{HOME}.40", name, "a secret from the old days") == b"+OK"
        assert password(mail, f"{HOME}.40", f"{name}+password-file", "a secret from the old days") == b"+OK"
        assert pillarbox(mail.home, "device", "revoke", name, "password-file").returncode == 0
        assert apop(mail, f"{HOME}.40", name, "a secret from the old days") == b"-ER"
