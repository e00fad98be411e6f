"""Output for people: plain without a terminal, coloured on one, and never interpreted."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from pillarbox import terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    terminal._console.cache_clear()
    yield
    terminal._console.cache_clear()


def test_plain_text_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("S: +OK [bold]hello[/bold]", "bold")
    terminal.table(("Account", "Maildir"), [("alice", "/a"), ("bob", "/b")])
    assert capsys.readouterr().out == "S: +OK [bold]hello[/bold]\nalice\t/a\nbob\t/b\n"


def test_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.say("S: +OK [bold]hello[/bold]")
    terminal.table(("Account",), [("[red]alice",)])
    shown = screen.getvalue()
    assert "\x1b[32m" in shown and "[bold]hello[/bold]" in shown
    assert "Account" in shown and "[red]alice" in shown


def test_nothing_is_cut_off_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a" * 60
    terminal.table(("Account", "Maildir"), [("alice", path)])
    assert "".join(screen.getvalue().split()).replace("alice", "") == f"AccountMaildir{path}"


def test_a_table_without_heads_has_no_empty_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "dumb")
    terminal.table(("", ""), [("pid", "12")])
    assert [line.split() for line in screen.getvalue().splitlines()] == [["pid", "12"]]
