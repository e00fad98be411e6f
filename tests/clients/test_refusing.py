"""A wrong password: each client says so, and nobody's secret reaches the log."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from .drivers import Client, ClientFailed, Door

SECRET = "marble stair 1907"
WRONG = "marble stair 1908"

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts={"alice": SECRET}) as running:
        yield running


def test_a_wrong_password_fails_clearly(running: Server, client: Client, apop: bool, tmp_path: Path) -> None:
    with pytest.raises(ClientFailed, match=r"(?i)auth|login|denied|password|credential"):
        client.fetch(Door(running.host, running.pop3_port, "alice", WRONG, apop), tmp_path)
    log = running.log()
    assert "auth-fail" in log
    assert WRONG not in log and SECRET not in log


def test_the_full_address_logs_in_as_well(running: Server, client: Client, apop: bool, tmp_path: Path) -> None:
    assert client.fetch(Door(running.host, running.pop3_port, "Alice@Example.TEST", SECRET, apop), tmp_path) == []


def test_three_failures_end_the_connection(running: Server) -> None:
    pop = poplib.POP3(running.host, running.pop3_port, timeout=60)
    for _ in range(3):
        with pytest.raises(poplib.error_proto, match="AUTH"):
            pop.apop("alice", WRONG)
    with pytest.raises((poplib.error_proto, ConnectionError)):
        pop.noop()
    pop.close()


def test_a_correction_on_the_same_connection_succeeds(running: Server) -> None:
    pop = poplib.POP3(running.host, running.pop3_port, timeout=60)
    with pytest.raises(poplib.error_proto, match="AUTH"):
        pop.apop("alice", WRONG)
    with pytest.raises(poplib.error_proto, match="AUTH"):
        pop.user("alice")
        pop.pass_(WRONG)
    assert pop.apop("alice", SECRET).startswith(b"+OK")
    pop.quit()
