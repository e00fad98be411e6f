"""Whom the configured ports can be reached by: this machine alone, or others."""

from __future__ import annotations

from ipaddress import ip_address

from ..config import Config, keys, parse_listen


def places(settings: Config, protocol: str) -> list[tuple[str, int]]:
    """Address and port of each place where `protocol` is spoken, as configured."""
    texts: list[str] = dict(keys(settings.listen))[protocol]
    return [parse_listen(text) for text in texts]


def meets_others(settings: Config, *protocols: str) -> bool:
    """Do other machines come in by one of them? Without protocols: by any."""
    wanted = protocols or tuple(settings.listen.__struct_fields__)
    return any(not ip_address(host).is_loopback for protocol in wanted for host, _ in places(settings, protocol))


def public_addresses(settings: Config) -> list[str]:
    """Those that are named in `listen`, and that the whole world can reach."""
    hosts = {host for protocol in settings.listen.__struct_fields__ for host, _ in places(settings, protocol)}
    return sorted(host for host in hosts if ip_address(host).is_global)
