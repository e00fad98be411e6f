"""kill -9 of all processes at random moments: nothing acknowledged is lost, torn, or (through the queue) doubled."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

from pillarbox.home import Home
from pillarbox.testing import server

from .conversations import Smtp

ROUNDS = 12
SENDERS = 4


def test_nothing_acknowledged_is_lost():
    randomness = random.Random(20261124)
    acknowledged, sent = set(), 0
    with server(accounts={"alice": "secret of alice", "bob": "secret of bob"}) as mail:
        for _ in range(ROUNDS):
            stop = threading.Event()
            senders = [
                threading.Thread(target=send, args=(mail, stop, acknowledged, f"{sent}-{n}")) for n in range(SENDERS)
            ]
            sent += 1
            for sender in senders:
                sender.start()
            time.sleep(randomness.uniform(0.05, 0.3))
            kill_all(Home(mail.home).running())
            stop.set()
            for sender in senders:
                sender.join()
            restart(mail)
        settled(mail)
        names = {name: subjects(mail, name) for name in ("alice", "bob")}
        stop_server(mail.home)
    assert len(acknowledged) > ROUNDS
    for recipients, subject in acknowledged:
        for name in recipients:
            assert subject in names[name], f"{subject} was acknowledged and is lost"
    for name in ("alice", "bob"):
        queued = [subject for subject in names[name] if subject.startswith("two")]
        assert len(queued) == len(set(queued)), "a queued message was delivered twice"


def send(mail, stop, acknowledged, label):
    number = 0
    while not stop.is_set():
        try:
            with Smtp(mail, timeout=5) as smtp:
                smtp.ehlo()
                while not stop.is_set():
                    number += 1
                    recipients = ("alice", "bob") if number % 3 == 0 else ("alice",)
                    subject = f"{'two' if len(recipients) > 1 else 'one'}-{label}-{number}"
                    content = f"Subject: {subject}\r\n\r\n{'x' * 70}\r\n{'y' * 70}\r\nend of {subject}\r\n".encode()
                    if smtp.message(content, *(f"{name}@{mail.domain}" for name in recipients)).startswith(b"250"):
                        acknowledged.add((recipients, subject))
        except (OSError, AssertionError):
            time.sleep(0.01)


def kill_all(pid):
    """The parent and everybody below it, at once."""
    family = [pid]
    for parent in family:
        family += children(parent)
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue


def children(parent):
    found = []
    for task in os.listdir(f"/proc/{parent}/task") if os.path.exists(f"/proc/{parent}") else ():
        with open(f"/proc/{parent}/task/{task}/children") as file:
            found += [int(pid) for pid in file.read().split()]
    return found


def restart(mail):
    """A new server on the same home and, since the ports are in its configuration, on the same ports."""
    configuration = f"{mail.home}/pillarbox.toml"
    with open(configuration) as file:
        text = file.read()
    text = re.sub(r'pop3 = \["127\.0\.0\.1:0"\]', f'pop3 = ["127.0.0.1:{mail.pop3_port}"]', text)
    text = re.sub(r'smtp = \["127\.0\.0\.1:0"\]', f'smtp = ["127.0.0.1:{mail.smtp_port}"]', text)
    with open(configuration, "w") as file:
        file.write(text)
    end = time.monotonic() + 15
    while Home(mail.home).running() is not None:
        assert time.monotonic() < end
        time.sleep(0.01)
    with open(os.path.join(os.path.dirname(mail.home), "log"), "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "pillarbox", "serve", "--home", mail.home], stderr=log, start_new_session=True
        )
    while True:
        try:
            with Smtp(mail, timeout=5):
                return
        except OSError:
            assert time.monotonic() < end, mail.log()[-2000:]
            time.sleep(0.02)


def settled(mail):
    end = time.monotonic() + 20
    while os.listdir(f"{mail.home}/queue/envelope"):
        assert time.monotonic() < end, "the queue does not empty"
        time.sleep(0.05)


def subjects(mail, name):
    """The subjects of an account's messages; each message must be whole."""
    found = []
    for message in mail.messages(name):
        subject = re.search(rb"^Subject: (\S+)$", message, re.MULTILINE)[1].decode()
        assert message.endswith(f"end of {subject}\n".encode()), f"{subject} is torn"
        found.append(subject)
    return found


def stop_server(home):
    subprocess.run([sys.executable, "-m", "pillarbox", "stop", "--home", home], check=True, stdout=subprocess.DEVNULL)
