"""What to set in a mail client for one device: under TLS, and by APOP for one that knows none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..config import parse_listen

UNDER_TLS = """\
  Thunderbird, and clients like it
               a POP account: server {host}, port {pop3s}, connection security SSL/TLS,
               authentication "normal password", user name {login}
"""
SENDING = """\
               to send: server {host}, port {submissions}, SSL/TLS, "normal password", the same user name
"""
PASTED = """\
  curl         curl -u {login} pop3s://{host}:{pop3s}/1
  fetchmail    in ~/.fetchmailrc (chmod 600):
                 poll {host} service {pop3s} protocol POP3
                   user "{login}" ssl keep mda "cat >> ~/fetched.txt"
  mpop         in ~/.mpoprc (chmod 600):
                 account default
                 host {host}
                 port {pop3s}
                 user {login}
                 tls on
                 tls_starttls off
                 keep on
                 delivery mbox ~/mbox
"""
MSMTP = """\
  msmtp        to send, in ~/.msmtprc (chmod 600):
                 account default
                 host {host}
                 port {submissions}
                 auth on
                 user {login}
                 from {account}
                 tls on
                 tls_starttls off
"""
OWN_CERTIFICATE = """\
  The server made its certificate itself, so each client must be shown it first: the file {certificate}
  (curl --cacert, fetchmail sslcertfile, and the server's name in place of an address), or its fingerprint,
  which `pillarbox tls show` says (Thunderbird asks; in .mpoprc and the like it is tls_fingerprint).
"""
ANY = {"0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Doors:
    """Where clients find a server."""

    hostname: str
    listen: Mapping[str, Sequence[str]]  # addresses by protocol, as status and configuration have them
    own_certificate: str = ""  # its file, where nobody has signed it but the server itself

    def of(self, protocol: str) -> tuple[str, int]:
        """Host and port; port 0 where nothing listens."""
        if not self.listen.get(protocol):
            return "", 0
        host, port = parse_listen(self.listen[protocol][0])
        return (self.hostname if host in ANY else host), port


def under_tls(doors: Doors, account: str, login: str, *, sends: bool) -> list[str]:
    """Lines for clients that speak TLS from the first octet; none where nothing listens for these."""
    host, pop3s = doors.of("pop3s")
    submissions = doors.of("submissions")[1] if sends else 0
    if not pop3s:
        return []
    text = UNDER_TLS + SENDING * bool(submissions) + PASTED + MSMTP * bool(submissions)
    text += OWN_CERTIFICATE * bool(certificate := doors.own_certificate)
    found = text.format(
        host=host, pop3s=pop3s, submissions=submissions, account=account, login=login, certificate=certificate
    )
    return found.split("\n")[:-1]


def by_apop(doors: Doors, login: str) -> list[str]:
    """Lines for clients that know APOP and no TLS; none where nothing listens for these."""
    host, pop3 = doors.of("pop3")
    if not pop3:
        return []
    return [
        f"  server {host}, port {pop3}, no TLS, user name {login},",
        '  authentication APOP (in Thunderbird "encrypted password"); over STLS APOP works too',
        f"  curl         curl --login-options AUTH=+APOP -u {login} pop3://{host}:{pop3}/1",
    ]
