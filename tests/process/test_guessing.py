"""Somebody guesses secrets, from one address and from a thousand; the owner logs in meanwhile."""

import base64
import contextlib
import json
import select
import time

import pytest
import scramp

from pillarbox.store.secrets import generate
from pillarbox.testing import server

from ..command_line import say
from .conversations import Pop, Wire
from .test_deaths import kill, serves, until
from .test_service import pillarbox

ACCOUNTS = {"alice": "secret of alice", "bob": "secret of bob"}
HOME, ROAD, GUESSER = "127.77.1.1", "127.78.1.1", "127.66.1.1"
PATIENCE = 60


def guarded(**throttle):
    """None of these addresses is in policy.trusted."""
    policy = {"trusted": ["127.0.0.1/32"], "plaintext": "allow"}
    return server(accounts=ACCOUNTS, config={"policy": policy, "throttle": throttle})


def apop(mail, source, name="alice"):
    """The reply to a right login."""
    with Pop(mail, source, PATIENCE) as pop:
        return pop.apop(name, ACCOUNTS[name])


def unanswered(clients):
    """Those that still wait for a reply."""
    poll = select.poll()  # descriptors may lie above what select() takes
    for client in clients:
        poll.register(client.socket, select.POLLIN)
    readable = {descriptor for descriptor, _ in poll.poll(0)}
    return [client for client in clients if client.socket.fileno() not in readable]


def judged(mail, source=""):
    return mail.log().count(f"auth-fail rip={source}")


def wait_for(what, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_address_is_slowed_over_all_its_connections_and_protocols():
    with guarded(longest_delay=1.0) as mail:
        began, guesses = time.monotonic(), 0
        while time.monotonic() - began < 5:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(Pop(mail, GUESSER, PATIENCE)) for _ in range(5)]
                for client in clients:
                    guesses += 1
                    client.send(b"APOP alice %032x\r\n" % guesses)
                for client in clients:
                    assert client.line().startswith((b"-ERR [AUTH]", b"-ERR [SYS/TEMP]"))
        assert 5 <= judged(mail, GUESSER) <= 5 + (time.monotonic() - began) / 1.0
        assert apop(mail, GUESSER).startswith(b"+OK"), "who sits behind the same address waits, and is served"


def test_the_steps_of_scram_are_slowed_where_they_prove_something():
    """One client's nonce, said again and again, is no way round the brakes; a first message waits for nothing."""
    with guarded(longest_delay=30.0) as mail, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Pop(mail, GUESSER, PATIENCE)) for _ in range(3)]
        finals = []
        for client in clients:
            client.send(b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,,n=alice,r=abc") + b"\r\n")
            line = client.line()
            assert line.startswith(b"+ ")
            nonce = base64.b64decode(line[2:]).split(b",")[0]
            proof = base64.b64encode(b"x" * 32)
            finals.append(base64.b64encode(b"c=biws," + nonce + b",p=" + proof) + b"\r\n")
        for client, final in zip(clients, finals, strict=True):
            client.send(final)
        assert clients[0].line().startswith(b"-ERR [AUTH]")
        assert unanswered(clients[1:]) == clients[1:]
        assert judged(mail, GUESSER) == 1
        with Pop(mail, HOME, PATIENCE) as owner:
            assert owner.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")


def hashed(mail, name, password):
    assert pillarbox(mail.home, "account", "add", name, "--password-stdin", input=password + "\n").returncode == 0


def test_passwords_that_take_long_to_verify_are_guessed_no_faster():
    """Those under way count: neither one address nor a thousand of them have many judged at once."""
    with guarded(longest_delay=30.0, account_guesses=10) as mail, contextlib.ExitStack() as stack:
        hashed(mail, "dora", "a password of hers")
        clients = []
        for number in range(60):
            source = GUESSER if number < 8 else f"127.{100 + number}.1.1"
            clients.append(client := stack.enter_context(Pop(mail, source, PATIENCE)))
            assert client.say(b"USER dora").startswith(b"+OK")
        for number, client in enumerate(clients):
            client.send(b"PASS wrong %d\r\n" % number)
        wait_for(lambda: judged(mail) >= 4)
        time.sleep(2)
        assert judged(mail, GUESSER) <= 1 and judged(mail) <= 6


def test_who_hangs_up_while_a_password_is_verified_has_guessed():
    with guarded(longest_delay=1.0) as mail:
        hashed(mail, "dora", "a password of hers")
        with Pop(mail, GUESSER, PATIENCE) as client:
            client.say(b"USER dora")
            client.send(b"PASS wrong\r\n")
        wait_for(lambda: judged(mail, GUESSER) == 1)


def test_nobody_waits_for_a_guesser_at_another_address():
    with guarded(longest_delay=40.0) as mail, contextlib.ExitStack() as stack:
        assert apop(mail, HOME).startswith(b"+OK")
        clients = [stack.enter_context(Pop(mail, GUESSER, PATIENCE)) for _ in range(8)]
        for number, client in enumerate(clients):
            client.send(b"APOP alice %032x\r\n" % number)
        wait_for(lambda: judged(mail, GUESSER) == 1)
        for source in (HOME, ROAD):
            for name in ACCOUNTS:
                assert apop(mail, source, name).startswith(b"+OK")
        assert len(unanswered(clients)) == 7


def test_pop3_and_submission_share_the_brakes():
    with guarded(account_guesses=2) as mail, contextlib.ExitStack() as stack:
        with Wire(mail.host, mail.submission_port) as client:
            client.send(b"EHLO client.test\r\nAUTH PLAIN AGFsaWNlAHdyb25n\r\n")
            wait_for(lambda: judged(mail) == 1)
        owner = stack.enter_context(Pop(mail, ROAD, PATIENCE))
        owner.send(b"APOP alice " + b"0" * 32 + b"\r\n")
        assert apop(mail, ROAD, "bob").startswith(b"+OK")
        assert unanswered([owner]) == [owner]


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_a_thousand_addresses_guess_at_one_account(name):
    """Each from a network of its own. Nothing that they are told depends on whether there is such an account."""
    with guarded() as mail, contextlib.ExitStack() as stack:
        assert apop(mail, HOME).startswith(b"+OK")
        clients = []
        for number in range(1000):
            source = f"127.{100 + number // 250}.{number % 250}.1"
            clients.append(client := stack.enter_context(Pop(mail, source, PATIENCE)))
            client.send(b"APOP %b %032x\r\n" % (name.encode(), number))
        wait_for(lambda: len(unanswered(clients)) <= 256)
        assert apop(mail, HOME).startswith(b"+OK"), "where the owner has logged in before, nothing slows him"
        assert apop(mail, ROAD, "bob").startswith(b"+OK")
        waiting = unanswered(clients)
        assert len(waiting) > 200
        told = [client.line() for client in clients if client not in waiting]
        assert {line[:9] for line in told} == {b"-ERR [AUT", b"-ERR [SYS"}
        assert 10 <= sum(line.startswith(b"-ERR [AUTH]") for line in told) <= 20
        assert 1 <= mail.log().count("login-held-off") <= 100, "a flood does not fill the disk"


def test_who_hangs_up_is_not_judged():
    with guarded(longest_delay=1.0) as mail:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Pop(mail, GUESSER)) for _ in range(4)]
            for number, client in enumerate(clients):
                client.send(b"APOP alice %032x\r\n" % number)
            wait_for(lambda: judged(mail, GUESSER) >= 1)
        before = judged(mail, GUESSER)
        time.sleep(3)
        assert judged(mail, GUESSER) <= before + 1


def test_an_old_password_in_a_client_is_one_failure(capsys):
    with guarded(longest_delay=1.0) as mail:
        for _ in range(4):
            with Pop(mail, HOME) as pop:
                assert pop.say(b"USER alice").startswith(b"+OK")
                assert pop.say(b"PASS the old one").startswith(b"-ERR [AUTH]")
        assert judged(mail, HOME) == 4
        found = json.loads(say(capsys, "throttle", "show", HOME, "--json", "--home", mail.home).out)
        assert [one["failures"] for one in found["addresses"]] == [1.0]


def test_who_hands_in_mail_and_hangs_up_is_forgotten(capsys):
    def waiting():
        return json.loads(say(capsys, "throttle", "show", "--json", "--home", mail.home).out)["waiting"]

    with guarded(account_guesses=2) as mail:
        with Pop(mail) as pop:
            assert pop.say(b"APOP alice " + b"0" * 32).startswith(b"-ERR [AUTH]")
        with Wire(mail.host, mail.submission_port) as client:
            client.send(b"EHLO client.test\r\nAUTH PLAIN AGFsaWNlAHdyb25n\r\n")
            wait_for(lambda: waiting() == 1)
        wait_for(lambda: waiting() == 0, 20)
        assert judged(mail) == 1


def test_showing_and_clearing(capsys):
    with guarded(longest_delay=40.0) as mail, contextlib.ExitStack() as stack:

        def throttle(*words):
            return say(capsys, "throttle", *words, "--home", mail.home)

        assert (throttle("show").out, throttle("show").err) == ("", "nobody is slowed\n")
        clients = [stack.enter_context(Pop(mail, GUESSER, PATIENCE)) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(b"APOP alice %032x\r\n" % number)
        wait_for(lambda: json.loads(throttle("show", "--json").out)["waiting"] == 2)
        found = json.loads(throttle("show", GUESSER, "--json").out)
        assert [one["address"] for one in found["addresses"]] == [GUESSER]
        assert found["networks"] == found["accounts"] == []
        assert throttle("show").out.startswith(f"address\t{GUESSER}\t1.0\t")
        assert throttle("show", HOME).out == ""
        assert throttle("clear", "alice").out == "alice@example.test is not slowed any more\n"
        assert throttle("clear", "alice").out == "alice@example.test had no failures\n"
        assert throttle("clear", GUESSER).out == f"{GUESSER} is not slowed any more\n"
        wait_for(lambda: len(unanswered(clients)) <= 1)
        clients.pop().close()
        assert throttle("clear").out == "all failures are forgotten\n"
        wait_for(lambda: json.loads(throttle("show", "--json").out)["waiting"] == 0)


def test_without_a_server_nobody_is_slowed(capsys, tmp_path):
    home = tmp_path / "home"
    assert say(capsys, "account", "add", "alice", "--home", home).status == 0
    said = say(capsys, "throttle", "show", "--home", home)
    assert said.status == 75 and f"no server runs on {home}" in said.err


def guess_at(mail, stack, name, count=4):
    """Strangers', of a network each: those that are not judged wait when it returns."""
    clients = [stack.enter_context(Pop(mail, f"127.{200 + number}.1.1", PATIENCE)) for number in range(count)]
    for number, client in enumerate(clients):
        client.send(b"APOP %b %032x\r\n" % (name.encode(), number))
    wait_for(lambda: len(unanswered(clients)) < count)
    return clients


def test_who_has_a_generated_secret_waits_for_no_stranger_wherever_he_is():
    secrets = {"carol": generate()}
    with (
        server(accounts=secrets, config={"policy": {"plaintext": "allow"}, "throttle": {"account_guesses": 2}}) as mail,
        contextlib.ExitStack() as stack,
    ):
        waiting = unanswered(guess_at(mail, stack, "carol"))
        assert waiting
        with Pop(mail, "127.81.1.1", PATIENCE) as owner:
            assert owner.apop("carol", secrets["carol"]).startswith(b"+OK")
        with Pop(mail, "127.82.1.1", PATIENCE) as owner:
            client = scramp.ScramClient(["SCRAM-SHA-256"], "carol", secrets["carol"])
            reply = owner.say(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.get_client_first().encode()))
            client.set_server_first(base64.b64decode(reply[2:]).decode())
            assert owner.say(base64.b64encode(client.get_client_final().encode())).startswith(b"+ ")
        assert unanswered(waiting) == waiting


def test_a_restart_of_the_broker_makes_nobody_unknown():
    with guarded(account_guesses=2) as mail, contextlib.ExitStack() as stack:
        assert apop(mail, HOME).startswith(b"+OK")
        kill(mail, "broker")
        until(lambda: serves(mail))
        waiting = unanswered(guess_at(mail, stack, "alice"))
        assert waiting
        assert apop(mail, HOME).startswith(b"+OK")
        assert unanswered(waiting) == waiting
