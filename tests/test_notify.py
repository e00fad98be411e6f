"""What systemd hears of a server that it has started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pillarbox import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_a_server_says_that_it_is_ready(abstract: bool, open_folder: Path, tmp_path: Path) -> None:
    (open_folder / "pillarbox.toml").write_text('[listen]\npop3 = ["127.0.0.1:0"]\nsmtp = []\nsubmission = []\n')
    address = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        manager.settimeout(60)
        command = [sys.executable, "-m", "pillarbox", "serve", "--home", str(open_folder)]
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL, env={**os.environ, notify.VARIABLE: address}
        ) as server:
            assert manager.recv(100) == b"READY=1"
            assert (open_folder / "run/status.json").exists()
            server.terminate()
        assert server.returncode == 0


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "/no/such/socket"])
def test_without_a_manager_that_listens_nothing_happens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notify.VARIABLE, raising=False)
    if address is not None:
        monkeypatch.setenv(notify.VARIABLE, address)
    notify.ready()
    assert notify.VARIABLE not in os.environ
