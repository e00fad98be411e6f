"""One TOML file -> one frozen tree. Every key stands here with its default; docs/config.md says what each means."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from .config_tree import Config as Config
from .config_tree import Delivery as Delivery
from .config_tree import Limits
from .config_tree import Listen as Listen
from .config_tree import Policy as Policy
from .config_tree import Tls as Tls
from .config_tree import Users as Users
from .config_values import (
    above_zero,
    absolute,
    addresses,
    below_home,
    delay,
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
    _check_profile(config)
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


def _check_profile(config: Config) -> None:
    """Passwords in the clear from the whole internet are nobody's by mistake."""
    if config.policy.profile != "classic" or config.policy.plaintext != "profile":
        return
    for text in config.listen.pop3:
        address = ipaddress.ip_address(parse_listen(text)[0])
        if address.is_global or address.is_unspecified:
            raise Refused(
                f'`policy.profile` is "classic", which takes passwords in the clear, and `listen.pop3` holds {text}, '
                'which the internet may reach: set `policy.plaintext` to "allow" if you mean that, else to "trusted"'
            )


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
            raise Refused(f"`{key}` is no key that Pillarbox knows{_nearest(key, [*known, *tables])}")


def _nearest(wrong: str, known: list[str]) -> str:
    """What was probably meant; where nothing is near enough to help: where all keys are."""
    import difflib  # here: whoever reads a right configuration, such as qmail-qread, starts sooner

    last = wrong.rpartition(".")[2]
    namesakes = [key for key in known if key.rpartition(".")[2] == last]
    table = wrong.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == table]
    alike = difflib.get_close_matches(wrong, siblings, 1)
    found = namesakes or alike or difflib.get_close_matches(wrong, known, 1)
    return f"; the nearest one is `{found[0]}`" if found else "; `pillarbox config show` prints all keys"


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
    "ledger.files": (above_zero,),
    "throttle.longest_delay": (delay,),
    "throttle.network_guesses": (above_zero,),
    "throttle.account_guesses": (above_zero,),
    "processes.network": (few,),
    "processes.workers": (few,),
    **{f"users.{name}": (no_root,) for name in Users.__struct_fields__},
}
