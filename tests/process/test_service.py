"""The service as an admin has it: reload, stop, a second start, uids, system users."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pillarbox.home import Home
from pillarbox.testing import server

from ..system_users import system_user
from .conversations import Pop, Smtp
from .test_deaths import until

ACCOUNTS = {"alice": "secret of alice"}
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root: uids are changed")


def pillarbox(home, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "pillarbox", *arguments, "--home", home],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def status(mail):
    return json.loads(pillarbox(mail.home, "status", "--json").stdout)


def rewrite(mail, old, new):
    path = f"{mail.home}/pillarbox.toml"
    with open(path) as file:
        text = file.read()
    assert old in text
    with open(path, "w") as file:
        file.write(text.replace(old, new))


def test_reload_opens_another_port_and_drops_no_session():
    with server(accounts=ACCOUNTS) as mail, Pop(mail) as pop:
        assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
        rewrite(mail, 'pop3 = ["127.0.0.1:0"]', 'pop3 = ["127.0.0.1:0", "127.0.0.2:0"]')
        done = pillarbox(mail.home, "reload")
        assert done.returncode == 0, done.stderr
        host, _, port = status(mail)["listen"]["pop3"][1].rpartition(":")
        assert pop.say(b"NOOP").startswith(b"+OK")
        with Pop(mail) as old:
            assert old.greeting.startswith(b"+OK")
        with Pop(dataclasses.replace(mail, host=host, pop3_port=int(port))) as new:
            assert new.greeting.startswith(b"+OK")


def test_reload_changes_policy_for_new_connections():
    with server(accounts=ACCOUNTS, config={"policy": {"plaintext": "refuse"}}) as mail:
        with Pop(mail) as pop:
            assert pop.say(b"USER alice").startswith(b"-ERR [AUTH]")
        rewrite(mail, 'plaintext = "refuse"', 'plaintext = "allow"')
        assert pillarbox(mail.home, "reload").returncode == 0
        with Pop(mail) as pop:
            assert pop.say(b"USER alice").startswith(b"+OK")
            assert pop.say(b"PASS secret of alice").startswith(b"+OK")


def test_a_configuration_with_an_error_changes_nothing():
    with server(accounts=ACCOUNTS) as mail:
        rewrite(mail, "[listen]", "[lisen]")
        done = pillarbox(mail.home, "reload")
        assert done.returncode == 1 and "lisen" in done.stderr and "listen" in done.stderr
        os.kill(Home(mail.home).running(), signal.SIGHUP)
        end = time.monotonic() + 10
        while "reload-refused" not in mail.log():
            assert time.monotonic() < end
            time.sleep(0.02)
        with Pop(mail) as pop:
            assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")


def test_stop_finishes_the_body_under_way():
    with server(accounts=ACCOUNTS) as mail:
        body = b"Subject: big\n\n" + (b"x" * 76 + b"\n") * 400_000
        mail.deliver("alice", body)
        with Pop(mail) as pop:
            pop.apop("alice", ACCOUNTS["alice"])
            idle = Pop(mail)
            pop.send(b"RETR 1\r\n")
            assert pop.line().startswith(b"+OK")
            stopping = threading.Thread(target=pillarbox, args=(mail.home, "stop"))
            stopping.start()
            assert idle.line().startswith(b"-ERR [SYS/TEMP]") and idle.rest() == b""
            whole = pop.rest()
            assert whole.startswith(body.replace(b"\n", b"\r\n") + b".\r\n")
            stopping.join(30)
        assert Home(mail.home).running() is None


def test_a_second_server_on_the_same_home_says_so():
    with server(accounts=ACCOUNTS) as mail:
        done = pillarbox(mail.home, "serve")
        assert done.returncode == 75 and str(Home(mail.home).running()) in done.stderr
        assert len(done.stderr.strip().split("\n")) == 1


def test_a_port_that_is_taken_is_named():
    with server(accounts=ACCOUNTS) as mail, server(accounts=ACCOUNTS) as other:
        assert pillarbox(other.home, "stop").returncode == 0
        rewrite(other, 'pop3 = ["127.0.0.1:0"]', f'pop3 = ["127.0.0.1:{mail.pop3_port}"]')
        done = pillarbox(other.home, "serve")
        assert done.returncode != 0 and str(mail.pop3_port) in done.stderr


def test_a_new_account_and_a_new_secret_work_at_once():
    with server(accounts=ACCOUNTS) as mail:
        made = pillarbox(mail.home, "account", "add", "carol", "--secret-stdin", input="secret of carol, quite long\n")
        assert made.returncode == 0, made.stderr
        with Smtp(mail) as smtp, Pop(mail) as pop:
            smtp.ehlo()
            assert smtp.message(b"Subject: x\r\n\r\nx\r\n", "carol@" + mail.domain).startswith(b"250")
            assert pop.apop("carol", "secret of carol, quite long").startswith(b"+OK 1 ")
        assert (
            pillarbox(
                mail.home, "account", "secret", "carol", "--secret-stdin", input="another secret, as long as that\n"
            ).returncode
            == 0
        )
        with Pop(mail) as pop:
            assert pop.apop("carol", "secret of carol, quite long").startswith(b"-ERR [AUTH]")
            assert pop.apop("carol", "another secret, as long as that").startswith(b"+OK 1 ")
        assert pillarbox(mail.home, "account", "remove", "carol").returncode == 0
        with Smtp(mail) as smtp:
            smtp.ehlo()
            assert smtp.envelope("carol@" + mail.domain)[0].startswith(b"550 5.1.1")


def test_no_secret_and_no_digest_in_the_log():
    with server(accounts=ACCOUNTS) as mail:
        with Pop(mail) as pop:
            pop.apop("alice", "wrong secret of alice")
            pop.say(b"USER alice")
            pop.say(b"PASS typo of the secret")
            pop.apop("alice", ACCOUNTS["alice"])
            pop.say(b"QUIT")
        end = time.monotonic() + 10
        while "end=quit" not in mail.log():
            assert time.monotonic() < end
            time.sleep(0.02)
        log = mail.log()
    assert log.count("auth-fail rip=127.0.0.1 proto=pop3") == 2
    assert "typo" not in log and "secret" not in log
    import re

    assert not re.search(r"\b[0-9a-f]{32}\b", log)


@needs_root
@pytest.mark.root
def test_each_process_has_a_uid_of_its_own_and_no_way_back():
    with server(accounts=ACCOUNTS) as mail:
        processes = status(mail)["processes"]
        uids = {name: identity(pid) for name, pid in processes.items()}
    assert uids["network-0"][0] == {"61810"} and uids["delivery"][0] == {"61811"}
    for name in ("network-0", "delivery"):
        assert uids[name][1] == 0, "it kept capabilities"
        assert uids[name][2] == "1", "it may gain privileges by exec"


def identity(pid):
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":\t", 1) for line in file.read().split("\n") if ":\t" in line)
    return set(fields["Uid"].split()), int(fields["CapEff"], 16), fields["NoNewPrivs"]


def test_sigalrm_tries_the_queue_as_it_does_with_qmail_send():
    """And no signal that an old script may send ends the server without a word."""
    with server(accounts=ACCOUNTS) as mail:
        pid = status(mail)["pid"]
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            os.kill(pid, number)
        until(lambda: "flushed messages=0" in mail.log())
        assert status(mail)["pid"] == pid
        with Pop(mail) as pop:
            assert pop.greeting.startswith(b"+OK")


@needs_root
@pytest.mark.root
def test_a_system_users_mail_is_touched_as_that_user_alone(tmp_path):
    """The classic set-up: a user of /etc/passwd, ~/Maildir/.password, both ways of logging in, and delivery."""
    name = f"pbxs{os.getpid()}"
    with system_user(name) as user:
        maildir = f"{user.pw_dir}/Maildir"
        os.mkdir(maildir, 0o700)
        password = os.open(f"{maildir}/.password", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(password, b"raw password\n")
        os.close(password)
        for path in (maildir, f"{maildir}/.password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        with server(accounts=ACCOUNTS, config={"accounts": {"source": ["local", "passwd"]}}) as mail:
            with Smtp(mail) as smtp:
                smtp.ehlo()
                assert smtp.message(b"Subject: x\r\n\r\nx\r\n", f"{name}@{mail.domain}").startswith(b"250")
                assert smtp.envelope(f"root@{mail.domain}")[0].startswith(b"550 5.1.1")
            with Pop(mail) as pop:
                assert pop.apop(name, "raw password").startswith(b"+OK 1 ")
                assert pop.say(b"DELE 1").startswith(b"+OK")
                assert pop.say(b"QUIT").startswith(b"+OK")
            with Pop(mail) as pop:
                pop.say(b"USER " + name.encode())
                assert pop.say(b"PASS raw password").startswith(b"+OK 0 ")
            for folder in ("new", "cur", "tmp"):
                assert os.stat(f"{maildir}/{folder}").st_uid == user.pw_uid
            for mode in (0o640, 0o604):
                os.chmod(f"{maildir}/.password", mode)
                with Pop(mail) as pop:
                    assert pop.apop(name, "raw password").startswith(b"-ERR [AUTH]")
            os.truncate(f"{maildir}/.password", 0)
            os.chmod(f"{maildir}/.password", 0o600)
            with Pop(mail) as pop:
                assert pop.apop(name, "").startswith(b"-ERR [AUTH]")
            Path(f"{maildir}/.password").write_bytes(b"raw password\r\n")
            with Pop(mail) as pop:
                assert pop.apop(name, "raw password").startswith(b"-ERR [AUTH]")
            os.unlink(f"{maildir}/.password")
            with Pop(mail) as pop:
                assert pop.apop(name, "raw password").startswith(b"-ERR [AUTH]")
            refused = f'secret-refused user="{name}@{mail.domain}" why="{maildir}/.password '
            for why in ("ends its first line with CR LF", "is not there"):
                assert refused + why in mail.log()
