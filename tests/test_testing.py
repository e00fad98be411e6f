"""What we offer to people who test their own mail code."""

from __future__ import annotations

import json
import os
import poplib
import select
import shutil
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from pillarbox import cli
from pillarbox.home import Home
from pillarbox.terms import Refused
from pillarbox.testing import ALICE_SECRET, Server, server


def test_the_fixture_is_a_real_server(pillarbox_server: Server) -> None:
    with smtplib.SMTP(pillarbox_server.host, pillarbox_server.smtp_port) as smtp:
        smtp.sendmail("bob@elsewhere.test", "alice@example.test", b"Subject: hello\r\n\r\nhello\r\n")
    (stored,) = pillarbox_server.messages("alice")
    assert stored.endswith(b"Subject: hello\n\nhello\n")
    pop3 = poplib.POP3(pillarbox_server.host, pillarbox_server.pop3_port)
    pop3.apop("alice", ALICE_SECRET)
    assert b"\n".join(pop3.retr(1)[1]) + b"\n" == stored
    pop3.quit()
    cli.run(["stop", "--home", str(pillarbox_server.home)])  # all that it had to log is then there
    assert 'proto=pop3 user="alice' in pillarbox_server.log()
    assert ALICE_SECRET not in pillarbox_server.log() + repr(pillarbox_server)


def test_several_accounts_and_mail_from_elsewhere() -> None:
    with server(accounts={"carol": "c-secret", "dave": "d-secret"}, domain="mail.test") as running:
        running.deliver("carol", b"Subject: 1\n\nfirst\n")
        running.deliver("carol@mail.test", b"Subject: 2\r\n\r\nsecond")
        assert running.messages("carol") == [b"Subject: 1\n\nfirst\n", b"Subject: 2\r\n\r\nsecond"]
        assert running.messages("dave") == []
        pop3 = poplib.POP3(running.host, running.pop3_port)
        pop3.user("carol@mail.test")
        pop3.pass_("c-secret")
        assert [pop3.retr(n)[1][-1] for n in (1, 2)] == [b"first", b"second"]
        pop3.quit()


def test_waiting_for_mail() -> None:
    with server(accounts={"carol": "c-secret", "dave": "d-secret"}) as running:
        with smtplib.SMTP(running.host, running.smtp_port) as smtp:
            smtp.sendmail("", ["carol@example.test", "dave@example.test"], b"Subject: both\r\n\r\n")
        for name in ("carol", "dave"):
            assert len(running.wait_for(name, lambda message: b"Subject: both" in message)) == 1


def test_configuration_can_be_overridden() -> None:
    with server(config={"policy": {"plaintext": "refuse"}}) as running:
        pop3 = poplib.POP3(running.host, running.pop3_port)
        assert "USER" not in pop3.capa()
        pop3.quit()
    with pytest.raises(Refused, match=r"`policy\.plain` is no key"), server(config={"policy": {"plain": "refuse"}}):
        pass


def test_an_unknown_table_is_refused_as_in_a_file() -> None:
    with pytest.raises(Refused, match=r"`polcy` is no key"), server(config={"polcy": {"plaintext": "refuse"}}):
        pass


@pytest.mark.parametrize("secret", ["", "a\nb", "a\x00", "\x7f"])
def test_a_secret_that_no_client_could_send_is_refused(secret: str) -> None:
    with pytest.raises(Refused, match="the secret of carol is empty, or holds control"), server({"carol": secret}):
        pass


def test_a_server_that_can_not_start_says_why() -> None:
    with server() as running:
        taken = f"127.0.0.1:{running.pop3_port}"
        with pytest.raises(RuntimeError, match="another program has it"), server(config={"listen": {"pop3": [taken]}}):
            pass


def test_nothing_is_left_behind() -> None:
    with server() as running:
        pass
    assert not running.home.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)


def test_it_ends_when_the_tests_are_killed() -> None:
    """However the process that started it ends: the kernel tells the server."""
    code = (
        "import os, json, sys\nfrom pillarbox.testing import server\n"
        "with server() as running:\n"
        "    print(json.dumps([running.pid, str(running.home)]), flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        pid, home = json.loads(tests.stdout.readline())
        descriptor = os.pidfd_open(pid)
        tests.send_signal(signal.SIGKILL)
    try:
        assert tests.wait() == -signal.SIGKILL
        assert select.select([descriptor], [], [], 30)[0]
    finally:
        os.close(descriptor)
    assert Home(home).running() is None
    shutil.rmtree(Path(home).parent)  # what the killed process could not do


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    code = "import sys, pytest; import pillarbox.testing; print(*(m for m in sys.modules if m.startswith('pillarbox')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"pillarbox", "pillarbox.testing"}
