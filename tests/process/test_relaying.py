"""POP before SMTP on a running server: who fetches mail may send for a while, and nobody else may because of it."""

import contextlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pillarbox.testing import server

from ..peers.misbehaving import misbehaving
from .conversations import Pop, Smtp
from .test_deaths import until
from .test_service import pillarbox

SECRETS = {"alice": "secret of alice", "bob": "secret of bob"}
ALICE, BOB = "alice@example.test", "bob@example.test"
OUT = "x@elsewhere.test"
TRUSTED, STRANGE, CAFE, HOUSE = (
    "127.0.0",
    "127.0.1",
    "127.7.0",
    "127.8.0",
)  # networks of this server; each test has addresses
CONFIG = {
    "aliases": {"info": "alice"},
    "policy": {"plaintext": "allow", "trusted": ["127.0.0.0/24"]},
    "relay": {"messages": 3, "recipients": 5, "shared": ["127.7.0.0/16"], "unshared": ["127.8.0.0/16"]},
    "processes": {"network": 2},
}
MINTED, REFUSED, LATER, SPENT = b"250", b"550", b"451", b"450"


@pytest.fixture(scope="module")
def sink():
    with misbehaving() as running:
        yield running


@pytest.fixture(scope="module")
def mail(sink):
    with server(accounts=SECRETS, config={**CONFIG, "delivery": {"routes": {"elsewhere.test": sink.route}}}) as running:
        yield running


def fetch(mail, source, name="alice", secret=None):
    """A whole session with APOP."""
    with Pop(mail, source) as pop:
        reply = pop.apop(name, SECRETS[name] if secret is None else secret)
        pop.say(b"QUIT")
    return reply[:3]


def fetch_by_password(mail, source):
    with Pop(mail, source) as pop:
        pop.say(b"USER alice")
        assert pop.say(b"PASS " + SECRETS["alice"].encode()).startswith(b"+OK")
        pop.say(b"QUIT")


def asked(mail, source, sender=ALICE, recipient=OUT):
    """The code that RCPT gets."""
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert smtp.say(f"MAIL FROM:<{sender}>".encode()).startswith(b"250")
        return smtp.say(f"RCPT TO:<{recipient}>".encode())[:3]


def send(smtp, subject, *recipients, sender=ALICE):
    """The reply to a whole message, or to the recipient that was refused."""
    smtp.say(b"RSET")
    assert smtp.say(f"MAIL FROM:<{sender}>".encode()).startswith(b"250")
    for recipient in recipients or (OUT,):
        reply = smtp.say(f"RCPT TO:<{recipient}>".encode())
        if not reply.startswith(b"250"):
            return reply[:3]
    assert smtp.say(b"DATA").startswith(b"354")
    smtp.send(b"Subject: %b\r\n\r\nx\r\n.\r\n" % subject.encode())
    return smtp.line()[:3]


def grants(mail):
    done = pillarbox(mail.home, "grants", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {grant["address"]: grant for grant in json.loads(done.stdout)["grants"]}


# Which logins open the way.


def test_who_has_fetched_may_send(mail, sink):
    source = f"{TRUSTED}.10"
    assert asked(mail, source) == REFUSED
    assert _why(mail, source).startswith("no grant: nobody has fetched mail by POP3 from this address")
    assert fetch(mail, source) == b"+OK"
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert send(smtp, "promised", OUT, BOB) == MINTED
    sink.wait_until(lambda: any(b"Subject: promised" in one.wire for one in sink.taken))
    (sent,) = [one for one in sink.taken if b"Subject: promised" in one.wire]
    assert (sent.sender, sent.recipients) == (ALICE.encode(), [OUT.encode()])
    assert source.encode() not in sent.wire and b"client.test" not in sent.wire
    assert mail.wait_for("bob", lambda one: b"Subject: promised" in one)
    assert f'rip={source} user="{ALICE}" by=grant' in mail.log()


def _why(mail, source):
    """What the latest refusal's line says."""
    return re.findall(rf'recipient-refused rip={re.escape(source)} .* code=5\.7\.1 why="([^"]*)"', mail.log())[-1]


def test_only_from_the_same_address_and_as_ones_own(mail):
    source = f"{TRUSTED}.11"
    fetch(mail, source)
    assert asked(mail, source) == asked(mail, source, sender="info@example.test") == MINTED
    assert asked(mail, source, sender=BOB) == asked(mail, source, sender="a@sender.test") == REFUSED
    assert _why(mail, source) == "the sender is no address of the account that may send"
    assert asked(mail, source, sender="") == REFUSED
    assert asked(mail, f"{TRUSTED}.12") == REFUSED


def test_a_wrong_password_opens_nothing(mail):
    source = f"{TRUSTED}.13"
    assert fetch(mail, source, secret="wrong") == b"-ER"
    assert asked(mail, source) == REFUSED


def test_a_password_opens_the_way_on_a_trusted_network_alone(mail):
    for network, expected in ((TRUSTED, MINTED), (STRANGE, REFUSED)):
        source = f"{network}.14"
        fetch_by_password(mail, source)
        assert asked(mail, source) == expected
    assert f"grant-refused rip={source}" in mail.log()
    assert fetch(mail, source) == b"+OK" and asked(mail, source) == MINTED, "APOP does on any"


# Addresses of many.


def test_a_second_account_ends_what_the_first_was_given(mail):
    source = f"{STRANGE}.20"
    fetch(mail, source)
    assert asked(mail, source) == MINTED
    fetch(mail, source, "bob")
    assert asked(mail, source) == asked(mail, source, sender=BOB) == REFUSED
    fetch(mail, source)
    assert asked(mail, source) == REFUSED
    refused = [line for line in mail.log().split("\n") if f"grant-refused rip={source}" in line]
    assert len(refused) == 1  # a crowd is not worth a line for each
    assert 'why="2 accounts or more have logged in from there within a day"' in refused[0]


@pytest.mark.parametrize(
    ("number", "failures", "expected"),
    [(21, ["bob"], REFUSED), (22, ["nobody"], REFUSED), (23, ["alice"] * 2, MINTED), (24, ["alice"] * 3, REFUSED)],
)
def test_failed_logins_of_others_make_an_address_shared(mail, number, failures, expected):
    source = f"{STRANGE}.{number}"
    for name in failures:
        assert fetch(mail, source, name, "wrong") == b"-ER"
    fetch(mail, source)
    assert asked(mail, source) == expected


def test_a_network_that_is_known_as_shared_gets_no_grants(mail):
    fetch(mail, f"{CAFE}.1")
    assert asked(mail, f"{CAFE}.1") == REFUSED
    assert f'grant-refused rip={CAFE}.1 user="{ALICE}" why="the address lies in relay.shared"' in mail.log()


def test_in_a_household_each_sends_as_itself(mail):
    source = f"{HOUSE}.1"
    for name in SECRETS:
        fetch(mail, source, name)
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert [send(smtp, "house", sender=who) for who in (ALICE, BOB, BOB, BOB)] == [MINTED] * 4
        assert send(smtp, "house", sender=BOB) == SPENT
        assert send(smtp, "house", sender=ALICE) == MINTED
        assert send(smtp, "house", sender="a@sender.test") == REFUSED


# How much, and how long.


def test_a_login_allows_so_many_messages_and_recipients(mail):
    source = f"{TRUSTED}.30"
    fetch(mail, source)
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert send(smtp, "counted", *[f"{n}@elsewhere.test" for n in range(4)]) == MINTED
        assert send(smtp, "counted", OUT, "y@elsewhere.test") == SPENT
        assert [send(smtp, "counted") for _ in range(2)] == [MINTED, SPENT]
        assert send(smtp, "counted", BOB) == MINTED
        fetch(mail, source)
        assert [send(smtp, "counted") for _ in range(4)] == [MINTED, MINTED, MINTED, SPENT]


def test_messages_at_once_get_no_more_than_one_after_another(mail):
    source, count = f"{TRUSTED}.37", 12
    fetch(mail, source)
    with contextlib.ExitStack() as connections, ThreadPoolExecutor(count) as threads:
        clients = [connections.enter_context(Smtp(mail, source)) for _ in range(count)]
        for client in clients:
            client.ehlo()
        replies = list(threads.map(lambda client: send(client, "at once"), clients))
    assert sorted(replies) == [MINTED] * 3 + [SPENT] * (count - 3)


def test_a_grant_ends_after_the_session():
    with server(accounts=SECRETS, config={"relay": {"expiry": 2}}) as mail:
        source = "127.0.0.31"
        fetch(mail, source)
        assert os.path.exists(f"{mail.home}/grants/{source}")
        until(lambda: asked(mail, source) == REFUSED)
        fetch(mail, source)
        until(lambda: asked(mail, source) == MINTED)


def test_a_session_that_lasts_renews_its_grant_and_brings_no_revoked_one_back():
    """The second session shows when the first had its chance."""
    first, second = "127.0.0.32", "127.0.0.33"
    with server(accounts=SECRETS, config={"relay": {"expiry": 30}}) as mail, contextlib.ExitStack() as sessions:
        for source, name in ((first, "alice"), (second, "bob")):
            pop = sessions.enter_context(Pop(mail, source))
            assert pop.apop(name, SECRETS[name]).startswith(b"+OK")
        before = grants(mail)
        assert set(before) == {first, second}
        done = pillarbox(mail.home, "grants", "revoke", first)
        assert done.returncode == 0 and asked(mail, first) == REFUSED
        file = f"{mail.home}/grants/{second}"
        written = os.stat(file).st_mtime
        until(lambda: os.stat(file).st_mtime > written)
        after = grants(mail)
        assert set(after) == {second} and after[second]["until"] > before[second]["until"]
        assert asked(mail, first) == REFUSED and asked(mail, second, sender=BOB) == MINTED


def test_another_secret_ends_the_grant_at_once(mail):
    source = f"{TRUSTED}.34"
    made = pillarbox(mail.home, "account", "add", "carol", "--secret-stdin", input="secret of carol, quite long\n")
    assert made.returncode == 0, made.stderr
    assert fetch(mail, source, "carol", "secret of carol, quite long") == b"+OK"
    assert asked(mail, source, sender="carol@example.test") == MINTED
    done = pillarbox(
        mail.home, "account", "secret", "carol", "--secret-stdin", input="another secret, as long as that\n"
    )
    assert done.returncode == 0, done.stderr
    assert asked(mail, source, sender="carol@example.test") == REFUSED
    assert fetch(mail, source, "carol", "another secret, as long as that") == b"+OK"
    assert asked(mail, source, sender="carol@example.test") == MINTED
    assert pillarbox(mail.home, "account", "remove", "carol").returncode == 0
    assert asked(mail, source, sender="carol@example.test") == REFUSED


def test_grants_are_listed_and_revoked(mail):
    source = f"{TRUSTED}.35"
    fetch(mail, source)
    with Smtp(mail, source) as smtp:
        smtp.ehlo()
        assert send(smtp, "listed", OUT, "y@elsewhere.test") == MINTED
    grant = grants(mail)[source]
    assert (grant["account"], grant["mechanism"], grant["messages"], grant["recipients"]) == (ALICE, "APOP", 2, 3)
    assert grant["until"] - grant["since"] == 900
    assert pillarbox(mail.home, "grants", "revoke", source).returncode == 0
    assert source not in grants(mail) and asked(mail, source) == REFUSED
    assert pillarbox(mail.home, "grants", "revoke", source).returncode == 1
    fetch(mail, source)
    assert asked(mail, source) == MINTED


# relay-ctrl's way.


def test_the_classic_style_is_warned_of_and_open_to_all_at_the_address():
    with server(accounts=SECRETS, config={"relay": {"style": "classic"}}) as mail:
        assert 'warning what="relay.style = ' in mail.log() and "may send through this host" in mail.log()
        fetch(mail, "127.0.0.50", "alice")
        fetch(mail, "127.0.0.50", "bob")
        for sender in (ALICE, "a@sender.test", ""):
            assert asked(mail, "127.0.0.50", sender=sender) == MINTED
        assert asked(mail, "127.0.0.51") == REFUSED
        with open(f"{mail.home}/grants/127.0.0.51", "wb") as file:
            file.write(b"USER=carol\0")
        assert asked(mail, "127.0.0.51", sender="a@sender.test") == MINTED
        old = time.time() - 901
        os.utime(file.name, (old, old))
        assert asked(mail, "127.0.0.51") == REFUSED
