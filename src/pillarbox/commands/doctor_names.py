"""Our names and addresses in the public DNS: does mail find this host, and do others believe what it sends?"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

from ..config import Config
from ..home import Home
from ..protocol.dkim import signing_domains
from . import published as dns
from .dkim import Published, published
from .findings import Finding, advice, examined, fine
from .lookups import Lookups, is_local
from .reach import meets_others, places, public_addresses

# Nobody's addresses (RFC 5737, RFC 3849): nothing is sent there, the kernel only says which way it would go.
FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
DISCARD = 9


def check_names(place: Home, settings: Config) -> Iterator[Finding]:
    lookups = Lookups(settings.delivery.resolvers)
    found = judged(settings, settings.domains, lookups, list(published(place, settings)), outward())
    others = meets_others(settings, "smtp")
    for one in found:
        yield one if others else _advice_only(one)


def _advice_only(one: Finding) -> Finding:
    """Where no other machine can hand in mail, this is a trial, or a host behind another one."""
    return replace(one, level="advice") if one.level == "serious" else one


def judged(
    settings: Config, domains: Sequence[str], lookups: Lookups, keys: Sequence[Published], out: Sequence[str]
) -> Iterator[Finding]:
    """`keys`: those that sign; `out`: the public addresses that this machine uses to the outside, as far as it knows."""
    if is_local(settings.hostname):
        yield fine(dns.ABOUT, f"{settings.hostname} is a name of this machine's own: nothing is published of it")
        return
    yield from examined(dns.ABOUT, lambda: _of_us(settings, domains, lookups, keys, out))


def _of_us(
    settings: Config, domains: Sequence[str], lookups: Lookups, keys: Sequence[Published], out: Sequence[str]
) -> Iterator[Finding]:
    """Raises TryLater where the DNS does not tell where we are: the rest could not be judged."""
    hostname = settings.hostname
    yield dns.host(lookups, hostname)
    known = lookups.addresses(hostname)
    yield from families(hostname, known, [host for host, _ in places(settings, "smtp")])
    own = {*out, *public_addresses(settings), *known}
    sending = [] if settings.delivery.smarthost else list(out) or sorted(own)
    for address in sending:
        yield from examined(dns.ABOUT, partial(_pointer, lookups, address, hostname))
    for domain in domains:
        if not is_local(domain):
            yield from of_domain(lookups, domain, hostname, own, sending)
    yield from _signed(lookups, domains, keys)


def families(hostname: str, published: Sequence[str], listening: Sequence[str]) -> Iterator[Finding]:
    """`published`: the addresses of the host in the DNS; `listening`: where SMTP is spoken."""
    for version, kind in ((4, "A"), (6, "AAAA")):
        listens = any(ip_address(host).version == version for host in listening)
        if not listens and any(ip_address(address).version == version for address in published):
            what = f"{hostname} has an {kind} record, and `listen.smtp` has no IPv{version} address"
            why = "other hosts try it, and our mail is late or lost"
            yield advice(dns.ABOUT, what, why, f"listen there too, or take the {kind} record away")


def _pointer(lookups: Lookups, address: str, hostname: str) -> list[Finding]:
    return [dns.pointer(lookups, address, hostname)]


def of_domain(
    lookups: Lookups, domain: str, hostname: str, own: Collection[str], sending: Sequence[str]
) -> Iterator[Finding]:
    """What senders and receivers look at. `own`: our addresses; `sending`: those that mail leaves from."""
    checks = (
        lambda: [dns.exchanger(lookups, domain, hostname, own)],
        lambda: [dns.sender_policy(lookups, domain, sending)],
        lambda: [dns.policy(lookups, domain)],
    )
    for check in checks:
        if not lookups.silent:
            yield from examined(dns.ABOUT, check)


def _signed(lookups: Lookups, domains: Sequence[str], keys: Sequence[Published]) -> Iterator[Finding]:
    """Each key once: a domain's mail may be signed as its parent."""
    good = [key for key in keys if key.record]
    used = []
    for domain in domains:
        ours = [key for key in good if key.domain in signing_domains(domain)]
        if not ours and not is_local(domain):
            what, why = f"mail of {domain} goes out unsigned", "large receivers take it for spam"
            yield advice(dns.ABOUT, what, why, f"pillarbox dkim add {domain}")
        used += [key for key in ours if key not in used]
    for key in used:
        if not lookups.silent:
            yield from examined(dns.ABOUT, partial(_key, lookups, key))


def _key(lookups: Lookups, key: Published) -> list[Finding]:
    return [dns.signing_key(lookups, key.domain, key.selector, key.record)]


def outward() -> list[str]:
    """The public addresses that this machine uses to the outside; behind a NAT it does not know them."""
    found = []
    for family, far in FAR:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, DISCARD))
            found.append(str(probe.getsockname()[0]))
    return [address for address in found if ip_address(address).is_global]
