"""What a wrong command line is told."""

from __future__ import annotations

import pytest

from .command_line import say


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["account", "add"], ["account", "add", "a", "b"], ["status", "--bogus"], ["status", "--home"],
     ["stop", "now"], ["serve", "--tether", "x"]],
)  # fmt: skip
def test_a_wrong_call_is_told_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = say(capsys, *arguments)
    assert said.status == 2 and not said.out
    assert said.err.startswith("pillarbox: ") and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "there is no command `statsu`; the nearest is `status`; see `run --help`"),
        (["zzz"], "there is no command `zzz`; see `run --help`"),
        (["chekpw"], "there is no command `chekpw`; the nearest is `checkpw`; see `run --help`"),
        (["account", "ad"], "there is no command `account ad`; the nearest is `account add`; see `run account --help`"),
        (["account", "add"], "NAME is missing: run account add NAME; see `run account add --help`"),
        (["account", "add", "a", "b"], "`account add` takes no `b`; see `run account add --help`"),
        (["account", "--home", "x"], "`account` wants a command first: add, secret, list, remove; see"),
        (["status", "--jsn"], "there is no option `--jsn`; the nearest is `--json`; see `run status --help`"),
        (["serve", "--tethr"], "there is no option `--tethr`; see `run serve --help`"),
        (["status", "--home"], "a value behind --home is missing; see `run status --help`"),
        (["--home", "x", "status"], "options stand behind the command: run status --home x; see `run --help`"),
        (["--home=x", "status"], "options stand behind the command: run status --home=x; see `run --help`"),
        (["dkim", "remove"], "DOMAIN is missing: run dkim remove DOMAIN SELECTOR; see `run dkim remove --help`"),
        (["dkim", "remove", "a.test"], "SELECTOR is missing: run dkim remove DOMAIN SELECTOR; see"),
        (["account", "add", "--home", "x y"], "NAME is missing: run account add NAME --home 'x y'; see"),
        (["account", "add", "--home=x"], "NAME is missing: run account add NAME --home=x; see"),
    ],
)
def test_a_wrong_call_is_told_what_was_meant(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLARBOX_COMMAND", "run")
    assert say(capsys, *arguments).err.startswith(f"pillarbox: {told}")
