"""Postfix and OpenSMTPD take mail for their domain, as the options say, and nothing of them is left behind."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from .certificates import Authority
from .exchanger import Exchanger
from .opensmtpd import NAME as OPENSMTPD_NAME
from .opensmtpd import opensmtpd
from .ports import HOST, refusing
from .postfix import NAME as POSTFIX_NAME
from .postfix import postfix
from .processes import running


class Start(Protocol):
    def __call__(self, *, host: str) -> AbstractContextManager[Exchanger]: ...


MESSAGE = b"Subject: hello\r\n\r\none\r\n..two\r\n"


@pytest.fixture(params=["postfix_exchanger", "opensmtpd_exchanger"])
def exchanger(request: pytest.FixtureRequest) -> Iterator[Exchanger]:
    found: Exchanger = request.getfixturevalue(request.param)
    found.clear()
    yield found


def connect(exchanger: Exchanger) -> smtplib.SMTP:
    client = smtplib.SMTP(exchanger.host, exchanger.port, local_hostname="client.test", timeout=30)
    client.ehlo()
    return client


def test_mail_is_delivered_into_the_maildir(exchanger: Exchanger) -> None:
    with connect(exchanger) as client:
        client.sendmail("a@sender.test", [exchanger.address("alice"), exchanger.address("bob")], MESSAGE)
    for local in ("alice", "bob"):
        (message,) = exchanger.wait_for(local)
        head, _, body = message.partition(b"\n\n")
        assert b"\nSubject: hello" in head
        assert message.startswith(b"Return-Path: <a@sender.test>")
        assert body.removesuffix(b"\n") == b"one\n..two"
    assert exchanger.messages("carol") == []


def test_an_unknown_recipient_is_refused(exchanger: Exchanger) -> None:
    with connect(exchanger) as client:
        client.mail("a@sender.test")
        assert client.rcpt(exchanger.address("nobody"))[0] == 550
        assert client.rcpt("alice@elsewhere.test")[0] in (550, 554)
        assert client.rcpt(exchanger.address("alice"))[0] == 250


def test_starttls_with_a_certificate_that_can_be_trusted(postfix_exchanger: Exchanger, authority: Authority) -> None:
    with connect(postfix_exchanger) as client:
        client._host = POSTFIX_NAME  # type: ignore[attr-defined]  # that is verified
        client.starttls(context=authority.client_context())
        client.sendmail("a@sender.test", [postfix_exchanger.address("carol")], MESSAGE)
    (message,) = postfix_exchanger.wait_for("carol")
    assert b"using TLS" in message


def test_opensmtpd_offers_starttls_and_goes_on_in_plain_text(authority: Authority) -> None:
    """Whether its handshake succeeds depends on its version."""
    with opensmtpd(certificate=authority.issue(OPENSMTPD_NAME)) as exchanger:
        with connect(exchanger) as client:
            assert client.has_extn("starttls")
            assert client.docmd("STARTTLS")[0] == 220
            assert client.sock is not None
            with contextlib.suppress(ssl.SSLError):
                authority.client_context().wrap_socket(client.sock, server_hostname=OPENSMTPD_NAME)
            client.close()
        with connect(exchanger) as client:
            client.sendmail("a@sender.test", [exchanger.address("carol")], MESSAGE)
        exchanger.wait_for("carol")


def test_what_postfix_offers(postfix_exchanger: Exchanger) -> None:
    with connect(postfix_exchanger) as client:
        assert {"8bitmime", "smtputf8", "pipelining", "dsn", "size", "starttls"} <= set(client.esmtp_features)
        client.sendmail(
            "ä@sender.test", [postfix_exchanger.address("dörte")], MESSAGE, mail_options=["SMTPUTF8", "BODY=8BITMIME"]
        )
    (message,) = postfix_exchanger.wait_for("dörte")
    assert message.startswith("Return-Path: <ä@sender.test>".encode())


def test_what_postfix_was_told_not_to_offer() -> None:
    with (
        postfix(smtputf8=False, without=("8BITMIME", "PIPELINING"), message_octets=10_000) as small,
        connect(small) as client,
    ):
        assert not {"8bitmime", "smtputf8", "pipelining", "starttls"} & set(client.esmtp_features)
        assert client.esmtp_features["size"] == "10000"
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            client.sendmail("a@sender.test", [small.address("alice")], b"x" * 20_000)
        assert refused.value.smtp_code == 552


def test_what_opensmtpd_offers() -> None:
    with opensmtpd(message_octets=10_000) as small, connect(small) as client:
        assert {"8bitmime", "dsn"} <= set(client.esmtp_features)
        assert not {"smtputf8", "pipelining", "starttls"} & set(client.esmtp_features)
        client.mail("a@sender.test")
        client.rcpt(small.address("alice"))
        assert client.data(b"x" * 20_000)[0] == 554


@pytest.mark.parametrize("server", [postfix, opensmtpd])
def test_it_listens_where_it_is_told_to_and_no_more_afterwards(server: Start) -> None:
    with server(host="127.0.0.2") as exchanger:
        with connect(exchanger) as client:
            assert client.noop()[0] == 250
        assert exchanger.route == f"127.0.0.2:{exchanger.port}"
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(exchanger.host, exchanger.port)
    assert not exchanger.mail.exists()


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo no such luck; exit 1"]
    with (
        pytest.raises(RuntimeError, match="no such luck"),
        refusing() as port,
        running(command, (HOST, port), tmp_path / "log", {}),
    ):
        pytest.fail("it greets")
