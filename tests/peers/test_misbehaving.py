"""Every fault is what a client meets, and what came is recorded to the octet."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator

import pytest

from .certificates import Authority
from .faults import Drip, Endless, HangUp, Hold, Inject, Say, Stall
from .misbehaving import Misbehaving, Stage, misbehaving
from .ports import free_port, refusing, unanswering

MESSAGE = b"Subject: hello\r\n\r\n.\r\n..two\r\nend"
RECIPIENTS = ["b@one.test", "c@one.test", "d@one.test"]


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with misbehaving() as running:
        yield running


def connect(server: Misbehaving, timeout: float = 30) -> smtplib.SMTP:
    return smtplib.SMTP(server.host, server.port, local_hostname="client.test", timeout=timeout)


def send(server: Misbehaving, recipients: list[str] = RECIPIENTS) -> dict[str, tuple[int, bytes]]:
    with connect(server) as client:
        return client.sendmail("a@sender.test", recipients, MESSAGE, ["RET=HDRS"], ["NOTIFY=NEVER"])


def raw(server: Misbehaving) -> socket.socket:
    """A connection that has been greeted."""
    made = socket.create_connection((server.host, server.port), timeout=30)
    assert made.recv(1000).startswith(b"220 ")
    return made


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_what_came_is_recorded(server: Misbehaving) -> None:
    assert send(server) == {}
    (transaction,) = server.wait_for(1)
    assert transaction.mail == b"FROM:<a@sender.test> size=31 RET=HDRS"
    assert transaction.rcpt[0] == b"TO:<b@one.test> NOTIFY=NEVER"
    assert transaction.sender == b"a@sender.test"
    assert transaction.recipients == [b"b@one.test", b"c@one.test", b"d@one.test"]
    assert transaction.wire == b"Subject: hello\r\n\r\n..\r\n...two\r\nend\r\n.\r\n"
    assert transaction.message == MESSAGE + b"\r\n"
    assert not transaction.encrypted
    (session,) = server.sessions
    assert session.verbs == [b"EHLO", b"MAIL", b"RCPT", b"RCPT", b"RCPT", b"DATA", b"QUIT"]
    assert not session.bare_line_ends()
    assert session.received.startswith(b"ehlo client.test\r\nmail FROM")
    assert session.received.endswith(b"end\r\n.\r\nQUIT\r\n")


@pytest.mark.parametrize("bare", [b"\n", b"\r", b"x\ry", b"\r\r\n"])
def test_bare_line_ends_are_noticed(server: Misbehaving, bare: bytes) -> None:
    with raw(server) as connection:
        connection.sendall(b"NOOP" + bare + b"\r\n")
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    server.wait_until(lambda: server.sessions[0].ended)
    assert server.sessions[0].bare_line_ends()


def test_pipelined_commands_and_the_shortest_message(server: Misbehaving) -> None:
    with raw(server) as connection:
        connection.sendall(
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@one.test>\r\nDATA\r\n.\r\nRSET\r\nNOOP\r\nHELP\r\nQUIT\r\n"
        )
        replies = read_all(connection)
    assert [line[:4] for line in replies.split(b"\r\n")[-9:-1]] == [
        *(b"250 ", b"250 ", b"354 ", b"250 "),
        *(b"250 ", b"250 ", b"500 ", b"221 "),
    ]
    (transaction,) = server.taken
    assert (transaction.sender, transaction.message) == (b"", b"")


def test_commands_out_of_order_are_refused(server: Misbehaving) -> None:
    with connect(server) as client:
        client.ehlo()
        assert client.rcpt("b@one.test")[0] == 503
        client.mail("a@sender.test")
        assert client.docmd("DATA")[0] == 554


@pytest.mark.parametrize("reply", [b"554 5.7.1 no\r\n", b"421 4.3.2 later\r\n"])
@pytest.mark.parametrize("closing", [False, True])
def test_greetings_that_refuse(server: Misbehaving, reply: bytes, closing: bool) -> None:
    server.plan(Stage.GREETING, HangUp(reply) if closing else Say(reply))
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        connect(server)
    assert refused.value.smtp_code == int(reply[:3])


def test_no_ehlo_but_helo(server: Misbehaving) -> None:
    server.plan(Stage.EHLO, Say(b"502 5.5.1 what?\r\n"))
    with connect(server) as client:
        client.ehlo_or_helo_if_needed()
        assert not client.does_esmtp
    assert server.sessions[0].verbs == [b"EHLO", b"HELO", b"QUIT"]


def test_the_second_recipient_is_refused_of_each_message(server: Misbehaving) -> None:
    server.plan(Stage.RCPT, Say(b"550 5.1.1 nobody\r\n"), nth=2)
    server.plan(Stage.RCPT, Say(b"451 4.3.0 later\r\n"), containing=b"d@")
    for _ in range(2):
        assert {name: code for name, (code, _) in send(server).items()} == {"c@one.test": 550, "d@one.test": 451}
    assert [transaction.recipients for transaction in server.taken] == [[b"b@one.test"]] * 2


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.DATA, Stage.DOT])
def test_a_refusal_that_passes(server: Misbehaving, stage: Stage) -> None:
    server.plan(stage, Say(b"451 4.3.0 later\r\n"), times=1)
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        send(server)
    assert refused.value.smtp_code == 451
    assert server.taken == []
    send(server)
    assert len(server.taken) == 1


def test_the_latest_plan_that_fits_wins_until_it_is_used_up(server: Misbehaving) -> None:
    server.plan(Stage.NOOP, Say(b"250 first\r\n"))
    server.plan(Stage.NOOP, Say(b"250 second\r\n"), times=1)
    with connect(server) as client:
        assert [client.noop()[1] for _ in range(3)] == [b"second", b"first", b"first"]
        server.behave()
        assert client.noop()[1] == b"2.0.0 ok"


@pytest.mark.parametrize("reset", [False, True])
def test_the_connection_drops_amid_the_message(server: Misbehaving, reset: bool) -> None:
    server.plan(Stage.BODY, HangUp(reset=reset), after=10_000)
    with raw(server) as connection:
        connection.sendall(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@one.test>\r\nDATA\r\n")
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(b"x" * 70 + b"\r\n")
    server.wait_until(lambda: server.sessions[0].ended)
    (transaction,) = server.transactions
    assert not transaction.whole
    assert len(transaction.wire) >= 10_000


def test_the_connection_drops_after_the_dot(server: Misbehaving) -> None:
    server.plan(Stage.DOT, HangUp())
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(server)
    (transaction,) = server.transactions
    assert (transaction.whole, transaction.acknowledged) == (True, False)


def test_a_stall_lasts_until_the_client_leaves(server: Misbehaving) -> None:
    server.plan(Stage.MAIL, Stall(b"250-"))
    with connect(server) as client:
        client.ehlo()
        client.putcmd("MAIL FROM:<a@sender.test>")
        server.wait_until(lambda: b"MAIL" in server.sessions[0].verbs)
        assert not server.sessions[0].ended
        client.close()
    server.wait_until(lambda: server.sessions[0].ended)


def test_a_reply_octet_by_octet(server: Misbehaving) -> None:
    server.plan(Stage.NOOP, Drip(0.001))
    server.plan(Stage.RSET, Drip(0.001, b"250 other\n"))
    with connect(server) as client:
        assert client.noop() == (250, b"2.0.0 ok")
        assert client.rset() == (250, b"other")


@pytest.mark.parametrize("octets", [b"250-again\r\n", b"2"])
def test_an_endless_reply(server: Misbehaving, octets: bytes) -> None:
    server.plan(Stage.EHLO, Endless(octets))
    with raw(server) as connection:
        connection.sendall(b"EHLO x\r\n")
        got = 0
        while got < 1 << 20:
            got += len(connection.recv(1 << 16))
    server.wait_until(lambda: server.sessions[0].ended)


def test_a_reply_may_wait_for_the_test(server: Misbehaving) -> None:
    hold = Hold()
    server.plan(Stage.DOT, hold, times=1)
    with raw(server) as connection:
        connection.sendall(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@one.test>\r\nDATA\r\n.\r\nQUIT\r\n")
        assert hold.reached.wait(30)
        assert server.taken == []
        hold.release()
        assert b"221 " in read_all(connection)
    assert len(server.taken) == 1


@pytest.mark.parametrize("fault", [Stall(), Endless(), Drip(60), Hold()])
def test_no_fault_outlives_the_server(fault: Stall | Endless | Drip | Hold) -> None:
    with misbehaving() as server:
        server.plan(Stage.EHLO, fault)
        connection = raw(server)
        connection.sendall(b"EHLO x\r\n")
        server.wait_until(lambda: bool(server.sessions[0].commands))
    server.wait_until(lambda: server.sessions[0].ended)
    connection.close()


def test_lies_in_ehlo() -> None:
    with misbehaving(keywords=[b"8BITMIME", b"SIZE 99", b"STARTTLS", b"PIPELINING"], refuse_pipelining=True) as server:
        server.plan(Stage.MAIL, Say(b"555 5.5.4 what is BODY?\r\n"), containing=b"BODY=")
        with connect(server) as client:
            client.ehlo()
            assert client.docmd("STARTTLS")[0] == 454
            assert client.mail("a@sender.test", ["BODY=8BITMIME"])[0] == 555
            assert client.esmtp_features == {"8bitmime": "", "size": "99", "starttls": "", "pipelining": ""}
        with raw(server) as connection:
            connection.sendall(b"EHLO x\r\nMAIL FROM:<>\r\nDATA\r\n")
            assert read_all(connection) == b"503 5.5.0 one at a time\r\n"


def test_starttls_as_it_should_be(authority: Authority) -> None:
    with misbehaving(context=authority.issue("localhost").server_context()) as server:
        with connect(server) as client:
            client._host = "localhost"  # type: ignore[attr-defined]  # that is verified
            client.starttls(context=authority.client_context())
            client.ehlo()
            assert not client.has_extn("starttls")
            client.sendmail("a@sender.test", ["b@one.test"], MESSAGE)
        assert server.taken[0].encrypted
        assert server.sessions[0].verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


@pytest.mark.parametrize("issue", [{"expired": True}, {"self_signed": True}, {"other": True}])
def test_certificates_that_must_not_be_trusted(authority: Authority, issue: dict[str, bool]) -> None:
    name = "other.test" if issue.pop("other", False) else "localhost"
    with misbehaving(context=authority.issue(name, **issue).server_context()) as server:
        with connect(server) as client:
            client._host = "localhost"  # type: ignore[attr-defined]
            with pytest.raises(ssl.SSLCertVerificationError):
                client.starttls(context=authority.client_context())
        server.wait_until(lambda: server.sessions[0].ended)


@pytest.mark.parametrize("fault", [HangUp(b"220 go\r\n"), Say(b"220 go\r\nthis is no TLS at all, is it?")])
def test_handshakes_that_fail(authority: Authority, fault: HangUp | Say) -> None:
    with misbehaving(context=authority.issue("localhost").server_context()) as server:
        server.plan(Stage.STARTTLS, fault)
        with raw(server) as connection:
            connection.sendall(b"STARTTLS\r\n")
            assert connection.recv(8, socket.MSG_WAITALL) == b"220 go\r\n"
            with pytest.raises(OSError):
                authority.client_context().wrap_socket(connection, server_hostname="localhost")
    assert not server.sessions[0].encrypted


def test_plain_text_behind_the_answer_to_starttls_and_behind_the_question(authority: Authority) -> None:
    with misbehaving(context=authority.issue("localhost").server_context()) as server:
        server.plan(Stage.STARTTLS, Inject(b"250 injected\r\n"))
        with raw(server) as connection:
            connection.sendall(b"STARTTLS\r\nMAIL FROM:<evil@sender.test>\r\n")
            came = b""
            while not came.endswith(b"injected\r\n"):
                came += connection.recv(1000)
            with authority.client_context().wrap_socket(connection, server_hostname="localhost") as encrypted:
                encrypted.sendall(b"QUIT\r\n")
                assert encrypted.recv(1000).startswith(b"221 ")
        assert came == b"220 2.0.0 go ahead\r\n250 injected\r\n"
        assert server.sessions[0].behind_starttls == b"MAIL FROM:<evil@sender.test>\r\n"
        assert server.sessions[0].commands == [b"STARTTLS", b"QUIT"]


def test_how_many_were_connected_at_once(server: Misbehaving) -> None:
    with raw(server), raw(server):
        pass
    server.wait_until(lambda: all(session.ended for session in server.sessions))
    with raw(server):
        pass
    assert (len(server.sessions), server.most_at_once) == (3, 2)


def test_ports_where_nobody_is_at_home() -> None:
    with refusing() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=30)
    with unanswering() as port, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.2)


def test_one_port_on_several_addresses() -> None:
    port = free_port("127.0.0.2", "127.0.0.3")
    with misbehaving(host="127.0.0.2", port=port) as one, misbehaving(host="127.0.0.3", port=port) as two:
        assert (one.route, two.route) == (f"127.0.0.2:{port}", f"127.0.0.3:{port}")
        send(two)
        assert (one.taken, len(two.taken)) == ([], 1)
