"""Mail from programs on this machine, over HOME/public/send: every local user may come, and none is believed.

The kernel says who it is (SO_PEERCRED), and the broker what that user may send as. The octets are written here: a
program holds no descriptor of a queue file.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from .. import log
from ..channel import RuleBroken
from ..config import Config
from ..local_messages import Begin, Begun, Came, Data, End, FromSender, Greeting, NotTaken, Queued
from ..protocol.injected import StoredContent, envelope, received_field
from ..store.users import uids_of
from ..terms import Envelope, Refused, TryLater
from .visitors import Visitor, Visitors

CONNECTIONS_LIMIT = 100  # each may hold a slot, and a frame in memory
CONNECTIONS_PER_UID = 20  # a mailing script sends a few at once; none may keep all others out
CONNECTIONS_SMTPD = 200  # of each user as whom qmail-smtpd runs, beside all others': it brings everybody's mail
CONNECTIONS_KEPT = 20  # for root and the server's owner: a few others together can't keep the mail of cron out
TROUBLE = "the queue can't take mail just now, try again later"


@dataclass(frozen=True, slots=True)
class Decision:
    """The broker's word on a message of a local user."""

    sender: bytes  # the envelope sender that is used; empty: the null one
    account: str  # on whose behalf; empty: nobody's in particular
    received: bool = False  # over SMTP, by a program that may say so


Decide = Callable[[int, bytes | None, tuple[bytes, ...], Came], Awaitable[Decision]]
Commit = Callable[[str, Envelope, str], Awaitable[None]]


class Injection:
    """Serves the listening socket until `close`."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        open_slot: Callable[[], tuple[str, int]],
        decide: Decide,
        commit: Commit,
        abort: Callable[[str], None],
        config: Callable[[], Config],
    ) -> None:
        """Owns the listener; needs a running loop.

        open_slot() -> a new message's id and a descriptor to write it to. decide(uid, sender, recipients, came): `sender`
        is None where none was named. commit(id, envelope, account) returns when the message is durable. abort(id) forgets
        one that was not committed. The first three may raise TryLater, decide Refused too.
        """
        self._open_slot, self._decide, self._commit, self._abort = open_slot, decide, commit, abort
        self._config = config
        self._smtpd_users: list[str | int] = []
        self._smtpd_uids: frozenset[int] = frozenset()
        self._visitors = Visitors(
            listener,
            FromSender,
            self._serve,
            limit=CONNECTIONS_LIMIT,
            limit_per_uid=CONNECTIONS_PER_UID,
            kept=CONNECTIONS_KEPT,
            apart=self._smtpds,
            limit_apart=CONNECTIONS_SMTPD,
        )

    def _smtpds(self) -> frozenset[int]:
        """Looked up anew when the configuration names others."""
        users = self._config().queue.smtpd_users
        if users != self._smtpd_users:
            self._smtpd_users, self._smtpd_uids = users, uids_of(users)
        return self._smtpd_uids

    def close(self) -> None:
        """Take no new message; what is under way may finish."""
        self._visitors.close()

    async def settled(self) -> None:
        """What is being done is done; who is still to say something is told to try later. After `close`."""
        await self._visitors.settled()

    async def _serve(self, visitor: Visitor) -> None:
        """One message."""
        try:
            await self._take(visitor)
        except (Refused, TryLater) as error:
            later = isinstance(error, TryLater)
            log.line("injection-refused", uid=visitor.uid, pid=visitor.pid, code=error.code or None, why=error.why)
            await visitor.say(NotTaken(error.code or ("4.3.0" if later else "5.0.0"), error.why))

    async def _take(self, visitor: Visitor) -> None:
        begin = await self._begin(visitor)
        decision, wanted = await self._judge(visitor, begin)
        if begin.asks:
            await visitor.say(Begun(decision.sender))
            return
        identity, descriptor = self._slot()
        try:
            await visitor.say(Begun(decision.sender))
            octets = await self._write(visitor, identity, descriptor)
        except BaseException:
            self._abort(identity)
            raise
        finally:
            os.close(descriptor)
        await self._queue(identity, wanted, decision.account)
        log.line(
            "message",
            uid=visitor.uid,
            pid=visitor.pid,
            proto="local",
            id=identity,
            came=(begin.came if decision.received else None),
            user=decision.account or None,
            sender=f"<{wanted.sender.decode('utf-8', 'replace')}>",
            to=",".join(recipient.decode("utf-8", "replace") for recipient in wanted.recipients),
            octets=octets,
        )
        await visitor.say(Queued(identity))

    async def _begin(self, visitor: Visitor) -> Begin:
        config = self._config()
        limits = config.limits
        domain = config.domains[0] if config.domains else config.hostname
        greeting = Greeting(config.hostname.encode(), domain.encode(), limits.message_octets, limits.recipients)
        await visitor.say(greeting)
        begin = await visitor.hear()
        if not isinstance(begin, Begin):
            raise RuleBroken("a message begins with its envelope")
        if begin.octets > limits.message_octets:
            raise Refused(f"the message is longer than {limits.message_octets} octets", "5.3.4")
        if len(begin.recipients) > limits.recipients:
            raise Refused(f"the message has more than {limits.recipients} recipients", "5.5.3")
        return begin

    async def _judge(self, visitor: Visitor, begin: Begin) -> tuple[Decision, Envelope]:
        named = envelope(begin.sender or b"", begin.recipients, begin.notify, begin.ret, begin.envid)
        sender = None if begin.sender is None else named.sender
        decision = await self._decide(visitor.uid, sender, named.recipients, begin.came)
        utf8 = named.utf8 or not decision.sender.isascii()
        return decision, replace(named, sender=decision.sender, utf8=utf8)

    def _slot(self) -> tuple[str, int]:
        try:
            return self._open_slot()
        except TryLater as error:
            log.line("slot-refused", why=error.why)
            raise TryLater(TROUBLE, error.code) from None

    async def _write(self, visitor: Visitor, identity: str, descriptor: int) -> int:
        """The whole message into the slot, under our Received field; how many octets the visitor sent."""
        config, loop = self._config(), asyncio.get_running_loop()
        content = StoredContent(config.limits.message_octets)
        head = received_field(host=config.hostname.encode(), uid=visitor.uid, identity=identity, now=time.time())
        await loop.run_in_executor(None, _write_all, descriptor, head)
        while True:
            word = await visitor.hear()
            if isinstance(word, Data):
                await loop.run_in_executor(None, _write_all, descriptor, content.feed(word.content))
            elif isinstance(word, End):
                await loop.run_in_executor(None, _write_all, descriptor, content.finish())
                return content.octets
            else:
                raise RuleBroken("a message has one envelope")

    async def _queue(self, identity: str, wanted: Envelope, account: str) -> None:
        """What has been committed is ours, whether the visitor still listens or not."""
        try:
            await self._commit(identity, wanted, account)
        except Refused:
            self._abort(identity)
            raise
        except TryLater as error:
            self._abort(identity)
            log.line("commit-failed", id=identity, why=error.why)
            raise TryLater(TROUBLE, error.code) from None
        except Exception as error:
            self._abort(identity)
            log.bug(error, where="injection")
            raise TryLater(TROUBLE) from None


def _write_all(descriptor: int, octets: bytes) -> None:
    """Waits for the disk: for a thread. Raises TryLater."""
    view = memoryview(octets)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        log.line("write-failed", proto="local", why=error.strerror)
        raise TryLater(TROUBLE, "4.3.1") from None
