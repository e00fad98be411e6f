"""tcprules' files, read by a running server: who may connect, and who may relay."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pillarbox.home import Home
from pillarbox.policy.tcprules import records
from pillarbox.store import cdb
from pillarbox.testing import Server, server

from ..peers.misbehaving import misbehaving
from .conversations import Wire

SECONDS = 30.0


def write(path: Path, *lines: bytes) -> None:
    """As tcprules does: a new file in the place of the old one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(cdb.content(record for line in lines for record in records(line)))
    temporary.rename(path)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "rules.cdb"


def smtp(mail: Server, source: str = "127.0.0.1") -> Wire:
    return Wire(mail.host, mail.smtp_port, source)


def pop3(mail: Server, source: str = "127.0.0.1") -> Wire:
    return Wire(mail.host, mail.pop3_port, source)


def until(mail: Server, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not re.search(what, mail.log()):
        assert time.monotonic() < deadline, mail.log()
        time.sleep(0.02)


def greeting(wire: Wire) -> bytes:
    with wire:
        return bytes(wire.greeting)


def test_whom_the_rules_deny_is_refused_and_logged(rules: Path) -> None:
    write(rules, b"127.0.0.7:deny", b"127.0.1.:deny", b":allow")
    with server(config={"policy": {"rules_smtp": str(rules), "rules_pop3": str(rules)}}) as mail:
        assert greeting(smtp(mail)).startswith(b"220 ")
        assert greeting(pop3(mail)).startswith(b"+OK ")
        for source in ("127.0.0.7", "127.0.1.9"):
            with smtp(mail, source) as client:
                assert client.greeting == b"554 5.7.1 your address may not connect here"
                assert client.rest() == b""
            assert greeting(pop3(mail, source)) == b"-ERR your address may not connect here"
        until(mail, r"connection-refused rip=127\.0\.0\.7 proto=smtp why=.your address may not connect here")


def test_each_protocol_has_rules_of_its_own(rules: Path) -> None:
    write(rules, b":deny")
    with server(config={"policy": {"rules_pop3": str(rules)}}) as mail:
        assert greeting(smtp(mail)).startswith(b"220 ")
        assert greeting(pop3(mail)).startswith(b"-ERR ")


def relaying(rules: Path, route: str) -> AbstractContextManager[Server]:
    return server(config={"policy": {"rules_smtp": str(rules)}, "delivery": {"routes": {"elsewhere.test": route}}})


def sent(mail: Server, source: str) -> bytes:
    """The reply to RCPT, or to the message where that was good."""
    with smtp(mail, source) as client:
        client.say(b"HELO client")
        client.say(b"MAIL FROM:<anybody@anywhere.test>")
        reply = bytes(client.say(b"RCPT TO:<x@elsewhere.test>"))
        if not reply.startswith(b"250 "):
            return reply
        client.say(b"DATA")
        return bytes(client.say(b"Subject: by the rules\r\n\r\nhello\r\n."))


def test_relayclient_opens_the_way_to_other_hosts(rules: Path) -> None:
    """An empty one; qmail would append any other to the recipient's address, which is not done here."""
    write(
        rules, b'127.0.0.3:allow,RELAYCLIENT=""', b'127.0.0.4:allow,RELAYCLIENT="@gate"', b"127.0.0.5:allow", b":deny"
    )
    with misbehaving() as sink, relaying(rules, sink.route) as mail:
        assert sent(mail, "127.0.0.3").startswith(b"250 ")
        assert sent(mail, "127.0.0.4").startswith(b"550 5.7.1 ")
        assert sent(mail, "127.0.0.5").startswith(b"550 5.7.1 ")
        with Wire(mail.host, mail.submission_port, "127.0.0.3") as client:
            client.say(b"HELO client")
            reply = client.say(b"MAIL FROM:<anybody@anywhere.test>")
            reply = reply if reply.startswith(b"530") else client.say(b"RCPT TO:<x@elsewhere.test>")
            assert reply.startswith(b"530 5.7.0 ")


def test_a_changed_file_is_read_anew_and_a_wrong_one_is_not(rules: Path) -> None:
    write(rules, b":allow")
    with server(config={"policy": {"rules_smtp": str(rules)}}) as mail:
        assert greeting(smtp(mail)).startswith(b"220 ")
        write(rules, b":deny")
        os.kill(Home(str(mail.home)).running() or 0, signal.SIGHUP)
        until(mail, "reloaded")
        eventually(mail, b"554 ")
        rules.write_bytes(b"nonsense")
        os.kill(Home(str(mail.home)).running() or 0, signal.SIGHUP)
        until(mail, r"rules-refused key=policy.rules_smtp file=\S+/rules.cdb why=.Protocol error")
        assert greeting(smtp(mail)).startswith(b"554 "), "the last good rules hold"


OFTEN = {"expiry": 1}  # the broker looks after its grants, and at the rules, three times in that


def eventually(mail: Server, start: bytes) -> None:
    deadline = time.monotonic() + SECONDS
    while not (said := greeting(smtp(mail))).startswith(start):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def test_without_rules_after_a_reload_nobody_comes_in_until_they_are_there_and_changes_are_noticed(rules: Path) -> None:
    with server(config={"policy": {"rules_smtp": ""}, "relay": OFTEN}) as mail:
        eventually(mail, b"220 ")
        settings = Path(Home(str(mail.home)).config)
        text = settings.read_text()
        assert 'rules_smtp = ""' in text
        settings.write_text(text.replace('rules_smtp = ""', f'rules_smtp = "{rules}"'))
        os.kill(Home(str(mail.home)).running() or 0, signal.SIGHUP)
        eventually(mail, b"421 4.3.2 ")
        write(rules, b":allow")
        eventually(mail, b"220 ")
        write(rules, b":deny")
        eventually(mail, b"554 ")


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\xff\xff\xff\x70" * 512])
def test_without_its_rules_a_server_does_not_start(content: bytes | None, rules: Path) -> None:
    if content is not None:
        rules.write_bytes(content)
    why = r"rules-refused key=policy.rules_smtp file=\S+/rules.cdb why="
    with pytest.raises(RuntimeError, match=why), server(config={"policy": {"rules_smtp": str(rules)}}):
        pass
