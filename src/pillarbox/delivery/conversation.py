"""One connection to a mail exchanger: commands and replies, over aiosmtplib. What may go wrong on the way is Lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiosmtplib import SMTP, SMTPException

from ..protocol.exchanger_reply import ExchangerReply, reply
from ..terms import Outcome
from .exchangers import Target

QUIT_SECONDS = 5.0  # nothing is at stake any more
DATA, GO_AHEAD = b"DATA", 354
SHUTTING_DOWN = 421  # RFC 5321 section 3.8: whatever the command was, the connection ends


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds (RFC 5321 section 4.5.3.2), and for the connection what qmail and Postfix give it."""

    connect: float = 30.0
    greeting: float = 300.0
    handshake: float = 60.0
    command: float = 300.0
    data: float = 120.0
    block: float = 180.0
    end: float = 600.0


class Lost(Exception):
    """The connection is no use any more. `outcome`: of every recipient whose fate is not known yet."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text or outcome.reply)
        self.outcome = outcome


class Conversation:
    """Commands are said one after the other. Close it, or `quit`, in the end."""

    def __init__(self, target: Target, smtp: SMTP, patience: Patience, *, tls: str = "") -> None:
        """`smtp`: connected, and EHLO or HELO was said. `tls`: the version of TLS; empty: none."""
        self.target = target
        self.tls = tls
        self.patience = patience
        self.sent = 0  # transactions that this connection has carried
        self.fell_back = False  # TLS was offered and could not be had
        self.silent = False  # it did not answer in time
        self._smtp = smtp
        assert smtp.transport is not None and smtp.protocol is not None
        self._writer = asyncio.StreamWriter(smtp.transport, smtp.protocol, None, asyncio.get_running_loop())  # type: ignore[arg-type]

    @property
    def open(self) -> bool:
        return self._smtp.is_connected

    @property
    def mta(self) -> str:
        """The exchanger's name, or its address where it has none."""
        return self.target.host

    def offered(self, keyword: str) -> str | None:
        """The parameters of an extension that EHLO offered (RFC 5321 section 4.1.1.1); None: not offered."""
        return self._smtp.esmtp_extensions.get(keyword)

    async def say(self, command: bytes, seconds: float) -> ExchangerReply:
        """The reply to a command. Raises Lost; after 421 too."""
        try:
            response = await self._smtp.execute_command(command, timeout=seconds)
        except (SMTPException, OSError) as error:
            raise self._lost(error) from None
        answer = reply(response.code, response.message)
        if answer.code == SHUTTING_DOWN:
            raise Lost(answer.outcome(self.mta))
        if not answer.known and (command, answer.code) != (DATA, GO_AHEAD):
            raise self._lost(SMTPException("a reply code that means nothing"))
        return answer

    async def write(self, pieces: AsyncIterator[bytes]) -> None:
        """Send the content after a 354, without its last dot: `say(b".")` does that. Raises Lost."""
        try:
            async for piece in pieces:
                self._writer.write(piece)
                await asyncio.wait_for(self._writer.drain(), self.patience.block)
        except TimeoutError:
            self.silent = True
            raise Lost(Outcome("delayed", "4.4.2", "the exchanger took no data for too long", self.mta)) from None
        except ConnectionError as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> Lost:
        """RFC 3463 section 3.5: 4.4.2, bad connection."""
        self.silent = self.silent or isinstance(error, TimeoutError)
        what = "it did not answer in time" if self.silent else "the connection ended too early"
        if isinstance(error, SMTPException) and not isinstance(error, OSError):
            return Lost(Outcome("delayed", "4.5.0", "the exchanger said what is no SMTP", self.mta))
        return Lost(Outcome("delayed", "4.4.2", f"{what}: whether the message arrived is not known", self.mta))

    def close(self) -> None:
        self._writer.close()
        self._smtp.close()

    async def quit(self) -> None:
        """End politely."""
        try:
            if self.open:
                await self._smtp.execute_command(b"QUIT", timeout=QUIT_SECONDS)
        except (SMTPException, OSError):
            pass
        finally:
            self.close()
