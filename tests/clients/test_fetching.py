"""Every client fetches every odd message, by APOP and by USER and PASS, and gets what lies in the Maildir."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from pillarbox.testing import Server, server

from ..corpus import real
from ..corpus.sample import ACCEPTED, STORED, Sample, on_the_wire
from .drivers import Client, Door
from .post import differs_only_in_trace, key, post_all

SECRET = "heron by the weir 41"
ODD = 200
TAME = {"lf", "crlf", "mixed", "unended-lf", "unended-crlf", "unended-dot"}

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server(accounts={"sample": SECRET, "odd": SECRET, "stored": SECRET, "tame": SECRET}) as running:
        yield running


@pytest.fixture(scope="module")
def sample(running: Server) -> Sequence[bytes]:
    """The committed sample, as it lies in the Maildir."""
    sent = {message.name: message.data for message in ACCEPTED}
    return _filled(running, "sample", sent)


@pytest.fixture(scope="module")
def odd(running: Server, corpus: list[real.Mail]) -> Sequence[bytes]:
    """The oddest real messages, as they lie in the Maildir."""
    clean = [mail for mail in corpus if not real.has_bare_cr(mail.data)]
    chosen = real.odd(clean, ODD)
    sent = {f"m{n}": real.with_lf(mail.data).replace(b"\n", b"\r\n") for n, mail in enumerate(chosen)}
    return _filled(running, "odd", sent)


@pytest.fixture(scope="module")
def stored(running: Server) -> Sequence[bytes]:
    """Files of any octets, laid into the Maildir by another program; as they should come, with LF."""
    return _laid(running, "stored", STORED)


@pytest.fixture(scope="module")
def tame(running: Server) -> Sequence[bytes]:
    """Those of them that every client can take: with a header, clean lines, and none too long."""
    return _laid(running, "tame", [message for message in STORED if message.name in TAME])


def _laid(running: Server, name: str, messages: Iterable[Sample]) -> Sequence[bytes]:
    for message in messages:
        running.deliver(name, message.data)
    return [on_the_wire(message.data).replace(b"\r\n", b"\n") for message in messages]


def _filled(running: Server, name: str, sent: dict[str, bytes]) -> Sequence[bytes]:
    post_all(running, f"{name}@example.test", sent.items())
    lying = running.messages(name)
    assert {key(message) for message in lying} == set(sent)
    for message in lying:
        assert differs_only_in_trace(message, sent[key(message)].replace(b"\r\n", b"\n")), key(message)
    return lying


def _door(running: Server, user: str, apop: bool) -> Door:
    return Door(running.host, running.pop3_port, user, SECRET, apop)


def _agree(client: Client, fetched: Sequence[bytes], lying: Sequence[bytes]) -> None:
    """Both hold the same messages, as often; shows the beginning of those that differ."""
    expected = [client.changed(message) for message in lying]
    assert [m[:200] for m in fetched if m not in expected] == [m[:200] for m in expected if m not in fetched] == []
    assert sorted(fetched) == sorted(expected)


def test_the_sample(running: Server, sample: Sequence[bytes], client: Client, apop: bool, tmp_path: Path) -> None:
    _agree(client, client.fetch(_door(running, "sample", apop), tmp_path), sample)


@pytest.mark.corpus
def test_odd_mail(running: Server, odd: Sequence[bytes], client: Client, apop: bool, tmp_path: Path) -> None:
    _agree(client, client.fetch(_door(running, "odd", apop), tmp_path), odd)


def test_foreign_files(running: Server, tame: Sequence[bytes], client: Client, apop: bool, tmp_path: Path) -> None:
    _agree(client, client.fetch(_door(running, "tame", apop), tmp_path), tame)


def test_any_octets(running: Server, stored: Sequence[bytes], verbatim: Client, apop: bool, tmp_path: Path) -> None:
    _agree(verbatim, verbatim.fetch(_door(running, "stored", apop), tmp_path), stored)
