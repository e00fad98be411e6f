"""Logins of every kind at a running server, and what the ledger says of them."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import ssl

import pytest

from pillarbox.store.ledger_reading import entries
from pillarbox.store.ratchet import Ratchet
from pillarbox.testing import server

from .conversations import Pop, Wire
from .test_deaths import kill, until
from .test_service import pillarbox

CANARY = "canary-5ecret-of-alice"
FAR = "127.0.0.9"  # not in policy.trusted of these tests
NEAR = "127.0.0.1"  # from where alone a login without TLS is taken for sending
CONFIG = {"policy": {"trusted": ["127.0.0.1/32"], "plaintext": "allow"}, "processes": {"network": 1}}


def unchecked():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Tls(Wire):
    """A connection with TLS from its first octet, or after STLS or STARTTLS."""

    def __init__(self, host, port, *before):
        Wire.__init__(self, host, port, FAR)
        for command in before:
            reply = self.say(command)
            while reply.startswith(b"250-"):
                reply = self.line()
        self.socket = unchecked().wrap_socket(self.socket)


def ledger(mail):
    return [one for one in entries(str(mail.home / "ledger")) if one]


def fields(mail, *names):
    return [tuple(getattr(one, name) for name in names) for one in ledger(mail)]


def plain(secret=CANARY):
    return base64.b64encode(b"\0alice\0" + secret.encode())


def user(pop, secret=CANARY):
    pop.say(b"USER alice")
    return pop.say(b"PASS " + secret.encode())


def cram(smtp, secret=CANARY):
    challenge = base64.b64decode(smtp.say(b"AUTH CRAM-MD5")[4:])
    digest = hmac.new(secret.encode(), challenge, hashlib.md5).hexdigest().encode()
    return smtp.say(base64.b64encode(b"alice " + digest))


def ehlo(smtp):
    reply = smtp.say(b"EHLO client.test")
    while reply.startswith(b"250-"):
        reply = smtp.line()


@pytest.fixture
def mail():
    with server(accounts={"alice": CANARY}, config=CONFIG) as running:
        yield running


def test_what_each_login_gives_away(mail):
    with Pop(mail, FAR) as pop:
        assert pop.apop("alice", CANARY).startswith(b"+OK")
    with Pop(mail, FAR) as pop:
        assert user(pop).startswith(b"+OK")
    with Wire(mail.host, mail.submission_port) as smtp:
        ehlo(smtp)
        assert cram(smtp).startswith(b"235")
    with Wire(mail.host, mail.submission_port) as smtp:
        ehlo(smtp)
        assert smtp.say(b"AUTH PLAIN " + plain()).startswith(b"235")
    with Wire(mail.host, mail.submission_port) as smtp:
        ehlo(smtp)
        smtp.say(b"AUTH LOGIN")
        smtp.say(base64.b64encode(b"alice"))
        assert smtp.say(base64.b64encode(CANARY.encode())).startswith(b"235")
    with Tls(mail.host, mail.pop3_port, b"STLS") as pop:
        assert user(pop).startswith(b"+OK")
    with Tls(mail.host, mail.submission_port, b"EHLO client.test", b"STARTTLS") as smtp:
        ehlo(smtp)
        assert smtp.say(b"AUTH PLAIN " + plain()).startswith(b"235")
    found = fields(mail, "protocol", "mechanism", "exposure", "tls")
    assert found == [
        ("pop3", "APOP", "digest", ""),
        ("pop3", "USER", "password", ""),
        ("submission", "CRAM-MD5", "digest", ""),
        ("submission", "PLAIN", "password", ""),
        ("submission", "LOGIN", "password", ""),
        ("pop3", "USER", "nothing", "TLSv1.3"),
        ("submission", "PLAIN", "nothing", "TLSv1.3"),
    ]
    assert {(one.account, one.reason) for one in ledger(mail)} == {("alice@example.test", "")}
    assert [one.address for one in ledger(mail)] == [FAR, FAR, NEAR, NEAR, NEAR, FAR, FAR]


def test_the_device_that_logged_in_is_named_and_a_label_leads_to_its_account(mail):
    done = pillarbox(mail.home, "device", "add", "alice", "phone")
    secret = done.stdout.split("secret: ")[1].split("\n")[0]
    for name, word in (("alice", secret), ("alice+phone", secret), ("alice+phone", "wrong"), ("alice", CANARY)):
        with Pop(mail, FAR) as pop:
            pop.apop(name, word)
            pop.say(b"QUIT")
    assert fields(mail, "account", "device", "reason") == [
        ("alice@example.test", "phone", ""),
        ("alice@example.test", "phone", ""),
        ("alice@example.test", "", "badcred"),
        ("alice@example.test", "", ""),
    ]


def test_failed_attempts_count_and_what_was_typed_is_not_kept(mail):
    with Pop(mail, FAR) as pop:
        pop.say(b"USER alice")
        pop.say(b"PASS almost-" + CANARY.encode())
    with Pop(mail, FAR) as pop:
        pop.say(b"USER " + CANARY.encode())  # into the wrong field
        pop.say(b"PASS alice")
    with Pop(mail, FAR) as pop:
        pop.apop("alice", "wrong")
    assert fields(mail, "account", "mechanism", "exposure", "reason") == [
        ("alice@example.test", "USER", "password", "badcred"),
        ("", "USER", "password", "badcred"),
        ("alice@example.test", "APOP", "digest", "badcred"),
    ]
    for path in (mail.home / "ledger").iterdir():
        octets = path.read_bytes()
        digests = re.findall(rb"[0-9a-f]{32}", re.sub(rb'"(mac|prev)":"[0-9a-f]{32}"', b"", octets))
        assert CANARY.encode() not in octets and not digests


def test_the_ledger_can_be_checked_while_the_server_runs_and_a_change_is_named(mail):
    for _ in range(3):
        with Pop(mail, FAR) as pop:
            pop.apop("alice", CANARY)
    done = pillarbox(mail.home, "ledger", "verify", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["attempts"], said["broken"]) == (0, 3, None)
    assert pillarbox(mail.home, "ledger", "verify", "--tip", said["tip"]).returncode == 0
    assert pillarbox(mail.home, "ledger", "verify", "--tip", "0" * 32).returncode == 1
    path = mail.home / "ledger" / "00000001.jsonl"
    path.write_bytes(path.read_bytes().replace(FAR.encode(), b"127.0.0.8", 1))
    done = pillarbox(mail.home, "ledger", "verify")
    assert done.returncode == 1 and "broken at 00000001.jsonl, line 2" in done.stdout


def test_no_attempt_is_lost_with_the_broker(mail):
    for _ in range(2):
        with Pop(mail, FAR) as pop:
            pop.apop("alice", CANARY)
    kill(mail, "broker")

    def logged_in():
        with Pop(mail, FAR) as pop:
            return pop.apop("alice", CANARY).startswith(b"+OK")

    until(logged_in)
    assert len(ledger(mail)) == 3
    assert pillarbox(mail.home, "ledger", "verify").returncode == 0


def test_logins_go_on_where_the_ledger_can_not_be_written(mail):
    """A folder that is gone stands for a disk that fails: what follows is counted, and told."""
    os.rename(mail.home / "ledger", mail.home / "ledger.away")
    kill(mail, "broker")

    def logged_in():
        with Pop(mail, FAR) as pop:
            return pop.apop("alice", CANARY).startswith(b"+OK")

    until(logged_in)
    assert "ledger-trouble" in mail.log()
    os.rename(mail.home / "ledger.away", mail.home / "ledger")
    until(lambda: logged_in() and ledger(mail))
    assert sum(one.lost for one in ledger(mail)) >= 1
    assert "ledger-goes-on" in mail.log()


def test_the_ratchet_refuses_what_is_not_under_tls(mail):
    """Days are not waited for: the count is set as they would have left it."""
    config = mail.home / "pillarbox.toml"
    config.write_text(config.read_text().replace("ratchet_days = 0", "ratchet_days = 2"))
    assert pillarbox(mail.home, "reload").returncode == 0
    with contextlib.closing(Ratchet(str(mail.home / "ratchet.sqlite3"))) as ratchet:
        for day in (1, 2):
            ratchet.count("alice@example.test", day)
    with Tls(mail.host, mail.pop3_port, b"STLS") as pop:
        assert user(pop).startswith(b"+OK")
    with Pop(mail, FAR) as pop:
        refused = pop.apop("alice", CANARY)
        assert refused.startswith(b"-ERR [AUTH]") and b"SSL/TLS" in refused
    with Pop(mail, FAR) as pop:
        assert b"SSL/TLS" in user(pop)
    with Pop(mail, FAR) as pop:
        assert b"SSL/TLS" not in user(pop, "wrong")
    with Pop(mail, NEAR) as pop:
        assert user(pop).startswith(b"+OK")  # policy.trusted
    assert [one.reason for one in ledger(mail)] == ["", "ratchet", "ratchet", "badcred", ""]
    assert pillarbox(mail.home, "migrate", "release", "alice").returncode == 0
    with Pop(mail, FAR) as pop:
        assert pop.apop("alice", CANARY).startswith(b"+OK")
