"""Debian's packages of servers that would push each other out: fetched once, unpacked beside the other test material."""

from __future__ import annotations

import fcntl
import os
import platform
import tempfile
from pathlib import Path

import pytest
from bench.install import unpack
from bench.servers import Missing

from ..corpus.real import in_ci


def unpacked(package: str) -> Path:
    """Where the package's files lie, with the libraries that are missing here; skips the test when it is not to be had."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {package} starts only as root")
    try:
        return _unpacked(package)
    except Missing as error:
        (pytest.fail if in_ci() else pytest.skip)(str(error))


def _unpacked(package: str) -> Path:
    """Test processes do this one after the other: apt-get does not wait for another. Raises Missing."""
    kept = _cache() / "debian" / f"{_release()}-{platform.machine()}" / package
    kept.parent.mkdir(parents=True, exist_ok=True)
    with open(kept.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as place:
                unpack(package, Path(place)).rename(kept)
    return kept


def _release() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pillarbox-tests"
