"""The smarthost takes mail from who has logged in, and says what the test wants."""

from __future__ import annotations

import smtplib

import pytest

from .certificates import Authority
from .smarthost import NAME, Smarthost, Taken, smarthost

LOGINS = {"pillarbox": "a long secret"}
MESSAGE = b"Subject: hello\r\n\r\n..dots\r\n.\r\nend\r\n"


def connect(server: Smarthost) -> smtplib.SMTP:
    client = smtplib.SMTP(server.host, server.port, local_hostname="client.test", timeout=30)
    client.ehlo()
    return client


def test_without_logins_everybody_may_send() -> None:
    with smarthost() as server:
        with connect(server) as client:
            assert {"size", "8bitmime", "smtputf8"} <= set(client.esmtp_features)
            client.sendmail("a@sender.test", ["b@one.test", "c@one.test"], MESSAGE, ["BODY=8BITMIME"])
        (taken,) = server.wait_for(1)
    assert taken == Taken(None, False, "a@sender.test", ["b@one.test", "c@one.test"], taken.mail_options, MESSAGE)
    assert "BODY=8BITMIME" in taken.mail_options


def test_a_login_behind_starttls(authority: Authority) -> None:
    with smarthost(context=authority.issue(NAME).server_context(), logins=LOGINS) as server:
        with connect(server) as client:
            assert not client.has_extn("auth")
            client._host = NAME  # type: ignore[attr-defined]  # that is verified
            client.starttls(context=authority.client_context())
            client.ehlo()
            assert client.mail("a@sender.test")[0] == 530
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("pillarbox", "another secret")
            client.login("pillarbox", LOGINS["pillarbox"])
            client.sendmail("a@sender.test", ["b@one.test"], MESSAGE)
        (taken,) = server.wait_for(1)
    assert (taken.login, taken.encrypted) == ("pillarbox", True)
    assert ("PLAIN", "pillarbox") in server.attempts


def test_a_login_in_plain_text() -> None:
    with smarthost(logins=LOGINS) as server:
        with connect(server) as client:
            client.login("pillarbox", LOGINS["pillarbox"])
            client.sendmail("a@sender.test", ["b@one.test"], MESSAGE)
        assert server.wait_for(1)[0].login == "pillarbox"


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_replies_of_the_tests_own(verb: str) -> None:
    with smarthost() as server, connect(server) as client:
        server.replies[verb] = "451 4.3.0 later"
        with pytest.raises((smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused)) as refused:
            client.sendmail("a@sender.test", ["b@one.test"], MESSAGE)
        assert "451" in str(refused.value)
        del server.replies[verb]
        client.sendmail("a@sender.test", ["b@one.test"], MESSAGE)
        assert len(server.taken) == 1
