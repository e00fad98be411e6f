"""A process that dies takes its own sessions with it, and nothing else."""

import json
import os
import signal
import threading
import time

import pytest

from pillarbox.testing import server

from .conversations import Pop, Smtp

PATIENCE = 15.0


@pytest.fixture
def mail():
    with server(
        accounts={"alice": "secret of alice", "bob": "secret of bob"}, config={"processes": {"network": 2}}
    ) as running:
        yield running


def processes(mail):
    with open(f"{mail.home}/run/status.json") as file:
        return json.load(file)["processes"]


def kill(mail, name):
    """Kill one process, and wait until the parent has another one in its place."""
    pid = processes(mail)[name]
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes(mail)[name] not in (0, pid))


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def serves(mail):
    try:
        with Smtp(mail) as smtp, Pop(mail) as pop:
            smtp.ehlo()
            assert smtp.message(b"Subject: after\r\n\r\nx\r\n", "alice@" + mail.domain).startswith(b"250")
            assert pop.apop("alice", "secret of alice").startswith(b"+OK")
            return True
    except (AssertionError, OSError):
        return False


@pytest.mark.parametrize("name", ["network-0", "network-1", "broker", "delivery"])
def test_a_killed_process_is_replaced(mail, name):
    kill(mail, name)
    until(lambda: serves(mail))
    assert "process-died" in mail.log()


def test_the_other_network_process_goes_on(mail):
    """Sessions spread over both processes; killing one ends only some of them, and removes nothing."""
    mail.deliver("alice", b"Subject: x\n\nx\n")
    sessions = [Pop(mail) for _ in range(16)]
    os.kill(processes(mail)["network-0"], signal.SIGKILL)
    alive = 0
    for session in sessions:
        try:
            alive += session.say(b"CAPA").startswith(b"+OK")
        except OSError:
            pass
        session.close()
    assert 0 < alive < 16
    assert len(mail.messages("alice")) == 1


def test_a_lost_session_frees_its_maildrop_and_removes_nothing(mail):
    mail.deliver("alice", b"Subject: x\n\nx\n")
    with Pop(mail) as pop:
        assert pop.apop("alice", "secret of alice").startswith(b"+OK")
        assert pop.say(b"DELE 1").startswith(b"+OK")
        for name in ("network-0", "network-1"):
            kill(mail, name)
    with Pop(mail) as pop:
        assert pop.apop("alice", "secret of alice") == b"+OK 1 messages, 17 octets"


def test_a_dead_worker_fails_its_sessions_with_a_clear_reply(mail):
    with Pop(mail) as alice:
        assert alice.apop("alice", "secret of alice").startswith(b"+OK")
        for pid in workers(mail):
            os.kill(pid, signal.SIGKILL)
        assert alice.line().startswith(b"-ERR [SYS/TEMP]")
        assert alice.rest() == b""
    until(lambda: serves(mail))


def workers(mail):
    """The grandchildren of the broker: its nursery's children."""
    return [pid for nursery in children(processes(mail)["broker"]) for pid in children(nursery)]


def children(parent):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == parent:
                        found.append(int(entry))
            except OSError:
                continue
    return found


def test_when_the_parent_is_killed_nobody_stays(mail):
    everybody = [*processes(mail).values(), *workers(mail)]
    with open(f"{mail.home}/run/status.json") as file:
        os.kill(json.load(file)["pid"], signal.SIGKILL)
    until(lambda: not any(running(pid) for pid in everybody))


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_mail_in_the_queue_survives_the_death_of_delivery(mail):
    """Accepted for two, killed at once: both get it, once. A 4xx meanwhile is tried again, as any client would."""
    for number in range(10):
        until(lambda number=number: accepted(mail, b"Subject: m%d\r\n\r\nx\r\n" % number))
        if number % 3 == 0:
            kill(mail, "delivery")
    for name in ("alice", "bob"):
        until(lambda name=name: len(mail.messages(name)) == 10)
    until(lambda: not os.listdir(f"{mail.home}/queue/envelope"))


def accepted(mail, content):
    with Smtp(mail) as smtp:
        smtp.ehlo()
        reply = smtp.message(content, "alice@" + mail.domain, "bob@" + mail.domain, data=(b"354", b"451"))
        assert reply[:3] in (b"250", b"451")
        return reply.startswith(b"250")


def test_a_worker_that_dies_while_a_login_waits_leaves_no_lock(mail):
    with Pop(mail) as first, Pop(mail) as second:
        assert first.apop("alice", "secret of alice").startswith(b"+OK")
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(second.apop("alice", "secret of alice")))
        waiting.start()
        until(lambda: "mech" in mail.log() or waiting.is_alive())
        for pid in workers(mail):
            os.kill(pid, signal.SIGKILL)
        waiting.join(PATIENCE)
        assert answers and answers[0][:4] in (b"+OK ", b"-ERR")
    until(lambda: serves(mail))


def test_a_killed_nursery_is_replaced_with_its_broker(mail):
    (nursery,) = children(processes(mail)["broker"])
    os.kill(nursery, signal.SIGKILL)
    until(lambda: serves(mail))
    for pid in workers(mail):
        os.kill(pid, signal.SIGKILL)
    until(lambda: serves(mail))


@pytest.mark.parametrize("broker_dies", [False, True])
def test_nobody_is_left_when_the_server_has_ended(broker_dies):
    """Not a moment longer: what is unmounted, removed or started anew behind it has nobody in its way."""
    with server(accounts={"alice": "secret of alice"}) as mail:
        mail.deliver("alice", b"Subject: x\n\nx\n")
        with Pop(mail) as pop:
            assert pop.apop("alice", "secret of alice").startswith(b"+OK")
            broker = processes(mail)["broker"]
            everybody = [*processes(mail).values(), *children(broker), *workers(mail)]
            if broker_dies:
                os.kill(broker, signal.SIGKILL)
    assert [pid for pid in everybody if os.path.exists(f"/proc/{pid}")] == []


def test_a_worker_that_was_stopped_does_not_outlive_the_server():
    """A system user can do that to their own."""
    with server(accounts={"alice": "secret of alice"}) as mail:
        pids = workers(mail)
        os.kill(pids[0], signal.SIGSTOP)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") or is_stopped(pid) for pid in pids))


def is_stopped(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return False


def test_the_death_of_one_worker_is_nothing_to_who_did_not_ask_it():
    """Two accounts of two workers: the mail of one is taken while the other's worker dies."""
    with server(
        accounts={f"user{n}": "secret of user" for n in range(8)}, config={"processes": {"workers": 2}}
    ) as mail:
        sent = 0
        for round_ in range(5):
            os.kill(workers(mail)[round_ % 2], signal.SIGKILL)
            for n in range(8):
                with Smtp(mail) as smtp:
                    smtp.ehlo()
                    reply = smtp.message(b"Subject: x\r\n\r\nx\r\n", f"user{n}@{mail.domain}", data=(b"354", b"451"))
                    assert reply[:3] in (b"250", b"451")
                    sent += reply.startswith(b"250")
            until(lambda: len(workers(mail)) == 2)
        assert sent == sum(len(mail.messages(f"user{n}")) for n in range(8))
        assert sent >= 30
