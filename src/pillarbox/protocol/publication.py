"""What a mail host publishes of itself in the DNS, as lines of a zone file (RFC 1035 section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from .dkim import record_name, zone_line

# RFC 6186 section 3.3, RFC 8314 section 7.1. The priority: TLS from the first octet is preferred (RFC 8314 section 3).
SERVICES = {"pop3s": (0, 995), "pop3": (10, 110), "submissions": (0, 465), "submission": (10, 587)}
ABSENT = ("imaps", "imap")  # so that no client looks for what we do not have (RFC 6186 section 3.4)
PREFERENCE = 10  # of the MX record; a second host gets a larger number
NO_SERVICE = "0 0 0 ."


@dataclass(frozen=True, slots=True)
class Record:
    """One record. Names have no dot at their end, except within `text`."""

    name: str
    kind: str
    text: str
    purpose: str = ""

    def line(self) -> str:
        """As a zone file has it."""
        return zone_line(self.name, self.text) if self.kind == "TXT" else f"{self.name}. IN {self.kind} {self.text}"


def of_host(hostname: str, addresses: Sequence[str]) -> Iterator[Record]:
    """Of the host itself; `addresses`: those that the world reaches it by, as far as they are known."""
    for address in addresses:
        kind = "A" if ip_address(address).version == 4 else "AAAA"
        yield Record(hostname, kind, address, "where the host is")
    yield Record(
        hostname, "TXT", "v=spf1 a -all", "bounces have no sender, and count as the host's own (RFC 7208, 2.4)"
    )


def of_domain(
    domain: str, hostname: str, ports: Mapping[str, int], keys: Sequence[tuple[str, str]], *, smarthost: bool
) -> Iterator[Record]:
    """`ports`: of the services in SERVICES that other machines reach; `keys`: DKIM selectors with their records;
    `smarthost`: another host sends our mail, so that it can't be refused from elsewhere yet."""
    yield Record(domain, "MX", f"{PREFERENCE} {hostname}.", "mail for the domain comes to this host")
    if smarthost:
        yield Record(domain, "TXT", "v=spf1 mx ~all", "who sends for it; add `include:` as your smarthost's owner says")
    else:
        yield Record(domain, "TXT", "v=spf1 mx -all", "who sends for it: the hosts of its MX records, nobody else")
    for selector, text in keys:
        yield Record(record_name(domain, selector), "TXT", text, "the key that signs its mail (DKIM)")
    policy = f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}"
    yield Record(f"_dmarc.{domain}", "TXT", policy, "a suggestion; once reports are good: p=quarantine, then p=reject")
    yield from _services(domain, hostname, ports)
    if hostname != f"autoconfig.{domain}":
        yield Record(f"autoconfig.{domain}", "CNAME", f"{hostname}.", "Thunderbird fetches its settings there")


def _services(domain: str, hostname: str, ports: Mapping[str, int]) -> Iterator[Record]:
    for service, (priority, _) in SERVICES.items():
        text = f"{priority} 1 {ports[service]} {hostname}." if service in ports else NO_SERVICE
        yield Record(f"_{service}._tcp.{domain}", "SRV", text, "clients find their settings by it" * (service in ports))
    for service in ABSENT:
        yield Record(f"_{service}._tcp.{domain}", "SRV", NO_SERVICE, "")


def pointers(hostname: str, addresses: Sequence[str]) -> Iterator[Record]:
    """They belong to whoever gave us the addresses, who must be asked to set them."""
    for address in addresses:
        yield Record(ip_address(address).reverse_pointer, "PTR", f"{hostname}.", "receivers refuse mail without it")
