"""The broker's books of APOP challenges, and the same books kept naively."""

from __future__ import annotations

import re

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pillarbox.policy.challenges import Challenges

NOW = 1_800_000_000.0
HOST = "mail.example.test"
MSG_ID = re.compile(rb"<[0-9a-f]{32}\.[0-9a-f]+\.[0-9]+@[A-Za-z0-9.-]+>")
ZEROS = bytes(16)


@pytest.fixture
def challenges() -> Challenges:
    return Challenges(HOST)


def test_the_form_is_one_that_strict_clients_take(challenges: Challenges) -> None:
    challenge = challenges.issue(0, bytes(range(16)), NOW + 0.9)
    assert challenge == b"<000102030405060708090a0b0c0d0e0f.1.1800000000@mail.example.test>"
    assert MSG_ID.fullmatch(challenge)


def test_each_is_different_even_with_a_stuck_clock_and_no_randomness(challenges: Challenges) -> None:
    assert len({challenges.issue(issuer, ZEROS, NOW) for issuer in (0, 1) for _ in range(500)}) == 1000


@pytest.mark.parametrize("random", [b"", bytes(15), bytes(17)])
def test_too_little_randomness_is_a_bug_of_ours(challenges: Challenges, random: bytes) -> None:
    with pytest.raises(ValueError, match="16 random octets"):
        challenges.issue(0, random, NOW)


@pytest.mark.parametrize(
    "host", ["", "mail_host", "a b", "mail.example.test\n", "m\u00fcller.test", "a..b", ".a", "[::1]"]
)
def test_a_host_that_is_no_msg_id_domain_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="can't stand in a challenge"):
        Challenges(host)


def test_three_attempts_then_it_is_void(challenges: Challenges) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    for left in (2, 1, 0):
        assert challenges.spend(0, challenge, NOW) == left
        assert challenges.failed(challenge) == left
    assert challenges.spend(0, challenge, NOW) is None


def test_an_attempt_counts_when_it_is_spent_not_when_it_has_failed(challenges: Challenges) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    assert [challenges.spend(0, challenge, NOW) for _ in range(4)] == [2, 1, 0, None]


def test_one_success_and_it_is_void(challenges: Challenges) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    challenges.spend(0, challenge, NOW)
    challenges.succeeded(challenge)
    assert challenges.spend(0, challenge, NOW) is None
    assert challenges.failed(challenge) == 0


def test_another_network_process_can_not_use_it_nor_spoil_it(challenges: Challenges) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    assert challenges.spend(1, challenge, NOW) is None
    challenges.issue(1, ZEROS, NOW)
    assert challenges.spend(1, challenge, NOW) is None
    assert challenges.spend(0, challenge, NOW) == 2


@pytest.mark.parametrize("forged", [b"", b"<>", b"<1.2@example.test>"])
def test_what_was_never_issued_is_unknown(challenges: Challenges, forged: bytes) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    for attempt in (forged, challenge.upper(), challenge[1:-1], challenge + b" "):
        assert challenges.spend(0, attempt, NOW) is None


def test_age_counts_from_the_greeting(challenges: Challenges) -> None:
    first, second = challenges.issue(0, ZEROS, NOW), challenges.issue(0, ZEROS, NOW)
    challenges.greeted(0, 1, NOW + 5000)
    assert challenges.spend(0, first, NOW + 5600) == 2
    assert challenges.spend(0, first, NOW + 5601) is None
    assert challenges.spend(0, second, NOW + 9999) == 2


def test_a_login_that_overtakes_the_report_of_its_greeting_counts_as_greeted(challenges: Challenges) -> None:
    first, second = challenges.issue(0, ZEROS, NOW), challenges.issue(0, ZEROS, NOW)
    assert challenges.spend(0, first, NOW) == 2
    challenges.greeted(0, 1, NOW + 300)  # reports the first one, which we know of already
    assert challenges.spend(0, first, NOW + 601) is None
    assert challenges.spend(0, second, NOW + 2000) == 2


@pytest.mark.parametrize("count", [-1, 0])
def test_a_report_of_nothing_changes_nothing(challenges: Challenges, count: int) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    challenges.greeted(0, count, NOW)
    assert challenges.spend(0, challenge, NOW + 9999) == 2


def test_a_report_of_more_than_there_are_is_bounded(challenges: Challenges) -> None:
    challenge = challenges.issue(0, ZEROS, NOW)
    challenges.greeted(0, 1 << 62, NOW)
    challenges.greeted(7, 1 << 62, NOW)
    assert challenges.spend(0, challenge, NOW + 601) is None


def test_the_death_of_a_process_voids_its_challenges_only(challenges: Challenges) -> None:
    dead, alive = challenges.issue(0, ZEROS, NOW), challenges.issue(1, ZEROS, NOW)
    challenges.forget_issuer(0)
    challenges.forget_issuer(0)
    assert challenges.spend(0, dead, NOW) is None
    assert challenges.spend(1, alive, NOW) == 2


def test_a_flood_makes_its_own_oldest_void_and_nobody_elses() -> None:
    challenges = Challenges(HOST, capacity=10)
    other = challenges.issue(1, ZEROS, NOW)
    flood = [challenges.issue(0, ZEROS, NOW) for _ in range(1000)]
    assert [challenges.spend(0, challenge, NOW) for challenge in flood] == [None] * 990 + [2] * 10
    assert challenges.spend(1, other, NOW) == 2


def test_books_shrink_when_clients_greet_and_never_log_in(challenges: Challenges) -> None:
    for second in range(5000):
        challenges.issue(0, ZEROS, NOW + second)
        challenges.greeted(0, 1, NOW + second)
    book = challenges._books[0]
    assert len(book.issued) <= 602
    assert not book.stock


def test_a_process_that_never_reports_does_not_fill_our_memory() -> None:
    challenges = Challenges(HOST, capacity=10)
    for _ in range(1000):
        challenges.succeeded(challenges.issue(0, ZEROS, NOW))
    assert len(challenges._books[0].stock) <= 10


class Books(RuleBasedStateMachine):
    """Against a list of everything that ever happened. Life 10 s, 2 attempts, no flood."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.challenges = Challenges(HOST, life=10.0, attempts=2)
        self.issued: list[tuple[int, bytes]] = []
        self.reported: dict[int, int] = {0: 0, 1: 0}
        self.greeted: dict[bytes, float] = {}
        self.left: dict[bytes, int] = {}

    def of(self, issuer: int) -> list[bytes]:
        return [challenge for owner, challenge in self.issued if owner == issuer]

    @rule(issuer=st.integers(0, 1))
    def issue(self, issuer: int) -> None:
        challenge = self.challenges.issue(issuer, ZEROS, self.now)
        self.issued.append((issuer, challenge))
        self.left[challenge] = 2

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 9.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(issuer=st.integers(0, 1), count=st.integers(0, 3))
    def greet(self, issuer: int, count: int) -> None:
        self.challenges.greeted(issuer, count, self.now)
        start = self.reported[issuer]
        for challenge in self.of(issuer)[start : start + count]:
            self.greeted.setdefault(challenge, self.now)
            self.reported[issuer] += 1

    @precondition(lambda self: self.issued)
    @rule(issuer=st.integers(0, 1), data=st.data())
    def log_in(self, issuer: int, data: st.DataObject) -> None:
        owner, challenge = data.draw(st.sampled_from(self.issued))
        left = self.challenges.spend(issuer, challenge, self.now)
        if issuer != owner or not self.left[challenge]:
            assert left is None
        elif self.now - self.greeted.setdefault(challenge, self.now) > 10.0:
            assert left is None
            self.left[challenge] = 0
        else:
            self.left[challenge] -= 1
            assert left == self.left[challenge]
            if data.draw(st.booleans(), label="right"):
                self.challenges.succeeded(challenge)
                self.left[challenge] = 0
            else:
                assert self.challenges.failed(challenge) == left

    @rule(issuer=st.integers(0, 1))
    def die(self, issuer: int) -> None:
        self.challenges.forget_issuer(issuer)
        self.left |= dict.fromkeys(self.of(issuer), 0)
        self.reported[issuer] = len(self.of(issuer))


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
