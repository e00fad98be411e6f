"""The commands `pillarbox device` and `pillarbox key`, without a server."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from pillarbox.commands.client_settings import Doors, by_apop, under_tls
from pillarbox.store.secrets import GENERATED_MINIMUM, load_keys

from ..command_line import say

ALICE = "alice@localhost.localdomain"


@pytest.fixture
def home(place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert say(capsys, "account", "add", "alice", "--home", place).status == 0
    return place


def secret_in(text: str) -> str:
    (found,) = re.findall(r"^secret: (.+)$", text, re.MULTILINE)
    assert isinstance(found, str)
    return found


def test_devices_come_and_go(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    added = say(capsys, "device", "add", "alice", "Phone", "--home", home)
    assert added.status == 0 and added.out.startswith(f"device phone of {ALICE} added\nlogin name: alice+phone@")
    assert say(capsys, "device", "add", "alice", "laptop", "--networks", "192.0.2.9/24", "--home", home).status == 0
    rows = [line.split("\t") for line in say(capsys, "device", "list", "alice", "--home", home).out.splitlines()]
    assert [(row[0], row[1], *row[3:]) for row in rows] == [
        (ALICE, "laptop", "never", "-", "-", "192.0.2.0/24", "no"),
        (ALICE, "phone", "never", "-", "-", "any", "no"),
    ]
    assert say(capsys, "device", "revoke", "alice", "laptop", "--home", home).status == 0
    again = say(capsys, "device", "revoke", "alice", "laptop", "--home", home)
    assert again.status == 1 and f"{ALICE} has no device laptop" in again.err
    found = json.loads(say(capsys, "device", "list", "--json", "--home", home).out)["devices"]
    assert [(device["label"], device["used"], device["sends"]) for device in found] == [("phone", None, False)]


def test_a_secret_is_long_enough_and_shown_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = secret_in(say(capsys, "device", "add", "alice", "phone", "--home", home).out)
    long = secret_in(say(capsys, "device", "add", "alice", "old-client", "--apop-long", "--home", home).out)
    assert len(short.replace("-", "")) >= GENERATED_MINIMUM and len(long.replace("-", "")) == 64
    assert max(map(len, long.split("-"))) <= 7, "in groups that can be typed"
    shown = [say(capsys, *words, "--home", home) for words in (["device", "list"], ["device", "list", "--json"])]
    assert not any(secret in said.out + said.err for said in shown for secret in (short, long))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nobody", "phone"), "there is no account nobody@"),
        (("alice", "a b"), "is no label for a device"),
        (("alice", "x" * 33), "at most 32 letters"),
        (("alice", "phone", "--networks", "192.0.2.0/33"), "is no network such as"),
        (("al/ice", "phone"), "is no account name"),
    ],
)
def test_what_is_wrong_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    said = say(capsys, "device", "add", *arguments, "--home", home)
    assert said.status == 1 and why in said.err and said.err.count("\n") == 1 and not said.out
    assert say(capsys, "device", "list", "--home", home).err == "no devices\n"


def test_settings_for_sending_are_shown_to_who_may_send(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "msmtp" not in say(capsys, "device", "add", "alice", "phone", "--home", home).out
    assert "msmtp" in say(capsys, "device", "add", "alice", "laptop", "--send", "--home", home).out
    assert "APOP" not in say(capsys, "device", "add", "alice", "tablet", "--home", home).out
    assert "authentication APOP" in say(capsys, "device", "add", "alice", "old", "--apop", "--home", home).out


def test_a_server_on_every_address_is_named_by_its_name() -> None:
    settings = Doors("mail.example.test", {"pop3s": ["0.0.0.0:995"], "pop3": ["[::]:110"]})
    assert "server mail.example.test, port 995, " in under_tls(settings, ALICE, ALICE, sends=False)[1]
    assert "server mail.example.test, port 110, " in by_apop(settings, ALICE)[0]
    closed = Doors("mail.example.test", {"pop3s": []})
    assert under_tls(closed, ALICE, ALICE, sends=True) == [] == by_apop(closed, ALICE)


def test_a_certificate_of_the_servers_own_making_must_be_shown_to_clients(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = say(capsys, "device", "add", "alice", "phone", "--home", home).out
    assert f"the file {home}/tls/certificate.pem" in said
    signed = Doors("mail.example.test", {"pop3s": ["0.0.0.0:995"]})
    assert not any("certificate" in line for line in under_tls(signed, ALICE, ALICE, sends=False))


def test_on_a_terminal_the_code_holds_the_secret(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are its light half modules; without its margin they are the symbol that ISO 18004 makes of the secret."""
    import segno

    def isatty() -> bool:
        return True

    with monkeypatch.context() as patch:
        patch.setattr("pillarbox.terminal._console", lambda: None)
        capsys.readouterr()
        patch.setattr(sys.stdout, "isatty", isatty)
        out = say(capsys, "device", "add", "alice", "phone", "--home", home).out
    drawn = [line for line in out.split("\n") if line and not set(line) - set(" \u2588\u2580\u2584")]
    light = [[letter in upper for letter in line] for line in drawn for upper in ("\u2588\u2580", "\u2588\u2584")]
    code = segno.make(secret_in(out), micro=False)
    symbol = [[not module for module in row] for row in code.matrix_iter(border=4)]
    assert light[: len(symbol)] == symbol


def test_the_key_can_be_changed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load_keys(str(home / "secret.key"))
    say(capsys, "device", "add", "alice", "phone", "--home", home)
    said = say(capsys, "key", "rotate", "--home", home)
    assert said.status == 0 and said.out.startswith("2 secrets are sealed with the new key ")
    assert not {key.hex() for key in before} & {*re.findall(r"[0-9a-f]{64}", said.out)}
    assert load_keys(str(home / "secret.key")) != before
    assert say(capsys, "device", "list", "--home", home).status == 0


def test_where_nothing_is_sealed_no_key_is_changed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(capsys, "key", "rotate", "--home", place).status == 1
    assert say(capsys, "device", "list", "--home", place).status == 1
    assert not place.exists()
