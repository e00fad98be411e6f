"""Addresses and networks as text."""

from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy.networks import NO_ADDRESS, Networks, host_of, network_of

NO_ADDRESSES = ["", "localhost", "192.0.2", "192.0.2.1/24", "192.0.2.01", "::1::", "../192.0.2.1", "192.0.2.1\n"]


@pytest.mark.parametrize(
    ("address", "contained"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("128.0.0.1", False),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::2", False),
        ("::ffff:127.0.0.1", True),
        ("::ffff:128.0.0.1", False),
        ("::127.0.0.1", False),
    ],
)
def test_the_default_networks(address: str, contained: bool) -> None:
    assert Networks(("127.0.0.0/8", "::1/128")).contains(address) is contained


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_lies_nowhere(text: str) -> None:
    assert not Networks(("0.0.0.0/0", "::/0")).contains(text)
    assert host_of(text) == network_of(text) == NO_ADDRESS


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "10.0.0.0/33", "2001:db8::1/32", "example.test", "", "10.0.0.0/8 "])
def test_what_is_no_network_is_named(cidr: str) -> None:
    with pytest.raises(ValueError, match="is no network") as error:
        Networks(("192.0.2.0/24", cidr))
    assert repr(cidr) in str(error.value)


def test_a_network_of_mapped_addresses_is_the_ipv4_network() -> None:
    networks = Networks(("::ffff:192.0.2.0/120",))
    assert networks.contains("192.0.2.200")
    assert networks.contains("::ffff:192.0.2.200")
    assert not networks.contains("192.0.3.200")


def test_no_network_contains_nothing() -> None:
    assert not Networks(()).contains("127.0.0.1")


@pytest.mark.parametrize(
    ("address", "host", "network"),
    [
        ("192.0.2.77", "192.0.2.77/32", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.77/32", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("::1", "::/64", "::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
    ],
)
def test_the_keys_of_limits(address: str, host: str, network: str) -> None:
    assert host_of(address) == host
    assert network_of(address) == network


@given(st.ip_addresses())
def test_an_address_lies_in_its_own_host_and_network(address: object) -> None:
    plain = ip_address(str(address))
    mapped = isinstance(plain, IPv6Address) and plain.ipv4_mapped
    for key in (host_of(str(address)), network_of(str(address))):
        assert (mapped or plain) in ip_network(key)
        assert Networks((key,)).contains(str(address))
