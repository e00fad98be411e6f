"""Addresses and the networks that they lie in. An IPv4 address written as IPv6 (::ffff:192.0.2.1) is the IPv4 address."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

CACHED = 16_384  # addresses whose answers are remembered: more than may be connected at once by default
NO_ADDRESS = "unknown"  # one key for all that is no address
_MAPPED_BITS = 96  # RFC 4291 section 2.5.5.2


class Networks:
    """A set of networks."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        """Each "192.0.2.0/24", "2001:db8::/32" or a single address. Raises ValueError that names what is none."""
        self._networks = tuple(_network(cidr) for cidr in cidrs)
        self._answer = lru_cache(CACHED)(self._contains)

    def contains(self, address: str) -> bool:
        """Does the address lie in one of them? A text that is no address does not."""
        return self._answer(address)

    def _contains(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def host_of(address: str) -> str:
    """What limits per address count: an IPv4 address, an IPv6 /64 (one customer's)."""
    return _prefix(address, 32, 64)


def network_of(address: str) -> str:
    """What limits per network count: an IPv4 /24, an IPv6 /48."""
    return _prefix(address, 24, 48)


@lru_cache(2 * CACHED)
def _prefix(address: str, four: int, six: int) -> str:
    parsed = _parsed(address)
    if parsed is None:
        return NO_ADDRESS
    # packed: the address without its zone (%eth0), and an IPv6 address below 2**32 is not taken for IPv4
    return str(ip_network((parsed.packed, four if parsed.version == 4 else six), strict=False))


def _network(cidr: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(cidr)
    except ValueError as error:
        raise ValueError(f"{cidr!r} is no network: {error}") from None
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return (isinstance(parsed, IPv6Address) and parsed.ipv4_mapped) or parsed
