"""Our programs under their names, as an admin has them: a folder of links, and a package that every user may read."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pillarbox
from pillarbox.commands import executable
from pillarbox.programs.names import PROGRAMS

ORIGINALS = Path("/usr/bin")
SENDING = ("sendmail", "qmail-inject", "mailq")


@pytest.fixture(scope="session")
def ours() -> Iterator[Path]:
    """The folder of links; unlike a clone, it and what lies behind it is open to all."""
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-classic-"))
    folder.chmod(0o755)
    package = Path(pillarbox.__file__).parent
    shutil.copytree(package, folder / "lib" / "pillarbox", ignore=shutil.ignore_patterns("__pycache__"))
    python = executable.interpreter()
    for library in ("msgspec",):  # what those need that speak with the server; the clone may be closed to their users
        shutil.copytree(Path(sysconfig.get_path("platlib")) / library, folder / "lib" / library)
    for library in Path(sysconfig.get_path("platlib")).iterdir():  # what the server needs: qmail-start becomes it
        if not (folder / "lib" / library.name).exists():
            (folder / "lib" / library.name).symlink_to(library)
    program = folder / executable.NAME
    program.write_text(executable.content(python, str(folder / "lib"), str(folder / "lib")))
    program.chmod(0o755)
    if python == executable.SYSTEM_PYTHON:  # with its own marks in the compiled files
        subprocess.run([python, "-I", "-S", "-m", "compileall", "-q", folder / "lib"], check=True)
    else:
        compileall.compile_dir(folder / "lib", quiet=1)
    (folder / "bin").mkdir()
    for name in (*PROGRAMS, *SENDING):
        (folder / "bin" / name).symlink_to(program)
    yield folder / "bin"
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def originals() -> Path:
    """Where Debian's programs lie; all of them, or the test says what is missing."""
    wanted = (
        "checkpw",
        "checkapoppw",
        "tcpserver",
        "tcprules",
        "tcprulescheck",
        "envdir",
        "setuidgid",
        "softlimit",
        "cdb",
    )
    missing = [name for name in wanted if not (ORIGINALS / name).exists()]
    if missing:
        reason = f"not installed: {', '.join(missing)} (apt-get install checkpw ucspi-tcp daemontools tinycdb)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return ORIGINALS
