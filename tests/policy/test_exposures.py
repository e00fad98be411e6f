"""Ways of logging in: folded in bounded memory, the worst first, each with what to set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy.exposures import NETWORKS_LIMIT, OTHER_NETWORKS, Exposures, Migration, Way, remedy
from pillarbox.terms import Exposure

ALICE, BOB = "alice@example.test", "bob@example.test"
PORTS = {"pop3": 110, "pop3s": 995, "submission": 587, "submissions": 465}


def way(account: str = ALICE, exposure: Exposure = Exposure.PASSWORD, address: str = "192.0.2.1", **more: str) -> Way:
    words = {"protocol": "pop3", "mechanism": "USER", "device": "", **more}
    return Way(account=account, exposure=exposure, network=address, **words)


def test_the_worst_and_the_most_frequent_come_first_and_strangers_last() -> None:
    found = Exposures()
    found.of(way("", Exposure.PASSWORD), refused=True).add(1, refused=True)
    found.of(way(ALICE, Exposure.NOTHING), refused=False).add(2, refused=False)
    for time in (3, 4):
        found.of(way(ALICE, Exposure.DIGEST, mechanism="APOP"), refused=False).add(time, refused=False)
    found.of(way(BOB), refused=False).add(5, refused=False)
    for time in (8, 6, 7):
        found.of(way(ALICE), refused=time == 6).add(time, refused=time == 6)
    rows = found.ranked()
    assert [(one.account, one.exposure.value) for one, _ in rows] == [
        (ALICE, "password"),
        (BOB, "password"),
        (ALICE, "digest"),
        (ALICE, "nothing"),
        ("", "password"),
    ]
    seen = rows[0][1]
    assert (seen.count, seen.refused, seen.first, seen.last) == (3, 1, 6, 8)


def test_addresses_of_one_network_are_one_row() -> None:
    found = Exposures()
    for address in ("192.0.2.1", "192.0.2.77", "198.51.100.1", "2001:db8:1:2::3", "2001:db8:1:9::3"):
        found.of(way(address=address), refused=False).add(1, refused=False)
    counts = {one.network: seen.count for one, seen in found.ranked()}
    assert counts == {"192.0.2.0/24": 2, "198.51.100.0/24": 1, "2001:db8:1::/48": 2}


@given(st.lists(st.tuples(st.ip_addresses(v=4), st.booleans()), min_size=200, max_size=400))
def test_memory_is_bounded_and_nothing_is_dropped(attempts: list[tuple[object, bool]]) -> None:
    found = Exposures()
    for address, refused in attempts:
        found.of(way(address=str(address)), refused=refused).add(1, refused=refused)
        found.of(way("", address=str(address)), refused=refused).add(1, refused=refused)
    rows = found.ranked()
    assert len(rows) <= 2 * NETWORKS_LIMIT + 2
    assert sum(seen.count for _, seen in rows) == 2 * len(attempts)


def test_strangers_do_not_hide_where_an_account_is_used() -> None:
    found = Exposures()
    for number in range(NETWORKS_LIMIT + 10):
        found.of(way(address=f"10.0.{number}.1"), refused=True).add(1, refused=True)
    found.of(way(address="192.0.2.1"), refused=False).add(2, refused=False)
    networks = {one.network for one, _ in found.ranked()}
    assert {"192.0.2.0/24", OTHER_NETWORKS} <= networks


@pytest.mark.parametrize(
    ("protocol", "closed", "expected"),
    [
        ("pop3", "", "server mail.example.test, port 995, SSL/TLS"),
        ("pop3", "pop3s", "server mail.example.test, port 110, STARTTLS (STLS)"),
        ("submission", "", "server mail.example.test, port 465, SSL/TLS"),
        ("submission", "submissions", "server mail.example.test, port 587, STARTTLS"),
    ],
)
def test_what_to_set(protocol: str, closed: str, expected: str) -> None:
    ports = {key: port for key, port in PORTS.items() if key != closed}
    said = remedy(way(protocol=protocol), "mail.example.test", ports)
    assert said.startswith(expected) and f"user name {ALICE}" in said and "as this one was readable" in said


def test_a_digest_is_as_good_as_the_secret_is_random_and_tls_needs_nothing() -> None:
    assert "if a person chose this one" in remedy(way(exposure=Exposure.DIGEST), "mail.example.test", PORTS)
    assert remedy(way(exposure=Exposure.NOTHING), "mail.example.test", PORTS) == ""
    assert remedy(way(""), "mail.example.test", PORTS) == ""


def test_when_an_account_was_last_in_the_clear() -> None:
    found = Migration()
    found.add(ALICE, "APOP", Exposure.DIGEST, 5)
    found.add(ALICE, "USER", Exposure.PASSWORD, 3)
    found.add(ALICE, "USER", Exposure.NOTHING, 9)
    found.add(BOB, "PLAIN", Exposure.NOTHING, 4)
    alice, bob = found.habits[ALICE], found.habits[BOB]
    assert (alice.clear, alice.mechanism, alice.secured) == (5, "APOP", 9)
    assert (bob.clear, bob.secured) == (0, 4)
