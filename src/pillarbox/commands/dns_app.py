"""`pillarbox dns`: what to publish in the DNS of our domains, and whether it is published."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from ipaddress import ip_address
from typing import Annotated

from cyclopts import App, Parameter

from .. import config
from ..config import Config
from ..home import Home
from ..protocol import autoconfig as settings_file
from ..protocol import publication
from ..protocol.publication import Record
from ..terms import Misuse, Refused
from . import published as dns
from .dkim import published
from .doctor_names import judged, outward
from .findings import Finding, examined, report
from .lookups import Lookups
from .options import HomeOption, JsonOption, home_of
from .reach import meets_others, places, public_addresses

OneDomain = Annotated[str, Parameter(show_default=False)]
CheckOption = Annotated[
    bool, Parameter("--check", negative=(), show_default=False, help="Compare with what is published; ask the DNS.")
]
AutoconfigOption = Annotated[
    bool,
    Parameter("--autoconfig", negative=(), show_default=False, help="Print Thunderbird's config-v1.1.xml instead."),
]
LOOPBACK = "this server listens on loopback alone: what follows has the usual ports, on which others would come in"

app = App(name="dns", help="What to publish in the DNS, and is it? Also Thunderbird's settings file.")


@app.default
def dns_(
    domain: OneDomain = "",
    /,
    *,
    check: CheckOption = False,
    autoconfig: AutoconfigOption = False,
    json_: JsonOption = False,
    home: HomeOption = "",
) -> int:
    """The records of DOMAIN, by default of all our domains, as lines of a zone file; nothing is looked up.

    With --check: which of them are published; exit status 1: one is missing or wrong that mail depends on. With
    --autoconfig: the file to serve at /.well-known/autoconfig/mail/config-v1.1.xml.
    """
    if check and autoconfig:
        raise Misuse("--check and --autoconfig are two things: ask for one")
    place = home_of(home)
    place.must_be_ours()
    settings = config.load(place.config)
    domains = _chosen(domain, settings)
    if check:
        return report(list(_checked(place, settings, domains)), as_json=json_)
    if not meets_others(settings):
        print(LOOPBACK, file=sys.stderr)
    if autoconfig:
        print(settings_file.document(domains, settings.hostname, _ports(settings)), end="")
    elif json_:
        print(json.dumps({"records": [asdict(record) for record in _all(place, settings, domains)]}))
    else:
        _print(place, settings, domains)
    return 0


def _chosen(domain: str, settings: Config) -> list[str]:
    name = domain.lower()
    if name and name not in settings.domains:
        raise Refused(f"{domain} is no domain of ours; `domains` says: {', '.join(settings.domains)}")
    return [name] if name else settings.domains


def _ports(settings: Config) -> dict[str, int]:
    """Where other machines reach each service; the usual ports where none is reached yet."""
    if not meets_others(settings):
        return {name: port for name, (_, port) in publication.SERVICES.items() if places(settings, name)}
    found: dict[str, int] = {}
    for name in publication.SERVICES:
        reached = [port for host, port in places(settings, name) if not ip_address(host).is_loopback]
        found |= {name: reached[0]} if reached else {}
    return found


def _addresses(settings: Config) -> list[str]:
    return sorted({*public_addresses(settings), *outward()})


def _all(place: Home, settings: Config, domains: Sequence[str]) -> Iterator[Record]:
    for record in publication.of_host(settings.hostname, _addresses(settings)):
        if record.kind != "TXT" or settings.hostname not in domains:  # its SPF record is the domain's then
            yield record
    for domain in domains:
        yield from _of_domain(place, settings, domain)


def _of_domain(place: Home, settings: Config, domain: str) -> Iterator[Record]:
    keys = [(key.selector, key.record) for key in published(place, settings) if key.domain == domain and key.record]
    smarthost = bool(settings.delivery.smarthost)
    yield from publication.of_domain(domain, settings.hostname, _ports(settings), keys, smarthost=smarthost)


def _print(place: Home, settings: Config, domains: Sequence[str]) -> None:
    addresses = _addresses(settings)
    if not addresses:
        print(
            f"; this machine does not know its public address: publish it as an A or AAAA record of {settings.hostname},"
        )
        print("; and have whoever gave it to you set the PTR record that leads back")
    purpose = ""
    for record in _all(place, settings, domains):
        if record.purpose not in ("", purpose):
            print(f"; {record.purpose}")
        purpose = record.purpose
        print(record.line())
    for record in publication.pointers(settings.hostname, addresses):
        print(f"; {record.purpose}; ask whoever gave you the address to set it:\n; {record.line()}")


def _checked(place: Home, settings: Config, domains: Sequence[str]) -> Iterator[Finding]:
    lookups = Lookups(settings.delivery.resolvers)
    yield from judged(settings, domains, lookups, list(published(place, settings)), outward())
    for domain in domains:
        if lookups.silent:
            return
        yield from examined(dns.ABOUT, partial(_for_clients, place, settings, lookups, domain))


def _for_clients(place: Home, settings: Config, lookups: Lookups, domain: str) -> Iterator[Finding]:
    own = {*_addresses(settings), *lookups.addresses(settings.hostname)}
    yield from dns.compared(lookups, list(_of_domain(place, settings, domain)), own)
