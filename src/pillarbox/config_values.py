"""What a value of the configuration must be, beyond its type, and how TOML writes it.

Each check raises Refused with words that follow the key.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re

from .terms import Refused

PROCESSES_LIMIT = 256  # of a kind; more is a slip of the finger, and would eat the machine's memory
RECIPIENTS_LIMIT = 10_000  # the queue's, of one message
KEY_PAIRS_LIMIT = 32  # of certificate and key; all travel to the network processes in one frame
DELAY_LIMIT = 40.0  # seconds, of an attempt to log in: it waits for 45 at most (policy.waiting_room)
DOMAIN_LIMIT = 253  # RFC 1035 section 2.3.4, without the dots at both ends
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 1123 section 2.1
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_PREFIX = re.compile(r"[a-z0-9_][a-z0-9_+.-]*")
_WORD = re.compile(r"[!-~]+")


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:1110" or "[::]:110". Raises Refused."""
    found = _ADDRESS.fullmatch(text)
    if found:
        host, port = found[1] or found[2], int(found[3])
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            if port <= 65535 and address.version == (6 if found[1] else 4):
                return host, port
    raise Refused(f'"{text}" is no "address:port", such as "127.0.0.1:1110" or "[::1]:1110"')


def finite(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("must be a finite number")
    if isinstance(value, int | float) and value < 0:
        raise Refused("can't be below 0")


def above_zero(value: object) -> None:
    if isinstance(value, int | float) and value <= 0:
        raise Refused("must be 1 or more" if isinstance(value, int) else "must be above 0")


def few(value: int) -> None:
    if value > PROCESSES_LIMIT:
        raise Refused(f"can't be above {PROCESSES_LIMIT}")


def recipients(value: int) -> None:
    if value > RECIPIENTS_LIMIT:
        raise Refused(f"can't be above {RECIPIENTS_LIMIT}: the queue keeps no more of one message")


def domain(text: str) -> None:
    if len(text) > DOMAIN_LIMIT or not _DOMAIN.fullmatch(text):
        raise Refused(f'holds "{text}", which is no domain name in ASCII letters, digits, hyphens and dots')


def full_hostname(text: str) -> None:
    """It ends the APOP challenge, whose form strict clients check."""
    domain(text)
    if "." not in text:
        raise Refused(f'is "{text}", but must be a full name with a dot, such as "mail.example.test"')


def domains(texts: list[str]) -> None:
    if not texts:
        raise Refused("must hold at least one domain")
    for text in texts:
        domain(text)


def addresses(texts: list[str]) -> None:
    for text in texts:
        try:
            parse_listen(text)
        except Refused as error:
            raise Refused(f"is wrong: {error.why}") from None


def networks(texts: list[str]) -> None:
    for text in texts:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise Refused(f'holds "{text}", which is no network such as "192.0.2.0/24" or "2001:db8::/32"') from None


def some(texts: list[str]) -> None:
    if not texts:
        raise Refused("can't be empty")


def no_blanks(table: dict[str, str | list[str]]) -> None:
    """Of aliases and forwards."""
    for name, found in table.items():
        for text in (name, *([found] if isinstance(found, str) else found)):
            if not _WORD.fullmatch(text):
                raise Refused(f'holds "{text}": a name is ASCII without blanks')


def separators(texts: list[str]) -> None:
    for text in texts:
        if len(text) != 1 or text not in "+-_.=":
            raise Refused(f'holds "{text}", but each must be one of + - _ . =')


def prefixes(table: dict[str, str]) -> None:
    """Of virtual domains; an empty one: the names are those of the first domain."""
    for name, prefix in table.items():
        if prefix and not _PREFIX.fullmatch(prefix):
            raise Refused(f'leads "{name}" to "{prefix}", which is no beginning of a name, such as "alice-sales"')


def senders(texts: list[str]) -> None:
    for text in texts:
        if not _WORD.fullmatch(text) or not text.rpartition("@")[1] or text.endswith("@"):
            raise Refused(f'holds "{text}", which is neither an address nor "@" with a domain')


def delay(seconds: float) -> None:
    if seconds > DELAY_LIMIT:
        raise Refused(f"must be at most {DELAY_LIMIT:g} seconds: mail clients give up after a minute")


def port(number: int) -> None:
    if not 1 <= number <= 65535:
        raise Refused("must be a port, from 1 to 65535")


def place(text: str) -> None:
    """Empty, or a host that mail goes to."""
    if text:
        parse_place(text)


def parse_place(text: str) -> tuple[str, int | None]:
    """Host and port of "mail.example.test:587", "192.0.2.1" or "[2001:db8::1]:25". Raises Refused."""
    found = _PLACE.fullmatch(text)
    if found:
        number = int(found[3]) if found[3] else None
        if number is None or 1 <= number <= 65535:
            try:
                if found[1]:
                    ipaddress.IPv6Address(found[1])
                else:
                    domain(found[2])
            except (ValueError, Refused):
                pass
            else:
                return found[1] or found[2].lower(), number
    raise Refused(f'holds "{text}", which is no host or "host:port", such as "mail.example.test:25"')


def routes(table: dict[str, str]) -> None:
    for name, target in table.items():
        if name:
            domain(name.removeprefix("."))
        place(target)


def domains_or_all(texts: list[str]) -> None:
    for text in texts:
        if text != "*":
            domain(text)


def below_home(text: str) -> None:
    if not text or text.startswith("/") or ".." in text.split("/"):
        raise Refused(f'is "{text}", but must be a path below the home folder, such as "Maildir/.password"')


def absolute(text: str) -> None:
    if text and not text.startswith("/"):
        raise Refused(f'is "{text}", but must be an absolute path, or empty')


def listed(value: str | list[str]) -> list[str]:
    """One text or several, of which the empty one is none."""
    return ([value] if value else []) if isinstance(value, str) else value


def key_paths(value: str | list[str]) -> None:
    """Of certificates or keys."""
    for text in listed(value):
        if not text:
            raise Refused("holds an empty path")
        absolute(text)


def key_files(certificate: str | list[str], key: str | list[str]) -> list[tuple[str, str]]:
    """Each certificate's file with its key's; none where we make one ourselves. Raises Refused."""
    certificates, keys = listed(certificate), listed(key)
    if len(certificates) != len(keys):
        raise Refused("`tls.certificate` and `tls.key` go together: each certificate needs its key, in the same order")
    if len(keys) > KEY_PAIRS_LIMIT:
        raise Refused(f"`tls.certificate` can't hold more than {KEY_PAIRS_LIMIT}: one may be for many names")
    return list(zip(certificates, keys, strict=True))


def no_root(user: str | int) -> None:
    if user in (0, "", "root"):
        raise Refused("can't be root: this process meets strangers, or their mail")


def no_roots(users: list[str | int]) -> None:
    for user in users:
        if user in (0, "", "root"):
            raise Refused("holds root, who may hand in whatever it likes")


def toml_value(value: object) -> str:
    """The value as it stands behind the equals sign: lists and tables in one line."""
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)
