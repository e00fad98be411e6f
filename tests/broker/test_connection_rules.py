"""The rules as the broker reads them: kept while the file is wrong, told once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pillarbox import log
from pillarbox.broker.connection_rules import ConnectionRules
from pillarbox.config import Policy
from pillarbox.messages import Message
from pillarbox.policy.tcprules import records
from pillarbox.store import cdb


class Network:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.told: list[Message] = []

    def send(self, message: Message) -> None:
        self.told.append(message)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "line", lambda event, **fields: lines.append(f"{event} {fields.get('why', '')}"))
    return lines


def write(path: Path, *lines: bytes) -> None:
    path.write_bytes(cdb.content(record for line in lines for record in records(line)))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # two writes within one tick of the clock are two


def told(rules: ConnectionRules) -> list[Message]:
    network = Network()
    rules.tell(network)  # type: ignore[arg-type]
    return network.told


def test_no_file_no_rules() -> None:
    rules = ConnectionRules()
    assert rules.configure(Policy())
    assert told(rules) == [] and not rules.changed() and not rules.relays("192.0.2.1")


def test_a_file_is_read_when_it_has_changed(tmp_path: Path) -> None:
    path, rules = tmp_path / "cdb", ConnectionRules()
    write(path, b'192.0.2.:allow,RELAYCLIENT=""', b":deny")
    assert rules.configure(Policy(rules_smtp=str(path)))
    assert rules.relays("192.0.2.1") and not rules.relays("192.0.3.1")
    assert not rules.changed()
    write(path, b"192.0.2.:allow")
    assert rules.changed() and not rules.relays("192.0.2.1")


@pytest.mark.parametrize(
    "line", [b'192.0.2.1:allow,RELAYCLIENT="@x"', b'192.0.2.1:deny,RELAYCLIENT=""', b'192.0.2.1:allow,RELAY=""']
)
def test_who_may_not_relay(line: bytes, tmp_path: Path) -> None:
    path, rules = tmp_path / "cdb", ConnectionRules()
    write(path, line)
    assert rules.configure(Policy(rules_smtp=str(path)))
    assert not rules.relays("192.0.2.1")


def test_the_first_of_two_rules_counts(tmp_path: Path) -> None:
    path, rules = tmp_path / "cdb", ConnectionRules()
    write(path, b'192.0.2.1:allow,RELAYCLIENT=""', b"192.0.2.1:deny")
    assert rules.configure(Policy(rules_smtp=str(path)))
    assert rules.relays("192.0.2.1") and rules.relays("::ffff:192.0.2.1")


@pytest.mark.parametrize("content", [None, b"", b"nonsense", bytes(cdb.WHOLE_LIMIT + 1)])
def test_a_wrong_file_leaves_what_there_was_and_is_told_once(
    content: bytes | None, tmp_path: Path, logged: list[str]
) -> None:
    path, rules = tmp_path / "cdb", ConnectionRules()
    write(path, b'192.0.2.1:allow,RELAYCLIENT=""')
    policy = Policy(rules_smtp=str(path), rules_pop3="")
    assert rules.configure(policy) and not logged
    before = told(rules)
    path.unlink() if content is None else path.write_bytes(content)
    assert not rules.changed() and not rules.changed() and not rules.configure(policy)
    assert len(logged) == 1 and logged[0].startswith("rules-refused ")
    assert told(rules) == before and rules.relays("192.0.2.1")
    write(path, b":deny")
    assert rules.changed() and not rules.relays("192.0.2.1")
    path.write_bytes(b"nonsense again")
    assert not rules.changed() and len(logged) == 2


def test_a_key_that_is_taken_away(tmp_path: Path) -> None:
    path, rules = tmp_path / "cdb", ConnectionRules()
    write(path, b'192.0.2.1:allow,RELAYCLIENT=""')
    assert rules.configure(Policy(rules_smtp=str(path), rules_pop3=str(path)))
    assert [getattr(message, "protocol", "") for message in told(rules)] == ["smtp", "pop3"]
    assert rules.configure(Policy(rules_pop3=str(path)))
    assert [getattr(message, "protocol", "") for message in told(rules)] == ["pop3"]
    assert not rules.relays("192.0.2.1")
