"""One server for the tests of a file; those that need another configuration start their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..peers.certificates import Authority
from ..peers.dns import NameServer
from .office import Office, opened, places


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """In a folder that the delivery process, whose uid is another one, may pass."""
    with tempfile.TemporaryDirectory(prefix="pillarbox-authority-") as folder:
        Path(folder).chmod(0o755)
        yield Authority(Path(folder))


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[NameServer, int]]:
    """The name server, and where exchangers listen."""
    with places() as made:
        yield made


@pytest.fixture(scope="module")
def office(world: tuple[NameServer, int]) -> Iterator[Office]:
    with opened(*world) as running:
        yield running
