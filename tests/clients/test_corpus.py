"""6,046 real messages in by SMTP and out by APOP, byte for byte."""

from __future__ import annotations

import poplib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pillarbox.testing import Server, server

from ..corpus import real
from . import drivers  # noqa: F401  (lifts poplib's limit of line length)
from .post import ACCEPTED, REPLY_SECONDS, differs_only_in_trace, key, post

SECRET = "lantern over gravel 93"
ACCOUNTS = tuple(f"reader{n}" for n in range(6))
WITH_BARE_CR = 8

pytestmark = pytest.mark.corpus


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts=dict.fromkeys(ACCOUNTS, SECRET)) as running:
        yield running


def test_real_mail_goes_in_and_comes_out_unchanged(running: Server, corpus: list[real.Mail]) -> None:
    sent = {f"m{n}": real.with_lf(mail.data) for n, mail in enumerate(corpus)}
    shares = [list(sent.items())[n :: len(ACCOUNTS)] for n in range(len(ACCOUNTS))]
    with ThreadPoolExecutor(len(ACCOUNTS)) as pool:
        replies = {}
        for some in pool.map(lambda account, share: _bring(running, account, share), ACCOUNTS, shares):
            replies.update(some)
        _only_bare_cr_is_refused(sent, replies)
        for account, share, came in zip(
            ACCOUNTS, shares, pool.map(lambda account: _fetch(running, account), ACCOUNTS), strict=True
        ):
            _agree(account, {one: sent[one] for one, _ in share if replies[one][0] == ACCEPTED}, came)


def _bring(running: Server, account: str, share: Sequence[tuple[str, bytes]]) -> dict[str, tuple[int, bytes]]:
    return post(running, f"{account}@example.test", ((one, text.replace(b"\n", b"\r\n")) for one, text in share))


def _only_bare_cr_is_refused(sent: dict[str, bytes], replies: dict[str, tuple[int, bytes]]) -> None:
    refused = {one: reply for one, reply in replies.items() if reply[0] != ACCEPTED}
    assert set(refused) == {one for one, text in sent.items() if b"\r" in text}
    assert len(refused) == WITH_BARE_CR
    assert all(code == 550 and text.startswith(b"5.6.0") for code, text in refused.values())


def _fetch(running: Server, account: str) -> list[bytes]:
    """All messages, each of the octets that LIST says."""
    pop = poplib.POP3(running.host, running.pop3_port, timeout=REPLY_SECONDS)
    pop.apop(account, SECRET)
    sizes = [int(line.split()[1]) for line in pop.list()[1]]
    assert pop.stat() == (len(sizes), sum(sizes))
    messages = []
    for number, size in enumerate(sizes, 1):
        _, lines, octets = pop.retr(number)
        assert octets == size, (account, number)
        messages.append(b"".join(line + b"\n" for line in lines))
    pop.quit()
    return messages


def _agree(account: str, sent: dict[str, bytes], came: list[bytes]) -> None:
    assert sorted(map(key, came)) == sorted(sent), account
    assert [key(message) for message in came if not differs_only_in_trace(message, sent[key(message)])] == []
