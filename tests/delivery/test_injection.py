"""Mail from local programs: what is taken, what is refused, and what a hostile user can't do."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox import local_messages, local_socket
from pillarbox.config_tree import Queue
from pillarbox.delivery import injection, visitors
from pillarbox.delivery.injection import Decision
from pillarbox.local_messages import Begin, Begun, Data, End, Greeting, NotTaken, Queued
from pillarbox.local_socket import FRAME_LIMIT, Caller
from pillarbox.terms import Refused, TryLater

from .local_server import PATIENCE, Mail, caller, served

BEGIN = Begin(None, (b"bob@home.test",))


@pytest.fixture
def mail(tmp_path: Path) -> Mail:
    (tmp_path / "slots").mkdir()
    return Mail(tmp_path / "slots", message_octets=1000, recipients=3)


@pytest.fixture
def path(tmp_path: Path, mail: Mail) -> Iterator[str]:
    place = f"{tmp_path}/send"
    with served(place, mail.injection):
        yield place


def begun(path: str, begin: Begin = BEGIN) -> Caller:
    client = caller(path)
    assert isinstance(client.hear(), Greeting)
    client.say(begin)
    return client


def send(path: str, *chunks: bytes, begin: Begin = BEGIN) -> object:
    """A whole conversation; the server's last word."""
    client = begun(path, begin)
    try:
        answer = client.hear()
        if isinstance(answer, NotTaken):
            return answer
        for chunk in chunks:
            client.say(Data(chunk))
        client.say(End())
        return client.hear()
    finally:
        client.close()


def hung_up(client: Caller) -> bool:
    client.sock.settimeout(PATIENCE)
    try:
        return client.sock.recv(100) == b""
    except ConnectionResetError:
        return True
    finally:
        client.close()


def test_a_message_is_queued_under_our_received_field(path: str, mail: Mail) -> None:
    assert send(path, b"To: bob\n", b"\nhello\nno end") == Queued("17.1")
    ((identity, envelope, account),) = mail.committed
    assert (envelope.sender, envelope.recipients, account) == (b"me@home.test", (b"bob@home.test",), "me@home.test")
    head, _, rest = mail.content(identity).partition(b"To: bob\n")
    assert head.startswith(b"Received: by mx.home.test (Pillarbox, from uid %d) id 17.1;\n" % os.getuid())
    assert rest == b"\nhello\nno end\n"
    assert mail.asked == [(os.getuid(), None, (b"bob@home.test",))] and not mail.aborted


def test_the_greeting_tells_what_a_client_must_know(path: str) -> None:
    client = caller(path)
    assert client.hear() == Greeting(b"mx.home.test", b"home.test", 1000, 3)
    client.close()


def test_the_broker_says_who_the_sender_is(path: str, mail: Mail) -> None:
    async def decide(uid: int, sender: bytes | None, recipients: tuple[bytes, ...], came: str) -> Decision:
        return Decision("jürgen@home.test".encode(), "")

    mail.decide = decide
    client = begun(path, Begin(b"root@home.test", (b"bob@home.test",)))
    assert client.hear() == Begun("jürgen@home.test".encode())
    client.say(End())
    assert client.hear() == Queued("17.1")
    client.close()
    assert mail.committed[0][1].sender == "jürgen@home.test".encode() and mail.committed[0][1].utf8


def test_the_null_sender_is_not_the_same_as_none_named(path: str, mail: Mail) -> None:
    send(path, b"x\n", begin=Begin(b"", (b"bob@home.test",)))
    assert mail.asked[0][1] == b"" and mail.committed[0][1].sender == b""


def test_the_wishes_of_a_sender_are_kept(path: str, mail: Mail) -> None:
    send(path, b"x\n", begin=Begin(None, (b"a@x.test", b"b@x.test"), ("NEVER",), "HDRS", b"id"))
    envelope = mail.committed[0][1]
    assert [wish.notify for wish in envelope.wishes] == [("NEVER",)] * 2
    assert (envelope.ret, envelope.envid) == ("HDRS", b"id")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Refused("that address is not yours", "5.7.1"), NotTaken("5.7.1", "that address is not yours")),
        (Refused("no"), NotTaken("5.0.0", "no")),
        (TryLater("the broker has gone"), NotTaken("4.3.0", "the broker has gone")),
    ],
)
def test_a_refusal_reaches_the_client_before_its_message_is_taken(
    path: str, mail: Mail, error: Exception, answer: NotTaken
) -> None:
    async def decide(*_: object) -> Decision:
        raise error

    mail.decide = decide
    assert send(path, b"x\n") == answer
    assert mail.count == 0 and not mail.committed


@pytest.mark.parametrize(
    ("begin", "code"),
    [
        (Begin(None, ()), "5.5.3"),
        (Begin(None, tuple(b"%d@x.test" % n for n in range(4))), "5.5.3"),
        (Begin(None, (b"bob",)), "5.1.3"),
        (Begin(b"a b@x.test", (b"bob@x.test",)), "5.1.3"),
        (Begin(None, (b"bob@x.test",), ("EVER",)), "5.5.4"),
        (Begin(None, (b"bob@x.test",), octets=1001), "5.3.4"),
    ],
)
def test_an_envelope_that_is_wrong_is_refused_unasked(path: str, mail: Mail, begin: Begin, code: str) -> None:
    answer = send(path, begin=begin)
    assert isinstance(answer, NotTaken) and answer.code == code
    assert not mail.asked and not mail.count


@pytest.mark.parametrize(
    ("chunk", "code"), [(b"x" * 1001, "5.3.4"), (b"x\r\n", "5.6.0"), (b"Received: x\n" * 101, "5.4.6")]
)
def test_content_that_is_wrong_is_refused_and_forgotten(tmp_path: Path, chunk: bytes, code: str) -> None:
    mail = Mail(tmp_path, message_octets=1000 if code == "5.3.4" else 100_000)
    with served(f"{tmp_path}/send", mail.injection):
        client = begun(f"{tmp_path}/send")
        assert isinstance(client.hear(), Begun)
        client.say(Data(chunk))
        answer = client.hear()
        client.close()
    assert isinstance(answer, NotTaken) and answer.code == code
    assert mail.aborted == ["17.1"] and not mail.committed


@pytest.mark.parametrize("error", [TryLater("disk", "4.3.1"), Refused("no", "5.7.1"), ValueError("a bug")])
def test_what_can_not_be_committed_is_forgotten(path: str, mail: Mail, error: Exception) -> None:
    async def commit(*_: object) -> None:
        raise error

    mail.commit = commit
    answer = send(path, b"x\n")
    assert isinstance(answer, NotTaken)
    assert answer.code == (getattr(error, "code", "") or "4.3.0")
    assert mail.aborted == ["17.1"]


def test_a_full_disk_is_told(path: str, mail: Mail) -> None:
    mail.open_slot = lambda: ("17.9", os.open("/dev/full", os.O_WRONLY))
    answer = send(path, b"x\n")
    assert isinstance(answer, NotTaken) and answer.code == "4.3.1"
    assert mail.aborted == ["17.9"] and not mail.committed


def test_no_slot_is_told(path: str, mail: Mail) -> None:
    def open_slot() -> tuple[str, int]:
        raise TryLater("/home/queue/tmp: no space", "4.3.1")

    mail.open_slot = open_slot
    assert send(path, b"x\n") == NotTaken("4.3.1", injection.TROUBLE)


def test_a_client_that_goes_leaves_nothing(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    with served(f"{tmp_path}/send", mail.injection):
        client = begun(f"{tmp_path}/send")
        client.hear()
        client.say(Data(b"half a mess"))
        client.close()
    assert mail.aborted == ["17.1"] and not mail.committed


def test_who_only_asks_is_answered_and_leaves_no_trace_in_the_queue(path: str, mail: Mail) -> None:
    client = begun(path, Begin(b"a@sender.test", (b"bob@home.test",), came="smtp", asks=True))
    assert client.hear() == Begun(b"a@sender.test") and hung_up(client)
    assert (mail.count, mail.committed, mail.aborted, mail.came) == (0, [], [], ["smtp"])


def test_how_a_message_came_is_logged_where_it_is_believed(
    path: str, mail: Mail, capfd: pytest.CaptureFixture[str]
) -> None:
    for believed in (True, False):

        async def decide(*_: object, believed: bool = believed) -> Decision:
            return Decision(b"a@sender.test", "", believed)

        mail.decide = decide  # type: ignore[method-assign]
        assert isinstance(send(path, b"x\n", begin=Begin(b"", (b"bob@home.test",), came="relay")), Queued)
        assert (" came=relay " in capfd.readouterr().err) is believed


# Hostile neighbours.


@pytest.mark.parametrize("words", [[Data(b"x")], [End()], [BEGIN, BEGIN], [BEGIN, Data(b"x"), BEGIN]])
def test_words_out_of_order_end_the_connection_and_nothing_else(path: str, mail: Mail, words: list) -> None:
    client = caller(path)
    client.hear()
    for word in words:
        client.say(word)
    if words[0] == BEGIN:
        client.hear()
    assert hung_up(client)
    assert send(path, b"x\n") == Queued(f"17.{mail.count}")
    assert mail.aborted == [f"17.{n}" for n in range(1, mail.count)]


@pytest.mark.parametrize(
    "octets",
    [
        struct.pack("<I", FRAME_LIMIT + 1) + b"x" * (FRAME_LIMIT + 200_000),
        struct.pack("<I", 0xFFFFFFFF) + b"x" * (FRAME_LIMIT + 200_000),
        struct.pack("<I", 3) + b"abc",
        struct.pack("<I", 0),
        b"GET / HTTP/1.0\r\n\r\n" + b"x" * (FRAME_LIMIT + 200_000),
    ],
    ids=["long", "endless", "no-message", "empty", "http"],
)
def test_a_bad_frame_ends_the_connection_and_nothing_else(path: str, octets: bytes) -> None:
    client = caller(path)
    client.hear()
    try:
        client.sock.sendall(octets)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert hung_up(client)
    assert isinstance(send(path, b"x\n"), Queued)


@given(octets=st.binary(max_size=200))
def test_no_octets_hurt_the_server(octets: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    mail = Mail(folder)
    with served(f"{folder}/send", mail.injection):
        client = caller(f"{folder}/send")
        client.hear()
        client.sock.sendall(octets)
        client.sock.shutdown(socket.SHUT_WR)
        assert hung_up(client)
        assert isinstance(send(f"{folder}/send", b"x\n"), Queued)


def test_descriptors_that_a_client_sends_do_not_arrive(path: str, mail: Mail) -> None:
    client = begun(path)
    assert isinstance(client.hear(), Begun)
    frame = msgspec.msgpack.encode(Data(b"x"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        socket.send_fds(client.sock, [struct.pack("<I", len(frame)) + frame], [client.sock.fileno()] * 20)
    reached, go_on = threading.Event(), threading.Event()

    async def commit(*_: object) -> None:
        reached.set()
        await asyncio.get_running_loop().run_in_executor(None, go_on.wait)

    mail.commit = commit
    client.say(End())
    assert reached.wait(PATIENCE)  # so the server has read all that came before
    during = len(os.listdir("/proc/self/fd"))
    go_on.set()
    assert client.hear() == Queued("17.1")
    client.close()
    assert during < before, "the slot is closed, and nothing else is open"


def test_who_says_nothing_is_shown_out(path: str, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    halfway = begun(path)
    assert isinstance(halfway.hear(), Begun)
    monkeypatch.setattr(visitors, "SILENCE_SECONDS", 0.05)
    halfway.say(Data(b"x"))
    silent = caller(path)
    silent.hear()
    assert hung_up(silent) and hung_up(halfway)
    assert mail.aborted == ["17.1"] and not mail.committed


def test_who_drips_is_shown_out_too(path: str, mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    mail.config = msgspec.structs.replace(
        mail.config, limits=msgspec.structs.replace(mail.config.limits, message_octets=1 << 40)
    )
    monkeypatch.setattr(visitors, "VISIT_SECONDS", 0.1)
    client = caller(path)
    client.say(BEGIN)
    while client.say(Data(b"")):
        pass
    client.close()
    assert not mail.committed


def test_one_user_can_not_take_all_connections(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, 1000))
    held = [caller(path) for _ in range(injection.CONNECTIONS_PER_UID)]
    assert all(isinstance(client.hear(), Greeting) for client in held)
    turned_away = caller(path)
    answer = turned_away.hear()
    assert isinstance(answer, NotTaken) and answer.code == "4.3.2"
    assert hung_up(turned_away)
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, 1001))
    other = caller(path)
    assert isinstance(other.hear(), Greeting)
    for client in (*held, other):
        client.close()


def test_a_user_of_qmail_smtpd_has_places_beside_all_others(
    mail: Mail, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It brings everybody's mail: as many come at once as tcpserver lets in, and neither side keeps the other out."""
    mail.config = msgspec.structs.replace(mail.config, queue=Queue(smtpd_users=[999]))
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, 999))
    held = [caller(path) for _ in range(injection.CONNECTIONS_SMTPD)]
    assert all(isinstance(client.hear(), Greeting) for client in held)
    turned_away = caller(path)
    assert isinstance(turned_away.hear(), NotTaken)
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, 1000))
    other = caller(path)
    assert isinstance(other.hear(), Greeting)
    for client in (*held, turned_away, other):
        client.close()


def test_all_users_together_have_a_limit(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = iter(range(1000, 2000))
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, next(uids)))
    held = [caller(path) for _ in range(injection.CONNECTIONS_LIMIT - injection.CONNECTIONS_KEPT)]
    assert all(isinstance(client.hear(), Greeting) for client in held)
    turned_away = caller(path)
    assert isinstance(turned_away.hear(), NotTaken)
    for client in (*held, turned_away):
        client.close()


def test_some_places_are_kept_for_root_and_the_servers_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uids = iter([999, *range(1000, 2000)])
    monkeypatch.setattr(local_socket, "peer", lambda sock: (1, next(uids)))
    path = f"{tmp_path}/send"
    with served(path, Mail(tmp_path).injection):
        held = [caller(path) for _ in range(injection.CONNECTIONS_LIMIT - injection.CONNECTIONS_KEPT)]
        assert all(isinstance(client.hear(), Greeting) for client in held)
        uids = iter([0, 999, 1000] * 10)
        hosts = [caller(path) for _ in range(30)]
        came_in = [isinstance(client.hear(), Greeting) for client in hosts]
        assert came_in == [True, True, False] * 10
        for client in (*held, *hosts):
            client.close()


def test_a_flood_of_refusals_does_not_fill_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(visitors, "REFUSALS_SECONDS", 3600.0)
    path = f"{tmp_path}/send"
    with served(path, Mail(tmp_path).injection) as service:
        monkeypatch.setattr(local_socket, "peer", lambda sock: (1, 1000))
        held = [caller(path) for _ in range(injection.CONNECTIONS_PER_UID)]
        assert all(isinstance(client.hear(), Greeting) for client in held)
        for _ in range(50):
            assert isinstance(caller(path).hear(), NotTaken)
        service._visitors._count_anew()
        assert isinstance(caller(path).hear(), NotTaken)
        for client in held:
            client.close()
    said = capfd.readouterr().err
    assert said.count("visitor-refused") == 11 and "visitors-refused more=40" in said


def test_a_place_is_free_again_when_its_visitor_has_gone(path: str) -> None:
    for _ in range(injection.CONNECTIONS_LIMIT + 10):
        assert isinstance(send(path, b"x\n"), Queued)


def test_after_close_nobody_comes_in_and_who_is_in_may_finish(tmp_path: Path) -> None:
    mail, place = Mail(tmp_path), f"{tmp_path}/send"
    with served(place, mail.injection) as service:
        client = begun(place)
        client.hear()
        service._visitors._loop.call_soon_threadsafe(service.close)
        client.say(Data(b"x\n"))
        client.say(End())
        assert client.hear() == Queued("17.1")
        client.close()
    with pytest.raises(ConnectionRefusedError):
        local_socket.connect(place)


def test_who_is_not_done_when_we_end_is_told_to_try_later(tmp_path: Path) -> None:
    mail, place = Mail(tmp_path), f"{tmp_path}/send"
    with served(place, mail.injection):
        early, halfway = caller(place), begun(place)
        early.hear()
        assert isinstance(halfway.hear(), Begun)
    for client in (early, halfway):
        answer = client.hear()
        assert isinstance(answer, NotTaken) and answer.code == "4.3.2"
        client.close()
    assert mail.aborted == ["17.1"]


def test_what_is_being_committed_when_we_end_is_told(tmp_path: Path) -> None:
    mail, place = Mail(tmp_path), f"{tmp_path}/send"
    reached = threading.Event()

    async def commit(identity: str, *_: object) -> None:
        reached.set()
        while not ending:
            await asyncio.sleep(0)

    mail.commit, ending = commit, []
    with served(place, mail.injection):
        client = begun(place)
        assert isinstance(client.hear(), Begun)
        client.say(End())
        assert reached.wait(PATIENCE)
        threading.Timer(0.05, ending.append, (1,)).start()
    assert client.hear() == Queued("17.1") and not mail.aborted
    client.close()


def test_only_what_a_sender_may_say_is_understood(path: str) -> None:
    client = caller(path)
    client.hear()
    client.say(local_messages.Command("remove", "17.1"))
    assert hung_up(client)
