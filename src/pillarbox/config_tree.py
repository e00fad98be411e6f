"""What can be configured, and the defaults; docs/config.md says what each key means."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    """Each a list of "address:port"; "[::]:110" for IPv6; port 0 picks a free one."""

    pop3: list[str] = field(default_factory=lambda: ["127.0.0.1:1110"])
    smtp: list[str] = field(default_factory=lambda: ["127.0.0.1:1025"])
    submission: list[str] = field(default_factory=lambda: ["127.0.0.1:1587"])
    pop3s: list[str] = field(default_factory=lambda: ["127.0.0.1:1995"])  # TLS from the first octet (RFC 8314)
    submissions: list[str] = field(default_factory=lambda: ["127.0.0.1:1465"])


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str | list[str] = ""  # PEM files, each with its key; empty: one of our own making
    key: str | list[str] = ""


class Accounts(Struct, frozen=True, forbid_unknown_fields=True):
    source: list[Literal["local", "passwd"]] = field(default_factory=lambda: ["local"])
    quota: int = 0  # octets of mail per account; 0: no quota
    password_file: str = "Maildir/.password"  # of a system user, below the home folder
    extensions: list[str] = field(default_factory=lambda: ["-", "+"])  # alice-lists@ is alice's (qmail)
    dot_qmail: bool = False  # system users' .qmail files say where their mail goes
    alias_user: str = "alias"  # whose .qmail-NAME files rule names that are no user's; with dot_qmail alone
    virtual_domains: dict[str, str] = field(default_factory=dict)  # domain -> PREFIX: x@domain is PREFIX-x (qmail)


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    profile: Literal["balanced", "strict", "classic"] = (
        "balanced"  # which ways to log in are offered: policy.mechanisms
    )
    plaintext: Literal["profile", "refuse", "trusted", "allow"] = "profile"  # where a password may go without TLS
    trusted: list[str] = field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    ratchet_days: int = 0  # of logins under TLS alone; after them nothing else is taken for that account; 0: off
    rules_smtp: str = ""  # a file that tcprules made: who may connect, and who may relay
    rules_pop3: str = ""


class Pop3(Struct, frozen=True, forbid_unknown_fields=True):
    sessions: Literal["exclusive", "shared"] = "exclusive"
    wait: float = 20.0  # seconds that a second login waits for the first session to end


class Smtp(Struct, frozen=True, forbid_unknown_fields=True):
    bare_newline: Literal["refuse", "normalise"] = "refuse"
    refused_senders: list[str] = field(default_factory=list)  # user@domain or @domain (qmail's badmailfrom)


class Relay(Struct, frozen=True, forbid_unknown_fields=True):
    """POP before SMTP."""

    style: Literal["bound", "classic"] = "bound"  # to account and sender; classic: as relay-ctrl, to the address alone
    directory: str = ""  # of grants; empty: HOME/grants
    expiry: int = 900  # seconds a grant lasts (relay-ctrl's default)
    messages: int = 20  # that a login allows
    recipients: int = 100
    shared: list[str] = field(default_factory=lambda: ["100.64.0.0/10"])  # many strangers behind one address (RFC 6598)
    unshared: list[str] = field(default_factory=list)  # several accounts behind one address are one household


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    smtpd_users: list[str | int] = field(default_factory=list)  # may say what qmail-smtpd found, through qmail-queue


class Submission(Struct, frozen=True, forbid_unknown_fields=True):
    hide_client: bool = True  # its address and name stay out of the Received field


class Delivery(Struct, frozen=True, forbid_unknown_fields=True):
    lifetime: float = 7 * 86400.0  # seconds that a message is tried for; qmail's queuelifetime
    warn_after: float = 4 * 3600.0  # seconds until the sender is told of the delay; 0: never
    longest_wait: float = 4 * 3600.0  # seconds between two tries of a message
    connections: int = 500  # to other hosts, in all
    connections_per_destination: int = 10
    port: int = 25
    ipv6: bool = True
    routes: dict[str, str] = field(default_factory=dict)  # domain, .parent or "" -> host:port (qmail's smtproutes)
    smarthost: str = ""  # host:port for all other mail
    smarthost_user: str = ""
    smarthost_secret_file: str = ""
    smarthost_tls: Literal["require", "offer"] = "require"
    tls_required: list[str] = field(default_factory=list)  # domains; "*": all
    ca_file: str = ""  # certificates to trust where TLS is required; empty: the system's
    resolvers: list[str] = field(default_factory=list)  # address:port; empty: /etc/resolv.conf


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    message_octets: int = 50 << 20
    connections: int = 10_000
    connections_per_address: int = 20
    connections_per_network: int = 40  # an IPv6 /48, an IPv4 /24
    recipients: int = 100
    login_seconds: float = 600.0  # RFC 1939 section 3 asks for ten minutes
    login_seconds_busy: float = 180.0  # when four fifths of the connections are taken
    command_seconds_busy: float = 60.0
    pop3_idle_seconds: float = 600.0
    smtp_command_seconds: float = 300.0
    pop3_stall_seconds: float = 60.0  # a body without progress
    smtp_stall_seconds: float = 180.0
    minimum_rate: int = 100  # octets a second over five minutes
    retries_before_login: int = 3  # bad commands
    retries_after_login: int = 20


class Throttle(Struct, frozen=True, forbid_unknown_fields=True):
    """Of failed logins."""

    longest_delay: float = 15.0  # seconds that an address waits between two attempts; 0: never
    network_guesses: int = 30  # failures a minute
    account_guesses: int = 20  # from networks where the account has not logged in lately


class Processes(Struct, frozen=True, forbid_unknown_fields=True):
    network: int = 0  # 0: one per core
    workers: int = 0  # 0: one for two cores, which is what keeps up with a network process per core
    grace: float = 10.0  # seconds that sessions may take to end at a stop


class Users(Struct, frozen=True, forbid_unknown_fields=True):
    """Names or numbers; used only when started as root. The numbers need no entry in /etc/passwd."""

    network: str | int = 61810
    queue: str | int = 61811
    mail: str | int = 61812


class Ledger(Struct, frozen=True, forbid_unknown_fields=True):
    files: int = 64  # of 8 MiB that are kept: some two million attempts


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    to: Literal["stderr", "syslog"] = "stderr"
    format: Literal["logfmt", "json"] = "logfmt"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    hostname: str = "localhost.localdomain"
    domains: list[str] = field(default_factory=lambda: ["localhost.localdomain"])
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    accounts: Accounts = field(default_factory=Accounts)
    aliases: dict[str, str | list[str]] = field(default_factory=dict)  # name, address or @domain -> targets
    forwards: dict[str, str | list[str]] = field(default_factory=dict)  # account -> targets; itself among them: a copy
    policy: Policy = field(default_factory=Policy)
    pop3: Pop3 = field(default_factory=Pop3)
    smtp: Smtp = field(default_factory=Smtp)
    relay: Relay = field(default_factory=Relay)
    submission: Submission = field(default_factory=Submission)
    queue: Queue = field(default_factory=Queue)
    delivery: Delivery = field(default_factory=Delivery)
    limits: Limits = field(default_factory=Limits)
    throttle: Throttle = field(default_factory=Throttle)
    processes: Processes = field(default_factory=Processes)
    users: Users = field(default_factory=Users)
    ledger: Ledger = field(default_factory=Ledger)
    log: Log = field(default_factory=Log)
