"""What is measured: each workload runs all its servers, round by round, and gives an Outcome with its targets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from . import mail
from .generator import Load
from .measure import Meter
from .results import Column, Outcome, Target
from .ring import OURS, Ring, Servers

FASTEST, REUSED, DEFAULT = "Dovecot fastest", "Dovecot reused", "Dovecot default"
CONNECTIONS = 32
FREED_SECONDS = 1.0  # until memory that is freed late is freed
MEGA, GIGA = 1e6, 1e9

_STORM = (
    Column("rate", "sessions/s", plotted=True),
    Column("cpu", "server CPU, us/session", plotted=True),
    Column("p50", "median, ms", 2),
    Column("p99", "99 %, ms", 2),
    Column("client", "generator's CPU, us/session"),
)
_STORM_TARGETS = (
    Target("CPU per session at most 1/5 of Dovecot's fastest", "cpu", 1 / 5, False, FASTEST),
    Target("sessions/s at least 3 x Dovecot's fastest", "rate", 3, True, FASTEST),
)


def login(ring: Ring) -> Iterator[Outcome]:
    """APOP, STAT, QUIT; then the same on empty maildrops."""
    count = ring.scale.accounts
    for stem, messages, title in (
        ("user", ring.scale.messages, "Login storm"),
        ("empty", 0, "Polling empty maildrops"),
    ):
        ring.maildrops(stem, max(count, *ring.scale.idle) if stem == "empty" else count, messages, 3000)
        outcome = Outcome(
            "poll" if stem == "empty" else "login",
            title,
            f"{count} accounts with {messages} messages, {CONNECTIONS} connections: APOP, STAT, QUIT.",
            _STORM,
            _STORM_TARGETS,
        )
        yield _storm(ring, outcome, {"accounts": count, "connections": CONNECTIONS, **_named(stem)})


def _storm(ring: Ring, outcome: Outcome, options: dict[str, object]) -> Outcome:
    with ring.running((OURS, FASTEST, REUSED, DEFAULT)) as servers:
        for server, meter in servers.values():
            ring.load(server, meter, "login", sessions=ring.scale.accounts, **options)
        with ring.apportioned(outcome, _ours(servers)):
            for _, name in ring.interleaved(list(servers)):
                load, cpu = ring.load(*servers[name], "login", seconds=ring.scale.seconds, **options)
                ring.record(outcome, name, load, per_session(load, cpu))
    return outcome


def _ours(servers: Servers) -> Meter | None:
    return servers[OURS][1] if OURS in servers else None


def per_session(load: Load, cpu: float) -> dict[str, float]:
    """The figures of a run of logins; CPU in microseconds."""
    sessions = max(load.sessions, 1)
    return {
        "rate": load.sessions / load.seconds if load.seconds else 0.0,
        "cpu": cpu / sessions * MEGA,
        "client": load.client_cpu / sessions * MEGA,
        **_percentiles(load, "session"),
    }


def _percentiles(load: Load, series: str) -> dict[str, float]:
    found = load.ms.get(series, {})
    return {key: found[key] for key in ("p50", "p99") if key in found}


def _named(stem: str) -> dict[str, object]:
    return {"name": f"{stem}%d@{mail.DOMAIN}"}


def retr(ring: Ring) -> Iterator[Outcome]:
    """Whole maildrops, small messages and large ones, pipelined and not, one client and eight."""
    for stem, (count, size) in (("small", ring.scale.small), ("large", ring.scale.large)):
        laid = ring.maildrops(stem, 8, count, size, linked=stem == "large")
        with ring.running((OURS, FASTEST, REUSED)) as servers:
            options: dict[str, object] = {"messages": count, "octets": laid.octets, **_named(stem)}
            for server, meter in servers.values():
                ring.load(server, meter, "retr", connections=8, accounts=8, sessions=16, pipelined=1, **options)
            for clients in (1, 8):
                for pipelined in (0, 1):
                    options |= {"connections": clients, "accounts": clients, "pipelined": pipelined}
                    outcome = _retr_outcome(stem, count, size, clients, pipelined)
                    with ring.apportioned(outcome, _ours(servers)):
                        for _, name in ring.interleaved(list(servers)):
                            load, cpu = ring.load(*servers[name], "retr", seconds=ring.scale.seconds, **options)
                            ring.record(outcome, name, load, _per_octet(load, cpu))
                    yield outcome


def _retr_outcome(stem: str, count: int, size: int, clients: int, pipelined: int) -> Outcome:
    title = f"{count:,} x {_size(size)}, {clients} client{'s' * (clients > 1)}, {'' if pipelined else 'not '}pipelined"
    return Outcome(
        f"retr-{stem}-{clients}-{'pipelined' if pipelined else 'plain'}",
        title,
        "",
        (
            Column("rate", "MB/s", plotted=True),
            Column("cpu", "server CPU, s/GB", 2, plotted=True),
            Column("client", "generator's CPU, s/GB", 2),
        ),
        (
            Target("CPU per octet at most 1/2 of Dovecot's fastest", "cpu", 1 / 2, False, FASTEST),
            Target("MB/s not below Dovecot's fastest", "rate", 1, True, FASTEST),
        ),
    )


def _size(octets: int) -> str:
    return f"{octets // 1_000_000} MB" if octets >= 1_000_000 else f"{octets // 1000} kB"


def _per_octet(load: Load, cpu: float) -> dict[str, float]:
    octets = max(load.octets, 1)
    return {
        "rate": load.octets / load.seconds / MEGA if load.seconds else 0.0,
        "cpu": cpu / octets * GIGA,
        "client": load.client_cpu / octets * GIGA,
    }


_STEPS = (
    Column("total", "all, ms", 2, plotted=True),
    Column("login", "login, ms", 2),
    Column("stat", "STAT, ms", 2),
    Column("list", "LIST, ms", 2),
    Column("uidl", "UIDL, ms", 2),
)


def big(ring: Ring) -> Iterator[Outcome]:
    """One maildrop of 100,000: unchanged, and opened for the first time ever."""
    count = ring.scale.big
    ring.maildrops("big", 1, count, 700)
    target = Target("at most 1/20 of the time of Dovecot's fastest", "total", 1 / 20, False, FASTEST)
    unchanged = Outcome("big", f"{count:,} messages, unchanged", "Login, STAT, LIST, UIDL, QUIT.", _STEPS, (target,))
    with ring.running((OURS, FASTEST)) as servers:
        for wait in (ring.scale.racy, 0):
            for server, meter in servers.values():
                ring.load(server, meter, "big", sessions=1, **_named("big"))
            time.sleep(wait)
        for _, name in ring.interleaved(list(servers)):
            load, _ = ring.load(*servers[name], "big", sessions=5, **_named("big"))
            ring.record(unchanged, name, load, _steps(load))
    yield unchanged
    for plain in (False, True):
        yield _first_time(ring, count, plain=plain)


def _first_time(ring: Ring, count: int, *, plain: bool) -> Outcome:
    names = "without sizes" if plain else "that tell the sizes (,S=,W=)"
    target = Target("not slower than Dovecot's fastest", "total", 1, False, FASTEST)
    outcome = Outcome(
        f"first-{'plain' if plain else 'sized'}",
        f"{count:,} messages for the first time ever, file names {names}",
        "No index and a fresh server; the files are in the page cache.",
        _STEPS,
        (target,),
    )
    drops = [tree / "big0" for tree in ring.trees()]
    if plain:
        for drop in drops:
            mail.rename_all(drop, plain=True)
    for _, name in ring.interleaved((OURS, FASTEST)):
        drop = ring.servers[name].mail / "big0"
        mail.forget(drop)
        _warm(drop)
        with ring.running((name,)) as servers:
            ring.load(*servers[name], "login", sessions=4, accounts=4, **_named("small"))
            load, _ = ring.load(*servers[name], "big", sessions=1, **_named("big"))
            ring.record(outcome, name, load, _steps(load))
    if plain:
        for drop in drops:
            mail.rename_all(drop, plain=False)
    return outcome


def _warm(drop: Path) -> None:
    for path in (drop / "cur").iterdir():
        path.read_bytes()


def _steps(load: Load) -> dict[str, float]:
    found: dict[str, float] = {key: load.ms[key]["p50"] for key in ("login", "stat", "list", "uidl") if key in load.ms}
    return {"total": sum(found.values()), **found}


def cold(ring: Ring) -> Iterator[Outcome]:
    """Downloads whose messages come from the disk, and one client that logs in beside them."""
    count, size = ring.scale.small
    laid = ring.maildrops("small", 8, count, size)
    ring.maildrops("user", ring.scale.accounts, ring.scale.messages, 3000)
    outcome = Outcome(
        "cold",
        f"8 downloads of {count:,} x {_size(size)} from a cold page cache, one client logging in beside them",
        "All caches of the file system are dropped before each run; the mail of those who log in is cold too.",
        (
            Column("rate", "MB/s", plotted=True),
            Column("p50", "login, median, ms", 2, plotted=True),
            Column("p99", "login, 99 %, ms", 2),
            Column("cpu", "server CPU, s/GB", 2),
        ),
        (
            Target("MB/s not below Dovecot with reused processes", "rate", 1, True, REUSED),
            Target("median login not slower than Dovecot with reused processes", "p50", 1, False, REUSED),
        ),
    )
    everyone: dict[str, object] = {"accounts": ring.scale.accounts, **_named("user")}
    options: dict[str, object] = {
        "messages": count,
        "octets": laid.octets,
        "connections": 8,
        "accounts": 8,
        "beside": 1,
        "beside_name": everyone["name"],
        "beside_accounts": ring.scale.accounts,
        **_named("small"),
    }
    with ring.running((OURS, REUSED, FASTEST)) as servers:
        for server, meter in servers.values():
            ring.load(server, meter, "login", sessions=ring.scale.accounts, **everyone)
            ring.load(server, meter, "big", sessions=8, accounts=8, **_named("small"))
        for _, name in ring.interleaved(list(servers)):
            ring.drop_caches()
            load, cpu = ring.load(*servers[name], "mixed", **options)
            ring.record(outcome, name, load, {**_per_octet(load, cpu), **_percentiles(load, "beside")})
    yield outcome


def idle(ring: Ring) -> Iterator[Outcome]:
    """Connections that have logged in and do nothing."""
    ring.maildrops("empty", max(ring.scale.accounts, *ring.scale.idle))
    for connections in ring.scale.idle:
        outcome = Outcome(
            f"idle-{connections}",
            f"{connections:,} idle connections, logged in",
            "What a fresh server grows by, for each connection.",
            (
                Column("total", "KiB/connection", 1, plotted=True),
                Column("processes", "of it the processes' own, KiB", 1),
                Column("kernel", "of it the kernel's, KiB", 1),
                Column("held", "connections held"),
            ),
            (
                Target("at most 12 KiB per connection", "total", 12, False),
                Target("all connections held", "held", connections, True),
            ),
        )
        names = (OURS, FASTEST, DEFAULT) if connections <= 1000 else (OURS, FASTEST)
        for _, name in ring.interleaved(names):
            _hold(ring, outcome, name, connections)
        yield outcome


def _hold(ring: Ring, outcome: Outcome, name: str, connections: int) -> None:
    options: dict[str, object] = {"accounts": connections, **_named("empty")}
    with ring.running((name,)) as servers:
        server, meter = servers[name]
        ring.load(server, meter, "login", sessions=50, **options)
        before = meter.memory()
        with ring.generator.holding(server.pop3, connections=connections, **options) as holding:
            time.sleep(FREED_SECONDS)
            after = meter.memory()
            held = holding.still_held()
        each = max(holding.load.held, 1) * 1024
        values = {
            "total": (after.total - before.total) / each,
            "processes": (after.processes - before.processes) / each,
            "held": float(held),
        }
        if after.kernel is not None and before.kernel is not None:
            values["kernel"] = (after.kernel - before.kernel) / each
        ring.record(outcome, name, holding.load, values)
