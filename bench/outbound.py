"""Mail going out by SMTP: until the last message has reached a sink; and what a long queue costs at the start."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pillarbox.store.queue_envelope import render
from pillarbox.store.queue_message import QueuedMessage, QueuedRecipient

from . import mail, sink
from .generator import Load
from .measure import Memory, Meter, memory_of
from .ours import QUEUE_UID
from .reception import POSTFIX
from .results import Column, Outcome, Sample, Target
from .ring import OURS, SETTLE_SECONDS, Ring
from .servers import Server
from .sink import Sink

SENDER = f"mail0@{mail.DOMAIN}"
CONNECTIONS = 20
EACH = 20  # messages a connection
SIZE = 4096
DONE_SECONDS = 180.0  # for the queue to run empty
LOOK_SECONDS = 0.01
DELIVERY = "pbx-delivery"
LATER = 30 * 86400.0  # seconds; no try of the long queue is due while it is measured
LINKS = 2000  # queued messages that share a file: what is measured never reads them
MEGA, MIB = 1e6, 1 << 20

_COLUMNS = (
    Column("rate", "messages/s at the sink", plotted=True),
    Column("accepted", "messages/s acknowledged"),
    Column("cpu", "server CPU, us/message", plotted=True),
    Column("sessions", "connections to the sink"),
    Column("again", "sent more than once"),
    Column("client", "generator's and sink's CPU, us/message"),
)
_TARGETS = (
    Target("messages/s at least 2 x Postfix", "rate", 2, True, POSTFIX),
    Target("CPU per message at most 1/2 of Postfix", "cpu", 1 / 2, False, POSTFIX),
    Target("no message sent more than once", "again", 0, False),
)


def outbound(ring: Ring) -> Iterator[Outcome]:
    """Messages of 4 kB to one remote recipient each, from a client that has fetched mail before (or is trusted)."""
    count = ring.scale.outbound
    outcome = Outcome(
        "outbound",
        f"{count:,} messages to a remote host",
        f"{SIZE} octets each, {CONNECTIONS} connections with {EACH} messages, one recipient each; from the first "
        "connection until the last message has reached a sink on the same machine. CPU until the queue is empty.",
        _COLUMNS,
        _TARGETS,
    )
    with (
        sink.sinking(ring.generator, ring.sink_port, count) as target,
        ring.running((OURS, POSTFIX)) as servers,
    ):
        for name in servers:
            _send(ring, *servers[name], target, max(count // 20, EACH))
        with ring.apportioned(outcome, servers[OURS][1] if OURS in servers else None):
            for _, name in ring.interleaved(list(servers)):
                ring.record(outcome, name, *_send(ring, *servers[name], target, count))
    yield outcome


def _send(ring: Ring, server: Server, meter: Meter, target: Sink, count: int) -> tuple[Load, dict[str, float]]:
    """One run. Raises RuntimeError if a message does not arrive."""
    if server.pop3:
        ring.generator.run("login", server.pop3, sessions=1, name=SENDER)
    target.expect(count)
    before, sink_before, began = meter.cpu(), target.cpu(), time.monotonic()
    load = ring.generator.run(
        "smtp",
        server.smtp,
        connections=CONNECTIONS,
        sessions=-(-count // EACH),
        messages=EACH,
        size=SIZE,
        accounts=count,
        name=f"user%d@{sink.DOMAIN}",
        sender=SENDER,
    )
    sunk = target.wait(DONE_SECONDS if not load.errors else SETTLE_SECONDS)
    if not load.errors and sunk.distinct < count:
        raise RuntimeError(f"{server.name} acknowledged {load.messages} messages, and {sunk.distinct} arrived")
    _wait_until_empty(server)
    time.sleep(SETTLE_SECONDS)
    messages = max(load.messages, 1)
    return load, {
        "rate": sunk.distinct / (sunk.at - began),
        "accepted": load.messages / load.seconds if load.seconds else 0.0,
        "cpu": (meter.cpu() - before) / messages * MEGA,
        "sessions": float(sunk.sessions),
        "again": float(target.look().messages - sunk.distinct),
        "client": (load.client_cpu + target.cpu() - sink_before) / messages * MEGA,
    }


def _wait_until_empty(server: Server) -> None:
    until = time.monotonic() + DONE_SECONDS
    while any(path.is_file() for folder in server.queues for path in _below(folder)):
        if time.monotonic() > until:
            raise RuntimeError(f"the queue of {server.name} does not run empty: {server.queues}")
        time.sleep(LOOK_SECONDS)


def _below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def queue(ring: Ring) -> Iterator[Outcome]:
    """Start with nothing queued, and with very much queued, of which one message is due."""
    if OURS not in ring.servers:
        return
    count = ring.scale.queued
    outcome = Outcome(
        "queue",
        f"Start with {count:,} messages queued",
        "All wait for another try, but one, which is due. The folders are in the page cache. Memory is that of the "
        "delivery process, once it has sent that message: its share of pages (PSS).",
        (
            Column("ready", "until it greets, s", 2),
            Column("ready_empty", "until it greets with an empty queue, s", 2),
            Column("sent", "until the due message has arrived, s", 2, plotted=True),
            Column("memory", "memory of the delivery process, MiB", 1, plotted=True),
            Column("memory_empty", "its memory with an empty queue, MiB", 1),
            Column("each", "octets per queued message"),
        ),
        (
            Target("delivers within 5 seconds", "sent", 5, False),
            Target("memory at most 512 octets per queued message", "each", 512, False),
        ),
    )
    (envelopes,) = ring.servers[OURS].queues
    with sink.sinking(ring.generator, ring.sink_port, 1) as target:
        empty = [_start(ring, target) for _ in range(ring.scale.rounds)]
        lay_queue(envelopes.parent, range(1, count + 1))
        full = [_start(ring, target) for _ in range(ring.scale.rounds)]
    for without, values in zip(empty, full, strict=True):
        values |= {"ready_empty": without["ready"], "memory_empty": without["memory"]}
        values["each"] = (values["memory"] - without["memory"]) * MIB / count
        outcome.add(OURS, Sample(values))
        ring.tell(outcome, OURS, values)
    for place in ("envelope", "message"):
        shutil.rmtree(envelopes.parent / place)
    yield outcome


def _start(ring: Ring, target: Sink) -> dict[str, float]:
    """With one message more than is queued, which is due."""
    server = ring.servers[OURS]
    lay_queue(server.queues[0].parent, range(1))
    target.expect(1)
    began = time.monotonic()
    with ring.running((OURS,)) as servers:
        ready = time.monotonic() - began
        sunk = target.wait(DONE_SECONDS)
        if not sunk.distinct:
            raise RuntimeError(f"the message that was due has not come; see {server.log}")
        memory = _delivery_memory(servers[OURS][1])
    return {"ready": ready, "sent": sunk.at - began, "memory": memory.processes / MIB}


def _delivery_memory(meter: Meter) -> Memory:
    (found,) = [process.pid for process in meter.by_process() if process.name == DELIVERY]
    return memory_of([found])


def lay_queue(folder: Path, numbers: range) -> None:
    """Queue messages as `store.queue` would, but without an fsync for each; number 0 is due, the others wait."""
    for place in (folder, folder / "message", folder / "envelope"):
        place.mkdir(mode=0o700, exist_ok=True)
        _give(place)
    now, source = time.time(), Path()
    for written, number in enumerate(numbers):
        message = QueuedMessage(
            f"{int(now) - number}.{number:016x}",
            SENDER.encode(),
            (QueuedRecipient(f"user{number}@{sink.DOMAIN}".encode()),),
            received=now,
            next_try=now + LATER if number else now,
            tries=1 if number else 0,
        )
        path = folder / "message" / message.identity
        if written % LINKS:
            os.link(source, path)
        else:
            source = path
            _write(path, mail.message(number, SIZE))
        _write(folder / "envelope" / message.identity, render(message))
    os.sync()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    _give(path)


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, QUEUE_UID, QUEUE_UID)
