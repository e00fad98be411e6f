"""A POP3 connection: pumps a Pop3Session between its socket, the broker and a worker."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
from asyncio import Future
from typing import TYPE_CHECKING

from .. import log, messages
from ..channel import close_all
from ..link import Descriptors, Link
from ..listing import Listing
from ..messages import LoginChallenge, LoginRefused, Messages, Opened, Updated
from ..protocol.pop3 import Event, Login, Pop3Session, Retrieve, StartTls, State
from . import login
from .ahead import OpenedAhead
from .body import Body
from .connection import Connection
from .neighbours import Answer

if TYPE_CHECKING:
    from .process import NetworkProcess

BATCH = 256 << 10  # octets of answers and bodies gathered before they are sent
TURN = 1 << 20  # octets sent before other connections get their turn
INPUT_LIMIT = 64 << 10  # octets of commands taken in while a neighbour is asked; the rest stays in the kernel
LISTING_LIMIT = 64 << 20  # octets of a listing: a million messages with the longest ids
SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE  # what can shrink under a mapping would kill us
PROBE_IDLE, PROBE_INTERVAL, PROBE_COUNT = 5, 2, 5  # seconds, seconds, tries: a dead client is known in 15 s

LATE = {
    "login": "too long without a login, goodbye",
    "command": "too long without a command, goodbye",
    "idle": "idle for too long, goodbye",
    "full": "too many connections, try again later",
    "internal": "temporary internal trouble, try again later",
}
NO_PASSWORDS = "USER was refused: policy.plaintext lets no password without TLS come from this address"
TROUBLE = "temporary internal trouble, try again later"


class Pop3Connection(Connection):
    """One client. While a neighbour is asked, a body is sent or the disk is read, the session obeys no command."""

    __slots__ = (
        "_ahead",
        "_body",
        "_challenge",
        "_mechanism",
        "_reading_disk",
        "_retrieve",
        "_retrieved",
        "_user",
        "_worker",
        "session",
    )

    def __init__(
        self,
        process: NetworkProcess,
        sock: socket.socket,
        peer: str,
        number: int,
        challenge: bytes,
        *,
        secured: bool = False,
    ) -> None:
        """`secured`: the caller begins with `start_tls`, not with `pump`."""
        super().__init__(process, sock, peer, number)
        config = process.config
        self._challenge = challenge  # names us to the broker, whether the client sees it or not
        offer = login.offer(self, secured=secured)
        self.session = Pop3Session(
            config.hostname.encode(),
            challenge if offer.apop else b"",
            plaintext=offer.plaintext,
            mechanisms=offer.sasl,
            secured=secured,
            stls=bool(process.contexts),
            bad_before=config.limits.retries_before_login,
            bad_after=config.limits.retries_after_login,
        )
        self._worker: Link | None = None  # holds our maildrop
        self._ahead: OpenedAhead | None = None
        self._user = self._mechanism = ""
        self._retrieve: Retrieve | None = None  # waits for its descriptor
        self._body: Body | None = None
        self._reading_disk = False
        self._retrieved = 0

    # Pumping.

    def received(self, data: bytes) -> None:
        self.session.receive(data)
        self.pump()
        if self.session.pending > INPUT_LIMIT:
            self.pause()

    def pump(self) -> None:
        """Finish the body, then obey commands, until something must be waited for, or our turn is over."""
        turn_ends = self.octets_out + TURN
        while not (self.closed or self.blocked or self._reading_disk or self.waiting_since is not None):
            if self.octets_out >= turn_ends:
                self.process.loop.call_soon(self.guarded, self.pump)
                break
            if not (self._send_body(turn_ends) if self._body is not None else self._obey()):
                break
        if self.process.draining:
            self.drain()
        if not self.closed:
            self.flush()
            if not self.blocked and self.session.pending <= INPUT_LIMIT:
                self.resume()

    def _obey(self) -> bool:
        """Obey commands up to the next event. False: there is nothing more to do for now."""
        session = self.session
        before = session.pending
        event, held_back = session.next_event(), session.held_back
        self.write(session.take_output())
        if session.pending < before:  # a whole line, not a drip
            self.line_time = self.process.now()
        if event is not None:
            self._begin(event)
        elif session.state is State.CLOSED:
            self.close_when_sent("quit" if session.quit else "refused")
        elif held_back:
            return self.flush()
        return event is not None

    def _begin(self, event: Event) -> None:
        if isinstance(event, Retrieve):
            self._retrieve = event
            self._find_body()
        elif isinstance(event, Login):
            self._log_in(event)
        elif isinstance(event, StartTls):
            self.start_tls(self.process.contexts["pop3"])
        else:
            assert self._worker is not None
            self.waiting_since = self.process.now()
            self._worker.send(messages.Update(self.number, event.numbers))

    def tls_established(self) -> None:
        offer = login.offer(self, secured=True)
        if self.session.secured:
            self.session.offer(offer.sasl, plaintext=offer.plaintext)
        else:
            self.session.tls_established(offer.sasl, plaintext=offer.plaintext)
        self.pump()

    # Login.

    def _log_in(self, event: Login) -> None:
        attempt, broker = event.attempt, self.process.neighbours.broker
        self._mechanism = attempt.mechanism.value
        if broker is None or self.process.draining:
            self.session.refuse(TROUBLE, "SYS/TEMP", final=True)
            return
        self.waiting_since = self.process.now()
        self.asked = broker
        broker.send(login.question(self, attempt, event.response, self._challenge))

    def answered(self, answer: Answer, descriptors: Descriptors, source: Link) -> None:
        """A neighbour's answer; one that nobody waits for is dropped."""
        if isinstance(answer, Messages) and self._ahead is not None and source is self._worker:
            self._ahead.came(answer, descriptors)
            self.guarded(self._messages_came, answer)
        elif self.waiting_since is None or not self._accept(answer, descriptors, source):
            close_all(descriptors)

    def _accept(self, answer: Answer, descriptors: Descriptors, source: Link) -> bool:
        if isinstance(answer, Opened) and self._worker is None:
            self.guarded(self._logged_in, answer, descriptors, source)
        elif isinstance(answer, LoginRefused) and self._worker is None:
            self.guarded(self._login_refused, answer)
        elif isinstance(answer, LoginChallenge) and self._worker is None:
            self.guarded(self._login_challenged, answer)
        elif isinstance(answer, Updated) and source is self._worker:
            self.guarded(self._updated, answer.failed)
        else:
            return False
        return True

    def _login_refused(self, answer: LoginRefused) -> None:
        self.session.refuse(answer.text, answer.code, final=answer.final)
        self._go_on()

    def _login_challenged(self, answer: LoginChallenge) -> None:
        self.session.login_challenged(answer.challenge)
        self._go_on()

    def _logged_in(self, answer: Opened, descriptors: Descriptors, worker: Link) -> None:
        self.logged_in = True
        self._worker = worker
        self._user = answer.user
        listing = _listing(answer, descriptors)
        self.session.login_accepted(listing)
        self._go_on()

    def _updated(self, failed: int) -> None:
        self.session.updated(failed)
        self._worker = None  # the maildrop is free again
        self._go_on()

    def _go_on(self) -> None:
        self.waiting_since = None
        self.line_time = self.process.now()
        self.pump()

    # Messages.

    def _find_body(self) -> None:
        """Start the body that RETR or TOP asks for, or ask the worker to open it."""
        assert self._retrieve is not None and self._worker is not None
        if self._ahead is None:
            self._ahead = OpenedAhead(self.process, self.number, self.session, self._worker)
        number = self._retrieve.number
        descriptor = self._ahead.take(number)
        if descriptor is None:
            self.waiting_since = self.process.now()
            self._ahead.ask(number)
            return
        form, lines = self.session.listing.form(number), self._retrieve.body_lines
        self._retrieve = None
        self._retrieved += 1
        self._body = Body(descriptor, form, lines)
        self.session.message_opened()
        self.write(self.session.take_output())

    def _messages_came(self, answer: Messages) -> None:
        assert self._ahead is not None
        if self._retrieve is None or self.waiting_since is None:
            return
        number = self._retrieve.number
        if self._ahead.has(number):
            self.waiting_since = None
            self._find_body()
        elif number in answer.missing:
            self._retrieve = None
            self.waiting_since = None
            self.session.refuse("that message is gone or can't be read", "SYS/TEMP")
        else:
            return
        self.pump()

    def _send_body(self, turn_ends: int) -> bool:
        """Send until the body ends or our turn does (True), the socket is full, or the disk would be waited for."""
        body = self._body
        assert body is not None
        while not body.done:
            if self.octets_out >= turn_ends:
                return True
            try:
                wire = body.next()
            except OSError:
                self.close("unreadable")  # in the middle of a body there is no way to say -ERR
                return False
            if wire is None:
                self._read_disk(body)
                return False
            self.write(wire)
            if self.pending > BATCH and not self.flush():
                self.pause()
                return False
        body.close()
        self._body = None
        self.line_time = self.process.now()  # the client may be idle from now on
        return True

    def _read_disk(self, body: Body) -> None:
        """What is not in the page cache is read in a thread, and other sessions go on."""
        assert self._ahead is not None
        self._reading_disk = True
        self._ahead.prefetch()
        self.flush()
        reading = self.process.loop.run_in_executor(None, body.read)
        reading.add_done_callback(lambda done: self.guarded(self._disk_read, body, done))

    def _disk_read(self, body: Body, done: Future[bytes]) -> None:
        self._reading_disk = False
        if self.closed:
            body.close()
        elif done.exception() is not None:
            self.close("unreadable")
        else:
            self.write(body.feed(done.result()))
            self.pump()

    # Ending.

    def time_is_up(self, now: float, *, busy: bool) -> str | None:
        limits = self.process.config.limits
        if self._body is not None:
            return self.slow(now, limits.pop3_stall_seconds) if self.blocked else None
        return self.overdue(now, limits.pop3_idle_seconds, limits.pop3_stall_seconds, busy=busy)

    def expired(self, why: str) -> None:
        if why in LATE and self._body is None:
            self.session.fail(LATE[why], "SYS/TEMP" if why in ("full", "internal") else "")
            self.write(self.session.take_output())
            self.flush()
        self.close(why)

    def drain(self) -> None:
        """Who is between commands is told; a body or an update under way is finished first."""
        if self._body is None and self.waiting_since is None and not self.pending:
            self.session.fail("the server is shutting down, try again later", "SYS/TEMP")
            self.write(self.session.take_output())
            self.close_when_sent("shutdown")

    def probe(self) -> None:
        """Somebody waits for our maildrop: a dead client must be found out within 15 seconds."""
        for option, value in (
            (socket.TCP_KEEPIDLE, PROBE_IDLE),
            (socket.TCP_KEEPINTVL, PROBE_INTERVAL),
            (socket.TCP_KEEPCNT, PROBE_COUNT),
            (socket.TCP_USER_TIMEOUT, 1000 * (PROBE_IDLE + PROBE_INTERVAL * PROBE_COUNT)),
        ):
            self.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def neighbour_lost(self, source: Link) -> None:
        if source is self._worker:
            self._worker = None
            self.close("worker lost") if self._body else self.expired("internal")
        elif self.waiting_since is not None and source is self.asked and not self.logged_in:
            self.session.refuse(TROUBLE, "SYS/TEMP", final=True)
            self.guarded(self._go_on)

    def ended(self, why: str) -> None:
        if self._body is not None and not self._reading_disk:
            self._body.close()
        if self._ahead is not None:
            self._ahead.close()
        if self._worker is not None:
            self._worker.send(messages.Close(self.number))
        elif self._mechanism and not self.logged_in and self.process.neighbours.broker is not None:
            self.process.neighbours.broker.send(messages.GiveUp(self.number))
        self._log(why)

    def _log(self, why: str) -> None:
        session = self.session
        log.line(
            "session",
            rip=self.peer,
            proto="pop3",
            tls=self.tls[0] or None,
            cipher=self.tls[1] or None,
            user=self._user or None,
            mech=self._mechanism or None,
            retrieved=self._retrieved,
            deleted=session.removed,
            octets=self.octets_out,
            seconds=f"{self.process.now() - self.started:.3f}",
            end=why,
            why=NO_PASSWORDS if session.name_refused and not self.logged_in else None,
        )


def _listing(answer: Opened, descriptors: Descriptors) -> Listing:
    """The listing that came inline, or lies in a sealed memory file, which all sessions of that maildrop map alike."""
    if not descriptors:
        return Listing(answer.listing)
    try:
        seals = fcntl.fcntl(descriptors[0], fcntl.F_GET_SEALS)
        if seals & SEALED != SEALED or os.fstat(descriptors[0]).st_size > LISTING_LIMIT:
            raise ValueError("a listing may still change, or is too long")
        return Listing(memoryview(mmap.mmap(descriptors[0], 0, access=mmap.ACCESS_READ)))
    finally:
        os.close(descriptors[0])
