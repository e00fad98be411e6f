"""`pillarbox queue`: what is shown, and what is done, with a server and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.commands import queue
from pillarbox.commands.queue_view import outcome, plain, span
from pillarbox.delivery.control import Control
from pillarbox.home import Home
from pillarbox.store.queue import DiskQueue
from pillarbox.terms import Envelope, Misuse, Outcome, Refused, TryLater

from ..delivery.local_server import served

SUBJECT = b"Subject: \x1b[2J caf\xc3\xa9\nTo: bob\n\nbody\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "home"))
    home.make()
    for folder in (home.run, home.queue):
        os.mkdir(folder, 0o700)
    return home


@pytest.fixture
def store(home: Home) -> DiskQueue:
    return DiskQueue(home.queue)


def put(store: DiskQueue, *recipients: bytes, sender: bytes = b"ann@home.test", content: bytes = SUBJECT) -> str:
    identity, descriptor = store.open_slot()
    os.write(descriptor, content)
    os.close(descriptor)
    store.commit(identity, Envelope(sender, recipients or (b"bob@x.test",)), "ann@home.test")
    return identity


class Run:
    """One command; what it printed."""

    def __init__(self, home: Home, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        capsys.readouterr()
        self.status = queue.app([*words, "--home", home.folder], result_action="return_value") or 0
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]):
    return lambda *words: Run(home, capsys, *words)


# Looking.


def test_a_line_for_each_recipient_that_waits(run, store: DiskQueue) -> None:
    identity = put(store, b"bob@x.test", b"carl@y.test", b"dora@z.test")
    store.settle(
        identity,
        {
            b"bob@x.test": Outcome("relayed", "2.0.0"),
            b"carl@y.test": Outcome("delayed", "4.2.2", "full", "mx.y.test", "452 4.2.2 full"),
        },
        next_try=4e9,
    )
    carl, dora = (line.split("\t") for line in run("list").out.splitlines())
    assert carl[0] == dora[0] == identity
    assert carl[2:5] == [str(len(SUBJECT)), "<ann@home.test>", "carl@y.test"]
    assert carl[5].startswith("in ") and carl[6] == "mx.y.test: 452 4.2.2 full"
    assert dora[4:] == ["dora@z.test", carl[5], ""]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Outcome("delayed", "4.4.1", "192.0.2.1 port 25 can't be reached", "192.0.2.1"),
         "4.4.1 192.0.2.1 port 25 can't be reached"),
        (Outcome("delayed", "4.4.1", "192.0.2.10 port 25 can't be reached", "192.0.2.1"),
         "192.0.2.1: 4.4.1 192.0.2.10 port 25 can't be reached"),
        (Outcome("delayed", "4.4.1", "mx said no", "mx", "450 4.4.1 no"), "mx: 450 4.4.1 no"),
        (Outcome("delayed", "4.3.1", "the disk is full"), "4.3.1 the disk is full"),
        (None, ""),
    ],
)  # fmt: skip
def test_an_outcome_names_its_host_once(found: Outcome | None, told: str) -> None:
    assert outcome(found) == told


def test_the_list_for_programs(run, store: DiskQueue) -> None:
    identity = put(store, b"bob@x.test", "jürgen@y.test".encode())
    store.settle(identity, {b"bob@x.test": Outcome("failed", "5.1.1", "no such user", "mx", "550 no")})
    (found,) = json.loads(run("list", "--json").out)["messages"]
    assert (found["id"], found["octets"], found["sender"]) == (identity, len(SUBJECT), "ann@home.test")
    assert (found["held"], found["tries"], found["account"]) == (False, 0, "ann@home.test")
    assert [(one["address"], one["state"]) for one in found["recipients"]] == [
        ("bob@x.test", "failed"),
        ("jürgen@y.test", "pending"),
    ]
    assert found["recipients"][0]["outcome"]["reply"] == "550 no" and found["recipients"][1]["outcome"] is None


def test_held_and_settled_messages_say_so(run, store: DiskQueue) -> None:
    held, settled = sorted((put(store), put(store)))
    store.mark(held, held=True)
    store.settle(settled, {b"bob@x.test": Outcome("failed", "5.1.1")})
    first, second = (line.split("\t") for line in run("list").out.splitlines())
    assert first[5] == "held" and second[4] == "" and "still to be told" in second[6]


def test_a_damaged_message_is_listed_as_that(run, store: DiskQueue, home: Home) -> None:
    identity = put(store)
    Path(f"{home.queue}/envelope/{identity}").write_text("{")
    assert "damaged" in run("list").out
    assert "damaged" in json.loads(run("list", "--json").out)["messages"][0]["damage"]


def test_an_empty_queue(run, store: DiskQueue) -> None:
    done = run("list")
    assert (done.status, done.out, done.err) == (0, "", "the queue is empty\n")
    assert json.loads(run("list", "--json").out) == {"messages": []}


def test_one_message_is_shown_and_steers_no_terminal(run, store: DiskQueue) -> None:
    identity = put(store, b"bob@x.test", b"carl@y.test")
    store.expand(identity, b"bob@x.test", [])
    out = run("show", identity).out
    assert f"id\t{identity}\n" in out and "sender\t<ann@home.test>\n" in out and "account\tann@home.test\n" in out
    assert "bob@x.test\texpanded" in out and "carl@y.test\twaits\n" in out
    assert out.endswith("Subject: \\x1b[2J café\nTo: bob\n")


def test_a_message_without_header_is_shown(run, store: DiskQueue) -> None:
    assert run("show", put(store, content=b"\nbody\n")).out.endswith("waits\n\n\n")


def test_an_id_may_be_shortened_as_long_as_one_fits(run, store: DiskQueue) -> None:
    identity, other = put(store), put(store)
    length = next(at for at, (ours, theirs) in enumerate(zip(identity, other, strict=True)) if ours != theirs) + 1
    assert f"id\t{identity}" in run("show", identity[:length]).out
    with pytest.raises(Refused, match="2 messages have ids that begin with"):
        run("show", identity[: length - 1])
    for wrong in ("nobody", "", "../envelope", identity + "x"):
        with pytest.raises(Refused, match="no queued message has the id"):
            run("show", wrong)


def test_no_home_and_no_queue_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="there is no home"):
        Run(Home(f"{tmp_path}/no"), capsys, "list")
    home = Home(f"{tmp_path}/home")
    home.make()
    os.mkdir(home.run)
    with pytest.raises(Refused, match=r"no server has run on .* yet"):
        Run(home, capsys, "list")


# Doing, without a server.


def test_hold_and_release(run, store: DiskQueue) -> None:
    one, two = put(store), put(store)
    assert run("hold", one, two).out == f"{one} is held\n{two} is held\n"
    assert store.load(one).held and store.load(two).held
    store.mark(two, next_try=4e9)
    assert run("release", two).out == f"{two} is released\n"
    assert not store.load(two).held and store.load(two).next_try < 4e9 and store.load(one).held


def test_remove_says_what_it_was(run, store: DiskQueue) -> None:
    one, two = put(store, b"bob@x.test", b"carl@y.test"), put(store)
    assert run("remove", one).out == (
        f"{one} is removed: from <ann@home.test>, it waited for bob@x.test, carl@y.test\n"
    )
    assert list(store.pending()) == [two]


def test_a_damaged_message_can_be_removed(run, store: DiskQueue, home: Home) -> None:
    identity = put(store)
    Path(f"{home.queue}/envelope/{identity}").write_text("{")
    assert run("remove", identity).out == f"{identity} is removed\n"
    assert not list(store.pending())


def test_a_wrong_id_stops_all_of_a_command(run, store: DiskQueue) -> None:
    identity = put(store)
    with pytest.raises(Refused):
        run("remove", identity, "wrong")
    assert list(store.pending()) == [identity]


@pytest.mark.parametrize("verb", ["hold", "release", "remove"])
def test_an_id_is_needed(run, store: DiskQueue, home: Home, verb: str) -> None:
    with pytest.raises(Misuse, match=f"`queue {verb}` needs an ID; `queue list --home {home.folder}` shows"):
        run(verb)


def test_without_a_server_nothing_can_be_tried(run, store: DiskQueue) -> None:
    for words in (("retry",), ("retry", put(store)), ("flush",)):
        with pytest.raises(TryLater, match="no server runs on"):
            run(*words)


def test_a_server_that_is_starting_keeps_the_queue_to_itself(run, store: DiskQueue, home: Home) -> None:
    identity = put(store)
    code = f"from pillarbox.home import Home; lock = Home({home.folder!r}).lock(); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starting:
        assert starting.stdout is not None and starting.stdout.readline()
        with pytest.raises(TryLater, match="a server runs on"):
            run("remove", identity)
    assert list(store.pending()) == [identity]


# Doing, with one.


@pytest.fixture
def heard(home: Home) -> Iterator[list[tuple[str, str]]]:
    """What a server on that home is told to do."""
    found: list[tuple[str, str]] = []

    def verb(name: str, text: str = ""):
        async def obey(argument: str) -> str:
            found.append((name, argument))
            return text

        return obey

    async def gone(_: str) -> str:
        raise Refused("it has just left the queue", "5.1.1")

    verbs = {"flush": verb("flush", "7 messages are due now"), "retry": verb("retry"), "hold": verb("hold"),
             "release": verb("release"), "remove": gone}  # fmt: skip
    with served(home.control, lambda listener: Control(listener, verbs)):
        yield found


def test_the_server_is_told(run, store: DiskQueue, heard: list) -> None:
    identity = put(store)
    assert run("flush").out == "7 messages are due now\n"
    assert run("retry").out == "the whole queue is tried now\n"
    assert run("retry", identity[:-1]).out == f"{identity} is tried now\n"
    assert run("hold", identity).out == f"{identity} is held\n"
    assert run("release", identity).out == f"{identity} is released\n"
    assert heard == [("flush", ""), ("retry", ""), ("retry", identity), ("hold", identity), ("release", identity)]
    assert not store.load(identity).held, "that is the server's to do"


def test_what_the_server_refuses_is_told(run, store: DiskQueue, heard: list) -> None:
    identity = put(store)
    with pytest.raises(Refused, match="it has just left the queue"):
        run("remove", identity)
    assert list(store.pending()) == [identity]


# Words.


def test_spans_and_plain_text() -> None:
    assert [span(seconds) for seconds in (-1, 0, 59, 60, 3600, 86400 * 9)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "9 d",
    ]
    assert plain(b"a\x1b\xff\xc2\x85\n") == "a\\x1b\\xff\\x85\\n" and plain("é") == "é"
