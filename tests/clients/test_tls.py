"""Real clients under TLS that check the certificate: the lines that worked."""

from __future__ import annotations

import os
import poplib
import re
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from ..peers.certificates import Authority
from .conftest import unavailable
from .drivers import CLIENT_SECONDS

SECRET = "violin case 55"
HOST = "localhost"
PERL = {name: value for name, value in os.environ.items() if name == "PERL5LIB"}  # where its TLS lies elsewhere
LETTER = b"From: alice@example.test\nTo: alice@example.test\nSubject: sealed\n\nnobody else reads this\n"

Fetch = Callable[["Desk", bool], str]
Send = Callable[["Desk", bool], None]


class Desk:
    """A server, and an empty folder for the client."""

    def __init__(self, mail: Server, place: Path, ca_file: Path) -> None:
        self.mail, self.place, self.ca_file = mail, place, ca_file

    def run(self, *command: str | int | Path, given: bytes = b"", statuses: tuple[int, ...] = (0,)) -> str:
        """What the program said."""
        if not shutil.which(str(command[0])):
            unavailable(f"{command[0]} is not installed")
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.place,
            env={**PERL, "HOME": str(self.place), "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            input=given,
            capture_output=True,
            timeout=CLIENT_SECONDS,
        )
        said = (done.stdout + done.stderr).decode("latin-1")
        if "Net::SSLeay" in said or "IO::Socket::SSL" in said:
            unavailable("libio-socket-ssl-perl and libnet-ssleay-perl are not installed")
        assert done.returncode in statuses, said
        return said

    def file(self, name: str, text: str) -> Path:
        path = self.place / name
        path.touch(0o600)
        path.write_text(text)
        return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[Server]:
    """No network is trusted: without TLS no password may be sent."""
    made = authority.issue(HOST)
    config = {
        "policy": {"trusted": []},
        "tls": {"certificate": str(made.certificate), "key": str(made.key)},
        "limits": {"connections_per_address": 200, "connections_per_network": 200},
    }
    with server(accounts={"alice": SECRET}, config=config) as mail:
        yield mail


@pytest.fixture
def desk(running: Server, authority: Authority, tmp_path: Path) -> Desk:
    return Desk(running, tmp_path, authority.ca_file)


# Fetching. Each with TLS from the first octet, and with STLS.


def by_poplib(desk: Desk, implicit: bool) -> str:
    context, mail = Authority.context_of(desk.ca_file), desk.mail
    pop3: poplib.POP3
    if implicit:
        pop3 = poplib.POP3_SSL(HOST, mail.pop3s_port, timeout=CLIENT_SECONDS, context=context)
    else:
        pop3 = poplib.POP3(HOST, mail.pop3_port, timeout=CLIENT_SECONDS)
        pop3.stls(context)
    pop3.user("alice")
    pop3.pass_(SECRET)
    text = b"\n".join(pop3.retr(1)[1])
    pop3.quit()
    return text.decode()


def by_curl(desk: Desk, implicit: bool) -> str:
    login = desk.file("curlrc", f'user = "alice:{SECRET}"\n')
    where = f"pop3s://{HOST}:{desk.mail.pop3s_port}/1" if implicit else f"pop3://{HOST}:{desk.mail.pop3_port}/1"
    return desk.run("curl", "-q", "-sS", "-4", "--ssl-reqd", "--cacert", desk.ca_file, "--config", login, where)


def by_fetchmail(desk: Desk, implicit: bool) -> str:
    mail = desk.mail
    tls = "ssl" if implicit else "sslproto 'TLS1.2+'"
    desk.file(
        "fetchmailrc",
        f"poll {HOST} service {mail.pop3s_port if implicit else mail.pop3_port} proto POP3 timeout 60\n"
        f'user "alice" password "{SECRET}" is postmaster here keep fetchlimit 1\n'
        f"{tls} sslcertck sslcertfile {desk.ca_file} mda 'cat > {desk.place}/mail'\n",
    )
    command = ["fetchmail", "--nodetach", "--nosyslog", "-f", "fetchmailrc", "-i", "ids", "--pidfile", "pid"]
    desk.run(*command, statuses=(0, 13))  # 13: the fetchlimit was reached
    return (desk.place / "mail").read_text()


def by_mpop(desk: Desk, implicit: bool) -> str:
    mail = desk.mail
    desk.file(
        "mpoprc",
        f"account it\nhost {HOST}\nport {mail.pop3s_port if implicit else mail.pop3_port}\n"
        f"user alice\npassword {SECRET}\nauth user\nkeep on\nuidls_file {desk.place}/uidls\n"
        f"tls on\ntls_starttls {'off' if implicit else 'on'}\ntls_trust_file {desk.ca_file}\n"
        f"delivery mbox {desk.place}/mbox\n",
    )
    desk.run("mpop", "-q", "-C", "mpoprc", "it")
    return (desk.place / "mbox").read_text()


def by_net_pop3(desk: Desk, implicit: bool) -> str:
    script = """
        use strict; use Net::POP3;
        my ($host, $port, $ca, $implicit, $secret) = map { chomp; $_ } <STDIN>;
        my $pop = Net::POP3->new($host, Port => $port, Timeout => 60, SSL => $implicit, SSL_ca_file => $ca)
            or die "connect: $@";
        $implicit or $pop->starttls(SSL_ca_file => $ca) or die "starttls: $@";
        $pop->login("alice", $secret) or die "login: " . $pop->message;
        print @{$pop->get(1)};
        $pop->quit or die;
    """
    port = desk.mail.pop3s_port if implicit else desk.mail.pop3_port
    given = f"{HOST}\n{port}\n{desk.ca_file}\n{int(implicit)}\n{SECRET}\n"
    return desk.run("perl", "-e", script, given=given.encode())


def by_getmail(desk: Desk, implicit: bool) -> str:
    assert implicit, "getmail knows no STLS"
    keeper = desk.file("keeper", f'#!/bin/sh\nexec cat >>"{desk.place}/mail"\n')
    keeper.chmod(0o700)
    desk.file(
        "getmailrc",
        f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = {HOST}\nport = {desk.mail.pop3s_port}\n"
        f"username = alice\npassword = {SECRET}\nca_certs = {desk.ca_file}\ntimeout = 10\n"
        f"[destination]\ntype = MDA_external\npath = {keeper}\nallow_root_commands = True\n"
        f"[options]\ndelete = False\nread_all = True\nverbose = 0\n",
    )
    desk.run("getmail", "--getmaildir", desk.place, "--rcfile", "getmailrc", statuses=(0, 1))
    return (desk.place / "mail").read_text()


def sessions(mail: Server) -> list[str]:
    return [line for line in mail.log().split("\n") if " session " in line]


FETCHING = [
    pytest.param(fetch, implicit, id=f"{fetch.__name__}-{'pop3s' if implicit else 'stls'}")
    for fetch in (by_poplib, by_curl, by_fetchmail, by_mpop, by_net_pop3, by_getmail)
    for implicit in (False, True)
    if implicit or fetch is not by_getmail
]


@pytest.mark.client
@pytest.mark.parametrize(("fetch", "implicit"), FETCHING)
def test_fetching(desk: Desk, fetch: Fetch, implicit: bool) -> None:
    desk.mail.deliver("alice", LETTER)
    before = len(sessions(desk.mail))
    assert "nobody else reads this" in fetch(desk, implicit)
    while not (ended := sessions(desk.mail)[before:]):
        time.sleep(0.01)
    session = ended[-1]
    assert "proto=pop3 tls=TLSv1." in session and re.search("mech=(USER|APOP|CRAM-MD5) ", session)


# Sending.


def with_smtplib(desk: Desk, implicit: bool) -> None:
    context, mail = Authority.context_of(desk.ca_file), desk.mail
    smtp: smtplib.SMTP
    if implicit:
        smtp = smtplib.SMTP_SSL(HOST, mail.submissions_port, "client.test", timeout=CLIENT_SECONDS, context=context)
    else:
        smtp = smtplib.SMTP(HOST, mail.submission_port, "client.test", timeout=CLIENT_SECONDS)
        smtp.starttls(context=context)
    smtp.login("alice", SECRET)
    smtp.sendmail("alice@example.test", "alice@example.test", LETTER.replace(b"\n", b"\r\n"))
    smtp.quit()


def with_curl(desk: Desk, implicit: bool) -> None:
    login = desk.file("curlrc", f'user = "alice:{SECRET}"\n')
    mail = desk.mail
    where = f"smtps://{HOST}:{mail.submissions_port}" if implicit else f"smtp://{HOST}:{mail.submission_port}"
    desk.run(
        *("curl", "-q", "-sS", "-4", "--ssl-reqd", "--cacert", desk.ca_file, "--config", login),
        *("--mail-from", "alice@example.test", "--mail-rcpt", "alice@example.test", "-T", "-", f"{where}/client.test"),
        given=LETTER.replace(b"\n", b"\r\n"),
    )


def with_msmtp(desk: Desk, implicit: bool) -> None:
    mail = desk.mail
    desk.file(
        "msmtprc",
        f"account it\nhost {HOST}\nport {mail.submissions_port if implicit else mail.submission_port}\n"
        f"auth plain\nuser alice\npassword {SECRET}\n"
        f"tls on\ntls_starttls {'off' if implicit else 'on'}\ntls_trust_file {desk.ca_file}\n",
    )
    desk.run("msmtp", "-C", "msmtprc", "-a", "it", "--from=alice@example.test", "alice@example.test", given=LETTER)


def with_swaks(desk: Desk, implicit: bool) -> None:
    mail = desk.mail
    (desk.place / "letter").write_bytes(LETTER)
    desk.run(
        *("swaks", "--server", f"{HOST}:{mail.submissions_port if implicit else mail.submission_port}"),
        *("--tlsc" if implicit else "--tls", "--tls-verify", "--tls-ca-path", desk.ca_file, "--auth", "PLAIN"),
        *("--auth-user", "alice", "--auth-password", SECRET, "--from", "alice@example.test"),
        *("--to", "alice@example.test", "--data", f"@{desk.place}/letter"),
    )


@pytest.mark.client
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "submissions"])
@pytest.mark.parametrize("send", [with_smtplib, with_curl, with_msmtp, with_swaks])
def test_sending(desk: Desk, send: Send, implicit: bool) -> None:
    before = set(desk.mail.messages("alice"))
    send(desk, implicit)
    (came,) = set(desk.mail.messages("alice")) - before
    assert b" with ESMTPSA id " in came and b"nobody else reads this\n" in came


@pytest.mark.client
def test_mail_from_another_host(desk: Desk) -> None:
    before = set(desk.mail.messages("alice"))
    with smtplib.SMTP(HOST, desk.mail.smtp_port, "client.test", timeout=CLIENT_SECONDS) as smtp:
        smtp.starttls(context=Authority.context_of(desk.ca_file))
        smtp.sendmail("bob@elsewhere.test", "alice@example.test", LETTER.replace(b"\n", b"\r\n"))
    (came,) = set(desk.mail.messages("alice")) - before
    assert b" with ESMTPS id " in came


def test_without_tls_no_password_may_be_sent(running: Server) -> None:
    pop3 = poplib.POP3(HOST, running.pop3_port, timeout=CLIENT_SECONDS)
    assert {"STLS"} == {"STLS", "USER"} & pop3.capa().keys()
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\] a password would be readable on its way here: use STLS"):
        pop3.user("alice")
    pop3.close()
    with smtplib.SMTP(HOST, running.submission_port, "client.test", timeout=CLIENT_SECONDS) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("starttls") and not smtp.has_extn("auth")


# What openssl finds.


def openssl(desk: Desk, *options: str, given: bytes = b"", port: int = 0) -> str:
    where = f"{HOST}:{port or desk.mail.pop3_port}"
    starttls = () if port else ("-starttls", "pop3")
    command = ("openssl", "s_client", "-4", "-connect", where, *starttls, "-CAfile", str(desk.ca_file), *options)
    return desk.run(*command, given=given, statuses=(0, 1))


@pytest.mark.client
@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl(desk: Desk, version: str) -> None:
    said = openssl(desk, f"-{version}", "-alpn", "pop3", "-servername", HOST, "-crlf", given=b"QUIT\n")
    assert "Verify return code: 0 (ok)" in said and "ALPN protocol: pop3" in said
    assert re.search(r"New, TLSv1\.[23], Cipher is (TLS_AES|ECDHE-ECDSA-(AES|CHACHA))", said)
    assert "Compression: NONE" in said or version == "tls1_3"


@pytest.mark.client
@pytest.mark.parametrize("options", [("-tls1",), ("-tls1_1",), ("-tls1_2", "-cipher", "AES128-SHA256")])
def test_openssl_gets_nothing_weak(desk: Desk, options: tuple[str, ...]) -> None:
    said = openssl(desk, *options, given=b"CAPA\n", port=desk.mail.pop3s_port)
    assert "Cipher is (NONE)" in said and "+OK" not in said


@pytest.mark.client
def test_renegotiation_is_refused(desk: Desk) -> None:
    where = f"{HOST}:{desk.mail.pop3s_port}"
    command = ["openssl", "s_client", "-4", "-tls1_2", "-connect", where, "-CAfile", str(desk.ca_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None and client.stdout is not None
        while not client.stdout.readline().startswith(b"+OK"):
            pass
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said = client.stdout.read().decode()
    assert "RENEGOTIATING" in said and "no renegotiation" in said


def test_a_login_that_is_pipelined_behind_stls_is_refused(running: Server) -> None:
    with socket.create_connection((HOST, running.pop3_port), CLIENT_SECONDS) as sock:
        stream = sock.makefile("rb")
        assert stream.readline().startswith(b"+OK")
        sock.sendall(b"STLS\r\nUSER alice\r\nPASS " + SECRET.encode() + b"\r\nSTAT\r\n")
        assert stream.read() == b"-ERR octets behind STLS came in the clear, goodbye\r\n"
