"""The throttle: how fast guesses are judged, what an owner waits for, and that no memory grows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.policy import throttle
from pillarbox.policy.throttle import (
    ACCOUNT_GUESSES,
    DELAYS,
    HALF_LIFE,
    KNOWN_NETWORKS,
    KNOWN_SECONDS,
    NETWORK_GUESSES,
    Guess,
    Throttle,
)

ALICE, BOB = "alice@example.test", "bob@example.test"
HERE, NEAR, FAR = "198.51.100.7", "198.51.100.8", "203.0.113.9"
MINUTE = 60.0


@pytest.fixture
def brakes() -> Throttle:
    return Throttle(b"key of the test")


def guess(brakes: Throttle, peer: str = HERE, name: str = ALICE, proof: object = "", trusted: bool = False) -> Guess:
    return brakes.guess(peer, name, str(proof).encode(), trusted=trusted)


def fail(brakes: Throttle, times: int, now: float, peer: str = HERE, name: str = ALICE) -> None:
    for number in range(times):
        brakes.failed(guess(brakes, peer, name, f"{now} {number}"), now)


def fresh(number: int) -> str:
    """An address in a network of its own."""
    return f"{1 + number // 65536 % 223}.{number // 256 % 256}.{number % 256}.1"


def judged_in(brakes: Throttle, seconds: float, peers: list[str], name: str = ALICE) -> int:
    """How many of an attacker's guesses are judged, if all these addresses try again as soon as they may."""
    count, now = 0, 0.0
    while now < seconds:
        for peer in peers:
            one = guess(brakes, peer, name, (count, peer))
            if not brakes.wait(one, now):
                brakes.failed(one, now)
                count += 1
        now += 0.25
    return count


# An address.


@pytest.mark.parametrize(("failures", "delay"), list(enumerate([*DELAYS, DELAYS[-1], DELAYS[-1]])))
def test_an_address_waits_longer_after_each_failure(brakes: Throttle, failures: int, delay: float) -> None:
    fail(brakes, failures, 100.0)
    assert brakes.wait(guess(brakes, name=BOB), 100.0) == delay
    assert brakes.wait(guess(brakes, name=BOB), 100.0 + delay) == 0
    assert brakes.wait(guess(brakes, NEAR, BOB), 100.0) == 0


def test_an_ipv6_customer_is_one_address(brakes: Throttle) -> None:
    fail(brakes, 4, 0.0, "2001:db8:1:1::1")
    assert brakes.wait(guess(brakes, "2001:db8:1:1:ffff::2", BOB), 0.0) == DELAYS[-1]
    assert brakes.wait(guess(brakes, "2001:db8:1:2::1", BOB), 0.0) == 0


def test_half_of_the_failures_is_forgiven_in_a_half_life(brakes: Throttle) -> None:
    fail(brakes, 4, 0.0)
    fail(brakes, 1, HALF_LIFE)
    assert brakes.wait(guess(brakes, name=BOB), HALF_LIFE) == DELAYS[3]
    fail(brakes, 100, HALF_LIFE)
    now = HALF_LIFE + 5 * HALF_LIFE
    fail(brakes, 1, now)
    assert brakes.wait(guess(brakes, name=BOB), now) == DELAYS[1]


def test_an_address_has_one_guess_every_fifteen_seconds(brakes: Throttle) -> None:
    assert judged_in(brakes, 10 * MINUTE, [HERE]) <= len(DELAYS) + 10 * MINUTE / DELAYS[-1]


def test_an_old_password_that_a_client_repeats_is_one_failure(brakes: Throttle) -> None:
    for minute in range(60):
        assert brakes.wait(guess(brakes, proof="old"), minute * MINUTE) == 0
        brakes.failed(guess(brakes, proof="old"), minute * MINUTE)
    fail(brakes, 1, 3600.0)
    assert brakes.wait(guess(brakes), 3600.0) == DELAYS[1]


def test_the_same_password_for_another_account_is_another_guess(brakes: Throttle) -> None:
    for name in (ALICE, BOB, "carol@example.test"):
        brakes.failed(guess(brakes, name=name, proof="123456"), 0.0)
    assert brakes.wait(guess(brakes), 0.0) == DELAYS[3]


def test_an_own_account_does_not_pay_for_guesses_at_others(brakes: Throttle) -> None:
    fail(brakes, 3, 0.0, name=BOB)
    brakes.succeeded(guess(brakes), 0.0)
    assert brakes.wait(guess(brakes, name=BOB), 0.0) == DELAYS[3]


# Networks and accounts.


def test_no_minute_has_more_guesses_of_a_network(brakes: Throttle) -> None:
    peers = [f"198.51.100.{number}" for number in range(256)]
    names = iter(range(10**6))
    now, judged = 0.0, []
    while now < 5 * MINUTE:
        for peer in peers:
            one = guess(brakes, peer, f"user{next(names)}@example.test", now)
            if not brakes.wait(one, now):
                brakes.failed(one, now)
                judged.append(now)
        now += 1.0
    assert len(judged) > NETWORK_GUESSES
    assert all(sum(start <= time < start + MINUTE for time in judged) <= NETWORK_GUESSES for start in judged)
    assert brakes.wait(guess(brakes, FAR, BOB), now) == 0


@pytest.mark.parametrize("name", [ALICE, "nobody@example.test", "no name \udcff at all"])
def test_no_minute_has_more_guesses_at_an_account_whether_there_is_one(brakes: Throttle, name: str) -> None:
    peers = [fresh(number) for number in range(1000)]
    assert ACCOUNT_GUESSES - 1 <= judged_in(brakes, MINUTE, peers, name) <= ACCOUNT_GUESSES


def test_the_owner_is_not_slowed_where_he_has_logged_in_before(brakes: Throttle) -> None:
    brakes.succeeded(guess(brakes, HERE), 0.0)
    judged_in(brakes, MINUTE, [fresh(number) for number in range(1000)])
    now = MINUTE - 1
    assert brakes.wait(guess(brakes, HERE), now) == 0
    assert brakes.wait(guess(brakes, NEAR), now) == 0, "the same network"
    assert 0 < brakes.wait(guess(brakes, FAR), now) <= MINUTE / (ACCOUNT_GUESSES // 2)


def test_a_network_is_known_for_sixty_days(brakes: Throttle) -> None:
    brakes.succeeded(guess(brakes), 0.0)
    assert brakes.knows(guess(brakes), KNOWN_SECONDS - 1)
    assert not brakes.knows(guess(brakes), KNOWN_SECONDS)
    assert not brakes.knows(guess(brakes, name=BOB), 1.0)


def test_an_ipv6_network_is_known_by_its_64(brakes: Throttle) -> None:
    brakes.succeeded(guess(brakes, "2001:db8:1:1::1"), 0.0)
    assert brakes.knows(guess(brakes, "2001:db8:1:1::2"), 1.0)
    assert not brakes.knows(guess(brakes, "2001:db8:1:2::1"), 1.0)


def test_failures_of_the_owner_at_home_slow_nobody_elsewhere(brakes: Throttle) -> None:
    brakes.succeeded(guess(brakes), 0.0)
    fail(brakes, 100, 0.0)
    assert brakes.wait(guess(brakes, FAR), 0.0) == 0


def test_a_trusted_network_has_the_brake_of_accounts_alone(brakes: Throttle) -> None:
    for number in range(200):
        brakes.failed(guess(brakes, "127.0.0.1", f"user{number}@example.test", number, trusted=True), 0.0)
    assert brakes.wait(guess(brakes, "127.0.0.1", trusted=True), 0.0) == 0
    for number in range(ACCOUNT_GUESSES):
        brakes.failed(guess(brakes, "127.0.0.1", ALICE, number, trusted=True), 0.0)
    assert brakes.wait(guess(brakes, "127.0.0.1", trusted=True), 0.0) > 0
    assert brakes.slowed(0.0)["addresses"] == []


def test_limits(brakes: Throttle) -> None:
    brakes.limit(30.0, 1000, 1000)
    fail(brakes, 4, 0.0)
    assert brakes.wait(guess(brakes), 0.0) == 30.0
    brakes.limit(0.0, 1000, 1000)
    assert brakes.wait(guess(brakes), 0.0) == 0


# For a person.


@pytest.mark.parametrize(
    "clear",
    [
        Throttle.clear,
        lambda brakes: brakes.clear_address(HERE) or brakes.clear_account(ALICE),
        lambda brakes: brakes.clear_account(ALICE) or brakes.clear_address(HERE),
    ],
)
def test_clearing_ends_the_wait_for_a_verdict(brakes: Throttle, clear: Callable[[Throttle], object]) -> None:
    guess = brakes.guess(HERE, ALICE, b"x")
    held = brakes.brakes(guess, 0.0)
    brakes.verifying(held)
    assert brakes.wait(guess, 0.0)
    clear(brakes)
    assert not brakes.wait(guess, 0.0)
    brakes.verified(held)
    assert not brakes.wait(guess, 0.0)


def test_what_is_slowed_and_clearing_it(brakes: Throttle) -> None:
    for number in range(30):
        brakes.failed(guess(brakes, HERE, ALICE, number), 0.0)
    slowed = brakes.slowed(0.0)
    assert [(one.name, one.failures, one.wait) for one in slowed["addresses"]] == [(HERE, 8.0, 15.0)]
    assert [one.name for one in slowed["networks"]] == ["198.51.100.0/24"]
    assert [one.name for one in slowed["accounts"]] == [ALICE]
    assert brakes.slowed(0.0, HERE) == {**slowed, "accounts": []}
    assert brakes.slowed(0.0, name=ALICE) == {**slowed, "addresses": [], "networks": []}
    assert not any(brakes.slowed(0.0, name=BOB).values()) and not any(brakes.slowed(0.0, FAR).values())
    assert brakes.clear_account(ALICE) and not brakes.clear_account(ALICE)
    assert brakes.clear_address(HERE) and not brakes.clear_address(HERE)
    assert brakes.slowed(0.0) == {"addresses": [], "networks": [], "accounts": []}
    fail(brakes, 30, 0.0)
    brakes.clear()
    assert brakes.wait(guess(brakes), 0.0) == 0


def test_nothing_shows_a_secret(brakes: Throttle) -> None:
    one = guess(brakes, proof="canary")
    brakes.failed(one, 0.0)
    assert "canary" not in f"{one!r} {brakes.slowed(0.0)!r}" and repr(one.proof) not in repr(one)


# Bounds.

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "succeed", "pass time"]),
        st.sampled_from([HERE, NEAR, FAR, "2001:db8::1", "2001:db8::2", "unknown"]),
        st.sampled_from([ALICE, BOB, "", "\udcff" * 300]),
        st.integers(0, 5),
        st.floats(0, 3600),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_wait_is_longer_than_the_bound(steps: list[tuple[str, str, str, int, float]]) -> None:
    """As long as only what may be judged is: then every brake lets the next one pass within so many seconds."""
    brakes, now = Throttle(b"key"), 0.0
    bound = max(DELAYS[-1], MINUTE / (ACCOUNT_GUESSES // 2), MINUTE / (NETWORK_GUESSES // 2))
    for step, peer, name, proof, seconds in steps:
        one = guess(brakes, peer, name, proof)
        assert 0 <= brakes.wait(one, now) <= bound + 1e-6
        assert brakes.wait(one, now + bound + 1e-6) == 0
        if step == "pass time":
            now += seconds
        elif not brakes.wait(one, now):
            (brakes.failed if step == "fail" else brakes.succeeded)(one, now)
            if step == "succeed":
                assert brakes.knows(one, now)


@given(STEPS)
@settings(max_examples=50)
def test_who_only_succeeds_is_never_slowed_by_himself(steps: list[tuple[str, str, str, int, float]]) -> None:
    brakes, now = Throttle(b"key"), 0.0
    for _, peer, name, proof, seconds in steps:
        one = guess(brakes, peer, name, proof)
        assert brakes.wait(one, now) == 0
        brakes.succeeded(one, now)
        now += seconds / 100


def test_known_networks_are_bounded_and_the_newest_stay(brakes: Throttle) -> None:
    brakes.succeeded(guess(brakes, name=BOB), 0.0)
    for number in range(1000):
        brakes.succeeded(guess(brakes, fresh(number)), float(number))
    known = [number for number in range(1000) if brakes.knows(guess(brakes, fresh(number)), 1000.0)]
    assert known == list(range(1000 - KNOWN_NETWORKS, 1000))
    assert brakes.knows(guess(brakes, name=BOB), 1000.0), "one account drives out no other"


def test_a_million_addresses_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses and names that never come again; the tables are a sixteenth of their size, so that it takes less long."""
    for table in ("ADDRESSES", "NETWORKS", "ACCOUNTS"):
        monkeypatch.setattr(throttle, table, 4096)
    brakes = Throttle(b"key")
    brakes.succeeded(guess(brakes), 0.0)
    for number in range(5000):
        brakes.failed(guess(brakes, fresh(number), f"{number}@example.test", number), 0.0)
    tracemalloc.start()
    try:
        for number in range(5000, 100_000):
            peer = fresh(number)
            brakes.failed(Guess(peer, peer, peer, b"%8d" % number, peer, b"", False), 0.0)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 3 * 4096 * 300
    assert brakes.knows(guess(brakes), 1.0), "what is known stays"


# Verdicts that take a while.


def test_nothing_else_is_judged_behind_the_same_brakes_until_the_verdict(brakes: Throttle) -> None:
    held = brakes.brakes(guess(brakes), 0.0)
    brakes.verifying(held)
    assert brakes.wait(guess(brakes, HERE, BOB), 0.0), "its address"
    assert brakes.wait(guess(brakes, NEAR, BOB), 0.0), "its network"
    assert brakes.wait(guess(brakes, FAR), 0.0), "its account"
    assert not brakes.wait(guess(brakes, FAR, BOB), 0.0)
    assert not brakes.wait(guess(brakes, HERE, BOB, trusted=True), 0.0)
    brakes.verified(held)
    assert not brakes.wait(guess(brakes), 0.0)


def test_an_owner_waits_for_no_verdict_on_a_stranger(brakes: Throttle) -> None:
    brakes.succeeded(guess(brakes, FAR), 0.0)
    held = brakes.brakes(guess(brakes), 1.0)
    brakes.verifying(held)
    assert not brakes.wait(guess(brakes, FAR), 1.0)
    brakes.succeeded(guess(brakes), 1.0)  # what is held is let go as it was taken
    brakes.verified(held)
    assert not brakes.wait(guess(brakes, HERE, BOB), 1.0) and not brakes.wait(guess(brakes, fresh(7)), 1.0)
