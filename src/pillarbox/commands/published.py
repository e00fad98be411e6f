"""What the DNS says of us, held against what it should say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address

from ..protocol import spf
from ..protocol.dkim import record_name, zone_line
from ..protocol.publication import NO_SERVICE, Record
from .findings import Finding, advice, fine, serious
from .lookups import Lookups

ABOUT = "DNS"
HOSTS_LIMIT = 10  # exchangers of a domain, and names of an address, that are looked at
UNTOLD = "unknown"  # what SPF says where the record depends on the message


def host(lookups: Lookups, hostname: str) -> Finding:
    """Raises TryLater, as all of these do."""
    found = lookups.addresses(hostname)
    if found:
        return fine(ABOUT, f"{hostname} is at {', '.join(found)}")
    why = "neither mail nor clients find this host"
    return serious(ABOUT, f"{hostname} has no address", why, f"publish an A or AAAA record of {hostname}")


def exchanger(lookups: Lookups, domain: str, hostname: str, own: Collection[str]) -> Finding:
    """`own`: our addresses."""
    hosts = [text.split()[-1] for text in lookups.ask(domain, "MX") if len(text.split()) > 1][:HOSTS_LIMIT]
    remedy = f"publish: {Record(domain, 'MX', f'10 {hostname}.').line()}"
    if not hosts:
        return serious(
            ABOUT, f"{domain} has no MX record that names a host", "its mail goes elsewhere, or back", remedy
        )
    for one in hosts:
        if one == hostname or set(lookups.addresses(one)) & set(own):
            return fine(ABOUT, f"mail for {domain} comes here, by {one}")
    what = f"mail for {domain} goes to {', '.join(hosts)}, none of which is this host"
    return serious(ABOUT, what, "no mail for it comes here", remedy)


def sender_policy(lookups: Lookups, domain: str, sending: Sequence[str]) -> Finding:
    """`sending`: the addresses that our mail comes from; empty: others send it for us."""
    found = spf.records(lookups.ask(domain, "TXT"))
    remedy = f"publish: {zone_line(domain, 'v=spf1 mx -all')}"
    if len(found) > 1:
        return serious(ABOUT, f"{domain} has {len(found)} SPF records", "two are as bad as a wrong one", "leave one")
    if not found:
        return serious(ABOUT, f"{domain} has no SPF record", "receivers take its mail for forged", remedy)
    for address in sending:
        result = spf.evaluate(address, domain, lookups.ask)
        if result == UNTOLD:
            return advice(ABOUT, f"the SPF record of {domain} has macros", "we can't tell what it says of us", "")
        if result != "pass":
            what = f"SPF of {domain} says {result} of our address {address}"
            return serious(
                ABOUT, what, "receivers refuse our mail, or take it for spam", f"add ip{_family(address)}:{address}"
            )
    return fine(ABOUT, f"SPF of {domain} knows {', '.join(sending) or 'who sends for it'}")


def _family(address: str) -> int:
    return ip_address(address).version


def pointer(lookups: Lookups, address: str, hostname: str) -> Finding:
    """The name of an address that our mail comes from."""
    reverse = ip_address(address).reverse_pointer
    names = lookups.ask(reverse, "PTR")[:HOSTS_LIMIT]
    if hostname in names:
        return fine(ABOUT, f"{address} is called {hostname}")
    why = f"receivers refuse mail from a host that calls itself {hostname}, and is called otherwise"
    remedy = f"have whoever gave you the address set: {Record(reverse, 'PTR', f'{hostname}.').line()}"
    return serious(ABOUT, f"{address} is called {', '.join(names) or 'nothing'}, not {hostname}", why, remedy)


def signing_key(lookups: Lookups, domain: str, selector: str, record: str) -> Finding:
    name = record_name(domain, selector)
    wanted, found = _tags(record), [_tags(text) for text in lookups.ask(name, "TXT")]
    if any(one.get("p") == wanted["p"] and one.get("k", "rsa") == wanted["k"] for one in found):
        return fine(ABOUT, f"the signing key {selector} of {domain} is published")
    what = f"{name} {'holds another key than ours' if found else 'is not published'}"
    return serious(
        ABOUT,
        what,
        "what it signs counts as unsigned, or as forged",
        f"publish what `pillarbox dkim show {domain} {selector}` says",
    )


def _tags(text: str) -> dict[str, str]:
    """A tag-list (RFC 6376 section 3.2), without its blanks."""
    parts = ("".join(part.split()).partition("=") for part in text.split(";"))
    return {name: value for name, _, value in parts}


def policy(lookups: Lookups, domain: str) -> Finding:
    """DMARC; of a subdomain its parent's may count (RFC 7489 section 6.6.3)."""
    for name in (domain, domain.partition(".")[2]):
        if "." in name and any(text.startswith("v=DMARC1") for text in lookups.ask(f"_dmarc.{name}", "TXT")):
            return fine(ABOUT, f"{domain} has a DMARC policy")
    remedy = f"publish: {zone_line(f'_dmarc.{domain}', f'v=DMARC1; p=none; rua=mailto:postmaster@{domain}')}"
    return advice(ABOUT, f"{domain} has no DMARC policy", "large receivers ask for one", remedy)


def service(lookups: Lookups, record: Record) -> Finding:
    """One SRV record."""
    found, wanted = lookups.ask(record.name, "SRV"), record.text.lower().rstrip(".")
    absent = record.text == NO_SERVICE
    if any(text.split()[2:] == wanted.split()[2:] for text in found) or (absent and not found):
        return fine(ABOUT, f"{record.name} is right")
    what = f"{record.name} is {'; '.join(found) or 'not published'}"
    why = "clients look for what is not here" if absent else "clients do not find their settings"
    return advice(ABOUT, what, why, f"publish: {record.line()}")


def alias(lookups: Lookups, record: Record, own: Collection[str]) -> Finding:
    """A name that should lead to this host."""
    found = lookups.addresses(record.name)
    if set(found) & set(own):
        return fine(ABOUT, f"{record.name} leads here")
    what = f"{record.name} {'leads to ' + ', '.join(found) if found else 'is not published'}"
    return advice(ABOUT, what, "Thunderbird does not find its settings", f"publish: {record.line()}")


def compared(lookups: Lookups, records: Sequence[Record], own: Collection[str]) -> Iterator[Finding]:
    """Those that only clients need: SRV and CNAME."""
    for record in records:
        if record.kind == "SRV":
            yield service(lookups, record)
        elif record.kind == "CNAME":
            yield alias(lookups, record, own)
