"""One TOML file -> one frozen tree. Every key stands here with its default; docs/config.md says what each means."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct, field

from .config_values import (
    above_zero,
    absolute,
    addresses,
    below_home,
    domains,
    domains_or_all,
    few,
    finite,
    full_hostname,
    key_paths,
    listed,
    networks,
    no_blanks,
    no_root,
    no_roots,
    place,
    port,
    prefixes,
    recipients,
    routes,
    senders,
    separators,
    some,
    toml_key,
    toml_value,
)
from .config_values import key_files as key_files
from .config_values import parse_listen as parse_listen
from .terms import Refused

FIXED = ("processes.network", "processes.workers", "users.")  # for the life of a server


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
    plaintext: Literal["refuse", "trusted", "allow"] = "trusted"
    trusted: list[str] = field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
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


class Processes(Struct, frozen=True, forbid_unknown_fields=True):
    network: int = 0  # 0: one per core
    workers: int = 0  # 0: one for two cores, which is what keeps up with a network process per core
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
    processes: Processes = field(default_factory=Processes)
    users: Users = field(default_factory=Users)
    log: Log = field(default_factory=Log)


def load(path: str) -> Config:
    """The configuration in this file; the defaults where there is no file. Raises Refused, which names file and key."""
    try:
        with open(path, "rb") as file:
            tree = tomllib.load(file)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is not TOML: {error}") from None
    try:
        return _checked(tree)
    except Refused as error:
        raise Refused(f"{path}: {error.why}") from None


def to_json(config: Config) -> bytes:
    """For our processes, which read no file."""
    return msgspec.json.encode(config)


def from_json(text: bytes) -> Config:
    """What `to_json` made. Raises Refused."""
    try:
        return msgspec.json.decode(text, type=Config)
    except msgspec.MsgspecError as error:
        raise Refused(f"this is no configuration: {error}") from None


def to_toml(config: Config | dict[str, Any]) -> str:
    """All of it, defaults too, as a file that `load` reads."""
    tree = msgspec.to_builtins(config)
    lines = [f"{key} = {toml_value(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{toml_key(key)} = {toml_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def keys(tree: Struct | None = None) -> Iterator[tuple[str, Any]]:
    """Every key by its dotted path, with its value there, or its default; a table of free names (aliases) is one key."""
    tree = tree or Config()
    for name in tree.__struct_fields__:
        value = getattr(tree, name)
        if isinstance(value, Struct):
            yield from ((f"{name}.{key}", inner) for key, inner in keys(value))
        else:
            yield name, value


def needs_restart(before: Config, after: Config) -> list[str]:
    """The changed keys that a running server can't take up: its processes are there, with their users."""
    pairs = zip(keys(before), keys(after), strict=True)
    return [key for (key, old), (_, new) in pairs if old != new and key.startswith(FIXED)]


# Reading.


def _checked(tree: dict[str, Any]) -> Config:
    _refuse_unknown(tree)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        _explain(str(error))
    lowered = [name.lower() for name in config.domains]
    config = msgspec.structs.replace(config, hostname=config.hostname.lower(), domains=lowered)
    for key, value in keys(config):
        for check in (finite, *CHECKS.get(key, ())):
            try:
                check(value)
            except Refused as error:
                raise Refused(f"`{key}` {error.why}") from None
    _check_listen(config.listen)
    key_files(config.tls.certificate, config.tls.key)
    _check_targets(config)
    return config


def _check_listen(listen: Listen) -> None:
    """All lists together."""
    seen: dict[tuple[object, int], str] = {}
    for key, texts in keys(listen):
        for text in texts:
            host, port = parse_listen(text)
            place = ipaddress.ip_address(host), port
            if port and place in seen:
                raise Refused(f"`listen.{key}` holds {text}, which `listen.{seen[place]}` holds already")
            seen[place] = key


def _check_targets(config: Config) -> None:
    """A name that leads to nothing would lose no mail, and still surprise its owner."""
    for key, table in (("aliases", config.aliases), ("forwards", config.forwards)):
        for name in table:
            if not targets(table, name):
                raise Refused(f'`{key}` leads "{name}" to nobody')
            _, at, domain = name.lower().rpartition("@")
            if at and domain not in config.domains:
                raise Refused(f'`{key}` holds "{name}", whose domain is not in `domains`')
    for domain in config.accounts.virtual_domains:
        if domain.lower() not in config.domains:
            raise Refused(f'`accounts.virtual_domains` holds "{domain}", which is not in `domains`')
    delivery = config.delivery
    if bool(delivery.smarthost_user) != bool(delivery.smarthost_secret_file):
        raise Refused("`delivery.smarthost_user` and `delivery.smarthost_secret_file` go together: set both, or none")
    if delivery.smarthost_user and not delivery.smarthost:
        raise Refused("`delivery.smarthost_user` is set, and `delivery.smarthost` is empty: nobody to log in to")


def targets(table: Mapping[str, str | list[str]], name: str) -> list[str]:
    """Where an alias or a forward leads to; nowhere where there is none."""
    return listed(table.get(name, []))


def _refuse_unknown(tree: dict[str, Any]) -> None:
    """The first key that we do not know, with the nearest that we do: one of that name elsewhere, else by spelling."""
    known = dict(keys())
    tables = {key.partition(".")[0] for key in known if "." in key}
    for name, value in tree.items():
        if name in tables and isinstance(value, dict):
            unknown = [f"{name}.{key}" for key in value if f"{name}.{key}" not in known]
        else:
            unknown = [] if name in known or name in tables else [name]
        for key in unknown:
            raise Refused(
                f"`{key}` is no key that Pillarbox knows; the nearest one is `{_nearest(key, [*known, *tables])}`"
            )


def _nearest(wrong: str, known: list[str]) -> str:
    import difflib  # here: whoever reads a right configuration, such as qmail-qread, starts sooner

    last = wrong.rpartition(".")[2]
    namesakes = [key for key in known if key.rpartition(".")[2] == last]
    table = wrong.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == table]
    alike = difflib.get_close_matches(wrong, siblings, 1)
    return (namesakes or alike or difflib.get_close_matches(wrong, known, 1, cutoff=0.0))[0]


_MESSAGE = re.compile(r"(?:Expected `([^`]+)`, got `([^`]+)`|.*?)(?: - at `\$\.?([^`]*)`)?")
_KINDS = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list in square brackets",
    "object": "a table",
}


def _explain(message: str) -> NoReturn:
    """Say in our words what msgspec found."""
    found = _MESSAGE.fullmatch(message)
    key = (found and found[3]) or ""
    choices = _choices(re.sub(r"\[[0-9]+\]", "", key))
    if choices:
        expected = " or ".join(f'"{choice}"' for choice in choices)
    elif found and found[1]:
        expected = " or ".join(_KINDS.get(kind, kind) for kind in found[1].split(" | "))
    else:
        raise Refused(f"`{key}`: {message}")
    table, each, _ = key.partition("[...]")
    raise Refused(f"every value of `{table}` must be {expected}" if each else f"`{key}` must be {expected}")


def _choices(key: str) -> tuple[str, ...]:
    """The words that may stand there, or none where it is not a choice."""
    kind: Any = Config
    for name in key.split("."):
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            return ()
        kind = get_type_hints(kind).get(name)
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) is Literal else ()


CHECKS: dict[str, tuple[Callable[[Any], None], ...]] = {
    "hostname": (full_hostname,),
    "domains": (domains,),
    **{f"listen.{name}": (addresses,) for name in Listen.__struct_fields__},
    **{f"tls.{name}": (key_paths,) for name in Tls.__struct_fields__},
    "accounts.source": (some,),
    "accounts.password_file": (below_home,),
    "accounts.extensions": (separators,),
    "accounts.virtual_domains": (prefixes,),
    "aliases": (no_blanks,),
    "forwards": (no_blanks,),
    "policy.trusted": (networks,),
    "policy.rules_smtp": (absolute,),
    "policy.rules_pop3": (absolute,),
    "smtp.refused_senders": (senders,),
    "relay.directory": (absolute,),
    "relay.expiry": (above_zero,),
    "relay.messages": (above_zero,),
    "relay.recipients": (above_zero,),
    "relay.shared": (networks,),
    "relay.unshared": (networks,),
    "queue.smtpd_users": (no_roots,),
    "delivery.lifetime": (above_zero,),
    "delivery.longest_wait": (above_zero,),
    "delivery.connections": (above_zero,),
    "delivery.connections_per_destination": (above_zero,),
    "delivery.port": (port,),
    "delivery.routes": (routes,),
    "delivery.smarthost": (place,),
    "delivery.smarthost_secret_file": (absolute,),
    "delivery.tls_required": (domains_or_all,),
    "delivery.ca_file": (absolute,),
    "delivery.resolvers": (addresses,),
    **{f"limits.{name}": (above_zero,) for name in Limits.__struct_fields__},
    "limits.recipients": (above_zero, recipients),
    "processes.network": (few,),
    "processes.workers": (few,),
    **{f"users.{name}": (no_root,) for name in Users.__struct_fields__},
}
