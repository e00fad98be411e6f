"""SPF (RFC 7208): may this address send for that domain? What the owner of a record needs to know, not a receiver.

Macros, `ptr` and `exists` depend on the message and on the client's name: the answer is then "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

VERSION = "v=spf1"
LOOKUPS_LIMIT = 10  # RFC 7208 section 4.6.4
RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_TERM = re.compile(r"([+?~-]?)([a-z][a-z0-9_.-]*)(?:([:=/])(.*))?", re.IGNORECASE)
_TARGET = re.compile(r"([^/]*)(?:/([0-9]{1,2}))?(?://([0-9]{1,3}))?")

Ask = Callable[[str, str], Sequence[str]]  # name and kind of a record to the records' texts; MX as "10 host"


class _Undecided(Exception):
    """The result that ends the evaluation."""

    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


def records(texts: Sequence[str]) -> list[str]:
    """Those of TXT records that are SPF's (section 4.5)."""
    return [text for text in texts if text.lower() == VERSION or text.lower().startswith(f"{VERSION} ")]


def evaluate(address: str, domain: str, ask: Ask) -> str:
    """pass, fail, softfail, neutral, none, permerror (section 2.6), or unknown. Raises what `ask` raises."""
    try:
        return _Evaluation(ip_address(address), ask).of(domain)
    except _Undecided as error:
        return error.result


class _Evaluation:
    def __init__(self, address: IPv4Address | IPv6Address, ask: Ask) -> None:
        self._address = address
        self._kind = "A" if address.version == 4 else "AAAA"
        self._ask = ask
        self._lookups = 0

    def of(self, domain: str) -> str:
        """Raises _Undecided."""
        found = records(self._ask(domain, "TXT"))
        if len(found) != 1:
            return "permerror" if found else "none"
        redirect = ""
        for term in found[0].split()[1:]:
            qualifier, name, sign, value = self._parsed(term)
            if sign == "=":
                redirect = value if name == "redirect" else redirect
            elif self._matches(name, sign, value, domain):
                return RESULTS[qualifier or "+"]
        return self._redirected(redirect) if redirect else "neutral"

    def _parsed(self, term: str) -> tuple[str, str, str, str]:
        parts = _TERM.fullmatch(term)
        if parts is None:
            raise _Undecided("permerror")
        if "%" in term:
            raise _Undecided("unknown")
        return parts[1], parts[2].lower(), parts[3] or "", parts[4] or ""

    def _redirected(self, domain: str) -> str:
        """Section 6.1."""
        self._count()
        result = self.of(domain)
        return "permerror" if result == "none" else result

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > LOOKUPS_LIMIT:
            raise _Undecided("permerror")

    def _matches(self, name: str, sign: str, value: str, domain: str) -> bool:
        match name:
            case "all":
                return True
            case "ip4" | "ip6":
                return self._within(value, 4 if name == "ip4" else 6)
            case "include":
                return self._includes(value)
            case "a" | "mx":
                return self._hosts(name, f"/{value}" if sign == "/" else value, domain)
            case "ptr" | "exists":
                raise _Undecided("unknown")
        raise _Undecided("permerror")

    def _within(self, value: str, version: int) -> bool:
        try:
            network = ip_network(value, strict=False)
        except ValueError:
            raise _Undecided("permerror") from None
        if network.version != version:
            raise _Undecided("permerror")
        return self._address in network

    def _includes(self, domain: str) -> bool:
        """Section 5.2."""
        self._count()
        result = self.of(domain)
        if result in ("none", "permerror"):
            raise _Undecided("permerror")
        return result == "pass"

    def _hosts(self, name: str, value: str, domain: str) -> bool:
        """Sections 5.3 and 5.4."""
        self._count()
        target = _TARGET.fullmatch(value)
        if target is None:
            raise _Undecided("permerror")
        host = target[1] or domain
        bits = (target[2] or "32") if self._address.version == 4 else (target[3] or "128")
        hosts = [host] if name == "a" else [one.split()[-1] for one in self._ask(host, "MX")][:LOOKUPS_LIMIT]
        found = [address for one in hosts for address in self._ask(one, self._kind)]
        return any(self._within(f"{address}/{bits}", self._address.version) for address in found)
