"""A remote hop for the tests: messages that leave, and a configuration whose waits are short."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec

from pillarbox.config import Config, Delivery
from pillarbox.delivery.conversation import Patience
from pillarbox.delivery.remote import Outgoing, Remote
from pillarbox.terms import Outcome

HOSTNAME = "us.test"
SHORT = Patience(connect=0.5, greeting=0.5, command=0.5, data=0.5, block=0.5, end=0.5)
LONG = replace(SHORT, greeting=30, command=30, data=30, block=30, end=30)  # where nothing is to run out
MESSAGE = b"From: a@us.test\nSubject: hello\n\nHello.\n.a line with a dot\n"
SENDER, RECIPIENT = b"a@us.test", b"b@there.test"

Outcomes = dict[bytes, Outcome]


def outgoing(message: bytes = MESSAGE, recipients: tuple[bytes, ...] = (RECIPIENT,), **fields: Any) -> Outgoing:
    """Read by whoever opens it."""

    def opened() -> int:
        descriptor = os.memfd_create("message")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(message)
        return descriptor

    made = Outgoing(
        identity="1a",
        sender=SENDER,
        recipients=recipients,
        wishes=(),
        ret="",
        envid=b"",
        utf8=False,
        head=b"",
        open=opened,
    )
    return replace(made, **fields)


def configured(**delivery: Any) -> Config:
    """Delivery's keys; a route for everything with `to`."""
    if to := delivery.pop("to", ""):
        delivery["routes"] = {"": to}
    return msgspec.structs.replace(Config(hostname=HOSTNAME), delivery=Delivery(**delivery))


def with_remote(
    work: Callable[[Remote], Awaitable[Any]], *, patience: Patience = LONG, signer: Any = None, **delivery: Any
) -> Any:
    """What `work` returns, run with a remote hop of this configuration."""

    async def run() -> Any:
        remote = Remote(configured(**delivery), signer, patience=patience)
        try:
            return await work(remote)
        finally:
            await remote.close()

    return asyncio.run(run())


def deliver(message: Outgoing, **options: Any) -> Outcomes:
    """One delivery."""
    found = with_remote(lambda remote: remote.deliver(message), **options)
    assert isinstance(found, dict)
    return found


def deliver_one(message: Outgoing, **options: Any) -> Outcome:
    """The outcome of its one recipient."""
    (outcome,) = deliver(message, **options).values()
    return outcome
