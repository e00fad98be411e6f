"""kill -9 of one process after another, at random, while mail is accepted, queued and delivered, here and elsewhere.

In the tests some kills; by hand as many as one likes, and a table of what became of each message:

    .venv/bin/python -m tests.process.campaign 2000

The table goes into docs/reliability.md.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from pillarbox.home import Home
from pillarbox.testing import server

from ..peers.misbehaving import misbehaving
from .conversations import Pop, Smtp
from .test_kill_everything import children, restart, stop_server

ACCOUNTS = {"alice": "secret of alice", "bob": "secret of bob"}
SENDERS = 4
CONNECTIONS = 4  # to the other host
REMOTE = "x@remote.test"
PAUSE = (0.02, 0.25)  # seconds between two kills
SETTLED_SECONDS = 120
START_SECONDS = 20

ALICE, BOB, TEAM = "alice@example.test", "bob@example.test", "team@example.test"

# What is sent, by kind: to whom, and where it must arrive. The first goes straight into the Maildir, the others through
# the queue.
KINDS = {
    "to one mailbox here": ((ALICE,), (ALICE,)),
    "to two mailboxes here": ((ALICE, BOB), (ALICE, BOB)),
    "to a list of two here": ((TEAM,), (ALICE, BOB)),
    "to another host": ((REMOTE,), (REMOTE,)),
    "here and to another host": ((BOB, REMOTE), (BOB, REMOTE)),
}


@dataclass
class Campaign:
    """What was done, and what came of it."""

    kills: Counter = field(default_factory=Counter)  # by process
    sent: Counter = field(default_factory=Counter)  # by kind
    acknowledged: dict = field(default_factory=dict)  # subject -> kind
    arrived: dict = field(default_factory=dict)  # recipient -> Counter of subjects
    torn: list = field(default_factory=list)
    seconds: float = 0.0

    def lost(self, kind):
        return [
            (subject, recipient)
            for subject, of in self.acknowledged.items()
            if of == kind
            for recipient in KINDS[kind][1]
            if not self.arrived[recipient][subject]
        ]

    def doubled(self, kind, *, remote):
        """Copies too many, at mailboxes here or at the other host."""
        return sum(
            self.arrived[recipient][subject] - 1
            for recipient in KINDS[kind][1]
            if (recipient == REMOTE) is remote
            for subject in self.arrived[recipient]
            if subject.startswith(f"{list(KINDS).index(kind)}-")
        )


def run(kills, seed=20261124, progress=lambda done: None):
    """So many kills; then everything is delivered, and counted."""
    campaign, randomness, began = Campaign(), random.Random(seed), time.monotonic()
    with misbehaving() as sink:
        config = {
            "aliases": {"team": ["alice", "bob"]},
            "delivery": {"routes": {"remote.test": sink.route}, "connections_per_destination": CONNECTIONS},
            "relay": {"messages": 10**9, "recipients": 10**9, "unshared": ["127.0.0.0/8"]},
            "processes": {"network": 2, "workers": 2},
        }
        with server(accounts=ACCOUNTS, config=config) as mail:
            stop = threading.Event()
            senders = [threading.Thread(target=_send, args=(mail, stop, campaign, number)) for number in range(SENDERS)]
            for sender in senders:
                sender.start()
            while campaign.kills.total() < kills:
                time.sleep(randomness.uniform(*PAUSE))
                _kill_one(mail, campaign, randomness)
                progress(campaign.kills.total())
            stop.set()
            for sender in senders:
                sender.join()
            _settle(mail)
            for name in ("alice", "bob"):
                campaign.arrived[f"{name}@example.test"] = _count(mail.messages(name), campaign)
            stop_server(mail.home)
        campaign.arrived[REMOTE] = _count([taken.message.replace(b"\r\n", b"\n") for taken in sink.taken], campaign)
    campaign.seconds = time.monotonic() - began
    return campaign


def _send(mail, stop, campaign, number):
    """Fetch, then send, over and over; whatever breaks is begun anew."""
    serial, source = 0, f"127.0.1.{number + 1}"
    while not stop.is_set():
        with contextlib.suppress(OSError, AssertionError, TypeError):
            with Pop(mail, source, timeout=5) as pop:
                assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
                pop.say(b"QUIT")
            with Smtp(mail, source, timeout=5) as smtp:
                smtp.ehlo()
                while not stop.is_set():
                    serial += 1
                    kind = list(KINDS)[serial % len(KINDS)]
                    subject = f"{serial % len(KINDS)}-{number}-{serial}"
                    campaign.sent[kind] += 1
                    if _message(smtp, subject, KINDS[kind][0]):
                        campaign.acknowledged[subject] = kind
        time.sleep(0.01)


def _message(smtp, subject, recipients):
    assert smtp.say(b"MAIL FROM:<alice@example.test>").startswith(b"250")
    for recipient in recipients:
        assert smtp.say(b"RCPT TO:<%b>" % recipient.encode()).startswith(b"250")
    assert smtp.say(b"DATA").startswith(b"354")
    body = b"x" * 70 + b"\r\n" + b"y" * 70
    smtp.send(b"Subject: %b\r\n\r\n%b\r\nend of %b\r\n.\r\n" % (subject.encode(), body, subject.encode()))
    return smtp.line().startswith(b"250")


def _kill_one(mail, campaign, randomness):
    """Any process of the server; after the parent itself, a new server is started."""
    parent = Home(mail.home).running()
    assert parent is not None, f"the server has ended by itself\n{mail.log()[-3000:]}"
    family = [parent]
    for member in family:
        family += children(member)
    victim = randomness.choice(family)
    name = _name(victim)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
        campaign.kills["parent" if victim == parent else name] += 1
    if victim == parent:
        restart(mail)
        end = time.monotonic() + START_SECONDS
        while not _ready(mail):  # one that loses a process while it starts gives up, and says so
            assert time.monotonic() < end, f"the server does not start\n{mail.log()[-3000:]}"
            time.sleep(0.02)


def _ready(mail):
    state = Home(mail.home).read_status()
    return state is not None and state["pid"] == Home(mail.home).running()


def _name(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip().removeprefix("pbx-").partition("-")[0]
    return "gone"


def _settle(mail):
    """Have everything tried until the queue is empty."""
    end = time.monotonic() + SETTLED_SECONDS
    while os.listdir(f"{mail.home}/queue/envelope"):
        assert time.monotonic() < end, f"the queue does not empty\n{mail.log()[-3000:]}"
        command = [sys.executable, "-m", "pillarbox", "queue", "flush", "--home", mail.home]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)


def _count(messages, campaign):
    """How often each subject is there; a message that is not whole is torn. Reports to the sender are not counted."""
    found = Counter()
    for message in messages:
        if (subject := re.search(rb"^Subject: ([0-9]-[0-9-]+)$", message, re.MULTILINE)) is None:
            continue
        if not message.endswith(b"end of %b\n" % subject[1]):
            campaign.torn.append(subject[1].decode())
        found[subject[1].decode()] += 1
    return found


def table(campaign):
    """Markdown."""
    kills = ", ".join(f"{name} {count}" for name, count in campaign.kills.most_common())
    lines = [
        f"{campaign.kills.total():,} kills in {campaign.seconds:.0f} s: {kills}.",
        "",
        "| messages | sent | acknowledged | lost | torn | doubled here | doubled at the other host |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        acknowledged = sum(of == kind for of in campaign.acknowledged.values())
        prefix = f"{list(KINDS).index(kind)}-"
        torn = sum(subject.startswith(prefix) for subject in campaign.torn)
        here, there = campaign.doubled(kind, remote=False), campaign.doubled(kind, remote=True)
        lines.append(
            f"| {kind} | {campaign.sent[kind]:,} | {acknowledged:,} | {len(campaign.lost(kind))} | {torn} | {here} |"
            f" {there} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    result = run(wanted, progress=lambda done: print(f"\r{done} of {wanted} kills", end="", flush=True))
    print("\n" + table(result))
