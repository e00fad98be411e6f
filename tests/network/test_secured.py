"""TLS on a connection: no octet is lost, doubled or obeyed that should not be, however the line behaves."""

from __future__ import annotations

import functools
import gc
import random
import socket
import ssl
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.key_pair import KeyPair
from pillarbox.listing import Entry, Listing
from pillarbox.messages import Authenticate, GiveUp, Login, Opened
from pillarbox.network import secured
from pillarbox.network.contexts import contexts
from pillarbox.network.poller import READ, WRITE
from pillarbox.network.secured import HANDSHAKE_SECONDS, Secured
from pillarbox.store.certificates import load, make_own, own_files

from ..peers.certificates import Authority
from . import tls_peers
from .test_pop3 import APOP, Link
from .tls_peers import Line, key_pair

USER_PASS = b"USER alice\r\nPASS violin\r\n"
EHLO = b"EHLO client.test\r\n"
VARIANTS = 1000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> list[KeyPair]:
    return [key_pair(authority.issue("mail.example.test"), "mail.example.test")]


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


def upgraded(line: Line, context: ssl.SSLContext, piece: int = 1 << 20) -> Line:
    line.hears()
    assert line.says(b"STLS\r\n") == b"+OK begin TLS\r\n"
    return line.shake(context, "mail.example.test", piece)


# The upgrade.


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_stls(pairs: list[KeyPair], context: ssl.SSLContext, piece: int) -> None:
    line = upgraded(Line(pairs), context, piece)
    assert b"STLS" not in line.asks(b"CAPA\r\n", piece)
    line.asks(USER_PASS, piece)
    assert line.process.neighbours.broker.sent == [
        Login(7, b"alice", b"violin", "USER", b"<1.2@example.test>", True, "127.0.0.1", "TLSv1.3")
    ]
    assert line.connection.tls[0] == "TLSv1.3" and not line.process.bugs


def test_what_comes_along_with_the_end_of_the_handshake_is_read(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    line = Line(pairs)
    line.says(b"STLS\r\n")
    line.tls = tls = context.wrap_bio(line._in, line._out, server_hostname="mail.example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    line._put_ciphertext(1 << 20)
    line._take_in()
    tls.do_handshake()
    tls.write(b"NOOP\r\nCAPA\r\n")
    tls.write(APOP)
    line._put_ciphertext(1 << 20)
    assert b"+OK capabilities" in line.answers()
    assert len(line.process.neighbours.broker.sent) == 1


def test_a_client_that_says_all_at_once_and_ends_is_heard(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    line = Line(pairs)
    line.says(b"STLS\r\n")
    line.tls = tls = context.wrap_bio(line._in, line._out, server_hostname="mail.example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    line._put_ciphertext(1 << 20)
    line._take_in()
    tls.do_handshake()
    tls.write(APOP)
    line.client.send(line._out.read())
    line.client.shutdown(socket.SHUT_WR)
    line.settle()
    assert [type(message) for message in line.process.neighbours.broker.sent] == [Login, GiveUp]
    assert line.connection.closed


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_starttls(pairs: list[KeyPair], context: ssl.SSLContext, piece: int) -> None:
    line = Line(pairs, protocol="smtp")
    assert b"250-STARTTLS\r\n" in line.says(EHLO)
    assert line.says(b"STARTTLS\r\n") == b"220 2.0.0 begin TLS\r\n"
    shown = line.shake(context, "mail.example.test", piece).asks(EHLO, piece)
    assert b"STARTTLS" not in shown and b"250-AUTH SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN\r\n" in shown
    line.asks(b"AUTH PLAIN AGFsaWNlAHZpb2xpbg==\r\n", piece)
    (asked,) = line.process.neighbours.broker.sent
    assert isinstance(asked, Authenticate) and asked.secured and asked.proof == b"violin"


@pytest.mark.parametrize("protocol", ["pop3", "smtp"])
def test_tls_from_the_first_octet(pairs: list[KeyPair], context: ssl.SSLContext, protocol: str) -> None:
    line = Line(pairs, protocol=protocol, secured=True)
    assert line.hears() == b""
    greeting = line.shake(context, "mail.example.test").answers()
    assert greeting.startswith(b"+OK" if protocol == "pop3" else b"220 ")
    said = line.asks(b"CAPA\r\nSTLS\r\n" if protocol == "pop3" else EHLO + b"STARTTLS\r\n")
    assert (b"\r\nUSER\r\n" if protocol == "pop3" else b"AUTH SCRAM-SHA-256 ") in said
    assert said.splitlines()[-1] in (b"-ERR TLS is active already", b"503 5.5.1 TLS is active already")


def test_without_a_certificate_there_is_no_tls() -> None:
    line = Line([])
    assert b"STLS" not in line.says(b"CAPA\r\n")
    assert line.says(b"STLS\r\n") == b"-ERR STLS is not offered here\r\n"
    mail = Line([], protocol="smtp")
    assert b"STARTTLS" not in mail.says(EHLO) and mail.says(b"STARTTLS\r\n").startswith(b"502 ")


def test_octets_behind_stls_are_never_obeyed_however_the_network_cuts_them(pairs: list[KeyPair]) -> None:
    for seed in range(VARIANTS):
        chance = random.Random(seed)
        protocol = chance.choice(["pop3", "smtp"])
        start = b"STLS\r\n" if protocol == "pop3" else b"STARTTLS\r\n"
        evil = chance.choice([b"X", b"\r\n", USER_PASS, APOP, b"QUIT\r\n", EHLO + b"MAIL FROM:<a@b.test>\r\n"])
        data = start + evil * chance.randint(1, 3)
        cuts = sorted(chance.sample(range(1, len(data)), min(len(data) - 1, chance.randint(0, 5))))
        line = Line(pairs, protocol=protocol)
        line.says(EHLO if protocol == "smtp" else b"")
        said = b"".join(line.says(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))
        line.client.shutdown(socket.SHUT_WR)
        line.settle()
        said += line.hears()
        assert line.connection.closed, data
        assert line.process.neighbours.broker.sent == [] and not line.process.bugs
        for reply in (b"now PASS", b"goodbye\r\n+OK", b"sender ok", b"221 "):
            assert reply not in said, data


# The handshake.


def test_a_handshake_has_its_time(pairs: list[KeyPair]) -> None:
    line = Line(pairs)
    line.says(b"STLS\r\n")
    assert line.connection.blocked  # so nothing else is sent
    assert line.connection.time_is_up(HANDSHAKE_SECONDS - 1, busy=False) is None
    line.puts(b"\x16")  # no drip prolongs it
    assert line.connection.time_is_up(HANDSHAKE_SECONDS + 1, busy=False) == "handshake"
    line.connection.expired("handshake")
    assert line.connection.closed and line.hears() == b"" and not line.process.bugs


class Shut(socket.socket):
    """Takes nothing more from when it is told so: the peer reads no further."""

    shut = False

    def send(self, data: Any, flags: int = 0, /) -> int:
        if self.shut:
            raise BlockingIOError
        return super().send(data, flags)


def test_who_reads_nothing_at_the_end_of_the_handshake_is_not_listened_to(
    pairs: list[KeyPair], context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends on would all be kept: nobody takes it before our last words have gone."""
    monkeypatch.setattr(tls_peers, "Narrow", Shut)
    line = Line(pairs, secured=True, narrow=True)
    descriptor = line.connection.sock.fileno()
    tls = line.tls = context.wrap_bio(line._in, line._out, server_hostname="mail.example.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    line._put_ciphertext(1 << 20)
    line._take_in()
    tls.do_handshake()
    monkeypatch.setattr(Shut, "shut", True)
    line.client.send(line._out.read())
    for _ in range(3):
        line.poller.turn()
    assert line.poller.wanted[descriptor] == WRITE
    monkeypatch.setattr(Shut, "shut", False)
    assert line.answers().startswith(b"+OK ") and line.poller.wanted[descriptor] == READ


@pytest.mark.parametrize("why", ["full", "internal", "shutdown"])
@pytest.mark.parametrize("protocol", ["pop3", "smtp"])
def test_in_the_middle_of_a_handshake_nothing_is_said_in_the_clear(
    pairs: list[KeyPair], protocol: str, why: str
) -> None:
    line = Line(pairs, protocol=protocol, secured=True)
    line.puts(b"\x16\x03\x01")
    if why == "shutdown":
        line.connection.drain()
    else:
        line.connection.expired(why)
    assert line.connection.closed and b"-ERR" not in (said := line.hears()) and b"421" not in said
    assert not line.process.bugs


def test_who_speaks_no_tls_gets_no_word_in_the_clear(pairs: list[KeyPair], capfd: pytest.CaptureFixture[str]) -> None:
    line = Line(pairs, secured=True)
    alert = line.says(b"USER alice\r\n")
    assert alert[:1] in (b"", b"\x15") and line.connection.closed
    assert 'end="handshake: WRONG_VERSION_NUMBER"' in capfd.readouterr().err


def test_a_handshake_that_fails_keeps_nothing_of_openssls(pairs: list[KeyPair]) -> None:
    """Strangers may fail as often as they like; what lies in a circle waits for the garbage collector."""

    def held() -> int:
        return sum(isinstance(found, ssl.SSLObject) for found in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = held()
        for _ in range(20):
            Line(pairs, secured=True).says(b"USER alice\r\n")
        assert held() == before
    finally:
        gc.enable()


def test_a_client_that_goes_away_in_mid_handshake(pairs: list[KeyPair]) -> None:
    line = Line(pairs, secured=True)
    line.puts(b"\x16\x03\x01\x02")
    line.client.close()
    line.settle()
    assert line.connection.closed and not line.process.bugs


def test_what_was_said_before_stls_goes_in_the_clear_first(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    """Answers that the client does not read yet: the handshake waits behind them."""
    line = Line(pairs, buffer=4096)
    line.connection.guarded(line.connection.received, b"CAPA\r\n" * 200 + b"STLS\r\n")
    assert line.connection.handshake is not None
    assert line.poller.wanted[line.connection.sock.fileno()] == WRITE
    clear = b""
    while not clear.endswith(b"+OK begin TLS\r\n"):
        line.settle()
        clear += line.hears()
    assert clear.count(b"+OK capabilities") == 200
    assert b"USER" in line.shake(context, "mail.example.test").asks(b"CAPA\r\n")


# What moves.


def logged_in(line: Line, octets: int) -> Line:
    """A session whose maildrop has one listing of so many octets at least."""
    line.asks(APOP)
    worker: object = Link()
    count = octets // 60
    listing = Listing.render([Entry(b"%060d" % number, 3, 0) for number in range(count)])
    line.connection.answered(Opened(7, "alice", bytes(listing.blob)), (), worker)  # type: ignore[arg-type]
    return line


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_socket_that_takes_a_few_octets_at_a_time(
    pairs: list[KeyPair], authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    line = Line(pairs, narrow=True)
    line.settle()
    line = upgraded(line, context)
    said = line.asks(b"CAPA\r\n" * 20 + b"QUIT\r\n")
    assert said.count(b"+OK capabilities") == 20 and said.endswith(b"+OK goodbye\r\n")
    assert line.connection.closed and not line.process.bugs


def test_what_is_not_gone_is_not_said_to_be_sent(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    """Else nobody would wait until the socket takes the end of a record."""
    line = upgraded(Line(pairs), context)
    secure = line.connection.sock
    assert isinstance(secure, Secured)
    for short in range(1, 40):
        line.answers()
        raw, secure._sock = secure._sock, AllBut(short, secure._sock)  # type: ignore[assignment]
        sent = secure.send(b"x" * 100)
        assert sent < 100 and secure.waits
        secure._sock = raw
        assert secure.send(b"x" * (100 - sent)) == 100 - sent
        assert line.answers() == b"x" * 100


class AllBut:
    """A socket that keeps the last octets back, once."""

    def __init__(self, short: int, sock: socket.socket) -> None:
        self._short, self._sock = short, sock

    def send(self, data: bytes) -> int:
        return self._sock.send(bytes(data)[: -self._short])


@pytest.mark.parametrize("size", [10, 60_000, 3_000_000])
def test_a_long_answer_to_a_slow_reader(pairs: list[KeyPair], context: ssl.SSLContext, size: int) -> None:
    line = logged_in(upgraded(Line(pairs, buffer=4096), context), size)
    line.answers()
    line.secretly(b"UIDL\r\n")
    if size > 1 << 20:
        assert line.connection.blocked and line.poller.wanted[line.connection.sock.fileno()] & WRITE
    said = line.answers()
    lines = said.split(b"\r\n")
    assert lines[0].startswith(b"+OK") and lines[-2] == b"." and len(lines) == size // 60 + 3
    assert lines[1:-2] == [b"%d %060d" % (number + 1, number) for number in range(size // 60)]
    assert not line.connection.blocked and line.poller.wanted[line.connection.sock.fileno()] == READ


def test_progress_is_told_before_a_batch_is_whole(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    """Else a slow client would look like one that stands still."""
    line = logged_in(upgraded(Line(pairs, buffer=4096), context), 3_000_000)
    line.answers()
    line.secretly(b"UIDL\r\n")
    before = line.connection.octets_out
    for _ in range(3):
        line.hears()
        line.settle()
        assert line.connection.octets_out > before
        before = line.connection.octets_out


@settings(max_examples=40)
@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=6), st.integers(1, 100_000))
def test_every_octet_arrives_once(sizes: list[int], gulp: int) -> None:
    """Secured.send with a socket that takes what it likes, as a connection calls it: the rest again, with more behind."""
    server, client = contexts([own_pair()])["smtp"], ssl._create_unverified_context()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        theirs.setblocking(False)
        secure, come_in, go_out = Secured(ours, server), ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client.wrap_bio(come_in, go_out)
        done = False
        while not done or secure.waits:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            theirs.send(go_out.read())
            done = secure.shake()
            come_in.write(take(theirs, 1 << 20))
        waiting, wanted, got = b"", b"".join(random.Random(size).randbytes(size) for size in sizes), b""
        chunks = [wanted[sum(sizes[:number]) : sum(sizes[: number + 1])] for number in range(len(sizes))]
        while chunks or waiting or len(got) < len(wanted):
            waiting += chunks.pop(0) if chunks else b""
            waiting = waiting[secure.send(waiting) :] if waiting else b""
            come_in.write(take(theirs, gulp))
            try:
                while data := tls.read(1 << 16):
                    got += data
            except ssl.SSLWantReadError:
                pass
        assert got == wanted


@functools.cache
def own_pair() -> KeyPair:
    with tempfile.TemporaryDirectory() as folder:
        make_own(folder, "mail.example.test")
        pair = load(*own_files(folder))
        return KeyPair(pair.chain, pair.key, pair.names)


def take(sock: socket.socket, size: int) -> bytes:
    try:
        return sock.recv(size)
    except BlockingIOError:
        return b""


# The end.


def test_the_client_is_told_of_the_end(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    line = upgraded(Line(pairs), context)
    assert line.asks(b"QUIT\r\n") == b"+OK goodbye\r\n"
    assert line.connection.closed and line.told_of_the_end


def test_a_deadline_is_told_under_tls(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    line = upgraded(Line(pairs), context)
    line.connection.expired("idle")
    assert line.answers().startswith(b"-ERR idle for too long") and line.told_of_the_end


@pytest.mark.parametrize("command", [b"", b"NOOP\r\n"])
def test_a_client_that_ends_tls_and_leaves_the_line_open(
    pairs: list[KeyPair], context: ssl.SSLContext, command: bytes
) -> None:
    line = upgraded(Line(pairs), context)
    assert line.tls is not None
    if command:
        line.tls.write(command)
    with pytest.raises(ssl.SSLWantReadError):
        line.tls.unwrap()
    line._put_ciphertext(1 << 20)
    assert line.connection.closed and not line.process.bugs


def test_a_torn_record_ends_the_connection(pairs: list[KeyPair], context: ssl.SSLContext) -> None:
    line = upgraded(Line(pairs), context)
    line.secretly(b"NOOP\r\n")
    line.puts(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert line.connection.closed and not line.process.bugs


def test_who_does_not_read_makes_no_heap_of_ciphertext(
    pairs: list[KeyPair], context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = upgraded(Line(pairs, buffer=4096), context)
    monkeypatch.setattr(secured, "UNSENT_LIMIT", 10)
    sock = line.connection.sock
    assert isinstance(sock, Secured)
    with pytest.raises(ConnectionResetError):
        for _ in range(1000):
            sock.send(bytes(1000))
