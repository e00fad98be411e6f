"""Peers from Debian's packages: installed where that starts nothing, else unpacked aside."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .servers import Missing

POLICY = Path("/usr/sbin/policy-rc.d")


def need(programs: tuple[str, ...], packages: tuple[str, ...]) -> None:
    """Install packages unless their programs are there. Raises Missing."""
    if all(map(find, programs)):
        return
    _apt(("install", "-y", "--no-install-recommends", *packages))


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def unpack(package: str, into: Path) -> Path:
    """A package's files, and those of what it needs and is not here, below `into`; nothing is installed. Raises Missing.

    For a package that would push another out, or whose service nobody wants.
    """
    root, archives = into / package, into / f"{package}-archives"
    if root.exists():
        return root
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    options = ("-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1")
    _apt(("install", "-y", "--no-install-recommends", "--download-only", "--reinstall", *options, package))
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
    return root


def libraries(root: Path) -> str:
    """LD_LIBRARY_PATH for what was unpacked there."""
    folders = [path for part in ("usr/lib", "lib") for path in root.glob(f"{part}/*-linux-*") if path.is_dir()]
    return ":".join(map(str, folders))


def _apt(arguments: tuple[str, ...]) -> None:
    wish = f"apt-get {' '.join(arguments)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"run this as root first: {wish}")
    with _no_autostart():
        for attempt in (("update",), ()):
            done = subprocess.run(
                ["apt-get", "-q", *arguments],
                capture_output=True,
                text=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                check=False,
            )
            if done.returncode == 0:
                return
            if attempt:
                subprocess.run(["apt-get", "-q", *attempt], capture_output=True, check=False)
    raise Missing(f"{wish} failed: {done.stderr.strip(chr(10))[-500:]}")


@contextlib.contextmanager
def _no_autostart() -> Iterator[None]:
    """Packages ask this file whether their services may start; it says no, and is left as it was found."""
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if made:
            POLICY.unlink()
