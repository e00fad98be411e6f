"""Connection counts shared by all network processes."""

import mmap

from pillarbox.network.crowd import Crowd


def test_all_processes_are_counted_and_a_dead_one_is_forgotten():
    shared = mmap.mmap(-1, Crowd.size(2))
    one, two = Crowd(shared, 2, 0, 5), Crowd(shared, 2, 1, 5)
    one.enter(("", "a"))
    two.enter(("", "a"))
    two.enter(("", "b"))
    assert one.count("") == two.count("") == 3 and one.count("a") == 2 and two.count("b") == 1
    two.leave(("", "b"))
    assert one.count("") == 2
    Crowd.clear(shared, 1)
    assert one.count("") == 1 and one.count("a") == 1


def test_counts_never_wrap():
    crowd = Crowd(mmap.mmap(-1, Crowd.size(1)), 1, 0, 5)
    crowd.leave(("a",))
    assert crowd.count("a") == 0
