"""Which addresses look shared, and which logins leave a grant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy import sharing
from pillarbox.policy.networks import Networks
from pillarbox.policy.sharing import DAY, Sightings, may_mint
from pillarbox.terms import Mechanism

ALICE, BOB = "alice@example.test", "bob@example.test"
V4, V6 = "192.0.2.1", "2001:db8::1"
NONE = Networks(())


@pytest.fixture
def seen() -> Sightings:
    return Sightings()


def test_an_address_of_ones_own(seen: Sightings) -> None:
    assert seen.looks_shared(V4, ALICE, 0) == ""
    for hour in range(48):
        seen.logged_in(V4, ALICE, hour * 3600)
    assert seen.looks_shared(V4, ALICE, 48 * 3600) == ""


@pytest.mark.parametrize("me", [ALICE, "carol@example.test"])
def test_another_accounts_login(seen: Sightings, me: str) -> None:
    seen.logged_in(V4, BOB, 0)
    seen.logged_in(V4, me, 10)
    assert seen.looks_shared(V4, me, 10) == "2 accounts or more have logged in from there within a day"
    assert seen.looks_shared(V4, me, DAY - 1) != ""
    assert seen.looks_shared(V4, me, DAY) == ""
    assert seen.looks_shared(V6, me, 10) == ""


def test_the_first_to_come_loses_it_too(seen: Sightings) -> None:
    seen.logged_in(V4, ALICE, 0)
    assert seen.looks_shared(V4, ALICE, 0) == ""
    seen.logged_in(V4, BOB, 1)
    assert seen.looks_shared(V4, ALICE, 2) != ""


def test_others_failures(seen: Sightings) -> None:
    seen.failed(V4, "root", 0)
    assert seen.looks_shared(V4, ALICE, DAY - 1) == "somebody else has failed to log in from there within a day"
    assert seen.looks_shared(V4, ALICE, DAY) == ""


def test_two_typos_are_a_persons(seen: Sightings) -> None:
    for second in range(2):
        seen.failed(V4, ALICE, second)
    assert seen.looks_shared(V4, ALICE, 2) == ""
    seen.failed(V4, ALICE, 2)
    assert seen.looks_shared(V4, ALICE, 3) == "more than 2 logins of that account have failed from there within a day"
    assert seen.looks_shared(V4, ALICE, DAY - 1) != ""
    assert seen.looks_shared(V4, ALICE, DAY) == ""  # the first is a day ago, two are left


def test_an_address_is_the_same_however_it_is_written(seen: Sightings) -> None:
    seen.logged_in("::ffff:192.0.2.1", BOB, 0)
    assert seen.looks_shared(V4, ALICE, 0) != ""
    seen.failed("2001:DB8:0::1", BOB, 0)
    assert seen.looks_shared(V6, ALICE, 0) != ""
    assert seen.looks_shared("2001:db8::2", ALICE, 0) == ""


def test_what_is_no_address_and_no_name_is_taken_too(seen: Sightings) -> None:
    seen.failed("unknown", "\udcff" * 10_000, 0)
    assert seen.looks_shared("unknown", ALICE, 0) != ""


def test_no_name_is_kept(seen: Sightings) -> None:
    seen.failed(V4, "my password by mistake", 0)
    assert "password" not in repr(vars(seen))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.sampled_from("abcdefgh"))
def test_forgetting_names_hides_nobody(names: list[str], me: str) -> None:
    """Only some names of an address are kept; whether there is another than mine is known all the same."""
    logins, failures = Sightings(), Sightings()
    for now, name in enumerate(names):
        logins.logged_in(V4, name, now)
        failures.failed(V4, name, now)
    others = set(names) - {me}
    assert bool(logins.looks_shared(V4, me, len(names))) is bool(others)
    assert bool(failures.looks_shared(V4, me, len(names))) is bool(others or len(names) > sharing.TYPOS)


def test_memory_is_bounded_and_failures_drive_out_no_login(seen: Sightings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "ADDRESSES", 10)
    seen.logged_in(V4, BOB, 0)
    for number in range(100):
        seen.failed(f"2001:db8::{number:x}", "x", number)
        for name in range(100):
            seen.failed(V4, str(name), number)
    assert len(seen._failures) == 10 and len(seen._failures[V4]) == sharing.NAMES
    assert "logged in" in seen.looks_shared(V4, ALICE, 0)
    for number in range(100):
        seen.logged_in(f"2001:db8::{number:x}", ALICE, number)
    assert len(seen._logins) == 10


def test_the_address_that_was_seen_longest_ago_is_forgotten(seen: Sightings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "ADDRESSES", 2)
    for address in (V4, V6, V4, "192.0.2.2"):
        seen.logged_in(address, BOB, 0)
    assert [bool(seen.looks_shared(address, ALICE, 0)) for address in (V4, V6, "192.0.2.2")] == [True, False, True]


# What leaves a grant.


def minted(
    address: str = V4,
    mechanism: Mechanism = Mechanism.APOP,
    *,
    secured: bool = False,
    trusted: bool = False,
    shared: Networks = NONE,
    unshared: Networks = NONE,
    sighted: str = "",
) -> str:
    return may_mint(
        address, mechanism, secured=secured, trusted=trusted, shared=shared, unshared=unshared, sighted=sighted
    )


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("secured", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
def test_a_password_in_the_clear_leaves_none(mechanism: Mechanism, secured: bool, trusted: bool) -> None:
    digest = mechanism not in (Mechanism.USER_PASS, Mechanism.PLAIN, Mechanism.LOGIN)
    reason = minted(mechanism=mechanism, secured=secured, trusted=trusted)
    assert (reason == "") is (digest or secured or trusted)
    assert reason in ("", "the password crossed an untrusted network in the clear")


def test_a_shared_address_leaves_none() -> None:
    assert minted(sighted="2 accounts") == "2 accounts"


def test_a_configured_household_shares_its_address() -> None:
    home = Networks(("192.0.2.0/24",))
    assert minted(unshared=home, sighted="2 accounts") == ""
    assert minted("198.51.100.1", unshared=home, sighted="2 accounts") == "2 accounts"
    assert minted(mechanism=Mechanism.USER_PASS, unshared=home) != ""


def test_a_configured_shared_network_leaves_none() -> None:
    carrier = Networks(("100.64.0.0/10",))
    for address in ("100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1"):
        assert (
            minted(address, secured=True, trusted=True, shared=carrier, unshared=carrier)
            == "the address lies in relay.shared"
        )
    assert minted("100.128.0.1", shared=carrier) == ""
