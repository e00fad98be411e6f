"""What is written for people, held against what the program does."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from pillarbox import __version__, cli, config, demo
from pillarbox.programs.names import PROGRAMS
from pillarbox.testing import server

from .classic.howto_chain import POP3, POP3_OF_INIT, SMTP_OF_INIT

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| `(.*?)` \| ", re.MULTILINE)
COMMAND = re.compile(r"(?:pillarbox|python3 run\.py) ((?:[a-z]+ ?)+)")
HOWTOS = ["docs/howto.md", "docs/howto.ja.md"]
TEXTS = ["README.md", "docs/config.md", "docs/classic.md", "docs/doctor.md", "CHANGELOG.md", *HOWTOS]
BLOCK = re.compile(r"^```([a-z]+)\n(.*?)^```$|^((?: {4}[^\n]*\n)+)", re.DOTALL | re.MULTILINE)
THE_TWO_LINES = (POP3, f"{POP3_OF_INIT}\n{SMTP_OF_INIT}")  # of the how-to that ours follows


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_every_key_is_documented_and_nothing_else_is() -> None:
    documented = [key for key, _ in ROW.findall(text("docs/config.md"))]
    assert sorted(documented) == sorted(key for key, _ in config.keys(config.Config()))


@pytest.mark.parametrize(("key", "default"), ROW.findall(text("docs/config.md")))
def test_documented_defaults_are_the_defaults(key: str, default: str) -> None:
    assert tomllib.loads(f"value = {default}")["value"] == dict(config.keys())[key]


@pytest.mark.parametrize("name", ["README.md", "docs/config.md", *HOWTOS])
def test_examples_of_the_configuration_are_right(name: str, tmp_path: Path) -> None:
    for example in re.findall(r"```toml\n(.*?)```", text(name), re.DOTALL):
        (tmp_path / "pillarbox.toml").write_text(example)
        config.load(str(tmp_path / "pillarbox.toml"))


@pytest.mark.parametrize("name", TEXTS)
def test_commands_that_are_named_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every `pillarbox X` and `python3 run.py X`, as code in the text."""
    shell = "".join(found[1] for found in BLOCK.findall(text(name)) if found[0] == "sh")
    code = re.findall(r"`([^`\n]+)`|^ {4,}(.*)$", text(name), re.MULTILINE)
    code += [("", line) for line in shell.splitlines() if line.startswith(("pillarbox ", "python3 "))]
    found = {match[1] for spans in code for span in spans for match in COMMAND.finditer(span)}
    for command in found:
        words = command.split()
        if words[0] in ("test", "bench", *PROGRAMS):
            continue
        assert cli.run([*words[: 2 if words[0] in ("account", "config") else 1], "--help"]) == 0, command
        assert capsys.readouterr().out.startswith(f"Usage: pillarbox {words[0]}"), command


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_linked_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", text(name)):
        assert ((ROOT / name).parent / target).exists(), target


def test_the_readme_shows_the_client_lines_that_the_program_prints() -> None:
    for line in demo.client_lines("127.0.0.1", 1110, 1587, "alice@localhost.localdomain")[1:]:
        assert line.lstrip(" ") in text("README.md"), line


def test_the_readme_shows_a_client_that_sends_without_a_password() -> None:
    (lines,) = re.findall(r"with no password anywhere:\n\n((?: {4}.*\n)+)", text("README.md"))
    settings = dict(line.strip(" ").split(" ") for line in lines.split("\n")[:-1])
    host, port = config.parse_listen(config.Config().listen.smtp[0])
    assert (settings["host"], settings["port"], settings["auth"]) == (host, str(port), "off")
    assert not settings.keys() & {"user", "password", "passwordeval"}


def test_the_changelog_knows_this_version() -> None:
    assert re.findall(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[0] == __version__
    assert tomllib.loads(text("pyproject.toml"))["project"]["version"] == __version__


def test_the_example_of_status_has_the_right_keys() -> None:
    """The README's JSON has what `status --json` prints."""
    example = json.loads(re.findall(r'    (\{"pid": [0-9].*?\})\n\n', text("README.md"), re.DOTALL)[0])
    with server() as running:
        status = json.loads((running.home / "run" / "status.json").read_text())
    assert list(example) == list(status)
    assert set(example["processes"]) == set(status["processes"])


def test_both_howtos_have_the_same_commands() -> None:
    """And the same examples of what is seen: only the words around them are translated."""
    english, japanese = (BLOCK.findall(text(name)) for name in HOWTOS)
    assert len(english) > 25
    assert english == japanese


@pytest.mark.parametrize("name", HOWTOS)
def test_the_howtos_have_the_old_lines_as_they_stood(name: str) -> None:
    shell = [found[1] for found in BLOCK.findall(text(name)) if found[0] == "sh"]
    assert all(line in shell for line in THE_TWO_LINES)


@pytest.mark.parametrize("name", HOWTOS)
def test_shell_of_the_howtos_is_shell(name: str) -> None:
    for shell in (found[1] for found in BLOCK.findall(text(name)) if found[0] == "sh"):
        subprocess.run(["bash", "-n"], input=shell.encode(), check=True)


@pytest.mark.parametrize("name", HOWTOS)
def test_no_secret_stands_on_a_command_line(name: str) -> None:
    """What makes `.password` sets umask first, and takes the secret from a pipe or from the terminal."""
    makes = [line for line in text(name).splitlines() if "> ~/Maildir/.password" in line]
    assert len(makes) == 2
    for line in makes:
        assert line.startswith("(umask 077; ")
        assert "base32" in line or "read -r secret;" in line
