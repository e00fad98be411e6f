"""Where mail for an address goes: routes, exchangers in their order, and what is no way at all (RFC 5321 section 5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from ..terms import Refused

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
HOST_LIMIT = 253  # RFC 1035 section 2.3.4, without the dots at both ends
ALL = "*"


@dataclass(frozen=True, slots=True)
class Route:
    """One destination. Recipients with equal routes may travel in one transaction, over connections that they share."""

    host: str  # in lower case and ASCII: a domain, a host name or an address without brackets
    port: int
    exchangers: bool = False  # to the exchangers of that domain, else to that very host
    secured: bool = False  # only under TLS, and only to a host that proves its name
    smarthost: bool = False  # the one where we log in


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A host that takes mail for a domain (RFC 1035 section 3.3.9)."""

    preference: int  # the lower, the earlier
    host: str  # in lower case, without the last dot; empty: the root, which takes no mail (RFC 7505)
    addresses: tuple[str, ...] = ()


class Routes:
    """qmail's `smtproutes`: the domain itself, else the longest `.parent`, else "", which is everything.

    An empty target means the exchangers of the domain after all, and so does no target where there is no smarthost.
    """

    def __init__(
        self,
        table: Mapping[str, str],
        *,
        port: int = 25,
        smarthost: str = "",
        smarthost_secured: bool = True,
        secured: Collection[str] = (),
    ) -> None:
        """Targets and smarthost: "host", "host:port" or "[IPv6]:port". `secured`: domains that need TLS, or "*"."""
        self._table = {name.lower(): target for name, target in table.items()}
        self._port = port
        self._smarthost = smarthost
        self._smarthost_secured = smarthost_secured
        self._secured = frozenset(name.lower() for name in secured)

    def of(self, address: bytes) -> Route:
        """The route of a recipient's address. Raises Refused where its domain can't be one."""
        domain = domain_of(address)
        secured = bool(self._secured & {domain, ALL})
        target = next((self._table[name] for name in _names(domain) if name in self._table), None)
        if target is None and self._smarthost:
            host, port = place(self._smarthost, self._port)
            return Route(host, port, secured=secured or self._smarthost_secured, smarthost=True)
        if target:
            host, port = place(target, self._port)
            return Route(host, port, secured=secured)
        if domain.startswith("["):
            return Route(domain[1:-1], self._port, secured=secured)
        return Route(domain, self._port, exchangers=True, secured=secured)


def domain_of(address: bytes) -> str:
    """The domain of an address: lower case, beyond ASCII as A-labels (RFC 5891); of a literal [and its address].

    Raises Refused.
    """
    domain = address.rpartition(b"@")[2] if b"@" in address else b""
    if domain.startswith(b"[") and domain.endswith(b"]"):
        return f"[{_literal(domain[1:-1])}]"
    try:
        text = domain.decode("ascii" if domain.isascii() else "utf-8").lower()
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        raise Refused(
            "the domain of the address can't be written in ASCII, as it must be to be looked up", "5.1.2"
        ) from None
    if not is_host(name) or is_address(name):
        raise Refused("the address has no domain that could be looked up", "5.1.2")
    return name


def _literal(text: bytes) -> str:
    """The address in a literal (RFC 5321 section 4.1.3)."""
    try:
        return str(ip_address(re.sub(rb"(?i)^ipv6:", b"", text).decode("ascii")))
    except ValueError:
        raise Refused("the address literal of the recipient is none", "5.1.2") from None


def _names(domain: str) -> Iterator[str]:
    """Under which names a route may stand, the closest first."""
    if not domain.startswith("["):
        yield domain
        dot = domain.find(".")
        while dot >= 0:
            yield domain[dot:]
            dot = domain.find(".", dot + 1)
    yield ""


def place(text: str, port: int) -> tuple[str, int]:
    """Host and port of a target; `port` where it has none. Raises ValueError for what is no target."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no host that mail could go to, such as "mail.example.test:25"')
    return (found[1] or found[2]).lower(), int(found[3]) if found[3] else port


def is_host(name: str) -> bool:
    """Can it be the name of a host or a domain? Real ones have underscores, and hyphens anywhere."""
    return len(name) <= HOST_LIMIT and _HOST.fullmatch(name) is not None


def is_address(host: str) -> bool:
    """Is it an IP address, not a name?"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def usable(domain: str, records: Sequence[Exchanger]) -> list[Exchanger]:
    """The exchangers of a domain: its MX records, or the domain itself where there are none (RFC 5321 section 5.1).

    Records that name no host, or an address where a name must be, are passed over. Raises Refused.
    """
    if not records:
        return [Exchanger(0, domain)]
    if all(not record.host for record in records):
        raise Refused("the domain says that it takes no mail", "5.1.10")
    found = [record for record in records if is_host(record.host) and not is_address(record.host)]
    if not found:
        raise Refused("the domain names mail exchangers that can't be", "5.4.4")
    return found


def in_order(exchangers: Sequence[Exchanger], random: Callable[[], float]) -> list[Exchanger]:
    """By preference, and at random among equals (RFC 5321 section 5.1)."""
    return sorted(exchangers, key=lambda exchanger: (exchanger.preference, random()))


def before_us(exchangers: Sequence[Exchanger], is_us: Callable[[Exchanger], bool]) -> list[Exchanger]:
    """Those that are closer to the mailbox than we are (RFC 5321 section 5.1). Raises Refused where we are the closest."""
    ours = min((exchanger.preference for exchanger in exchangers if is_us(exchanger)), default=None)
    if ours is None:
        return list(exchangers)
    closer = [exchanger for exchanger in exchangers if exchanger.preference < ours]
    if not closer:
        raise Refused("mail for this domain leads back to this very host, which has no mailbox for it", "5.4.6")
    return closer
