"""AUTH by real clients: each mechanism that they know, and SCRAM bound to certificates of two kinds."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import scramp
from cryptography.hazmat.primitives import hashes

from pillarbox.testing import Server, server

from ..peers.certificates import Authority
from .conftest import unavailable
from .drivers import CLIENT_SECONDS
from .test_tls import HOST, LETTER, PERL, SECRET, Desk, openssl

OTHER = "other.example.test"  # whose certificate is signed with SHA-384
DIGESTS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5")
PASSWORDS = ("PLAIN", "LOGIN")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[Server]:
    """No network is trusted: without TLS no password may be sent."""
    pairs = [authority.issue(HOST), authority.issue(OTHER, signed_with=hashes.SHA384())]
    config = {
        "policy": {"trusted": []},
        "tls": {"certificate": [str(p.certificate) for p in pairs], "key": [str(p.key) for p in pairs]},
        "limits": {"connections_per_address": 200, "connections_per_network": 200},
    }
    with server(accounts={"alice": SECRET}, config=config) as mail:
        mail.deliver("alice", LETTER)
        yield mail


@pytest.fixture
def desk(running: Server, authority: Authority, tmp_path: Path) -> Desk:
    return Desk(running, tmp_path, authority.ca_file)


def wait_for_log(mail: Server, *words: str, before: int) -> None:
    """Until a session has ended of which the log says all this."""
    until = time.monotonic() + CLIENT_SECONDS
    while not any(all(word in line for word in words) for line in mail.log()[before:].split("\n")):
        assert time.monotonic() < until, mail.log()[before:]
        time.sleep(0.01)


@pytest.mark.client
@pytest.mark.parametrize("tls", [True, False], ids=["stls", "clear"])
@pytest.mark.parametrize("mechanism", [*DIGESTS, *PASSWORDS])
def test_mpop(desk: Desk, mechanism: str, tls: bool) -> None:
    desk.file(
        "mpoprc",
        f"account it\nhost {HOST}\nport {desk.mail.pop3_port}\nuser alice\npassword {SECRET}\n"
        f"auth {mechanism.lower()}\nkeep on\nuidls_file {desk.place}/uidls\ndelivery mbox {desk.place}/mbox\n"
        + (f"tls on\ntls_starttls on\ntls_trust_file {desk.ca_file}\n" if tls else "tls off\n"),
    )
    before = len(desk.mail.log())
    if mechanism in PASSWORDS and not tls:
        said = desk.run("mpop", "-q", "-C", "mpoprc", "it", statuses=(69,))  # EX_UNAVAILABLE: it is not offered
        assert mechanism in said.upper()
        return
    desk.run("mpop", "-q", "-C", "mpoprc", "it")
    assert "nobody else reads this" in (desk.place / "mbox").read_text()
    wait_for_log(desk.mail, "proto=pop3", f"mech={mechanism} ", "end=quit", before=before)


@pytest.mark.client
@pytest.mark.parametrize("tls", [True, False], ids=["stls", "clear"])
@pytest.mark.parametrize("mechanism", ["CRAM-MD5", *PASSWORDS])  # Debian's has no GNU SASL, and so no SCRAM
def test_curl(desk: Desk, mechanism: str, tls: bool) -> None:
    login = desk.file("curlrc", f'user = "alice:{SECRET}"\nlogin-options = "AUTH={mechanism}"\n')
    under_tls = ("--ssl-reqd", "--cacert", desk.ca_file) if tls else ()
    where = f"pop3://{HOST}:{desk.mail.pop3_port}/1"
    denied = mechanism in PASSWORDS and not tls
    said = desk.run("curl", "-q", "-sS", "-4", *under_tls, "--config", login, where, statuses=(67,) if denied else (0,))
    assert ("Login denied" if denied else "nobody else reads this") in said


@pytest.mark.client
@pytest.mark.parametrize("mechanism", [*DIGESTS, *PASSWORDS])
def test_msmtp(desk: Desk, mechanism: str) -> None:
    desk.file(
        "msmtprc",
        f"account it\nhost {HOST}\nport {desk.mail.submission_port}\nauth {mechanism.lower()}\nuser alice\n"
        f"password {SECRET}\ntls on\ntls_starttls on\ntls_trust_file {desk.ca_file}\n",
    )
    before = len(desk.mail.log())
    desk.run("msmtp", "-C", "msmtprc", "-a", "it", "--from=alice@example.test", "alice@example.test", given=LETTER)
    wait_for_log(desk.mail, "proto=submission", f"mech={mechanism} ", "messages=1", before=before)


@pytest.mark.client
def test_a_wrong_secret_is_told(desk: Desk) -> None:
    desk.file(
        "mpoprc",
        f"account it\nhost {HOST}\nport {desk.mail.pop3_port}\nuser alice\npassword {SECRET}x\nauth scram-sha-256\n"
        f"tls off\nkeep on\nuidls_file {desk.place}/uidls\ndelivery mbox {desk.place}/mbox\n",
    )
    before = len(desk.mail.log())
    assert "authentication failed" in desk.run("mpop", "-q", "-C", "mpoprc", "it", statuses=(77,))
    wait_for_log(desk.mail, "auth-fail", "mech=SCRAM-SHA-256", "reason=badcred", before=before)


@pytest.mark.client
def test_net_pop3(desk: Desk) -> None:
    """By Authen::SASL, which takes of CAPA's list what it knows."""
    if subprocess.run(["perl", "-MAuthen::SASL", "-e", ""], capture_output=True, env={**os.environ, **PERL}).returncode:
        unavailable("libauthen-sasl-perl is not installed")
    script = """
        use strict; use Net::POP3;
        my ($host, $port, $secret) = map { chomp; $_ } <STDIN>;
        my $pop = Net::POP3->new($host, Port => $port, Timeout => 60) or die "connect: $@";
        $pop->auth("alice", $secret) or die "login: " . $pop->message;
        print @{$pop->get(1)};
        $pop->quit or die;
    """
    said = desk.run("perl", "-e", script, given=f"{HOST}\n{desk.mail.pop3_port}\n{SECRET}\n".encode())
    assert "nobody else reads this" in said


# Bound to the certificate: no client of Debian's knows tls-server-end-point, so scramp speaks over Python's ssl.


class Spoken:
    """A connection under TLS, the greeting read."""

    def __init__(self, port: int, ca_file: Path, name: str) -> None:
        context = Authority.context_of(ca_file)
        context.check_hostname = False
        sock = socket.create_connection((HOST, port), CLIENT_SECONDS)
        self.sock = context.wrap_socket(sock, server_hostname=name)
        self._input = self.sock.makefile("rb")
        self.hear()

    def hear(self) -> bytes:
        return self._input.readline().rstrip(b"\r\n")

    def ask(self, line: bytes) -> bytes:
        self.sock.sendall(line + b"\r\n")
        return self.hear()

    def close(self) -> None:
        self._input.close()
        self.sock.close()


def bound_login(spoken: Spoken, sign: bytes, binding: bytes) -> bytes:
    """The last reply; the client has checked the server's signature, where it came."""
    client = scramp.ScramClient(
        ["SCRAM-SHA-256-PLUS"], "alice", SECRET, channel_binding=("tls-server-end-point", binding)
    )
    reply = spoken.ask(b"AUTH SCRAM-SHA-256-PLUS " + b64encode(client.get_client_first().encode()))
    client.set_server_first(b64decode(reply.removeprefix(sign)).decode())
    reply = spoken.ask(b64encode(client.get_client_final().encode()))
    if reply.startswith(sign):
        client.set_server_final(b64decode(reply.removeprefix(sign)).decode())
        reply = spoken.ask(b"")
    return reply


@pytest.mark.parametrize(("name", "hash"), [(HOST, "sha256"), (OTHER, "sha384"), ("unknown.test", "sha256")])
@pytest.mark.parametrize("protocol", ["pop3s", "submissions"])
def test_a_login_is_bound_to_the_certificate_that_was_presented(
    desk: Desk, name: str, hash: str, protocol: str
) -> None:
    port = desk.mail.pop3s_port if protocol == "pop3s" else desk.mail.submissions_port
    sign = b"+ " if protocol == "pop3s" else b"334 "
    for good in (False, True):
        spoken = Spoken(port, desk.ca_file, name)
        if protocol == "submissions":
            spoken.ask(b"EHLO client.test")
            while spoken.hear().startswith(b"250-"):
                pass
        certificate = spoken.sock.getpeercert(binary_form=True)
        assert isinstance(spoken.sock, ssl.SSLSocket) and certificate
        binding = hashlib.new(hash, certificate).digest() if good else hashlib.sha256(b"another").digest()
        reply = bound_login(spoken, sign, binding)
        assert reply.startswith((b"+OK", b"235") if good else (b"-ERR [AUTH]", b"535"))
        spoken.close()


def test_plus_is_offered_under_tls_alone(desk: Desk) -> None:
    with socket.create_connection((HOST, desk.mail.pop3_port), CLIENT_SECONDS) as sock, sock.makefile("rb") as stream:
        stream.readline()
        sock.sendall(b"CAPA\r\nQUIT\r\n")
        shown = stream.read()
    assert b"\r\nSASL SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5\r\n" in shown
    said = openssl(desk, "-crlf", given=b"CAPA\nQUIT\n", port=desk.mail.pop3s_port)
    assert "Verify return code: 0 (ok)" in said
