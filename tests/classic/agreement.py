"""What of docs/classic.md is made: a manual of each program, of its module's docstring, and the tables of agreement, of
the cases that the tests run.

python -m tests.classic.agreement       writes it anew
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from typing import Protocol

from pillarbox.programs.names import PROGRAMS

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "classic.md"
START = "<!-- From here on this page is made by `python -m tests.classic.agreement`; a test holds it. -->\n"
BESIDE = {
    "checkpw": "Debian's checkpw 1.02",
    "tcpserver": "Debian's ucspi-tcp 0.88",
    "envdir": "Debian's daemontools 0.76",
}
PACKAGES = {
    "checkpw": ("checkpw", "checkapoppw", "selectcheckpw", "loginlog"),
    "tcpserver": ("tcpserver", "tcprules", "tcprulescheck"),
    "envdir": ("envdir", "setuidgid", "softlimit"),
}


class Row(Protocol):
    @property
    def title(self) -> str: ...
    @property
    def mended(self) -> str: ...


def tables() -> Iterator[tuple[str, Sequence[Row]]]:
    """The name of each program that has a table, and its cases."""
    for path in sorted(HERE.glob("test_*.py")):
        module = import_module(f"{__package__}.{path.stem}")
        if cases := [*getattr(module, "CASES", ()), *getattr(module, "ENDED", ())]:
            yield path.stem.removeprefix("test_").replace("_", "-"), cases


def original(program: str) -> str:
    """Beside what the cases are run, or what they are written after."""
    for package, names in PACKAGES.items():
        if program in names:
            return f"each run by ours and by {BESIDE[package]}"
    return "each held against what was observed of the original, which no Debian package has"


def manuals() -> str:
    """One of each program, as it stands at the head of its file."""
    pages = ["## The manuals\n"]
    for name in PROGRAMS:
        text = getdoc(import_module(f"pillarbox.programs.{name.replace('-', '_')}")) or ""
        pages.append(f"### `{name}`\n\n```text\n{text}\n```\n")
    return "\n".join(pages)


def render() -> str:
    """All tables, with a summary before them."""
    found = list(tables())
    lines = ["## The tables of agreement", "", "| program | cases | agree | mended |", "|---|---|---|---|"]
    for program, cases in found:
        mended = sum(bool(case.mended) for case in cases)
        lines.append(f"| `{program}` | {len(cases)} | {len(cases) - mended} | {mended} |")
    for program, cases in found:
        lines += ["", f"### {program}", "", f"{len(cases)} cases, {original(program)}.", "", "| case | |", "|---|---|"]
        lines += [f"| {_cell(case.title)} | {_cell(_verdict(case))} |" for case in cases]
    return "\n".join(lines) + "\n"


def _verdict(case: Row) -> str:
    return f"**mended**: {case.mended}" if case.mended else "agree"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def written() -> str:
    """The page with its tables as they must be."""
    return PAGE.read_text("utf-8").partition(START)[0] + START + "\n" + manuals() + "\n" + render()


if __name__ == "__main__":
    PAGE.write_text(written(), "utf-8")
