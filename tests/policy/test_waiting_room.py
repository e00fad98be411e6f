"""Who waits for the throttle, for how long, and in which order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.policy.throttle import DELAYS, KNOCKS_FREE, Guess, Throttle
from pillarbox.policy.waiting_room import LONGEST_WAIT, PLACES, PLACES_PER_ADDRESS, WaitingRoom

ALICE, BOB = "alice@example.test", "bob@example.test"
HERE, FAR = "198.51.100.7", "203.0.113.9"


@pytest.fixture
def brakes() -> Throttle:
    return Throttle(b"key of the test")


@pytest.fixture
def room(brakes: Throttle) -> WaitingRoom[int]:
    return WaitingRoom(brakes, random.Random(7).random)


def guess(brakes: Throttle, peer: str = HERE, name: str = ALICE, proof: object = "") -> Guess:
    return brakes.guess(peer, name, str(proof).encode())


def fresh(number: int) -> str:
    return f"10.{number // 250}.{number % 250}.1"


def attack(brakes: Throttle, peer: str, failures: int = 4, name: str = BOB) -> None:
    for number in range(failures):
        brakes.failed(guess(brakes, peer, name, number), 0.0)


def test_attempts_of_one_address_are_judged_one_after_another(brakes: Throttle, room: WaitingRoom[int]) -> None:
    attack(brakes, HERE)
    for number in range(3):
        assert room.enter(number, guess(brakes, proof=number), 0.0) is None
    judged = []
    for second in range(60):
        for number, one, may in room.due(float(second)):
            assert may
            brakes.failed(one, float(second))
            judged.append((number, second))
    assert judged == [(0, 15), (1, 30), (2, 45)]
    assert not len(room)


def test_good_logins_behind_one_address_are_not_serialised(brakes: Throttle, room: WaitingRoom[int]) -> None:
    attack(brakes, HERE, 1)
    for number in range(5):
        assert room.enter(number, guess(brakes, proof=number), 0.0) is None
    for number, one, may in room.due(2.0):
        assert may and number in range(5)
        brakes.succeeded(one, 2.0)
    assert not len(room)


def test_whose_time_is_over_is_told(brakes: Throttle, room: WaitingRoom[int]) -> None:
    attack(brakes, HERE)
    room.enter(1, guess(brakes), 0.0)
    now = 0.0
    while 1 in room:
        brakes.failed(guess(brakes, proof=now), now)
        now += 10.0
        found = list(room.due(now))
    assert [(number, may) for number, _, may in found] == [(1, False)]
    assert now >= LONGEST_WAIT


def test_a_known_network_goes_first_and_finds_a_place(brakes: Throttle, room: WaitingRoom[int]) -> None:
    attack(brakes, HERE)
    brakes.succeeded(guess(brakes), 0.0)
    for number in range(PLACES_PER_ADDRESS):
        assert room.enter(number, guess(brakes, name=BOB, proof=number), 0.0) is None
    assert room.enter(98, guess(brakes, name=BOB), 0.0) == 98
    assert room.enter(99, guess(brakes), 0.0) == PLACES_PER_ADDRESS - 1, "the newest stranger goes"
    assert next(iter(room.due(DELAYS[-1])))[0] == 99


def test_an_owner_on_the_road_is_judged_while_a_thousand_addresses_guess(
    brakes: Throttle, room: WaitingRoom[int]
) -> None:
    """They try again as soon as they are told to go; he tries every ten seconds, from a network that nobody knows."""
    number, owner, now, heard = 0, {-1}, 0.0, None
    while heard is None and now < 300:
        for peer in map(fresh, range(1000)):
            number += 1
            if room.must_wait(one := guess(brakes, peer, ALICE, number), now):
                room.enter(number, one, now)
            else:
                brakes.failed(one, now)
        if now >= 60 and now % 10 == 0 and not owner & set(room.keys()):
            owner.add(-int(now))
            room.enter(-int(now), guess(brakes, FAR), now)
        for key, one, may in room.due(now):
            if key < 0 and may:
                heard = now
            elif may:
                brakes.failed(one, now)
        now += 1.0
    assert heard is not None and heard <= 60 + 6, "the next free turn is his"


def test_with_all_places_taken_the_last_of_the_last_goes(brakes: Throttle, room: WaitingRoom[int]) -> None:
    for number in range(1000):
        attack(brakes, fresh(number), 1, ALICE)
    for number in range(PLACES):
        assert room.enter(number, guess(brakes, fresh(number), ALICE, "x"), 10.0) is None
    assert room.enter(PLACES, guess(brakes, fresh(PLACES), ALICE, "x"), 10.0) == PLACES
    assert room.enter(-1, guess(brakes, FAR), 10.0) == PLACES - 1
    assert next(iter(room.due(20.0)))[0] == -1


def test_nobody_overtakes_those_who_wait_for_the_same_brake(brakes: Throttle, room: WaitingRoom[int]) -> None:
    for number in range(20):
        brakes.failed(guess(brakes, fresh(number), ALICE, number), 0.0)
    room.enter(1, guess(brakes), 0.0)
    free = 30.0
    assert not brakes.wait(guess(brakes, FAR), free)
    assert room.must_wait(guess(brakes, FAR), free)
    assert not room.must_wait(guess(brakes, FAR, BOB), free)
    assert room.must_wait(guess(brakes, HERE, BOB), free)
    brakes.succeeded(guess(brakes, FAR), free)
    assert not room.must_wait(guess(brakes, FAR), free), "the network is known now"
    assert [key for key, _, _ in room.due(free)] == [1]
    assert not room.must_wait(guess(brakes, "192.0.2.1"), free)


def test_who_leaves_is_forgotten(brakes: Throttle, room: WaitingRoom[int]) -> None:
    attack(brakes, HERE)
    for number in range(PLACES_PER_ADDRESS):
        room.enter(number, guess(brakes, proof=number), 0.0)
    room.leave(0)
    room.leave(0)
    assert 0 not in room and len(room) == PLACES_PER_ADDRESS - 1
    assert room.enter(100, guess(brakes), 0.0) is None
    left = iter(room.due(DELAYS[-1]))
    assert next(left)[0] == 1
    room.leave(2)
    assert next(left)[0] == 3, "who leaves during a look is not judged"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([HERE, FAR, *map(fresh, range(20))]),
            st.sampled_from([ALICE, BOB]),
            st.booleans(),
            st.floats(0, 5),
        ),
        max_size=120,
    )
)
def test_everybody_is_judged_or_told_within_the_bound(steps: list[tuple[str, str, bool, float]]) -> None:
    brakes, now = Throttle(b"key"), 0.0
    room: WaitingRoom[int] = WaitingRoom(brakes, random.Random(7).random)
    arrived: dict[int, float] = {}
    gone = set()
    for number, (peer, name, right, seconds) in enumerate([*steps, (HERE, ALICE, True, LONGEST_WAIT)]):
        assert room.enter(number, guess(brakes, peer, name, number), now) != -1
        arrived[number] = now
        gone.update(key for key in arrived if key not in room)
        now += seconds
        for key, one, may in room.due(now):
            assert key not in gone and may == (not brakes.wait(one, now))
            gone.add(key)
            if may:
                (brakes.succeeded if right else brakes.failed)(one, now)
        assert all(now - arrived[key] < LONGEST_WAIT for key in arrived if key in room)
        assert len(room) <= PLACES
    assert gone == set(arrived)


# An owner on the road, with a password that could be guessed, while somebody wants to keep him out.

ROTATIONS: dict[str, tuple[int, Callable[[int], str], float]] = {  # addresses, and within how many minutes he is judged
    "an IPv6 /56": (256, lambda number: f"2001:db8:0:{number:x}::1", 2),
    "an IPv4 /24": (250, lambda number: f"192.0.2.{number}", 2),
    "60 networks": (60, fresh, 30),
    "250 networks": (250, fresh, 30),
}


def seconds_until_the_owner_is_judged(seed: int, addresses: int, peer: Callable[[int], str], retry: float) -> float:
    """One attempt every three seconds, each from the next address, for twenty minutes already when he comes."""
    brakes = Throttle(b"key")
    room: WaitingRoom[int] = WaitingRoom(brakes, random.Random(seed).random)
    came, now, number, tries = 1200.0 + seed, 0.0, 0, 0
    while now < came + 7200:
        arrivals = []
        if now >= number / 0.35:
            number += 1
            arrivals.append((number, guess(brakes, peer(number % addresses), ALICE, number)))
        if now >= came + retry * tries:
            tries += 1
            arrivals.append((-tries, guess(brakes, FAR)))
        judged = [(key, one) for key, one in arrivals if not room.must_wait(one, now)]
        for key, one in arrivals:
            if (key, one) not in judged:
                room.enter(key, one, now)
        for key, one in judged:
            if key < 0:
                return now - came
            brakes.failed(one, now)
        for key, one, may in room.due(now):
            if may and key < 0:
                return now - came
            if may:
                brakes.failed(one, now)
        now += 0.5
    return float("inf")


@pytest.mark.parametrize("retry", [10.0, LONGEST_WAIT + 1, 300.0])
@pytest.mark.parametrize("where", ROTATIONS)
def test_addresses_in_rotation_do_not_keep_an_owner_out_who_tries_again(where: str, retry: float) -> None:
    """Each verdict is his with a probability of one in 17 at least, as the others that wait are 16, and of one in two
    where all these are of one network. Who waits always is not judged within half an hour once in 10**8 times."""
    addresses, peer, minutes = ROTATIONS[where]
    minutes = max(minutes, retry / 4)  # who tries every five minutes is there for a seventh of the time
    waited = [seconds_until_the_owner_is_judged(seed, addresses, peer, retry) for seed in range(8)]
    assert max(waited) <= 60 * minutes


def test_one_network_that_fills_all_places_has_one_lot_and_makes_room(brakes: Throttle, room: WaitingRoom[int]) -> None:
    for number in range(20):
        brakes.failed(guess(brakes, fresh(number), ALICE, number), 0.0)
    for number in range(PLACES):
        assert room.enter(number, guess(brakes, f"192.0.2.{number}", proof=number), 0.0) is None
    assert room.enter(-1, guess(brakes, FAR), 1.0) == PLACES - 1
    assert -1 in [key for key, _, _ in room.due(30.0)][:2]


def test_to_wait_in_vain_costs_nothing(brakes: Throttle, room: WaitingRoom[int]) -> None:
    before = brakes.rank(guess(brakes), 0.0)
    for number in range(PLACES_PER_ADDRESS):
        room.enter(number, guess(brakes, proof=number), 0.0)
    assert brakes.rank(guess(brakes), 0.0) == before


def test_who_tries_again_and_again_without_a_place_comes_behind(brakes: Throttle, room: WaitingRoom[int]) -> None:
    before = brakes.rank(guess(brakes), 0.0)
    for number in range(PLACES_PER_ADDRESS + KNOCKS_FREE):
        room.enter(number, guess(brakes, proof=number), 0.0)
    assert brakes.rank(guess(brakes), 0.0) == before, "as a client may that asks every minute"
    room.enter(-1, guess(brakes), 0.0)
    assert brakes.rank(guess(brakes), 0.0) == before + 1


def test_neighbours_of_one_network_have_their_turns_too(brakes: Throttle, room: WaitingRoom[int]) -> None:
    """Another's eight attempts go before nobody's first, and attempts at another account don't count."""
    for number in range(PLACES_PER_ADDRESS - 1):
        room.enter(number, guess(brakes, "198.51.100.1", proof=number), 0.0)
    room.enter(50, guess(brakes, "198.51.100.1", BOB), 0.0)
    room.enter(99, guess(brakes, HERE), 0.0)
    assert [key for key, _, _ in room.due(0.0) if key != 50][:2] == [0, 99]


def test_a_secret_that_nobody_guesses_waits_for_no_account(brakes: Throttle, room: WaitingRoom[int]) -> None:
    for number in range(30):
        brakes.failed(guess(brakes, fresh(number), ALICE, number), 0.0)
    for number in range(PLACES):
        room.enter(number, guess(brakes, fresh(number), ALICE, "x"), 0.0)
    one = replace(guess(brakes, FAR), generated=True)
    assert room.must_wait(guess(brakes, FAR), 0.0) and not room.must_wait(one, 0.0)
    brakes.failed(guess(brakes, FAR, BOB), 0.0)
    assert room.must_wait(one, 0.0), "for its address"
    assert room.enter(-1, one, 0.0) is not None and -1 in room
    assert next(iter(room.due(DELAYS[-1])))[0] == -1
