"""One command, run in this process: what it said, and with which exit status."""

from __future__ import annotations

import io
import poplib
import sys
from pathlib import Path

import pytest

from pillarbox import cli
from pillarbox.testing import Server

SECRET = "violin case 55"


class Said:
    """What one command said, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> None:
        capsys.readouterr()
        self.status = cli.run([str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()


def say(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Said:
    return Said(capsys, *arguments)


def type_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def login(running: Server, name: str, secret: str) -> None:
    pop3 = poplib.POP3(running.host, running.pop3_port)
    try:
        pop3.apop(name, secret)
        pop3.quit()
    finally:
        pop3.close()
