"""Who waits: until when, for room in which lane, and who is called next."""

from __future__ import annotations

from collections.abc import Hashable

from pillarbox.delivery.waiting import Part, Waiting


def everywhere(_: Hashable) -> bool:
    return True


def taken(waiting: Waiting, now: float) -> list[str]:
    """All that is due."""
    found = []
    while one := waiting.take(now):
        found.append(one[0])
    return found


def test_the_one_that_is_due_longest_comes_first() -> None:
    waiting = Waiting()
    waiting.add_all([(30, "c"), (10, "a")])
    waiting.until(20, "b")
    assert taken(waiting, 9) == []
    assert taken(waiting, 25) == ["a", "b"]
    assert len(waiting) == 1
    assert taken(waiting, 30) == ["c"]


def test_what_is_found_at_the_start_and_waits_already_waits_as_it_did() -> None:
    waiting = Waiting()
    waiting.until(50, "a")
    waiting.add_all([(0, "a"), (0, "b")])
    assert taken(waiting, 49) == ["b"]
    assert taken(waiting, 50) == ["a"]


def test_what_is_put_off_comes_once() -> None:
    waiting = Waiting()
    waiting.until(10, "a")
    waiting.until(20, "a")
    assert taken(waiting, 15) == []
    assert taken(waiting, 30) == ["a"]


def test_what_is_dropped_waits_no_more() -> None:
    waiting = Waiting()
    waiting.until(10, "a")
    waiting.for_room("b", ["x"])
    assert waiting.drop("a") == 10
    assert waiting.drop("a") is None
    waiting.drop("b")
    waiting.call_in_turn(0, everywhere, 9)
    assert taken(waiting, 99) == []


def test_who_waits_for_several_lanes_is_called_for_any_and_once() -> None:
    for lane in ("x", "y"):
        waiting = Waiting()
        waiting.for_room("a", ["x", "y"])
        waiting.call_in_turn(0, lambda one, lane=lane: one == lane, 9)  # type: ignore[misc]
        assert taken(waiting, 0) == ["a"]
        waiting.call_in_turn(0, everywhere, 9)
        assert taken(waiting, 0) == []


def test_who_is_called_for_one_lane_is_called_for_all_it_waits_for() -> None:
    """Or of many messages to one list of many domains each that ends would call as many others as there are domains."""
    waiting = Waiting()
    for identity in ("a", "b", "c"):
        waiting.for_room(identity, ["x", "y", "z"])
    waiting.for_room("d", ["w", "z"])
    waiting.call(0, everywhere, ["x", "y", "z"])
    assert taken(waiting, 0) == ["a"]
    waiting.call_in_turn(1, everywhere, 9)
    assert taken(waiting, 1) == ["b", "d"]
    waiting.call_in_turn(2, everywhere, 9)
    assert taken(waiting, 2) == ["c"]


def test_lanes_are_called_in_turn_and_nobody_else_than_there_is_room_for() -> None:
    waiting = Waiting()
    for identity in ("a1", "a2", "a3"):
        waiting.for_room(identity, ["a"])
    waiting.for_room("b1", ["b"])
    order = []
    for now in range(4):
        waiting.call_in_turn(now, everywhere, 1)
        order += taken(waiting, now)
    assert order == ["a1", "b1", "a2", "a3"]


def test_behind_those_that_are_gone_the_next_is_called() -> None:
    waiting = Waiting()
    for identity in ("a", "b", "c"):
        waiting.for_room(identity, ["x"])
    waiting.drop("a")
    waiting.until(500, "b")
    waiting.call_in_turn(1, everywhere, 1)
    assert taken(waiting, 1) == ["c"]


def test_a_part_that_gets_room_leaves_the_rest_its_time() -> None:
    waiting = Waiting()
    waiting.for_room("a", ["x"], rest=100)
    waiting.call_in_turn(10, everywhere, 9)
    waiting.call_in_turn(10, everywhere, 9)
    assert waiting.take(10) == ("a", Part(frozenset(["x"]), 100))
    assert waiting.take(100) is None


def test_when_the_rest_is_due_before_there_is_room_the_whole_is_tried() -> None:
    waiting = Waiting()
    waiting.for_room("a", ["x"], rest=100)
    assert waiting.take(99) is None
    assert waiting.take(100) == ("a", None)
    waiting.call_in_turn(100, everywhere, 9)
    assert waiting.take(200) is None


def test_when_everything_is_wanted_now_nobody_waits_for_room() -> None:
    waiting = Waiting()
    waiting.for_room("a", ["x"], rest=100)
    waiting.for_room("b", ["x"])
    waiting.until(50, "c")
    waiting.all_due(7)
    assert [waiting.take(7) for _ in range(3)] == [("a", None), ("b", None), ("c", None)]
    waiting.call_in_turn(8, everywhere, 9)
    assert waiting.take(200) is None


def test_only_lanes_that_are_named_and_have_room_are_called() -> None:
    waiting = Waiting()
    for lane in ("x", "y", "z"):
        waiting.for_room(lane, [lane])
    waiting.call(0, lambda lane: lane != "y", ["x", "y", "nobody's"])
    assert taken(waiting, 0) == ["x"]
