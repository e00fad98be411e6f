"""docs/howto.md and docs/howto.ja.md, followed on a clean machine: every command works, and shows what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..classic.machine import UNSHARE

pytestmark = pytest.mark.root
ROOT = Path(__file__).parent.parent.parent
SECONDS = 110


@pytest.fixture(scope="module", params=["howto.md", "howto.ja.md"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All steps, with their exit status and what they printed."""
    result = tmp_path_factory.mktemp("followed") / "seen.json"
    keep = tmp_path_factory.mktemp("log") / "out"
    command = [*UNSHARE, sys.executable, "-m", "tests.service.follow", str(ROOT / "docs" / request.param), str(result)]
    with keep.open("wb") as out:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=SECONDS)
    assert done.returncode == 0, keep.read_text()
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def output(seen: dict[str, Any], way: str, word: str) -> str:
    """What the one step of that way printed in whose block the word stands."""
    (found,) = [step["output"] for step in seen["steps"] if step["way"] == way and word in step["block"]]
    return str(found)


def test_every_command_works(seen: dict[str, Any]) -> None:
    failed = [step for step in seen["steps"] if step["status"] and "pillarbox import" not in step["block"]]
    assert failed == []
    assert seen["faults"] == [""] * 5
    assert len(seen["steps"]) > 15


def test_the_import_tells_what_it_could_not_carry_over(seen: dict[str, Any]) -> None:
    assert "postmaster leads to nobody" in output(seen, "to A", "pillarbox import")


def test_the_daemon_shows_what_the_howto_says(seen: dict[str, Any]) -> None:
    assert output(seen, "A", "config check") == "/var/lib/pillarbox/pillarbox.toml is right\n"
    assert "account alice@example.jp added\nsecret: " in output(seen, "A", "account add")
    started = output(seen, "A", "/etc/init.d/pillarbox start")
    assert "pop3 listens on\t0.0.0.0:110, [::]:110\n" in started


def test_the_chain_shows_what_the_howto_says(seen: dict[str, Any]) -> None:
    assert "/usr/local/bin/tcpserver leads to " in output(seen, "B", "pillarbox link /usr/local/bin")
    assert output(seen, "B", "tcprulescheck") == (
        "rule 127.:\nset environment variable RELAYCLIENT=\nallow connection\n"
    )
    assert len(output(seen, "B", "base32")) == 33
    started = output(seen, "B", "/etc/init.d/pillarbox-chain start")
    for chain, where in (("pop3", ", port 110"), ("smtp", ", port 25"), ("deliver", "")):
        assert f"pillarbox-chain: {chain} started (pid " in started and where in started
        assert f"pillarbox-chain: {chain} runs (pid " in started


@pytest.mark.parametrize("way", ["A", "B"])
def test_a_message_is_fetched_by_apop_and_another_one_sent(way: str, seen: dict[str, Any]) -> None:
    by_hand = [line for line in output(seen, way, "apop-check").splitlines() if line.startswith("S: ")]
    assert len(by_hand) == 4 and all(line.startswith("S: +OK") for line in by_hand)
    assert by_hand[2].startswith("S: +OK 1 ")
    assert output(seen, way, "AUTH=+APOP").splitlines()[-1].startswith("1 ")
    assert "1 message for alice" in output(seen, way, "fetchmail --keep")


def test_from_the_chain_to_the_daemon_every_step_serves(seen: dict[str, Any]) -> None:
    """The same secret and the same messages, whoever answers; what came between lies there at the next step."""
    moved = [step for step in seen["steps"] if step["way"] == "to A"]
    steps = [step["output"] for step in moved if "apop-check" in step["block"]]
    assert ["Pillarbox <" in said for said in steps] == [True, True, True]
    counts = [int(said.split("S: +OK ")[3].split()[0]) for said in steps]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
