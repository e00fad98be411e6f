"""One mail transaction (RFC 5321 section 3.3): MAIL, RCPT for each recipient, DATA; what became of each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..protocol.downgrade import Unconvertible
from ..protocol.exchanger_reply import PASSED_ON, ExchangerReply
from ..terms import Outcome, Wish
from .conversation import DATA, GO_AHEAD, Conversation, Lost
from .letter import Content, Letter

NEEDS_TLS = 530  # RFC 3207 section 4
OVERFLOW = "4.5.3"  # RFC 3463: too many recipients, when some were taken
TOO_MANY = (452, 552)  # recipients for one transaction, when others were taken (RFC 5321 section 4.5.3.1.10)

_XTEXT = re.compile(rb"[!-*,-<>-~+]+")  # RFC 3461 section 4; what came with a message and is not that is not passed on
_NUMBER = re.compile(r"[0-9]{1,18}")

Outcomes = dict[bytes, Outcome]


class Stale(Exception):
    """A connection that had been kept was no use any more. Nothing has happened: a fresh one is to be taken."""


class Transaction:
    """Of one letter over one conversation, for recipients of its own choice."""

    def __init__(self, conversation: Conversation, letter: Letter) -> None:
        self._conversation = conversation
        self._letter = letter
        self._outgoing = letter.outgoing
        self._outcomes: Outcomes = {}
        self._utf8 = False

    async def run(self, recipients: Sequence[bytes]) -> Outcomes:
        """Each recipient's outcome; the conversation is closed if it can't serve another transaction.

        Raises Stale, and OSError if the message can't be read.
        """
        try:
            await self._run(list(recipients))
            self._conversation.sent += 1
        except Lost as lost:
            self._conversation.close()
            self._settle(recipients, lost.outcome)
        except Unconvertible as error:
            self._settle(
                recipients, Outcome("failed", "5.6.3", f"the exchanger takes 7-bit mail only, and {error}", self._mta)
            )
        except BaseException:
            self._conversation.close()
            raise
        return self._outcomes

    @property
    def _mta(self) -> str:
        return self._conversation.mta

    def _settle(self, recipients: Sequence[bytes], outcome: Outcome) -> None:
        """Those of them whose fate was not known."""
        for recipient in recipients:
            self._outcomes.setdefault(recipient, outcome)

    async def _run(self, recipients: list[bytes]) -> None:
        content = await self._letter.content()
        recipients = self._speakable(recipients, content)
        if recipients and content.eight_bit and self._conversation.offered("8bitmime") is None:
            content = await self._letter.content(convert=True)
        if not recipients or self._too_big(recipients, content) or not await self._mail(recipients, content):
            return
        accepted = await self._recipients(recipients)
        if accepted:
            await self._data(accepted, content)
        else:
            await self._reset()

    # What fits the exchanger.

    def _speakable(self, recipients: list[bytes], content: Content) -> list[bytes]:
        """Those that this exchanger's SMTP has characters for (RFC 6531 section 3.2)."""
        outgoing = self._outgoing
        addresses = (outgoing.sender, *recipients)
        in_header = outgoing.utf8 and content.eight_bit_header
        self._utf8 = outgoing.utf8 or not all(address.isascii() for address in addresses)
        if not self._utf8 or self._conversation.offered("smtputf8") is not None:
            return recipients
        self._utf8 = False
        why = "the message needs SMTPUTF8 (characters beyond ASCII in addresses or header), which the exchanger lacks"
        failed = Outcome("failed", "5.6.7", why, self._mta)
        if in_header or not outgoing.sender.isascii():
            self._settle(recipients, failed)
            return []
        self._settle([recipient for recipient in recipients if not recipient.isascii()], failed)
        return [recipient for recipient in recipients if recipient.isascii()]

    def _too_big(self, recipients: list[bytes], content: Content) -> bool:
        """RFC 1870 section 6.1; no number, or 0: no limit was told."""
        limit = self._conversation.offered("size") or ""
        if not _NUMBER.fullmatch(limit) or not 0 < int(limit) < content.size:
            return False
        why = f"the message has {content.size} octets, and the exchanger takes {limit} at most"
        self._settle(recipients, Outcome("failed", "5.3.4", why, self._mta))
        return True

    # The conversation.

    async def _mail(self, recipients: list[bytes], content: Content) -> bool:
        try:
            answer = await self._say(b"MAIL FROM:<" + self._outgoing.sender + b">" + self._mail_options(content))
        except Lost:
            if self._conversation.sent:
                raise Stale from None
            raise
        if answer.positive:
            return True
        if self._conversation.sent and answer.transient:  # it may be tired of this connection, not of the message
            raise Stale
        outcome = answer.outcome(self._mta)
        if answer.code == NEEDS_TLS and self._conversation.fell_back:
            outcome = Outcome(
                "delayed", "4.7.5", "the exchanger wants TLS, and TLS with it failed", self._mta, outcome.reply
            )
        self._settle(recipients, outcome)
        return False

    def _mail_options(self, content: Content) -> bytes:
        options = b""
        if self._conversation.offered("size") is not None:
            options += b" SIZE=%d" % content.size
        if content.eight_bit:
            options += b" BODY=8BITMIME"
        if self._utf8:
            options += b" SMTPUTF8"
        if self._conversation.offered("dsn") is not None:
            if self._outgoing.ret in ("FULL", "HDRS"):
                options += b" RET=" + self._outgoing.ret.encode("ascii")
            if _XTEXT.fullmatch(self._outgoing.envid):
                options += b" ENVID=" + self._outgoing.envid
        return options

    async def _recipients(self, recipients: list[bytes]) -> list[bytes]:
        """Those that were accepted."""
        wishes = dict(zip(self._outgoing.recipients, self._outgoing.wishes, strict=False))
        accepted, overflowing = [], []
        for recipient in recipients:
            answer = await self._say(
                b"RCPT TO:<" + recipient + b">" + self._rcpt_options(wishes.get(recipient, Wish()))
            )
            if answer.positive:
                accepted.append(recipient)
            elif accepted and answer.code in TOO_MANY:
                overflowing.append((recipient, answer))
            else:
                self._outcomes[recipient] = answer.outcome(self._mta)
        for recipient, answer in overflowing:
            self._outcomes[recipient] = Outcome(
                "delayed",
                OVERFLOW,
                "the exchanger takes no more recipients at once",
                self._mta,
                answer.outcome("").reply,
            )
        return accepted

    def _rcpt_options(self, wish: Wish) -> bytes:
        options = b""
        if self._conversation.offered("dsn") is not None:
            if wish.notify:
                options += b" NOTIFY=" + ",".join(wish.notify).encode("ascii")
            if _XTEXT.fullmatch(wish.orcpt):
                options += b" ORCPT=" + wish.orcpt
        return options

    async def _data(self, accepted: list[bytes], content: Content) -> None:
        patience = self._conversation.patience
        answer = await self._conversation.say(DATA, patience.data)
        if answer.positive:  # to believe it would lose the message
            raise Lost(Outcome("delayed", "4.5.0", "the exchanger took the message before it was sent", self._mta))
        if answer.code != GO_AHEAD:
            self._settle(accepted, answer.outcome(self._mta))
            await self._reset()
            return
        await self._conversation.write(content.pieces())
        self._conclude(accepted, await self._conversation.say(b".", patience.end))

    def _conclude(self, accepted: list[bytes], answer: ExchangerReply) -> None:
        outcome = answer.outcome(self._mta)
        if answer.positive and self._conversation.offered("dsn") is not None:
            outcome = Outcome("relayed", outcome.status, PASSED_ON, outcome.mta, outcome.reply)
        self._settle(accepted, outcome)

    async def _say(self, command: bytes) -> ExchangerReply:
        return await self._conversation.say(command, self._conversation.patience.command)

    async def _reset(self) -> None:
        """Make the connection fit for another transaction."""
        answer = await self._say(b"RSET")
        if not answer.positive:
            self._conversation.close()
