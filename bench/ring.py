"""The ring: a folder with all servers and their mail, sized for a real run or for a quick one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import dovecot, mail, ours, postfix
from .generator import Generator, Load
from .mail import Laid
from .measure import Meter
from .results import Outcome, Sample
from .servers import Server, free_port

OURS = "Pillarbox"
LEAST_SHARE = 0.01  # of the CPU; a process that took less is not named
SETTLE_SECONDS = 0.1  # for the last lines of a log, before the CPU is read


Servers = dict[str, tuple[Server, Meter]]


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    rounds: int = 3
    seconds: float = 5.0
    accounts: int = 1000
    messages: int = 10
    small: tuple[int, int] = (1000, 50_000)  # messages, octets of each
    large: tuple[int, int] = (10, 25_000_000)
    big: int = 100_000
    idle: tuple[int, ...] = (1000, 10_000)
    outbound: int = 10_000
    queued: int = 100_000
    racy: float = 3.0  # seconds; a folder that changed within the last two may have changed again in the same tick
    modes: tuple[str, ...] = dovecot.MODES


QUICK = Scale(1, 0.25, 50, 10, (50, 50_000), (2, 5_000_000), 3000, (300,), 400, 2000, 0.5, ("reused", "fastest"))


@dataclass
class Ring:
    """`say` takes a line of progress. Maildrops are laid when a workload first asks for them."""

    folder: Path
    scale: Scale
    generator: Generator
    servers: dict[str, Server]
    sink_port: int
    say: Callable[[str], None]
    _laid: dict[str, Laid] = field(default_factory=dict)

    def trees(self) -> list[Path]:
        """The mail folders of the POP3 servers."""
        return sorted({server.mail for server in self.servers.values() if server.pop3})

    def maildrops(self, stem: str, accounts: int, count: int = 0, size: int = 0, *, linked: bool = False) -> Laid:
        """Accounts stem0, stem1, ... with `count` messages each, in every tree. `linked`: all have the first's files."""
        if stem not in self._laid:
            self.say(f"laying mail: {accounts} maildrops of {count} messages")
            for tree in self.trees():
                for number in range(accounts):
                    if linked and number:
                        mail.link_copy(tree / f"{stem}0", tree / f"{stem}{number}")
                    else:
                        self._laid[stem] = mail.lay(tree / f"{stem}{number}", count, size)
            os.sync()
            time.sleep(self.scale.racy)
        return self._laid[stem]

    @contextlib.contextmanager
    def running(self, names: Sequence[str]) -> Iterator[Servers]:
        """These servers, as far as they are in the ring, started fresh."""
        with contextlib.ExitStack() as stack:
            chosen = [self.servers[name] for name in names if name in self.servers]
            yield {server.name: (server, stack.enter_context(server.running())) for server in chosen}

    def interleaved(self, names: Sequence[str]) -> Iterator[tuple[int, str]]:
        """A B, B A, A B, ...: what drifts in the machine meets all alike."""
        present = [name for name in names if name in self.servers]
        for number in range(self.scale.rounds):
            for name in present if number % 2 == 0 else reversed(present):
                yield number, name

    def load(self, server: Server, meter: Meter, work: str, /, **options: object) -> tuple[Load, float]:
        """One run of the generator, and the CPU seconds that all processes of the server took for it."""
        before = meter.cpu()
        load = self.generator.run(work, server.smtp if work == "smtp" else server.pop3, **options)
        time.sleep(SETTLE_SECONDS)
        return load, meter.cpu() - before

    def record(self, outcome: Outcome, name: str, load: Load, values: dict[str, float]) -> None:
        outcome.add(name, Sample(values, load.errors, load.first_error))
        errors = (f"{load.errors} errors, the first: {load.first_error}",) if load.errors else ()
        self.tell(outcome, name, values, *errors)

    def tell(self, outcome: Outcome, name: str, values: dict[str, float], *more: str) -> None:
        """A line of progress."""
        shown = [
            f"{column.title} {values[column.key]:.{column.digits}f}"
            for column in outcome.columns
            if column.key in values
        ]
        self.say(f"{outcome.title}: {name}: {'; '.join([*shown, *more])}")

    @contextlib.contextmanager
    def apportioned(self, outcome: Outcome, meter: Meter | None) -> Iterator[None]:
        """Note which of a server's processes the CPU time of the block went to, and how much of it was the kernel's."""
        before = {process.pid: process for process in meter.by_process()} if meter else {}
        yield
        shares = []
        for process in meter.by_process() if meter else ():
            if (then := before.get(process.pid)) is not None:
                user, system = process.user - then.user, process.system - then.system
                shares.append((user + system, system, f"{process.name} (uid {process.uid})"))
        total = sum(share[0] for share in shares)
        if total:
            parts = [
                f"{name} {both / total:.0%}, {system / both:.0%} of it in the kernel"
                for both, system, name in sorted(shares, reverse=True)
                if both / total >= LEAST_SHARE
            ]
            outcome.notes.append(f"{OURS}'s CPU by process: {'; '.join(parts)}.")

    def drop_caches(self) -> None:
        """The next read of any message comes from the disk."""
        os.sync()
        if os.geteuid() == 0:
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
            return
        for tree in self.trees():
            for path in tree.glob("*/cur/*"):
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def accounts(scale: Scale) -> list[tuple[str, str]]:
    """Local parts and secrets of every account that any workload uses."""
    counts = {
        "user": scale.accounts,
        "empty": max(scale.accounts, *scale.idle),
        "small": 8,
        "large": 8,
        "big": 1,
        "mail": scale.accounts,
    }
    return [(f"{stem}{number}", f"secret{number}") for stem, count in counts.items() for number in range(count)]


def build(folder: Path, scale: Scale, say: Callable[[str], None], *, peers_only: bool, with_smtp: bool) -> Ring:
    """Raises Missing, NoCompiler."""
    everyone, sink_port = accounts(scale), free_port()
    dovecot.install()
    tree = folder / "dovecot-mail"
    tree.mkdir(mode=0o755)
    mail.give(tree)
    dovecot.write_users(folder / "users", everyone)
    servers = [dovecot.server(mode, folder, tree, folder / "users") for mode in scale.modes]
    if with_smtp:
        boxes = folder / "postfix-mail"
        boxes.mkdir(mode=0o755)
        mail.give(boxes)
        locals_ = [local for local, _ in everyone if local.startswith("mail")]
        servers.append(postfix.server(folder, boxes, postfix.install(folder), locals_, sink_port))
    if not peers_only:
        servers.insert(0, ours.server(folder, everyone, sink_port))
    return Ring(folder, scale, Generator(folder), {server.name: server for server in servers}, sink_port, say)
