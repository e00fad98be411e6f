"""What no stranger can take: connections, time, memory, another's maildrop."""

import os
import signal
import socket
import threading
import time

import pytest

from pillarbox.testing import server

from .conversations import Pop, Smtp, Wire

ACCOUNTS = {"alice": "secret of alice", "bob": "secret of bob"}
STRANGER = "127.0.0.2"  # not in policy.trusted of these tests


def strict(**tables):
    policy = {"trusted": ["127.0.0.1/32"]}
    return server(accounts=ACCOUNTS, config={"policy": policy, "processes": {"network": 2}, **tables})


def test_connections_per_address_over_all_processes():
    with strict(limits={"connections_per_address": 5}) as mail:
        open_ones = [Pop(mail, STRANGER) for _ in range(5)]
        assert all(one.greeting.startswith(b"+OK") for one in open_ones)
        with Pop(mail, STRANGER) as sixth:
            assert sixth.greeting.startswith(b"-ERR [SYS/TEMP] too many connections from your address")
            assert sixth.rest() == b""
        for port in (mail.smtp_port, mail.submission_port):
            with Wire(mail.host, port, STRANGER) as seventh:
                assert seventh.greeting == b"421 4.3.2 too many connections from your address"
                assert seventh.rest() == b""
        with Pop(mail) as trusted:
            assert trusted.greeting.startswith(b"+OK")
        open_ones[0].close()
        deadline = time.monotonic() + 10
        while True:
            with Pop(mail, STRANGER) as again:
                if again.greeting.startswith(b"+OK"):
                    break
            assert time.monotonic() < deadline
        for one in open_ones:
            one.close()


def test_when_full_the_oldest_stranger_makes_room():
    with strict(limits={"connections": 6}, processes={"network": 1}) as mail, Pop(mail) as known:
        assert known.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
        strangers = [Pop(mail) for _ in range(5)]
        with Pop(mail) as late:
            assert late.greeting.startswith(b"+OK")
            assert strangers[0].line().startswith(b"-ERR [SYS/TEMP]")
        assert known.say(b"NOOP").startswith(b"+OK")
        for stranger in strangers:
            stranger.close()


def test_plaintext_from_a_network_that_is_not_trusted():
    with strict() as mail, Pop(mail, STRANGER) as pop:
        capabilities = pop.say(b"CAPA"), pop.lines()
        assert b"USER" not in capabilities[1]
        assert pop.say(b"USER alice").startswith(b"-ERR [AUTH]")
        assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")


def test_that_no_password_is_taken_is_told_to_the_log_where_the_client_gives_up():
    why = 'why="USER was refused: policy.plaintext lets no password without TLS come from this address"'
    with strict() as mail:
        for says in (b"USER alice", b"NOOP"):
            with Pop(mail, STRANGER) as pop:
                pop.say(says)
                pop.say(b"QUIT")
        until(lambda: mail.log().count(" end=quit") == 2)
        assert mail.log().count(f"end=quit {why}") == 1


def test_a_dripping_client_is_cut_at_the_absolute_deadline():
    with strict(limits={"login_seconds": 2.0}) as mail, Pop(mail) as pop:
        pop.socket.settimeout(0.1)
        began = time.monotonic()
        data = b""
        while time.monotonic() - began < 15:
            try:
                pop.send(b"N")
                more = pop.socket.recv(4096)
                if not more:
                    break
                data += more
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 15, "it was never cut"
        assert data == b"" or data.startswith(b"-ERR")


def test_an_endless_line_costs_no_memory():
    with strict(processes={"network": 1}) as mail:
        pid = network_process(mail)
        with Pop(mail) as pop:
            assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
            before = resident(pid)
            with pytest.raises(OSError):
                for _ in range(400):
                    pop.send(b"x" * 65536)
        with Smtp(mail) as smtp:
            smtp.ehlo()
            with pytest.raises(OSError):
                for _ in range(400):
                    smtp.send(b"x" * 65536)
        assert resident(pid) - before < 4096, "KiB grew with what was sent"


def network_process(mail):
    import json

    with open(f"{mail.home}/run/status.json") as file:
        return json.load(file)["processes"]["network-0"]


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_pipelined_lists_that_nobody_reads_stay_bounded():
    with strict(processes={"network": 1}) as mail:
        for number in range(300):
            mail.deliver("alice", b"Subject: %d\n\nx\n" % number)
        pid = network_process(mail)
        with Pop(mail) as pop:
            assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
            before = resident(pid)
            pop.socket.setblocking(False)
            sent = 0
            deadline = time.monotonic() + 3
            while sent < 20_000_000 and time.monotonic() < deadline:
                try:
                    sent += pop.socket.send(b"LIST\r\n" * 10_000)
                except BlockingIOError:
                    time.sleep(0.01)
            assert sent < 20_000_000, "it went on reading"
            assert resident(pid) - before < 8192


def test_the_message_size_is_bounded():
    with strict(limits={"message_octets": 100_000}) as mail, Smtp(mail) as smtp:
        smtp.ehlo()
        assert smtp.say(b"MAIL FROM:<a@b.test> SIZE=100001").startswith(b"552 5.3.4")
        line = b"x" * 76 + b"\r\n"
        assert smtp.message(line * 3000, "alice@" + mail.domain).startswith(b"552 5.3.4")
        assert smtp.message(b"\r\n" + line * 10, "alice@" + mail.domain).startswith(b"250")


def test_a_quota_is_said_at_rcpt():
    with strict(accounts={"quota": 3000}) as mail, Smtp(mail) as smtp:
        smtp.ehlo()
        big = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 40
        assert smtp.message(big, "alice@" + mail.domain).startswith(b"250")
        assert smtp.say(b"MAIL FROM:<a@b.test> SIZE=5000").startswith(b"250")
        assert smtp.say(b"RCPT TO:<bob@%b>" % mail.domain.encode()).startswith(b"552 5.2.2")
        assert smtp.say(b"RSET").startswith(b"250")
        assert smtp.envelope("alice@" + mail.domain)[0].startswith(b"452 4.2.2")


def test_a_second_login_waits_and_then_hears_who_has_it():
    with strict(pop3={"wait": 1.0}) as mail, Pop(mail) as first:
        assert first.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
        with Pop(mail) as second:
            answer = second.apop("alice", ACCOUNTS["alice"])
            assert answer.startswith(b"-ERR [IN-USE] ") and b"127.0.0.1" in answer and b" UTC" in answer
            with Pop(mail) as other:
                assert other.apop("bob", ACCOUNTS["bob"]).startswith(b"+OK")


def quit_(pop):
    pop.say(b"QUIT")


def reset(pop):
    """A dropped line: the client's kernel says RST."""
    pop.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pop.close()


@pytest.mark.parametrize("leave", [quit_, reset, Pop.close])
def test_a_second_login_gets_the_maildrop_when_the_first_leaves(leave):
    with strict(pop3={"wait": 15.0}) as mail, Pop(mail) as second:
        first = Pop(mail)
        assert first.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(second.apop("alice", ACCOUNTS["alice"])))
        waiting.start()
        leave(first)
        waiting.join(10)
        assert answers and answers[0].startswith(b"+OK")


def test_shared_sessions_need_no_lock():
    with strict(pop3={"sessions": "shared"}) as mail, Pop(mail) as first, Pop(mail) as second:
        assert first.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")
        assert second.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")


def test_three_failures_and_the_connection_ends():
    with strict() as mail, Pop(mail) as pop:
        for _ in range(3):
            assert pop.apop("alice", "wrong") == b"-ERR [AUTH] authentication failed"
        assert pop.rest() == b""


def test_a_stopped_disk_reader_does_not_stop_the_others():
    """A client that reads nothing holds its own body back, and nobody else's."""
    with strict(processes={"network": 1}) as mail:
        mail.deliver("alice", b"Subject: big\n\n" + (b"x" * 76 + b"\n") * 200_000)
        with Pop(mail) as slow:
            slow.apop("alice", ACCOUNTS["alice"])
            slow.send(b"RETR 1\r\n")
            with Pop(mail) as quick:
                assert quick.apop("bob", ACCOUNTS["bob"]).startswith(b"+OK")
                assert quick.say(b"QUIT").startswith(b"+OK")


def test_signals_meant_for_the_parent_do_not_end_the_children():
    with strict() as mail, Pop(mail) as pop:
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(network_process(mail), sign)
        assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK")


def test_a_body_that_nobody_reads_is_cut():
    with strict(limits={"pop3_stall_seconds": 1.0}) as mail:
        mail.deliver("alice", b"Subject: big\n\n" + (b"x" * 76 + b"\n") * 400_000)
        with Pop(mail) as pop:
            pop.apop("alice", ACCOUNTS["alice"])
            pop.send(b"RETR 1\r\n")
            ended(mail, "end=stalled")
        with Pop(mail) as pop:
            assert pop.apop("alice", ACCOUNTS["alice"]).startswith(b"+OK 1 ")


def test_a_message_that_stops_coming_is_cut_and_leaves_nothing():
    with strict(limits={"smtp_stall_seconds": 1.0}) as mail:
        with Smtp(mail) as smtp:
            smtp.ehlo()
            smtp.envelope("alice@" + mail.domain)
            assert smtp.say(b"DATA").startswith(b"354")
            smtp.send(b"Subject: half\r\n")
            assert smtp.line().startswith(b"421 4.4.2")
        until(lambda: not os.listdir(mail.maildir("alice") / "tmp"))
        assert mail.messages("alice") == []


def ended(mail, words):
    until(lambda: words in mail.log())


def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_body_that_takes_longer_than_the_idle_time_does_not_end_the_session():
    with strict(limits={"pop3_idle_seconds": 1.5}) as mail:
        mail.deliver("alice", b"Subject: big\n\n" + (b"x" * 76 + b"\n") * 200_000)
        with Pop(mail) as pop:
            pop.apop("alice", ACCOUNTS["alice"])
            pop.send(b"RETR 1\r\n")
            deadline = time.monotonic() + 4.0
            received = 0
            while time.monotonic() < deadline:  # a slow line, and a body under way all the time
                received += len(pop.socket.recv(65536))
                time.sleep(0.05)
            assert received < 15_000_000
            while not (data := pop.socket.recv(1 << 20)).endswith(b"\r\n.\r\n"):
                assert data
            pop._data = b""
            assert pop.say(b"DELE 1").startswith(b"+OK")
            assert pop.say(b"QUIT").startswith(b"+OK")


def test_somebody_who_guesses_addresses_is_cut():
    with strict() as mail, Smtp(mail) as smtp:
        smtp.ehlo()
        smtp.say(b"MAIL FROM:<a@b.test>")
        replies = [smtp.say(b"RCPT TO:<guess%d@%b>" % (n, mail.domain.encode())) for n in range(21)]
        assert all(reply.startswith(b"550 5.1.1") for reply in replies)
        assert smtp.line().startswith(b"421 4.7.0") and smtp.rest() == b""
