"""Mail coming in by SMTP: until each message was acknowledged, and until it lies in a Maildir."""

from __future__ import annotations

import time
from collections.abc import Iterator

from . import mail, postfix
from .generator import Load
from .measure import Meter
from .results import Column, Outcome, Target
from .ring import OURS, SETTLE_SECONDS, Ring
from .servers import Server

POSTFIX = "Postfix"
CONNECTIONS = 20
SIZE = 4096
EMPTY_SECONDS = 120.0  # for a queue to run empty
LOOK_SECONDS = 0.01

_COLUMNS = (
    Column("delivered", "messages/s in Maildirs", plotted=True),
    Column("accepted", "messages/s acknowledged"),
    Column("cpu", "server CPU, us/message", plotted=True),
    Column("p50", "median, ms", 2),
    Column("p99", "99 %, ms", 2),
    Column("client", "generator's CPU, us/message"),
)
_TARGETS = (
    Target("messages/s in Maildirs at least 3 x Postfix", "delivered", 3, True, POSTFIX),
    Target("messages/s acknowledged at least 3 x Postfix", "accepted", 3, True, POSTFIX),
)


def smtp(ring: Ring) -> Iterator[Outcome]:
    """Messages of 4 kB over 20 connections, one on each, and twenty on each."""
    for server in ring.servers.values():
        for number in range(ring.scale.accounts if server.smtp else 0):
            mail.make_maildir(server.mail / f"mail{number}")
    with ring.running((OURS, POSTFIX)) as servers:
        for each in (1, 20):
            outcome = Outcome(
                f"smtp-{each}",
                f"SMTP reception, {each} message{'s' * (each > 1)} a connection",
                f"{SIZE} octets each, {CONNECTIONS} connections, {ring.scale.accounts} recipients in turn; "
                "CPU includes delivery.",
                _COLUMNS,
                _TARGETS,
            )
            for name in servers:
                _receive(ring, *servers[name], each, min(1.0, ring.scale.seconds))
            with ring.apportioned(outcome, servers[OURS][1] if OURS in servers else None):
                for _, name in ring.interleaved(list(servers)):
                    load, values = _receive(ring, *servers[name], each, ring.scale.seconds)
                    ring.record(outcome, name, load, values)
            yield outcome


def _receive(ring: Ring, server: Server, meter: Meter, each: int, seconds: float) -> tuple[Load, dict[str, float]]:
    """One run; the Maildirs are emptied after it. Raises RuntimeError if a message is not where it should be."""
    logged, before = server.log.stat().st_size, meter.cpu()
    load = ring.generator.run(
        "smtp",
        server.smtp,
        connections=CONNECTIONS,
        messages=each,
        size=SIZE,
        seconds=seconds,
        accounts=ring.scale.accounts,
        name=f"mail%d@{mail.DOMAIN}",
    )
    ended = time.monotonic()
    if server.name == POSTFIX:
        _wait_for_delivery(server, logged, load.messages)
    late = time.monotonic() - ended
    time.sleep(SETTLE_SECONDS)
    cpu = meter.cpu() - before
    if (found := mail.clear_new(server.mail)) < load.messages:
        raise RuntimeError(f"{server.name} acknowledged {load.messages} messages, and {found} are in Maildirs")
    messages = max(load.messages, 1)
    times = load.ms.get("message", {})
    return load, {
        "delivered": load.messages / (load.seconds + late) if load.seconds else 0.0,
        "accepted": load.messages / load.seconds if load.seconds else 0.0,
        "cpu": cpu / messages * 1e6,
        "client": load.client_cpu / messages * 1e6,
        **{key: times[key] for key in ("p50", "p99") if key in times},
    }


def _wait_for_delivery(server: Server, logged: int, messages: int) -> None:
    """Postfix says 250 when a message is queued; its log tells when it is delivered."""
    until = time.monotonic() + EMPTY_SECONDS
    with open(server.log, "rb") as log:
        log.seek(logged)
        found, rest = 0, b""
        while time.monotonic() < until:
            lines = (rest + log.read()).split(b"\n")
            rest = lines.pop()
            found += sum(map(postfix.delivered, lines))
            if found >= messages:
                return
            time.sleep(LOOK_SECONDS)
