"""Measure, and write docs/performance.md. Exit status: 0 done, 2 called wrongly or something is missing."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from . import chain, machine, outbound, reception, report, ring, startup, workloads
from .generator import NoCompiler
from .measure import meter
from .results import Outcome
from .servers import Missing, NotStarted

DOCS = Path(__file__).parent.parent / "docs"
WORKLOADS: dict[str, Callable[[ring.Ring], Iterator[Outcome]]] = {
    "login": workloads.login,
    "retr": workloads.retr,
    "big": workloads.big,
    "cold": workloads.cold,
    "idle": workloads.idle,
    "smtp": reception.smtp,
    "outbound": outbound.outbound,
    "queue": outbound.queue,
    "chain": chain.chain,
    "startup": startup.startup,
}


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 run.py bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: under a minute, results to the terminal only"
    )
    parser.add_argument("--only", metavar="NAMES", default=",".join(WORKLOADS), help="some of: %(default)s")
    parser.add_argument("--rounds", type=int, help="how often each server takes its turn (default 3)")
    parser.add_argument("--seconds", type=float, help="how long a turn takes (default 5)")
    parser.add_argument("--peers-only", action="store_true", help="without Pillarbox; results to the terminal only")
    parser.add_argument(
        "--folder", default="/var/tmp", help="where the mail lies meanwhile, on a disk (default %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave that folder, with the servers' logs")
    chosen = parser.parse_args(arguments)
    chosen.only = chosen.only.split(",")
    if unknown := set(chosen.only) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    return chosen


def _scale(chosen: argparse.Namespace) -> ring.Scale:
    scale = ring.QUICK if chosen.quick else ring.Scale()
    changes = {key: value for key in ("rounds", "seconds") if (value := getattr(chosen, key)) is not None}
    return dataclasses.replace(scale, **changes)


def _measure(chosen: argparse.Namespace, folder: Path, console: Console) -> tuple[list[Outcome], list[tuple[str, str]]]:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    with_smtp = bool({"smtp", "outbound"} & set(chosen.only))
    built = ring.build(folder, _scale(chosen), say, peers_only=chosen.peers_only, with_smtp=with_smtp)
    with meter("probe") as probe:
        facts = machine.facts(folder, built.servers.values(), probe.how)
    outcomes: list[Outcome] = []
    for name in WORKLOADS:
        if name in chosen.only:
            with console.status(f"measuring: {name}"):
                outcomes += WORKLOADS[name](built)
    return outcomes, facts


def main(arguments: Sequence[str]) -> int:
    chosen, console = _arguments(arguments), Console()
    folder = Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=chosen.folder))
    folder.chmod(0o755)
    try:
        outcomes, facts = _measure(chosen, folder, console)
    except (Missing, NoCompiler, NotStarted) as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 2
    finally:
        if chosen.keep:
            console.print(f"kept: {folder}", highlight=False, markup=False)
        else:
            shutil.rmtree(folder)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    command = shlex.join(["python3", "run.py", "bench", *arguments])
    to_terminal = chosen.quick or chosen.peers_only
    page = report.markdown(outcomes, facts, command, date, plots=not to_terminal)
    if to_terminal:
        console.print(page, highlight=False, markup=False, soft_wrap=True)
        return 0
    from . import plots

    plots.draw_all(outcomes, DOCS / "performance")
    console.print(f"written: {report.write(DOCS, page)}", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
