"""A server under TLS: certificates change under its sessions, wrong ones change nothing, and processes die."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys

import pytest

from pillarbox.config import Config, keys
from pillarbox.testing import server

from ..peers.certificates import Authority
from .conversations import Pop, Smtp, Wire
from .test_deaths import kill, processes, until

ACCOUNTS = {"alice": "secret of alice"}
FAR = "127.0.0.9"  # not in policy.trusted of these tests
NOWHERE = "".join(f"{name} = []\n" for name, _ in keys(Config().listen) if name != "pop3")


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


class Files:
    """Where the server finds its certificate, and whichever is put there."""

    def __init__(self, folder):
        self.certificate, self.key = folder / "fullchain.pem", folder / "privkey.pem"

    def put(self, made):
        for old, new in ((made.certificate, self.certificate), (made.key, self.key)):
            shutil.copy(old, f"{new}.new")
            os.chmod(f"{new}.new", 0o600)
            os.rename(f"{new}.new", new)
        return self


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def configured(*pairs, **tables):
    tls = {"certificate": [str(one.certificate) for one in pairs], "key": [str(one.key) for one in pairs]}
    return server(
        accounts=ACCOUNTS,
        config={"tls": tls, "policy": {"trusted": ["127.0.0.1/32"]}, "processes": {"network": 2}, **tables},
    )


def unchecked():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def presented(mail, name=None):
    """The certificate that a client gets now, as DER."""
    with (
        socket.create_connection((mail.host, mail.pop3s_port), 20) as sock,
        unchecked().wrap_socket(sock, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True)


def der(made):
    return ssl.PEM_cert_to_DER_cert(made.certificate.read_text())


class Tls(Wire):
    """A connection with TLS from its first octet."""

    def __init__(self, mail, port, source=None):
        raw = socket.create_connection((mail.host, port), 20, (source, 0) if source else None)
        self.socket = unchecked().wrap_socket(raw)
        self._data = b""
        self.greeting = self.line()


def stls(mail, source=None):
    pop = Pop(mail, source)
    assert pop.say(b"STLS") == b"+OK begin TLS"
    pop.socket = unchecked().wrap_socket(pop.socket)
    return pop


def log_in(pop):
    assert pop.say(b"USER alice").startswith(b"+OK")
    assert pop.say(b"PASS secret of alice").startswith(b"+OK")


# Logins.


def test_under_tls_a_password_is_taken_from_everywhere(authority, files):
    with configured(files.put(authority.issue("mail.example.test"))) as mail:
        with Pop(mail, FAR) as clear:
            assert clear.say(b"USER alice").startswith(b"-ERR [AUTH]")
        for connect in (lambda: stls(mail, FAR), lambda: Tls(mail, mail.pop3s_port, FAR)):
            with connect() as pop:
                log_in(pop)
                pop.say(b"QUIT")
        with Tls(mail, mail.submissions_port, FAR) as smtp:
            smtp.send(b"EHLO client.test\r\n")
            shown = [smtp.line() for _ in range(9)]
            assert b"250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN" in shown and not [
                line for line in shown if b"STARTTLS" in line
            ]
            assert smtp.say(b"AUTH PLAIN AGFsaWNlAHNlY3JldCBvZiBhbGljZQ==").startswith(b"235")
        until(lambda: mail.log().count(" session ") == 4)
        log = mail.log()
        assert len(re.findall(r"session rip=127\.0\.0\.9 .* tls=TLSv1\.3 cipher=TLS_AES_", log)) == 3
        assert "secret of alice" not in log and "PRIVATE KEY" not in log


def test_a_password_under_tls_from_afar_mints_a_grant(authority, files):
    """Nothing was exposed, so nothing speaks against it."""
    with configured(files.put(authority.issue("mail.example.test"))) as mail:
        with stls(mail, FAR) as pop:
            log_in(pop)
        with Smtp(mail, FAR) as smtp:
            smtp.ehlo()
            assert smtp.say(b"MAIL FROM:<alice@example.test>").startswith(b"250")
            assert smtp.say(b"RCPT TO:<x@elsewhere.test>").startswith(b"250")


# Certificates.


def test_the_one_of_its_own_making_lasts(open_folder):
    with server(accounts=ACCOUNTS) as mail:
        first = mail.certificate.read_text()
        assert presented(mail) == ssl.PEM_cert_to_DER_cert(first)
        context = ssl.create_default_context(cafile=str(mail.certificate))
        with (
            socket.create_connection((mail.host, mail.pop3s_port), 20) as sock,
            context.wrap_socket(sock, server_hostname="mail.example.test") as tls,
        ):
            assert tls.recv(3) == b"+OK"
        assert (mail.home / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
        assert "certificate-made" in mail.log()


def test_a_renewed_certificate_is_served_and_no_session_is_dropped(authority, files):
    first, second = authority.issue("mail.example.test"), authority.issue("mail.example.test")
    with configured(files.put(first)) as mail, Tls(mail, mail.pop3s_port) as old, Pop(mail) as waiting:
        log_in(old)
        assert presented(mail) == der(first)
        files.put(second)
        until(lambda: presented(mail) == der(second))
        assert old.say(b"NOOP").startswith(b"+OK")
        assert waiting.say(b"STLS") == b"+OK begin TLS"
        tls = unchecked().wrap_socket(waiting.socket)
        assert tls.getpeercert(binary_form=True) == der(second)
        until(lambda: all(presented(mail) == der(second) for _ in range(8)))  # of each network process


def test_a_wrong_certificate_changes_nothing(authority, files):
    first = authority.issue("mail.example.test")
    with configured(files.put(first)) as mail:
        files.put(authority.issue("mail.example.test", expired=True))
        until(lambda: "certificate-refused" in mail.log())
        assert presented(mail) == der(first)
        kill(mail, "network-0")
        kill(mail, "network-1")
        until(lambda: processes(mail).keys() >= {"network-0", "network-1"})
        assert presented(mail) == der(first)


def test_a_reload_with_other_certificates(authority, files, tmp_path):
    first, other = authority.issue("mail.example.test"), authority.issue("pop.elsewhere.test")
    with configured(files.put(first)) as mail, Tls(mail, mail.pop3s_port) as old:
        toml = mail.home / "pillarbox.toml"
        text = toml.read_text()
        both = text.replace(f'"{files.certificate}"', f'"{files.certificate}", "{other.certificate}"')
        toml.write_text(both.replace(f'"{files.key}"', f'"{files.key}", "{other.key}"'))
        assert pillarbox("reload", mail.home).returncode == 0
        until(lambda: presented(mail, "pop.elsewhere.test") == der(other))
        assert presented(mail) == presented(mail, "mail.example.test") == der(first)
        assert old.say(b"NOOP").startswith(b"-ERR")  # it is there, and has not logged in
        toml.write_text(text.replace(f'"{files.key}"', f'"{other.key}"'))
        refused = pillarbox("reload", mail.home)
        assert refused.returncode == 1
        assert f"{toml}: `tls.key`: {other.key} is not the key of the certificate in" in refused.stderr
        assert presented(mail, "pop.elsewhere.test") == der(other)


def pillarbox(*command):
    *words, home = command
    line = [sys.executable, "-m", "pillarbox", *words, "--home", str(home)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("wrong", ["expired", "key", "missing"])
def test_with_a_wrong_certificate_the_server_does_not_start(authority, place, wrong):
    made, other = authority.issue("mail.example.test", expired=wrong == "expired"), authority.issue("other.test")
    key = {"expired": made.key, "key": other.key, "missing": place / "none.pem"}[wrong]
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text(
        f'[listen]\npop3 = ["127.0.0.1:0"]\n{NOWHERE}[tls]\ncertificate = "{made.certificate}"\nkey = "{key}"\n'
    )
    for command in ("serve", "config check"):
        done = pillarbox(*command.split(), place)
        assert done.returncode == 1
        name = "certificate" if wrong == "expired" else "key"
        assert (
            f"{place}/pillarbox.toml: `tls.{name}`: {made.certificate if wrong == 'expired' else key} " in done.stderr
        )


# Deaths.


def test_a_new_broker_and_new_network_processes_serve_the_same_certificate(authority, files):
    made = authority.issue("mail.example.test")
    with configured(files.put(made)) as mail:
        for name in ("broker", "network-0", "network-1"):
            kill(mail, name)
        until(lambda: serves(mail))
        assert all(presented(mail) == der(made) for _ in range(4))


def test_a_broken_certificate_and_a_dead_broker_take_no_mail_service_down(authority, files):
    made = authority.issue("mail.example.test")
    with configured(files.put(made)) as mail:
        files.certificate.write_text("nothing")
        kill(mail, "broker")
        until(lambda: serves(mail))
        assert presented(mail) == der(made)  # the network processes have it still
        files.put(made)
        kill(mail, "network-0")
        kill(mail, "network-1")
        until(lambda: serves(mail))


def serves(mail):
    """Under TLS, at this moment."""
    with contextlib.suppress(OSError), Pop(mail) as pop:
        if pop.say(b"STLS") != b"+OK begin TLS":
            return False
        pop.socket = unchecked().wrap_socket(pop.socket)
        return pop.say(b"USER alice").startswith(b"+OK") and pop.say(b"PASS secret of alice").startswith(b"+OK")
    return False


# What no stranger can take.


def test_a_handshake_that_stands_still_does_not_keep_the_server_from_ending(authority, files):
    files.put(authority.issue("mail.example.test"))
    with (
        configured(files, processes={"network": 1, "grace": 60.0}) as mail,
        Pop(mail) as half,
        socket.create_connection((mail.host, mail.pop3s_port), 20) as silent,
    ):
        assert half.say(b"STLS") == b"+OK begin TLS"
        half.send(b"\x16\x03\x01\x02\x00")
        assert pillarbox("stop", mail.home).returncode == 0
        assert half.rest() == b"" and silent.recv(1) == b""


def test_connections_under_tls_are_counted_like_others(authority, files):
    limits = {"connections_per_address": 3}
    with configured(files.put(authority.issue("mail.example.test")), limits=limits) as mail:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(Tls(mail, mail.pop3s_port, FAR))
            with socket.create_connection((mail.host, mail.pop3s_port), 20, (FAR, 0)) as fourth:
                assert fourth.recv(100) == b""
            with Pop(mail, FAR) as clear:
                assert clear.greeting.startswith(b"-ERR [SYS/TEMP] too many connections from your address")
        until(lambda: comes_in(mail))


def comes_in(mail):
    with contextlib.suppress(OSError), Tls(mail, mail.pop3s_port, FAR) as pop:
        return pop.greeting.startswith(b"+OK")
    return False


@pytest.mark.root  # the kernel shows a process that has hardened itself to root alone
def test_an_idle_connection_under_tls_costs_little_memory(authority, files):
    """At most 60 KiB; measured are 18."""
    count = 200
    with configured(files.put(authority.issue("mail.example.test")), processes={"network": 1}) as mail:
        pid = processes(mail)["network-0"]
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(Tls(mail, mail.pop3s_port))
            before = own_memory(pid)
            for _ in range(count):
                stack.enter_context(Tls(mail, mail.pop3s_port))
            assert own_memory(pid) - before < 60 * count


def own_memory(pid):
    """KiB that this process shares with nobody."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return int(re.search(r"Private_Dirty: +(\d+)", file.read())[1])


@pytest.mark.root  # the kernel shows a process that has hardened itself to root alone
def test_the_network_processes_hold_no_file(authority, files):
    with configured(files.put(authority.issue("mail.example.test"))) as mail:
        for number in range(2):
            folder = f"/proc/{processes(mail)[f'network-{number}']}/fd"
            open_files = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
            assert not [path for path in open_files if "memfd" in path or str(files.key.parent) in path]


# What moves.


def test_a_large_message_goes_in_and_comes_out(authority, files):
    """Whole, also to a client that reads a little, waits, and reads on."""
    body = b"".join(b"%07d %b\r\n" % (number, b".x" * 30) for number in range(100_000))
    with configured(files.put(authority.issue("mail.example.test"))) as mail:
        with Tls(mail, mail.submissions_port) as smtp:
            smtp.send(b"EHLO client.test\r\n")
            while smtp.line()[3:4] == b"-":
                pass
            assert smtp.say(b"AUTH PLAIN AGFsaWNlAHNlY3JldCBvZiBhbGljZQ==").startswith(b"235")
            assert smtp.say(b"MAIL FROM:<alice@example.test>").startswith(b"250")
            assert smtp.say(b"RCPT TO:<alice@example.test>").startswith(b"250")
            assert smtp.say(b"DATA").startswith(b"354")
            smtp.send(b"Subject: large\r\n\r\n" + body + b".\r\n")
            assert smtp.line().startswith(b"250")
        with Tls(mail, mail.pop3s_port) as pop:
            log_in(pop)
            octets = int(pop.say(b"LIST 1").split(b" ")[2])
            assert pop.say(b"RETR 1") == b"+OK %d octets" % octets
            came = pop._data
            while len(came) < octets + 3:
                came += pop.socket.recv(5000)
            assert came.endswith(b"\r\n\r\n" + body + b".\r\n") and len(came) == octets + 3
            pop._data = b""
            assert pop.say(b"QUIT").startswith(b"+OK")


def test_many_at_once(authority, files):
    """Logins of 30 clients in step: each handshake is a stranger's, and none waits for another."""
    files.put(authority.issue("mail.example.test"))
    with configured(files, pop3={"sessions": "shared"}) as mail, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(stls(mail)) for _ in range(30)]
        for client in clients:
            client.send(b"USER alice\r\nPASS secret of alice\r\nSTAT\r\n")
        for client in clients:
            assert [client.line()[:3] for _ in range(3)] == [b"+OK"] * 3
