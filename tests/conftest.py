"""What all tests share: root tests say why they do not run, and a folder that a process without privilege may pass."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

for interrupt in (signal.SIGHUP, signal.SIGINT):
    if (
        signal.getsignal(interrupt) is signal.SIG_IGN
    ):  # by nohup, or by a shell's `&`: programs under test would inherit it
        signal.signal(interrupt, signal.SIG_DFL)
settings.register_profile("house", deadline=None)  # a busy machine must fail no test
settings.load_profile("house")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: it changes uids")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder; unlike tmp_path, which is closed to others, a home below it can have mail of another uid."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-test-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place(open_folder: Path) -> Path:
    """Where a home may be made."""
    return open_folder / "home"
