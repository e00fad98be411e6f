"""One TOML file -> one frozen tree. Every key stands here with its default; docs/config.md says what each means."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from typing import Any, Literal, get_type_hints

import msgspec
from msgspec import Struct, field

from .terms import Refused


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


HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
HOST_LIMIT = 255
ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


def load(path: str) -> Config:
    """The configuration in that file; the defaults where there is none. Raises Refused: file, key, what to do."""
    try:
        with open(path, "rb") as file:
            tree = tomllib.load(file)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: {error}") from None
    for key, nearest in _unknown(tree, Config, ""):
        advice = f"; did you mean {nearest}?" if nearest else "; docs/config.md lists all keys"
        raise Refused(f"{path}: unknown key {key}{advice}")
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise Refused(f"{path}: {where.rstrip('`').lstrip('.') or 'the file'}: {what}") from None
    for key, what in _wrong(config):
        raise Refused(f"{path}: {key}: {what}")
    return config


def to_json(config: Config) -> bytes:
    """For our own processes; `msgspec.json.decode(text, type=Config)` reads it."""
    return msgspec.json.encode(config)


def parse_listen(text: str) -> tuple[str, int]:
    """ "127.0.0.1:110" or "[::1]:110" -> host and port. Raises Refused."""
    match = ADDRESS.fullmatch(text)
    try:
        if match is None or int(match[3]) > 65535:
            raise ValueError
        return str(ip_address(match[1] or match[2])), int(match[3])
    except ValueError:
        raise Refused(f'"{text}" is not "address:port", like "127.0.0.1:1110" or "[::1]:1110"') from None


def keys(kind: type = Config, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key with its default, dotted; a table of free names (aliases) counts as one."""
    for item in msgspec.structs.fields(kind):
        default = item.default_factory() if item.default is msgspec.NODEFAULT else item.default
        if isinstance(default, Struct):
            yield from keys(type(default), f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, default


def _unknown(tree: dict[str, Any], kind: type, prefix: str) -> Iterator[tuple[str, str]]:
    known = get_type_hints(kind)
    for key, value in tree.items():
        if key not in known:
            every = [name for name, _ in keys()] + ["listen", "accounts", "policy", "limits"]
            nearest = get_close_matches(prefix + key, every, 1) or get_close_matches(key, known, 1, 0.5)
            yield prefix + key, (nearest[0] if "." in nearest[0] else prefix + nearest[0]) if nearest else ""
        elif isinstance(value, dict) and isinstance(known[key], type) and issubclass(known[key], Struct):
            yield from _unknown(value, known[key], f"{prefix}{key}.")


def _wrong(config: Config) -> Iterator[tuple[str, str]]:
    """Values of the right type that can't be."""
    if not HOST.fullmatch(config.hostname) or len(config.hostname) > HOST_LIMIT:
        yield "hostname", f'"{config.hostname}" is no host name in lower case'
    if not config.domains:
        yield "domains", "at least one domain is needed"
    for domain in config.domains:
        if not HOST.fullmatch(domain) or len(domain) > HOST_LIMIT:
            yield "domains", f'"{domain}" is no domain in lower case'
    for protocol in ("pop3", "smtp"):
        for text in getattr(config.listen, protocol):
            try:
                parse_listen(text)
            except Refused as error:
                yield f"listen.{protocol}", error.why
    for text in config.policy.trusted:
        try:
            ip_network(text, strict=False)
        except ValueError:
            yield "policy.trusted", f'"{text}" is no network like "192.0.2.0/24"'
    yield from _too_small(config)


MAY_BE_ZERO = {"accounts.quota", "processes.network", "processes.workers", "users.network", "users.queue", "users.mail"}


def _too_small(config: Config) -> Iterator[tuple[str, str]]:
    for key, _ in keys():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name)
        if isinstance(value, int | float) and value <= 0 and not (value == 0 and key in MAY_BE_ZERO):
            yield key, f"{value} is too small"
