"""One TOML file -> one frozen tree. Every key stands here with its default; docs/config.md says what each means."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    """Each a list of "address:port"; "[::]:110" for IPv6; port 0 picks a free one."""

    pop3: list[str] = field(default_factory=lambda: ["127.0.0.1:1110"])
    smtp: list[str] = field(default_factory=lambda: ["127.0.0.1:1025"])


class Accounts(Struct, frozen=True, forbid_unknown_fields=True):
    source: list[Literal["local", "passwd"]] = field(default_factory=lambda: ["local"])
    quota: int = 0  # octets of mail per account; 0: no quota
    password_file: str = "Maildir/.password"  # of a system user, below the home folder


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    plaintext: Literal["refuse", "trusted", "allow"] = "trusted"
    trusted: list[str] = field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])


class Pop3(Struct, frozen=True, forbid_unknown_fields=True):
    sessions: Literal["exclusive", "shared"] = "exclusive"
    wait: float = 20.0  # seconds that a second login waits for the first session to end


class Smtp(Struct, frozen=True, forbid_unknown_fields=True):
    bare_newline: Literal["refuse", "normalise"] = "refuse"


class Relay(Struct, frozen=True, forbid_unknown_fields=True):
    directory: str = ""  # of grants; empty: HOME/grants
    expiry: int = 900  # seconds a grant lasts (relay-ctrl's default)


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


class Processes(Struct, frozen=True, forbid_unknown_fields=True):
    network: int = 0  # 0: one per core
    workers: int = 0  # 0: one per core
    grace: float = 10.0  # seconds that sessions may take to end at a stop


class Users(Struct, frozen=True, forbid_unknown_fields=True):
    """Names or numbers; used only when started as root. The numbers need no entry in /etc/passwd."""

    network: str | int = 61810
    queue: str | int = 61811
    mail: str | int = 61812


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    to: Literal["stderr", "syslog"] = "stderr"
    format: Literal["logfmt", "json"] = "logfmt"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    hostname: str = "localhost.localdomain"
    domains: list[str] = field(default_factory=lambda: ["localhost.localdomain"])
    listen: Listen = field(default_factory=Listen)
    accounts: Accounts = field(default_factory=Accounts)
    aliases: dict[str, str] = field(default_factory=dict)  # local part or address -> account
    policy: Policy = field(default_factory=Policy)
    pop3: Pop3 = field(default_factory=Pop3)
    smtp: Smtp = field(default_factory=Smtp)
    relay: Relay = field(default_factory=Relay)
    limits: Limits = field(default_factory=Limits)
    processes: Processes = field(default_factory=Processes)
    users: Users = field(default_factory=Users)
    log: Log = field(default_factory=Log)
