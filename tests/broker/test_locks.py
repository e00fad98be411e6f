"""Who holds a maildrop, and who waits."""

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.broker.locks import WAITERS_LIMIT, Holder, Locks


def holder(number, since=0.0):
    return Holder((0, number), "192.0.2.1", since)


def test_the_second_waits_and_gets_it():
    locks = Locks()
    assert locks.take("a", holder(1))
    assert not locks.take("a", holder(2))
    assert locks.wait("a", holder(2)) and locks.wait("a", holder(3))
    assert locks.release((0, 1)) == ("a", holder(2))
    assert locks.holder("a") == holder(2)
    assert locks.release((0, 2)) == ("a", holder(3))
    assert locks.release((0, 3)) is None
    assert locks.holder("a") is None


def test_who_gives_up_is_passed_over():
    locks = Locks()
    locks.take("a", holder(1))
    locks.wait("a", holder(2))
    locks.wait("a", holder(3))
    assert locks.give_up("a", (0, 2)) and not locks.give_up("a", (0, 2))
    assert locks.release((0, 1)) == ("a", holder(3))


def test_too_many_do_not_wait():
    locks = Locks()
    locks.take("a", holder(0))
    assert all(locks.wait("a", holder(n)) for n in range(1, WAITERS_LIMIT + 1))
    assert not locks.wait("a", holder(99))


def test_releasing_twice_is_harmless():
    locks = Locks()
    locks.take("a", holder(1))
    assert locks.release((0, 1)) is None and locks.release((0, 1)) is None


@given(st.lists(st.tuples(st.sampled_from("twrg"), st.sampled_from("ab"), st.integers(0, 5))))
def test_never_two_holders(steps):
    """Against a model: a maildrop has one holder, and a session holds at most what it was given."""
    locks, holds, waits = Locks(), {}, {"a": [], "b": []}
    busy = set()
    for step, account, number in steps:
        session = (0, number)
        if step in "tw" and session not in busy:
            if locks.take(account, holder(number)):
                assert account not in holds
                holds[account] = session
                busy.add(session)
            else:
                assert account in holds
                assert locks.wait(account, holder(number))
                waits[account].append(session)
                busy.add(session)
        elif step == "r" and session in holds.values():
            account = next(a for a, s in holds.items() if s == session)
            following = locks.release(session)
            busy.discard(session)
            del holds[account]
            if waits[account]:
                holds[account] = waits[account].pop(0)
                assert following and following[1].session == holds[account]
            else:
                assert following is None
        elif step == "g":
            waiting = session in waits[account]
            assert locks.give_up(account, session) == waiting
            if waiting:
                waits[account].remove(session)
                busy.discard(session)
    assert {a: s for a in "ab" if (h := locks.holder(a)) and (s := h.session)} == holds
