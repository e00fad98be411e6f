"""The how-to, followed to the letter: its command lines run as they stand, and clients fetch, then send."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .machine import UNSHARE

pytestmark = pytest.mark.root
ROOT = Path(__file__).parent.parent.parent
SECONDS = 110
MESSAGE = "from the chain"
NOT_OURS = "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"


@pytest.fixture(scope="module")
def seen(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the clients saw, step by step."""
    result = tmp_path_factory.mktemp("howto") / "seen.json"
    command = [*UNSHARE, sys.executable, "-m", "tests.classic.howto_chain", str(ours), str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def test_mail_from_outside_is_taken_for_our_own_people(seen: dict[str, Any]) -> None:
    assert seen["a mail from outside"] == "sent"


def test_apop_and_plain_pop_work_on_one_port(seen: dict[str, Any]) -> None:
    assert MESSAGE in seen["apop"] and seen["pass"] == 1


@pytest.mark.parametrize("client", ["curl", "fetchmail by apop", "fetchmail by pass"])
def test_clients_fetch_it(client: str, seen: dict[str, Any]) -> None:
    assert MESSAGE in seen[client]


def test_who_has_fetched_may_send_and_nobody_else(seen: dict[str, Any]) -> None:
    assert seen["relaying before the login"] == NOT_OURS
    assert seen["a wrong digest"].endswith("-ERR authorization failed'")
    assert seen["relaying after a wrong digest"] == NOT_OURS
    assert seen["relaying after apop"] == "sent"
    assert seen["relaying by a stranger"] == NOT_OURS


def test_the_right_to_send_ends(seen: dict[str, Any]) -> None:
    assert seen["relaying after the expiry"] == NOT_OURS


def test_the_lines_of_the_init_script_do_the_same(seen: dict[str, Any]) -> None:
    assert MESSAGE in seen["apop by the init script's line"]
    assert seen["relaying again"] == "sent"


def test_mail_for_another_host_arrives_there(seen: dict[str, Any]) -> None:
    assert seen["sink"][0] == ["alice@hoge.example.com", ["friend@elsewhere.test"]]


def test_an_address_that_the_rules_deny_is_turned_away(seen: dict[str, Any]) -> None:
    assert seen["an address that the rules deny"]


def test_the_log_goes_to_syslog_under_both_names(seen: dict[str, Any]) -> None:
    for tag in ("pop3d", "smtp"):
        lines = [line for line in seen["syslog"] if line.startswith("<30>") and f" {tag}: " in line]
        assert any("tcpserver: ok " in line for line in lines) and any("tcpserver: end " in line for line in lines)
