"""The last word before the queue takes a message: of programs of this machine, what each uid may send as."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pillarbox.broker import admission
from pillarbox.messages_delivery import ANYBODY

from .test_standing import ALICE, BOB, IN, NO_MAILBOX, NOT_OWNED, OUT, YES, Office, reply


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def users(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uids with names; the server's own is 999, and bob@example.test belongs to somebody who is no user here."""
    names = {1001: "alice", 1002: "carl", 1003: "Alice", 1004: "bob"}
    office.source.uids["alice@example.test"] = 1001

    def getpwuid(uid: int) -> Any:
        if uid not in names:
            raise KeyError(uid)
        return SimpleNamespace(pw_name=names[uid])

    monkeypatch.setattr(admission, "pwd", SimpleNamespace(getpwuid=getpwuid))
    monkeypatch.setattr(admission, "os", SimpleNamespace(geteuid=lambda: 999))


LOCAL = [
    # uid, sender -> account and sender, or nothing: refused
    (1001, None, "alice@example.test", ALICE),
    (1001, b"info@example.test", "alice@example.test", b"info@example.test"),
    (1001, b"alice-x@example.test", "alice@example.test", b"alice-x@example.test"),
    (1001, b"", "alice@example.test", b""),
    (1001, BOB, None, b""),
    (1001, b"a@sender.test", None, b""),
    (1002, None, "", b"carl@example.test"),
    (1002, b"carl@example.test", "", b"carl@example.test"),
    (1002, ALICE, None, b""),
    (1002, b"", None, b""),
    (1003, ALICE, None, b""),  # a user name is no login name: its case counts
    (1004, None, "", BOB),  # not on behalf of that account
    (1004, BOB, "", BOB),
    (1004, b"sales@example.test", None, b""),
    (1004, b"bob-x@example.test", None, b""),
    (1004, b"", None, b""),
    (4242, None, "", b"uid4242@example.test"),
    (4242, ALICE, None, b""),
    (0, b"a@sender.test", ANYBODY, b"a@sender.test"),
    (0, b"", ANYBODY, b""),
    (999, b"a@sender.test", ANYBODY, b"a@sender.test"),
]


@pytest.mark.parametrize(("uid", "sender", "account", "used"), LOCAL)
def test_a_uid_sends_as_itself(
    office: Office, users: None, uid: int, sender: bytes | None, account: str | None, used: bytes
) -> None:
    verdict = office.local(uid, OUT, IN, sender=sender)
    if account is None:
        assert reply(verdict) == NOT_OWNED and f"<{(sender or b'').decode()}>" in verdict.text
    else:
        assert (reply(verdict), verdict.account, verdict.sender) == (YES, account, used)


def test_a_program_is_told_at_once_of_a_recipient_that_is_none(office: Office) -> None:
    verdict = office.local(os.getuid(), OUT, b"alice@example.test", b"nobody@example.test")
    assert reply(verdict) == NO_MAILBOX and "nobody@example.test" in verdict.text
    assert "alice" not in verdict.text


def test_the_real_user_has_a_name(office: Office) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    assert office.local(os.getuid()).sender == f"{name}@example.test".encode()


# What a chained qmail-smtpd found.

STRANGER = b"a@sender.test"
CAME = [
    # uid, how it came, recipients -> code and enhanced code
    (2001, "smtp", (IN,), (0, "")),
    (2001, "relay", (IN, OUT), (0, "")),
    (2001, "smtp", (OUT,), (550, "5.7.1")),
    (2001, "smtp", (IN, OUT), (550, "5.7.1")),
    (2001, "smtp", (b"nobody@example.test",), (550, "5.1.1")),
    (2001, "relay", (b"nobody@example.test",), (550, "5.1.1")),
    (2001, "", (IN,), (550, "5.7.1")),  # what that user writes itself
    (0, "smtp", (IN,), (0, "")),
    (0, "smtp", (OUT,), (550, "5.7.1")),
    (999, "relay", (OUT,), (0, "")),
    (1001, "relay", (OUT,), (451, "4.7.1")),  # not configured
    (1001, "smtp", (IN,), (451, "4.7.1")),
]


@pytest.mark.parametrize(("uid", "came", "recipients", "said"), CAME)
def test_a_configured_user_may_say_how_a_message_came(
    tmp_path: Path, users: None, uid: int, came: str, recipients: tuple[bytes, ...], said: tuple[int, str]
) -> None:
    office = Office(tmp_path, smtpd_users=[2001])
    office.source.uids["alice@example.test"] = 1001
    verdict = office.local(uid, *recipients, sender=STRANGER, came=came)
    assert (verdict.code, verdict.enhanced) == said
    if not verdict.code:  # on nobody's behalf: neither the host's, nor an account's
        assert (verdict.sender, verdict.account, verdict.received) == (STRANGER, "", True)


def test_what_another_user_says_of_it_widens_nothing(office: Office, users: None) -> None:
    for came in ("smtp", "relay"):
        verdict = office.local(1001, OUT, sender=ALICE, came=came)
        assert (verdict.code, verdict.account, verdict.received) == (0, "alice@example.test", False)


def test_a_user_that_is_not_there_is_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    office = Office(tmp_path, smtpd_users=["no-such-user-here"])
    assert "there is no user no-such-user-here" in capfd.readouterr().err
    assert office.local(2001, IN, sender=STRANGER, came="smtp").code == 451
